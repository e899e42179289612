#include "deepspec/dense_crf.hpp"

#include <algorithm>
#include <cstdint>
#include <utility>
#include <vector>

#include "deepspec/kernels/kernels.hpp"
#include "deepspec/memory.hpp"
#include "deepspec/permutohedral.hpp"

namespace deepspec {
namespace {

using kernels::lattice_block;
constexpr std::size_t block = lattice_block;  // pixels whose numbers stay in the first-level cache
constexpr double vertices_per_pixel = 0.5;    // of a lattice: several times what photographs have

// Two labels need one number a pixel, the difference of their probabilities; more need one each, by eights.
std::size_t channels_for(std::size_t n_labels) { return n_labels == 2 ? 1 : (n_labels + 7) / 8 * 8; }

// The pixels in deviations of position, and of colour unless that is 0.
PermutohedralLattice make_filter(const RgbView& image, double xy, double rgb, ThreadPool& pool) {
    std::vector<double> extents{static_cast<double>(image.width - 1) / xy,
                                static_cast<double>(image.height - 1) / xy};
    if (rgb > 0.0) extents.insert(extents.end(), 3, 255.0 / rgb);
    const auto positions = [=](std::size_t begin, std::size_t end, float* out) {
        const auto pixel = static_cast<float>(1.0 / xy),
                   step = static_cast<float>(rgb > 0.0 ? 1.0 / rgb : 0.0);
        std::size_t x = begin % image.width, y = begin / image.width;
        for (std::size_t p = begin; p < end; ++p, ++out, ++x) {
            if (x == image.width) {
                x = 0;
                ++y;
            }
            out[0] = static_cast<float>(x) * pixel;
            out[lattice_block] = static_cast<float>(y) * pixel;
            if (rgb > 0.0)
                for (std::size_t c = 0; c < 3; ++c)
                    out[(2 + c) * lattice_block] = static_cast<float>(image.data[3 * p + c]) * step;
        }
    };
    return {image.size(), extents, positions, pool};
}

// Of each pixel, in `channels` numbers, what the unaries alone say: the difference of two labels' logits, or
// the logits of more, and impossible ones for the channels that are left.
class UnaryLogits {
  public:
    UnaryLogits(std::size_t n_pixels, std::size_t n_labels)
        : n_pixels_(n_pixels),
          n_labels_(n_labels),
          channels_(channels_for(n_labels)),
          logits_(n_pixels * channels_) {}

    void read(const float* unary, std::size_t begin, std::size_t end) {
        constexpr float impossible = -1e30f;
        float* const logits = logits_.data();
        if (channels_ == 1) {
            for (std::size_t p = begin; p < end; ++p) logits[p] = unary[p] - unary[n_pixels_ + p];
            return;
        }
        for (std::size_t label = 0; label < channels_; ++label)
            for (std::size_t p = begin; p < end; ++p)
                logits[p * channels_ + label] =
                    label < n_labels_ ? -unary[label * n_pixels_ + p] : impossible;
    }

    std::size_t channels() const { return channels_; }
    const float* of(std::size_t pixel) const { return logits_.data() + pixel * channels_; }

  private:
    std::size_t n_pixels_, n_labels_, channels_;
    Buffer<float> logits_;
};

struct Filter {
    PermutohedralLattice lattice;
    PermutohedralLattice::Values values;
};

// The field of pixels whose logits these are.
void write_field(const float* logits, std::size_t channels, std::size_t count, float* field) {
    if (channels == 1)
        kernels::selected().crf.tanh_half(logits, count, field);
    else
        kernels::selected().crf.softmax(logits, channels, count, field);
}

void write_posterior(const float* field, std::size_t channels, std::size_t n_labels, std::size_t count,
                     float* posterior, std::size_t stride) {
    for (std::size_t label = 0; label < n_labels; ++label, posterior += stride)
        for (std::size_t p = 0; p < count; ++p)
            posterior[p] = channels > 1 ? field[p * channels + label]
                           : label == 0 ? 0.5f - 0.5f * field[p]
                                        : 0.5f + 0.5f * field[p];
}

}  // namespace

void dense_crf(const RgbView& image, const float* unary, std::size_t n_labels, const CrfOptions& options,
               float* posterior, ThreadPool& pool) {
    if (n_labels == 1) {
        std::fill_n(posterior, image.size(), 1.0f);
        return;
    }
    UnaryLogits unary_logits(image.size(), n_labels);
    const std::size_t channels = unary_logits.channels();
    std::vector<Filter> filters;
    const auto add = [&](double weight, double xy, double rgb) {
        if (weight == 0.0 || options.n_iterations == 0) return;
        PermutohedralLattice lattice = make_filter(image, xy, rgb, pool);
        lattice.normalize(weight, pool);
        PermutohedralLattice::Values values = lattice.make_values(channels);
        filters.push_back({std::move(lattice), std::move(values)});
    };
    add(options.bilateral_weight, options.bilateral_xy, options.bilateral_rgb);
    add(options.gaussian_weight, options.gaussian_xy, 0.0);

    // A pixel's field comes of what the filters hold, goes on to what they collect, and is not kept.
    const PermutohedralLattice::Bands bands(image.size());
    for (std::size_t iteration = 0; iteration <= options.n_iterations; ++iteration) {
        const bool last = iteration == options.n_iterations;
        pool.run(bands.count(), [&](std::size_t band) {
            std::vector<float> logits(block * channels), field(block * channels);
            for (std::size_t begin = bands.begin(band); begin < bands.end(band); begin += block) {
                const std::size_t end = std::min(begin + block, bands.end(band));
                if (iteration == 0) unary_logits.read(unary, begin, end);
                const float* found = unary_logits.of(begin);
                for (std::size_t i = 0; iteration > 0 && i < filters.size(); ++i, found = logits.data())
                    filters[i].lattice.gather(begin, end, filters[i].values, found, logits.data());
                write_field(found, channels, end - begin, field.data());
                if (last)
                    write_posterior(field.data(), channels, n_labels, end - begin, posterior + begin,
                                    image.size());
                else
                    for (Filter& filter : filters)
                        filter.lattice.collect(begin, end, field.data(), filter.values);
            }
        });
        if (last) return;
        for (Filter& filter : filters) filter.lattice.blur(filter.values, pool);
    }
}

double dense_crf_bytes(std::size_t n_pixels, std::size_t n_labels) {
    if (n_labels == 1) return 0.0;
    const auto n = static_cast<double>(n_pixels), channels = static_cast<double>(channels_for(n_labels));
    const double lattices =
        n * (PermutohedralLattice::bytes_per_point(5) + PermutohedralLattice::bytes_per_point(2));
    // A vertex has four rows of values, of all points and of its bands, and two neighbours in each direction;
    // numbering it takes a few slots of a table.
    const auto vertices = [&](double count, double corners) {
        return count * (4.0 * sizeof(float) * channels + 2.0 * sizeof(std::uint32_t) * corners + 100.0);
    };
    return lattices + n * channels * sizeof(float) + vertices(vertices_per_pixel * n, 6.0) +
           vertices(vertices_per_pixel * n, 3.0);
}

}  // namespace deepspec
