#include "deepspec/permutohedral.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>
#include <stdexcept>
#include <utility>

#include "deepspec/kernels/kernels.hpp"

namespace deepspec {
namespace {

using kernels::lattice_block;
constexpr std::size_t most_dimensions = 5, most_corners = most_dimensions + 1;
constexpr std::size_t piece = 1024, vertex_grain = 1024;  // points and vertices of a parallel task

// From a position in standard deviations to the hyperplane where coordinates sum up to zero, so that the
// lattice's blur has the standard deviation 1.
std::array<float, most_dimensions> scales_of(std::size_t dimensions) {
    std::array<float, most_dimensions> scales{};
    for (std::size_t i = 0; i < dimensions; ++i)
        scales[i] = static_cast<float>(std::sqrt(2.0 / 3.0) * static_cast<double>(dimensions + 1) /
                                       std::sqrt(static_cast<double>((i + 1) * (i + 2))));
    return scales;
}

// A vertex's coordinates but the last, which follows from the others, packed into a number.
class VertexKeys {
  public:
    explicit VertexKeys(const std::vector<double>& extents) : dimensions_(extents.size()) {
        const std::array<float, most_dimensions> scales = scales_of(dimensions_);
        std::array<double, most_dimensions> high{};
        for (std::size_t i = 0; i < dimensions_; ++i) high[i] = extents[i] * static_cast<double>(scales[i]);
        // Coordinate j is the sum of the positions from j on, less j times the one before.
        std::size_t bits = 0;
        for (std::size_t j = 0; j < dimensions_; ++j) {
            const double least = j > 0 ? -static_cast<double>(j) * high[j - 1] : 0.0;
            const double most =
                std::accumulate(high.begin() + static_cast<std::ptrdiff_t>(j), high.end(), 0.0);
            const double margin =
                3.0 * static_cast<double>(dimensions_ + 1);  // of corners and their neighbours
            const double width = most - least + 2.0 * margin;
            if (!(width < 0x1p31) || !(std::max(std::abs(least), std::abs(most)) < 0x1p21))
                throw std::invalid_argument(too_far_apart);
            least_[j] = static_cast<std::int32_t>(std::floor(least - margin));
            shifts_[j] = bits;
            bits += static_cast<std::size_t>(std::ceil(std::log2(width + 2.0)));
            if (bits > 63) throw std::invalid_argument(too_far_apart);
        }
        for (std::size_t j = 0; j < dimensions_; ++j) ones_ += std::uint64_t{1} << shifts_[j];
    }

    // The vertex of a simplex whose remainder is 0; its coordinates lie lattice_block numbers apart.
    std::uint64_t first(const std::int32_t* coordinates) const {
        std::uint64_t key = 0;
        for (std::size_t j = 0; j < dimensions_; ++j)
            key += static_cast<std::uint64_t>(coordinates[j * lattice_block] - least_[j]) << shifts_[j];
        return key;
    }

    // Added to a key, leads to the neighbour in a direction of the lattice: all coordinates but that one
    // grow by 1.
    std::uint64_t step(std::size_t direction) const {
        const std::uint64_t corners = dimensions_ + 1;
        return direction == dimensions_ ? ones_ : ones_ - (corners << shifts_[direction]);
    }

  private:
    static constexpr const char* too_far_apart =
        "the standard deviations are too small: the points lie too many of them apart";

    std::size_t dimensions_;
    std::array<std::int32_t, most_dimensions> least_{};
    std::array<std::size_t, most_dimensions> shifts_{};
    std::uint64_t ones_ = 0;
};

// Numbers for keys, in the order in which they come.
class KeyTable {
  public:
    KeyTable() : slots_(std::size_t{1} << 12) {}

    std::size_t size() const { return keys_.size(); }
    std::uint64_t key(std::size_t number) const { return keys_[number]; }

    std::uint32_t number(std::uint64_t key) {
        const std::size_t at = place(key);
        if (slots_[at].number != none) return slots_[at].number;
        const auto number = static_cast<std::uint32_t>(keys_.size());
        slots_[at] = {key, number};
        keys_.push_back(key);
        if (2 * keys_.size() > slots_.size()) grow();
        return number;
    }

    static constexpr std::uint32_t none = 0xffffffff;
    std::uint32_t find(std::uint64_t key) const { return slots_[place(key)].number; }

  private:
    struct Slot {
        std::uint64_t key = 0;
        std::uint32_t number = none;
    };

    std::size_t place(std::uint64_t key) const {
        const std::size_t mask = slots_.size() - 1;
        std::uint64_t mixed = key * 0x9e3779b97f4a7c15u;
        mixed ^= mixed >> 32;
        std::size_t at = static_cast<std::size_t>(mixed) & mask;
        while (slots_[at].number != none && slots_[at].key != key) at = (at + 1) & mask;
        return at;
    }

    void grow() {
        slots_.assign(2 * slots_.size(), Slot());
        for (std::size_t i = 0; i < keys_.size(); ++i)
            slots_[place(keys_[i])] = {keys_[i], static_cast<std::uint32_t>(i)};
    }

    std::vector<Slot> slots_;
    std::vector<std::uint64_t> keys_;
};

}  // namespace

PermutohedralLattice::Bands::Bands(std::size_t n) : n_points(n) {
    constexpr std::size_t least = std::size_t{1} << 14, most_bands = 16;
    size = std::max(least, (n + most_bands - 1) / most_bands);
    size = (size + piece - 1) / piece * piece;
}

PermutohedralLattice::PermutohedralLattice(std::size_t n_points, const std::vector<double>& extents,
                                           const Positions& positions, ThreadPool& pool)
    : n_points_(n_points),
      dimensions_(extents.size()),
      bands_(n_points),
      corners_(n_points * corners()),
      weights_(n_points * corners()) {
    const VertexKeys keys(extents);
    const std::array<float, most_dimensions> scales = scales_of(dimensions_);
    std::array<std::uint64_t, most_corners> steps{};
    for (std::size_t i = 0; i < corners(); ++i) steps[i] = keys.step(i);

    std::vector<KeyTable> tables(bands_.count());
    pool.run(bands_.count(), [&](std::size_t band) {
        KeyTable& table = tables[band];
        std::array<float, most_dimensions * lattice_block> block{};
        std::array<std::int32_t, most_corners * lattice_block> coordinates, ranks;
        std::array<float, most_corners * lattice_block> shares;
        std::array<std::uint64_t, most_corners> order{}, last;
        std::array<std::uint32_t, most_corners> numbers{};
        last.fill(~std::uint64_t{0});
        for (std::size_t begin = bands_.begin(band); begin < bands_.end(band); begin += lattice_block) {
            const std::size_t count = std::min(lattice_block, bands_.end(band) - begin);
            positions(begin, begin + count, block.data());
            kernels::selected().crf.enclose(block.data(), dimensions_, scales.data(), coordinates.data(),
                                            ranks.data(), shares.data());
            std::uint32_t* point = corners_.data() + begin * corners();
            float* weights = weights_.data() + begin * corners();
            for (std::size_t p = 0; p < count; ++p) {
                std::uint64_t key = keys.first(coordinates.data() + p);
                for (std::size_t c = 0; c < corners(); ++c)
                    order[static_cast<std::size_t>(ranks[c * lattice_block + p])] = steps[c];
                // From corner to corner the coordinates grow, but for the one of the highest rank left. Most
                // corners are those of the point before.
                for (std::size_t c = 0; c < corners(); ++c) {
                    if (key != last[c]) {
                        last[c] = key;
                        numbers[c] = table.number(key);
                    }
                    *point++ = numbers[c];
                    *weights++ = shares[c * lattice_block + p];
                    key += order[dimensions_ - c];
                }
            }
        }
    });

    KeyTable all;
    for (const KeyTable& table : tables) {
        first_.push_back(rows_.size());
        for (std::size_t i = 0; i < table.size(); ++i) rows_.push_back(all.number(table.key(i)) + 1);
    }
    n_vertices_ = all.size();
    starts_.assign(n_vertices_ + 2, 0);
    for (const std::uint32_t row : rows_) ++starts_[row + 1];
    std::partial_sum(starts_.begin(), starts_.end(), starts_.begin());
    same_.resize(rows_.size());
    std::vector<std::uint32_t> next(starts_);
    for (std::size_t i = 0; i < rows_.size(); ++i) same_[next[rows_[i]]++] = static_cast<std::uint32_t>(i);

    const std::size_t n_rows = n_vertices_ + 1;
    before_.assign(corners() * n_rows, 0);
    after_.assign(corners() * n_rows, 0);
    pool.for_blocks(n_vertices_, vertex_grain, [&](std::size_t begin, std::size_t end) {
        for (std::size_t i = begin; i < end; ++i)
            for (std::size_t direction = 0; direction < corners(); ++direction) {
                const std::uint32_t neighbor = all.find(all.key(i) + steps[direction]);
                if (neighbor == KeyTable::none) continue;
                after_[direction * n_rows + i + 1] = neighbor + 1;
                before_[direction * n_rows + neighbor + 1] = static_cast<std::uint32_t>(i + 1);
            }
    });
}

double PermutohedralLattice::bytes_per_point(std::size_t dimensions) {
    return static_cast<double>((dimensions + 1) * (sizeof(std::uint32_t) + sizeof(float)));
}

PermutohedralLattice::Values PermutohedralLattice::make_values(std::size_t channels) const {
    const std::size_t size = (n_vertices_ + 1) * channels, of_bands = rows_.size() * channels;
    Values values{channels, Buffer<float>(of_bands), Buffer<float>(of_bands), Buffer<float>(size),
                  Buffer<float>(size)};
    std::fill_n(values.collected.data(), of_bands, 0.0f);
    std::fill_n(values.all.data(), channels, 0.0f);
    std::fill_n(values.spare.data(), channels, 0.0f);
    return values;
}

void PermutohedralLattice::collect(std::size_t begin, std::size_t end, const float* in,
                                   Values& values) const {
    kernels::selected().crf.splat(corners_.data() + begin * corners(), weights_.data() + begin * corners(),
                                  corners(), end - begin, in, values.channels,
                                  values.collected.data() + first_[begin / bands_.size] * values.channels);
}

// Takes what the bands have collected, WIDTH channels at a time, for some vertices.
template <std::size_t WIDTH>
void PermutohedralLattice::add_up_bands(std::size_t begin, std::size_t end, Values& values) const {
    for (std::size_t row = begin + 1; row <= end; ++row)
        for (std::size_t c = 0; c < values.channels; c += WIDTH) {
            std::array<float, WIDTH> sums{};
            for (std::size_t i = starts_[row]; i < starts_[row + 1]; ++i) {
                float* const part = values.collected.data() + same_[i] * values.channels + c;
                for (std::size_t lane = 0; lane < WIDTH; ++lane)
                    sums[lane] += std::exchange(part[lane], 0.0f);
            }
            std::copy_n(sums.data(), WIDTH, values.all.data() + row * values.channels + c);
        }
}

void PermutohedralLattice::blur(Values& values, ThreadPool& pool) const {
    const std::size_t channels = values.channels, n_rows = n_vertices_ + 1;
    pool.for_blocks(n_vertices_, vertex_grain, [&](std::size_t begin, std::size_t end) {
        channels == 1 ? add_up_bands<1>(begin, end, values) : add_up_bands<8>(begin, end, values);
    });
    for (std::size_t direction = 0; direction < corners(); ++direction) {
        pool.for_blocks(n_vertices_, vertex_grain, [&](std::size_t begin, std::size_t end) {
            kernels::selected().crf.blur(values.all.data(), before_.data() + direction * n_rows,
                                         after_.data() + direction * n_rows, begin + 1, end + 1, channels,
                                         values.spare.data());
        });
        std::swap(values.all, values.spare);
    }
    pool.for_blocks(rows_.size(), vertex_grain, [&](std::size_t begin, std::size_t end) {
        for (std::size_t i = begin; i < end; ++i)
            std::copy_n(values.all.data() + rows_[i] * channels, channels,
                        values.blurred.data() + i * channels);
    });
}

void PermutohedralLattice::gather(std::size_t begin, std::size_t end, const Values& values, const float* base,
                                  float* out) const {
    kernels::selected().crf.slice(
        corners_.data() + begin * corners(), weights_.data() + begin * corners(), corners(), end - begin,
        values.blurred.data() + first_[begin / bands_.size] * values.channels, values.channels, base, out);
}

void PermutohedralLattice::normalize(double weight, ThreadPool& pool) {
    constexpr float least = 1e-20f;
    Values values = make_values(1);
    std::array<float, piece> zeros{}, ones;
    ones.fill(1.0f);
    pool.run(bands_.count(), [&](std::size_t band) {
        for (std::size_t begin = bands_.begin(band); begin < bands_.end(band); begin += piece)
            collect(begin, std::min(begin + piece, bands_.end(band)), ones.data(), values);
    });
    blur(values, pool);
    pool.for_blocks(n_points_, piece, [&](std::size_t begin, std::size_t end) {
        std::array<float, piece> sums;
        gather(begin, end, values, zeros.data(), sums.data());
        float* weights = weights_.data() + begin * corners();
        for (std::size_t p = 0; p < end - begin; ++p) {
            const float factor = std::sqrt(static_cast<float>(weight) / (sums[p] + least));
            for (std::size_t c = 0; c < corners(); ++c) *weights++ *= factor;
        }
    });
}

}  // namespace deepspec
