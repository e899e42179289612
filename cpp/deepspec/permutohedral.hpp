#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <vector>

#include "deepspec/memory.hpp"
#include "deepspec/parallel.hpp"

namespace deepspec {

// A Gaussian filter over points in 2 or 5 dimensions in linear time (Adams, Baek and Davis, Computer Graphics
// Forum 29, 2010): a point's numbers are spread to the vertices of the simplex of the permutohedral lattice
// that encloses it, blurred from vertex to vertex along each of the lattice's directions, and gathered again.
// The same bits for any number of threads.
class PermutohedralLattice {
  public:
    // Writes where the points begin ... end - 1 are, in standard deviations of the Gaussian: rows of one
    // dimension each, kernels::lattice_block numbers apart, which is the most that is asked for.
    using Positions = std::function<void(std::size_t begin, std::size_t end, float* positions)>;

    // Positions in dimension i are from 0 to extents[i]. Throws std::invalid_argument where these are so many
    // standard deviations that the lattice's vertices cannot be numbered.
    PermutohedralLattice(std::size_t n_points, const std::vector<double>& extents, const Positions& positions,
                         ThreadPool& pool);

    std::size_t n_vertices() const { return n_vertices_; }

    // Bytes that a lattice takes for each of its points, beside those for its vertices.
    static double bytes_per_point(std::size_t dimensions);

    // Points in parts that do not depend on the number of threads, each with a number of its own for its
    // vertices.
    struct Bands {
        std::size_t n_points, size;
        explicit Bands(std::size_t n);
        std::size_t count() const { return (n_points + size - 1) / size; }
        std::size_t begin(std::size_t band) const { return band * size; }
        std::size_t end(std::size_t band) const { return std::min(n_points, (band + 1) * size); }
    };

    // What a filter holds on the vertices, of `channels` numbers a point: one, or a multiple of 8.
    struct Values {
        std::size_t channels;
        Buffer<float> collected, blurred;  // of the vertices of each band, band after band
        Buffer<float> all, spare;          // (n_vertices + 1, channels), the first row zero
    };
    Values make_values(std::size_t channels) const;

    // A filter in three steps, of which the first and the last take points of a single band, (end - begin,
    // channels) numbers of them. Spreads them over the vertices,
    void collect(std::size_t begin, std::size_t end, const float* in, Values& values) const;

    // blurs what has been collected from all points, and is ready to collect anew;
    void blur(Values& values, ThreadPool& pool) const;

    // out = base + what the points have of the blurred vertices.
    void gather(std::size_t begin, std::size_t end, const Values& values, const float* base,
                float* out) const;

    // Where K is the filter: makes it weight N^-1/2 K N^-1/2, where N has K's row sums on its diagonal.
    void normalize(double weight, ThreadPool& pool);

  private:
    std::size_t corners() const { return dimensions_ + 1; }
    template <std::size_t WIDTH>
    void add_up_bands(std::size_t begin, std::size_t end, Values& values) const;

    std::size_t n_points_, dimensions_, n_vertices_ = 0;
    Bands bands_;
    Buffer<std::uint32_t> corners_;    // (n_points, corners): the numbers that a point's band has for them
    Buffer<float> weights_;            // (n_points, corners): their shares of a point
    std::vector<std::size_t> first_;   // of each band, among the vertices of all bands
    std::vector<std::uint32_t> rows_;  // of these: their row of Values::all
    std::vector<std::uint32_t> starts_, same_;   // of each vertex: the places of the bands' numbers for it
    std::vector<std::uint32_t> before_, after_;  // (corners, n_vertices + 1): neighbours' rows, 0 for none
};

}  // namespace deepspec
