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
constexpr std::size_t grain = 1024, block = 64;  // pixels in a parallel task, and in the first-level cache
constexpr double vertices_per_pixel = 0.5;       // of a lattice: what photographs with much noise have

// Two labels need one number a pixel, the difference of their probabilities; more need one each.
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

// What the mean field holds of each pixel, (n_pixels, channels), and how it comes of the unaries.
class MeanField {
  public:
    MeanField(const float* unary, std::size_t n_pixels, std::size_t n_labels, ThreadPool& pool)
        : unary_(unary),
          n_pixels_(n_pixels),
          n_labels_(n_labels),
          channels_(channels_for(n_labels)),
          field_(n_pixels * channels_),
          pool_(pool) {}

    std::size_t channels() const { return channels_; }
    const float* field() const { return field_.data(); }

    struct Filter {
        PermutohedralLattice lattice;
        PermutohedralLattice::Values values;
    };

    // The field that the unaries and what the filters hold give.
    void update(const std::vector<Filter>& filters) {
        pool_.for_blocks(n_pixels_, grain, [&](std::size_t task, std::size_t end_of_task) {
            std::vector<float> logits(block * channels_);
            for (std::size_t begin = task; begin < end_of_task; begin += block) {
                const std::size_t end = std::min(begin + block, end_of_task);
                write_negated_unaries(begin, end, logits.data());
                for (const Filter& filter : filters)
                    filter.lattice.add_to(begin, end, filter.values, logits.data());
                float* const out = field_.data() + begin * channels_;
                if (channels_ == 1)
                    kernels::selected().crf.tanh_half(logits.data(), end - begin, out);
                else
                    kernels::selected().crf.softmax(logits.data(), channels_, end - begin, out);
            }
        });
    }

    void write_posterior(float* posterior) const {
        pool_.for_blocks(n_pixels_, grain, [&](std::size_t task, std::size_t end_of_task) {
            for (std::size_t begin = task; begin < end_of_task; begin += block)
                for (std::size_t label = 0; label < n_labels_; ++label) {
                    float* const out = posterior + label * n_pixels_;
                    const std::size_t end = std::min(begin + block, end_of_task);
                    if (channels_ == 1) {
                        const float half = label == 0 ? -0.5f : 0.5f;
                        for (std::size_t p = begin; p < end; ++p) out[p] = 0.5f + half * field_.data()[p];
                    } else {
                        for (std::size_t p = begin; p < end; ++p)
                            out[p] = field_.data()[p * channels_ + label];
                    }
                }
        });
    }

  private:
    void write_negated_unaries(std::size_t begin, std::size_t end, float* logits) const {
        constexpr float impossible = -1e30f;
        if (channels_ == 1) {
            for (std::size_t p = begin; p < end; ++p) logits[p - begin] = unary_[p] - unary_[n_pixels_ + p];
            return;
        }
        for (std::size_t label = 0; label < channels_; ++label)
            for (std::size_t p = begin; p < end; ++p)
                logits[(p - begin) * channels_ + label] =
                    label < n_labels_ ? -unary_[label * n_pixels_ + p] : impossible;
    }

    const float* unary_;
    std::size_t n_pixels_, n_labels_, channels_;
    Buffer<float> field_;
    ThreadPool& pool_;
};

}  // namespace

void dense_crf(const RgbView& image, const float* unary, std::size_t n_labels, const CrfOptions& options,
               float* posterior, ThreadPool& pool) {
    if (n_labels == 1) {
        std::fill_n(posterior, image.size(), 1.0f);
        return;
    }
    MeanField mean_field(unary, image.size(), n_labels, pool);
    std::vector<MeanField::Filter> filters;
    mean_field.update(filters);
    const auto add = [&](double weight, double xy, double rgb) {
        if (weight == 0.0 || options.n_iterations == 0) return;
        PermutohedralLattice lattice = make_filter(image, xy, rgb, pool);
        lattice.normalize(weight, pool);
        PermutohedralLattice::Values values = lattice.make_values(mean_field.channels());
        filters.push_back({std::move(lattice), std::move(values)});
    };
    add(options.bilateral_weight, options.bilateral_xy, options.bilateral_rgb);
    add(options.gaussian_weight, options.gaussian_xy, 0.0);
    for (std::size_t iteration = 0; iteration < options.n_iterations; ++iteration) {
        for (MeanField::Filter& filter : filters)
            filter.lattice.spread(mean_field.field(), filter.values, pool);
        mean_field.update(filters);
    }
    mean_field.write_posterior(posterior);
}

double dense_crf_bytes(std::size_t n_pixels, std::size_t n_labels) {
    if (n_labels == 1) return 0.0;
    const auto n = static_cast<double>(n_pixels), channels = static_cast<double>(channels_for(n_labels));
    const double lattices =
        n * (PermutohedralLattice::bytes_per_point(5) + PermutohedralLattice::bytes_per_point(2));
    // A vertex has rows of values, a spare one, and two neighbours in each direction; numbering it takes
    // a few slots of a table.
    const auto vertices = [&](double count, double corners) {
        return count * (2.0 * sizeof(float) * channels + 2.0 * sizeof(std::uint32_t) * corners + 100.0);
    };
    return lattices + n * channels * sizeof(float) + vertices(vertices_per_pixel * n, 6.0) +
           vertices(vertices_per_pixel * n, 3.0);
}

}  // namespace deepspec
