#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "deepspec/feature_affinity.hpp"
#include "deepspec/implicit_affinity.hpp"
#include "deepspec/interpolation.hpp"
#include "deepspec/kernels/kernels.hpp"
#include "deepspec/parallel.hpp"
#include "deepspec/tiled_matrix.hpp"

// The affinity of all pixels of an image (section 4.4 of the paper).
namespace deepspec {

// Cells of a grid that cover an image from its top left corner, in pixels. The strip that they may leave at
// the right and bottom has the values of its nearest cells.
struct Cells {
    Grid grid;
    double height = 1.0, width = 1.0;
};

// U, the bilinear interpolation from cells to pixels: which cells a vertex lies between, and how far from the
// first of them. A row and a column of cells beyond the grid are there, and never weigh.
class Interpolation {
    using Place = kernels::Place;

  public:
    // Vertex v is pixel order[v] of an image of this width.
    Interpolation(const Cells& cells, std::size_t image_width, const std::vector<std::int32_t>& order);

    static double bytes(std::size_t n_vertices) { return sizeof(Place) * static_cast<double>(n_vertices); }

    std::size_t n_vertices() const { return places_.size(); }
    Grid grid() const { return grid_; }

    // The numbers of a padded grid, row after row: (height + 1) x (width + 1).
    std::size_t padded_size() const { return (grid_.height + 1) * stride(); }
    std::size_t padded(std::size_t cell) const { return cell / grid_.width * stride() + cell % grid_.width; }

    // One of the four corners of a vertex.
    struct Corner {
        std::size_t cell;  // padded
        double weight;
    };
    Corner corner(std::size_t vertex, std::size_t which) const {
        const Place& place = places_[vertex];
        const bool lower = which >= 2, farther = which % 2 == 1;
        const double down = place.down, right = place.right;
        return {static_cast<std::size_t>(place.cell) + (lower ? stride() : 0) + (farther ? 1 : 0),
                (lower ? down : 1.0 - down) * (farther ? right : 1.0 - right)};
    }

    // The one that weighs most.
    std::size_t nearest_corner(std::size_t vertex) const {
        const Place& place = places_[vertex];
        return (place.down > 0.5f ? 2 : 0) + (place.right > 0.5f ? 1 : 0);
    }

    // visit(padded cell, weight) for all of them.
    template <class Visit>
    void corners(std::size_t vertex, Visit visit) const {
        for (std::size_t which = 0; which < 4; ++which) {
            const auto [cell, weight] = corner(vertex, which);
            visit(cell, weight);
        }
    }

    // Adds the numbers of vertices from begin to end, two of each, to those of their corners, (padded
    // cells, 2).
    void add(std::size_t begin, std::size_t end, const float* numbers, double* cells) const {
        kernels::selected().pixels.add_to_cells(places_.data() + begin, end - begin, stride(), numbers,
                                                cells);
    }

    // The other way round.
    void get(std::size_t begin, std::size_t end, const float* cells, float* numbers) const {
        kernels::selected().pixels.from_cells(places_.data() + begin, end - begin, stride(), cells, numbers);
    }

  private:
    std::size_t stride() const { return grid_.width + 1; }

    Grid grid_;
    std::vector<Place> places_;
};

// U A U^T, where A is the affinity of cells: a product costs O(n) and A's.
class LiftedFeatures : public FeatureAffinity {
  public:
    // Refers to the affinity, which must outlive it.
    LiftedFeatures(const FeatureAffinity& cells, Interpolation interpolation);

    // Bytes of what is lifted and of a product, beside those of cells.
    static double bytes(std::size_t n, std::size_t n_cells);

    std::size_t size() const override { return interpolation_.n_vertices(); }
    std::vector<float> begin_product(const float* x, ThreadPool& pool) const override;
    void product_rows(const std::vector<float>& shared, std::size_t begin, std::size_t end,
                      float* y) const override;

  protected:
    const Interpolation& interpolation() const { return interpolation_; }

  private:
    // U^T X, (cells, 2).
    std::vector<float> gathered(const float* x, ThreadPool& pool) const;

    const FeatureAffinity& cells_;
    Interpolation interpolation_;
};

// A features' affinity of so many pixels that products do not tell what is connected.
class PixelFeatures {
  public:
    virtual ~PixelFeatures() = default;

    virtual const FeatureAffinity& affinity() const = 0;

    // As Affinity's.
    virtual void visit_edges(const Affinity::Visit& visit) const = 0;
};

// U A U^T where A is kept.
class LiftedTiles : public LiftedFeatures, public PixelFeatures {
  public:
    LiftedTiles(const TiledFeatures& cells, Interpolation interpolation);

    const FeatureAffinity& affinity() const override { return *this; }
    void visit_edges(const Affinity::Visit& visit) const override;

  private:
    const TiledMatrix& cells_;
};

// The paper's: of the entries relu(F_i F_j^T) of all pixels' interpolated features one in 256 is kept, drawn
// anew from each stretch of 256 in a row of the upper half and mirrored. They are worked out in every
// product.
class SampledFeatures : public FeatureAffinity, public PixelFeatures {
  public:
    static constexpr std::size_t stretch = 256;

    // `gram` is (p, p), the inner products of the cells' features, row after row.
    SampledFeatures(const float* gram, Interpolation interpolation, std::uint64_t seed);

    // Bytes they take, and a product.
    static double bytes(std::size_t n);

    std::size_t size() const override { return interpolation_.n_vertices(); }
    std::vector<float> begin_product(const float* x, ThreadPool& pool) const override;
    void product_rows(const std::vector<float>& shared, std::size_t begin, std::size_t end,
                      float* y) const override;
    const FeatureAffinity& affinity() const override { return *this; }
    void visit_edges(const Affinity::Visit& visit) const override;

  private:
    // Rows that draw from a stretch in turns, so that what its vertices have is read from memory once for
    // all.
    static constexpr std::size_t group = 64;

    // The products of the features of vertex i and of all cells, padded.
    void fill_row(std::size_t i, float* row) const;

    // visit(i, j, entry) for what is drawn of the group of rows that begins with `first`, j >= i.
    template <class Visit>
    void for_drawn(std::size_t first, Visit visit) const;

    const float* gram_;
    Interpolation interpolation_;
    std::uint64_t seed_;
};

// W = feature_weight * features + color_weight * colors; either part may be missing. Vertices are numbered as
// the graph of colours numbers them. Refers to its parts; they must outlive it.
class PixelAffinity : public ImplicitAffinity {
  public:
    PixelAffinity(const PixelFeatures* features, double feature_weight, const CountMatrix& colors,
                  double color_weight);

    using Affinity::visit_edges;
    void visit_edges(const Visit& visit, const Settled& settled, ThreadPool& pool) const override;

  private:
    const PixelFeatures* features_;
    double feature_weight_;
    const CountMatrix& colors_;
    double color_weight_;
};

}  // namespace deepspec
