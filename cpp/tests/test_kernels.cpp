#include <algorithm>
#include <cfloat>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <limits>
#include <random>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <vector>

#include "check.hpp"
#include "deepspec/kernels/kernels.hpp"
#include "instruction_set.hpp"

using deepspec::kernels::Digits;
using deepspec::kernels::Gram;
using deepspec::kernels::Kernels;
using deepspec::kernels::leaf_size;
using deepspec::kernels::most_lanes;
using deepspec::kernels::panel_size;
using deepspec::kernels::strip_size;
using deepspec::kernels::tile_entries;
using deepspec::kernels::tile_size;
using deepspec::kernels::TileProduct;

namespace {

std::vector<float> random_floats(std::size_t size, unsigned seed) {
    std::mt19937 random(seed);
    std::vector<float> values(size);
    for (float& value : values) value = std::uniform_real_distribution(-1.0f, 1.0f)(random);
    return values;
}

// panel_size cells, packed strip by strip.
std::vector<std::byte> packed(const Gram& gram, const std::vector<float>& cells, std::size_t channels) {
    std::vector<std::byte> panel(gram.panel_bytes(channels),
                                 std::byte{0xff});  // NaN, unless it is overwritten
    for (std::size_t first = 0; first < panel_size; first += strip_size)
        gram.pack(cells.data() + first * channels, channels, first, panel.data());
    return panel;
}

std::vector<std::byte> packed_rows(const Gram& gram, const std::vector<float>& cells, std::size_t channels) {
    const std::vector<std::byte> panel = packed(gram, cells, channels);
    if (gram.to_rows == nullptr) return panel;
    std::vector<std::byte> rows(panel.size(), std::byte{0xff});
    gram.to_rows(panel.data(), channels, rows.data());
    return rows;
}

void check_gram(Digits digits, std::size_t channels, float scale, float least) {
    const Gram& gram = deepspec::kernels::gram(digits);
    const std::vector<float> rows = random_floats(channels * panel_size, 1);
    const std::vector<float> columns = random_floats(channels * panel_size, 2);
    std::vector<float> out(panel_size * tile_size, NAN);  // what lies there is overwritten, not added to
    gram.multiply(packed_rows(gram, rows, channels).data(), packed(gram, columns, channels).data(), channels,
                  scale, least, out.data());
    const double rounded = digits == Digits::float32 ? 0.0 : digits == Digits::fixed16 ? 3 * 0x1p-16 : 0x1p-7;
    for (std::size_t i = 0; i < panel_size; ++i) {
        for (std::size_t j = 0; j < panel_size; ++j) {
            double sum = 0.0, magnitude = 0.0;
            for (std::size_t c = 0; c < channels; ++c) {
                const double term = static_cast<double>(rows[i * channels + c]) *
                                    static_cast<double>(columns[j * channels + c]);
                sum += term;
                magnitude += std::abs(term);
            }
            const double relative = 6e-8 * (static_cast<double>(channels) + 1.0) + rounded;
            CHECK_NEAR(static_cast<double>(out[i * tile_size + j]),
                       std::max(static_cast<double>(least), static_cast<double>(scale) * sum),
                       relative * magnitude * static_cast<double>(scale));
        }
        for (std::size_t j = panel_size; j < tile_size; ++j) CHECK(std::isnan(out[i * tile_size + j]));
    }
}

// Products of numbers that two bfloat16, or one, hold without rounding: exact, as far as the terms that are
// left out (of the lower one with the lower one) are zero.
void check_exact_gram(Digits digits, std::size_t channels) {
    const Gram& gram = deepspec::kernels::gram(digits);
    std::mt19937 random(14);
    const auto whole = [&](int most) {
        return static_cast<float>(static_cast<int>(random() % (2 * static_cast<unsigned>(most) + 1)) - most);
    };
    std::vector<float> rows(channels * panel_size), columns(channels * panel_size);
    for (float& number : rows) number = whole(digits == Digits::bfloat16 ? 127 : 2000);
    for (float& number : columns) number = whole(127);
    std::vector<float> out(panel_size * tile_size);
    for (const bool swapped : {false, true}) {
        const std::vector<float>&first = swapped ? columns : rows, &second = swapped ? rows : columns;
        gram.multiply(packed_rows(gram, first, channels).data(), packed(gram, second, channels).data(),
                      channels, 0.5f, 0.0f, out.data());
        for (std::size_t i = 0; i < panel_size; ++i)
            for (std::size_t j = 0; j < panel_size; ++j) {
                double sum = 0.0;
                for (std::size_t c = 0; c < channels; ++c)
                    sum += static_cast<double>(first[i * channels + c]) *
                           static_cast<double>(second[j * channels + c]);
                CHECK_EQUAL(static_cast<double>(out[i * tile_size + j]), std::max(0.0, 0.5 * sum));
            }
    }
}

// Cells of length 1, some of them in one channel, and shorter ones: no farther off than is said.
void check_signs(std::size_t channels) {
    const Gram& gram = deepspec::kernels::gram(Digits::signs);
    const double error = static_cast<double>(deepspec::kernels::signs_error(channels));
    CHECK(error < 0.01);
    std::mt19937 random(19);
    std::normal_distribution<float> normal;
    std::vector<float> cells(channels * panel_size);
    for (std::size_t i = 0; i < panel_size; ++i) {
        float* const cell = cells.data() + i * channels;
        double length = 0.0;
        for (std::size_t c = 0; c < channels; ++c) {
            cell[c] = i % 4 == 0
                          ? (c == i / 4 % channels ? 1.0f - 2.0f * static_cast<float>(i / 4 % 2) : 0.0f)
                          : normal(random);
            length = std::hypot(length, static_cast<double>(cell[c]));
        }
        for (std::size_t c = 0; c < channels; ++c)
            cell[c] *= static_cast<float>((i % 4 == 1 ? 0.1 : 1.0) / length);
    }
    std::vector<float> out(panel_size * tile_size, NAN);
    gram.multiply(packed_rows(gram, cells, channels).data(), packed(gram, cells, channels).data(), channels,
                  1.0f, -HUGE_VALF, out.data());
    for (std::size_t i = 0; i < panel_size; ++i)
        for (std::size_t j = 0; j < panel_size; ++j) {
            double product = 0.0;
            for (std::size_t c = 0; c < channels; ++c)
                product += static_cast<double>(cells[i * channels + c]) *
                           static_cast<double>(cells[j * channels + c]);
            CHECK_NEAR(static_cast<double>(out[i * tile_size + j]), product, error + 1e-6);
        }
}

template <class Number>
void check_features(const Kernels& kernels, std::size_t count) {
    const std::vector<float> numbers = random_floats(count, 15);
    const std::vector<Number> features(numbers.begin(), numbers.end());
    double expected = 0.0, sum = 0.0;
    for (const float number : numbers) expected += static_cast<double>(number) * static_cast<double>(number);
    std::vector<float> scaled(count);
    constexpr double factor = 1.0 / 3.0;
    if constexpr (std::is_same_v<Number, float>) {
        sum = kernels.sum_of_squares(features.data(), count);
        kernels.scale(features.data(), count, factor, scaled.data());
    } else {
        sum = kernels.sum_of_squares_double(features.data(), count);
        kernels.scale_double(features.data(), count, factor, scaled.data());
    }
    CHECK_NEAR(sum, expected, 1e-14 * expected);
    for (std::size_t i = 0; i < count; ++i)
        CHECK_EQUAL(scaled[i], static_cast<float>(static_cast<double>(features[i]) * factor));
}

void check_blend(const Kernels& kernels, float least) {
    const std::vector<float> numbers = random_floats(7 * tile_size, 12);
    const std::vector<float> weights = random_floats(4 * tile_size, 13);
    std::vector<const float*> rows(4 * tile_size);
    for (std::size_t m = 0; m < rows.size(); ++m) rows[m] = numbers.data() + m % 7 * tile_size;
    std::vector<float> tile(tile_entries, NAN);
    kernels.blend(rows.data(), weights.data(), 0.5f, least, tile.data());
    for (std::size_t i = 0; i < tile_size; ++i)
        for (std::size_t j = 0; j < tile_size; ++j) {
            double sum = 0.0;
            for (std::size_t m = 4 * i; m < 4 * i + 4; ++m)
                sum += 0.5 * static_cast<double>(weights[m]) * static_cast<double>(rows[m][j]);
            CHECK_NEAR(static_cast<double>(tile[i * tile_size + j]),
                       std::max(static_cast<double>(least), sum), 1e-6);
        }
}

void check_transpose(const Kernels& kernels) {
    constexpr std::size_t in_stride = tile_size + 3, out_stride = tile_size + 16;
    const std::vector<float> numbers = random_floats(tile_size * in_stride, 14);
    std::vector<float> transposed(tile_size * out_stride, NAN);
    kernels.transpose(numbers.data(), in_stride, transposed.data(), out_stride);
    for (std::size_t i = 0; i < tile_size; ++i) {
        for (std::size_t j = 0; j < tile_size; ++j)
            CHECK_EQUAL(transposed[i * out_stride + j], numbers[j * in_stride + i]);
        CHECK(std::isnan(transposed[i * out_stride + tile_size]));
    }
}

// What the products of a tile add to the sums of its rows and columns, which began at `before`.
struct Sums {
    std::vector<float> rows = std::vector<float>(tile_size, before);
    std::vector<float> columns = std::vector<float>(tile_size, before);
    static constexpr float before = 0.25f;
    bool operator==(const Sums&) const = default;
};

struct Vector {
    std::vector<float> rows, columns;
    explicit Vector(unsigned seed)
        : rows(random_floats(tile_size, seed)), columns(random_floats(tile_size, seed + 100)) {}
};

// product(products, count) is one of the kernels, of some tile.
template <class Product>
std::vector<Sums> products(const Kernels& kernels, const std::vector<Vector>& vectors, Product product) {
    std::vector<Sums> sums(vectors.size());
    std::vector<std::vector<float>> lanes(vectors.size(), std::vector<float>(tile_size * most_lanes));
    std::vector<TileProduct> asked;
    for (std::size_t v = 0; v < vectors.size(); ++v)
        asked.push_back(
            {vectors[v].rows.data(), vectors[v].columns.data(), lanes[v].data(), sums[v].columns.data()});
    product(asked.data(), asked.size());
    for (std::size_t v = 0; v < vectors.size(); ++v) kernels.add_lanes(lanes[v].data(), sums[v].rows.data());
    return sums;
}

std::vector<Vector> some_vectors(std::size_t count) {
    std::vector<Vector> vectors;
    for (unsigned v = 0; v < count; ++v) vectors.emplace_back(4 + v);
    return vectors;
}

void check_product(const Kernels& kernels, std::size_t count) {
    const std::vector<float> tile = random_floats(tile_entries, 3);
    const std::vector<Vector> vectors = some_vectors(count);
    const std::vector<Sums> sums = products(
        kernels, vectors,
        [&](const TileProduct* asked, std::size_t n_asked) { kernels.product(tile.data(), asked, n_asked); });
    for (std::size_t v = 0; v < count; ++v)
        for (std::size_t i = 0; i < tile_size; ++i) {
            double row = Sums::before, column = Sums::before;
            for (std::size_t j = 0; j < tile_size; ++j) {
                row +=
                    static_cast<double>(tile[i * tile_size + j]) * static_cast<double>(vectors[v].columns[j]);
                column +=
                    static_cast<double>(tile[j * tile_size + i]) * static_cast<double>(vectors[v].rows[j]);
            }
            CHECK_NEAR(sums[v].rows[i], row, 3e-5);
            CHECK_NEAR(sums[v].columns[i], column, 3e-5);
        }
}

void check_fixed_point(const Kernels& kernels) {
    std::vector<float> tile = random_floats(tile_entries, 9);
    for (float& entry : tile) entry = std::abs(entry);
    tile[0] = 0.0f;
    tile[1] = 1.0f;
    tile[2] = std::nextafter(1.0f, 2.0f);
    std::vector<std::uint8_t> high(tile_entries), high_alone(tile_entries);
    std::vector<std::int8_t> low(tile_entries);
    std::vector<std::uint16_t> fixed(tile_entries);
    kernels.to_fixed(tile.data(), fixed.data());
    kernels.to_halves(tile.data(), high.data(), low.data());
    kernels.to_halves(tile.data(), high_alone.data(), nullptr);
    CHECK(high_alone == high);
    std::vector<float> whole(tile_entries), upper(tile_entries);
    for (std::size_t i = 0; i < tile_entries; ++i) {
        CHECK_EQUAL(256 * high[i] + low[i], static_cast<int>(fixed[i]));
        whole[i] = static_cast<float>(fixed[i]);
        upper[i] = static_cast<float>(high[i]);
        CHECK_NEAR(static_cast<double>(whole[i]) / 65280.0, static_cast<double>(std::min(tile[i], 1.0f)),
                   7.7e-6);
    }
    CHECK_EQUAL(whole[0], 0.0f);
    CHECK_EQUAL(whole[1], 65280.0f);
    CHECK_EQUAL(whole[2], 65280.0f);

    // Whole numbers up to 65280 and small vectors: the product is that of the float tile, to the last bit.
    for (const std::size_t count : {1u, 2u, 3u}) {
        const std::vector<Vector> vectors = some_vectors(count);
        const auto of_floats = [&](const std::vector<float>& numbers) {
            return products(kernels, vectors, [&](const TileProduct* asked, std::size_t n) {
                kernels.product(numbers.data(), asked, n);
            });
        };
        CHECK(of_floats(whole) == products(kernels, vectors, [&](const TileProduct* asked, std::size_t n) {
                  kernels.product_fixed(fixed.data(), asked, n);
              }));
        CHECK(of_floats(whole) == products(kernels, vectors, [&](const TileProduct* asked, std::size_t n) {
                  kernels.product_halves(high.data(), low.data(), asked, n);
              }));
        CHECK(of_floats(upper) == products(kernels, vectors, [&](const TileProduct* asked, std::size_t n) {
                  kernels.product_high(high.data(), asked, n);
              }));
    }
}

// To the last bit: a box must never seem farther than the points in it.
void check_near_boxes(const Kernels& kernels, std::size_t dimensions) {
    std::vector<float> lower = random_floats(dimensions * leaf_size, 8), upper = lower;
    const std::vector<float> sides = random_floats(dimensions * leaf_size, 9);
    for (std::size_t i = 0; i < upper.size(); ++i) upper[i] += std::max(0.0f, sides[i]);  // many are points
    for (std::size_t d = 0; d < dimensions; ++d) lower[(d + 1) * leaf_size - 1] = HUGE_VALF;  // filled up
    for (std::size_t d = 0; d < dimensions; ++d) upper[(d + 1) * leaf_size - 1] = HUGE_VALF;
    const std::vector<float> box_lower = random_floats(dimensions, 10);
    std::vector<float> box_upper = box_lower;
    for (float& side : box_upper) side += 0.25f;
    std::vector<float> expected(leaf_size, 0.0f);
    for (std::size_t d = 0; d < dimensions; ++d)
        for (std::size_t i = 0; i < leaf_size; ++i) {
            const std::size_t at = d * leaf_size + i;
            const float gap = std::max({lower[at] - box_upper[d], box_lower[d] - upper[at], 0.0f});
            expected[i] += gap * gap;
        }
    std::vector<float> limits = random_floats(leaf_size, 11), distances(leaf_size, NAN);
    limits[1] = expected[1];
    limits[2] = FLT_MAX;
    limits[leaf_size - 1] = FLT_MAX;
    const unsigned near = kernels.near_boxes(lower.data(), upper.data(), box_lower.data(), box_upper.data(),
                                             dimensions, limits.data(), distances.data());
    for (std::size_t i = 0; i < leaf_size; ++i) {
        CHECK_EQUAL(distances[i], expected[i]);
        CHECK_EQUAL(near >> i & 1u, expected[i] <= limits[i] ? 1u : 0u);
    }
    CHECK_EQUAL(near >> leaf_size, 0u);
}

void check_scan_leaf(const Kernels& kernels, std::size_t dimensions) {
    constexpr std::size_t capacity = 3 * leaf_size;
    constexpr unsigned which = 0xa5c3;
    std::vector<float> leaf = random_floats(dimensions * leaf_size, 12);
    for (std::size_t d = 0; d < dimensions; ++d) leaf[(d + 1) * leaf_size - 1] = HUGE_VALF;
    const std::vector<float> queries = random_floats(dimensions * leaf_size, 13);
    std::vector<float> distances(leaf_size * capacity, -1.0f);
    std::vector<std::int32_t> slots(leaf_size * capacity, -1);
    deepspec::kernels::Candidates found{capacity, distances.data(), slots.data(), {}, {}};
    for (std::size_t q = 0; q < leaf_size; ++q) {
        found.counts[q] = 2 * q;  // the last of them are left without room
        found.limits[q] = q == 0 ? FLT_MAX : 0.4f * static_cast<float>(dimensions);
    }
    const unsigned full = kernels.scan_leaf(leaf.data(), 100, queries.data(), which, dimensions, found);
    for (std::size_t q = 0; q < leaf_size; ++q) {
        std::size_t count = 2 * q;
        for (std::size_t i = 0; i < leaf_size && (which >> q & 1u) != 0; ++i) {
            float squared = 0.0f;
            for (std::size_t d = 0; d < dimensions; ++d) {
                const float gap = leaf[d * leaf_size + i] - queries[d * leaf_size + q];
                squared += gap * gap;
            }
            if (squared > found.limits[q]) continue;
            CHECK_EQUAL(distances[q * capacity + count], squared);
            CHECK_EQUAL(slots[q * capacity + count], 100 + static_cast<std::int32_t>(i));
            ++count;
        }
        CHECK_EQUAL(found.counts[q], count);
        for (std::size_t i = 0; i < 2 * q; ++i) CHECK_EQUAL(slots[q * capacity + i], -1);
        CHECK_EQUAL(full >> q & 1u, (which >> q & 1u) != 0 && count + leaf_size > capacity ? 1u : 0u);
    }
}

void check_ranks(const Kernels& kernels, std::size_t count, std::size_t least, std::size_t most, int levels) {
    std::mt19937 random(static_cast<unsigned>(14 + count));
    std::vector<float> distances(count);
    std::vector<std::int32_t> slots(count + leaf_size);
    for (std::size_t i = 0; i < count; ++i) {
        distances[i] =
            static_cast<float>(random() % static_cast<unsigned>(levels)) / static_cast<float>(levels);
        slots[i] = static_cast<std::int32_t>(7 * i);
    }
    std::vector<float> given = distances;
    given.resize(count + leaf_size, NAN);
    const auto [below, limit] = kernels.rank_limits(given.data(), count, least, most);
    CHECK(std::count_if(distances.begin(), distances.end(), [&](float d) { return d <= below; }) <
          static_cast<std::ptrdiff_t>(least));
    std::vector<float> kept;
    std::vector<std::int32_t> kept_slots;
    for (std::size_t i = 0; i < count; ++i)
        if (distances[i] <= limit) {
            kept.push_back(distances[i]);
            kept_slots.push_back(slots[i]);
        }
    CHECK(kept.size() >= least);
    if (kept.size() > most) {  // only for what is nearly equal to the distance of rank `least`
        std::vector<float> sorted = kept;
        std::sort(sorted.begin(), sorted.end());
        CHECK_NEAR(sorted[least - 1], sorted.back(), 0.005);
    }
    CHECK_EQUAL(kernels.keep_near(given.data(), slots.data(), count, limit), kept.size());
    CHECK(std::equal(kept.begin(), kept.end(), given.begin()));
    CHECK(std::equal(kept_slots.begin(), kept_slots.end(), slots.begin()));
}

// Shares of the four cells that places lie between, beside products of weights in double.
void check_cells(const Kernels& kernels, std::size_t count) {
    constexpr std::size_t width = 5, height = 4, side = 2 * width * height;
    std::mt19937 random(static_cast<unsigned>(16 + count));
    const auto between_0_and_1 = [&] { return static_cast<float>(random() % 1025) / 1024.0f; };
    std::vector<deepspec::kernels::Place> places(count);
    std::vector<float> numbers(2 * count), of_cells(side);
    for (deepspec::kernels::Place& place : places)
        place = {static_cast<std::int32_t>(random() % (height - 1) * width + random() % (width - 1)),
                 between_0_and_1(), between_0_and_1()};
    for (float& number : numbers) number = between_0_and_1() - 0.5f;
    for (float& number : of_cells) number = between_0_and_1() - 0.5f;
    std::vector<double> cells(side, 1.0), expected_cells = cells, expected(2 * count, 0.0);
    for (std::size_t i = 0; i < count; ++i)
        for (const std::size_t row : {0u, 1u})
            for (const std::size_t column : {0u, 1u})
                for (std::size_t v = 0; v < 2; ++v) {
                    const double down = places[i].down, right = places[i].right;
                    const double weight =
                        (row == 0 ? 1.0 - down : down) * (column == 0 ? 1.0 - right : right);
                    const std::size_t at =
                        2 * (static_cast<std::size_t>(places[i].cell) + row * width + column) + v;
                    expected_cells[at] += weight * static_cast<double>(numbers[2 * i + v]);
                    expected[2 * i + v] += weight * static_cast<double>(of_cells[at]);
                }
    kernels.pixels.add_to_cells(places.data(), count, width, numbers.data(), cells.data());
    for (std::size_t c = 0; c < side; ++c) CHECK_NEAR(cells[c], expected_cells[c], 1e-5);
    kernels.pixels.from_cells(places.data(), count, width, of_cells.data(), numbers.data());
    for (std::size_t i = 0; i < 2 * count; ++i)
        CHECK_NEAR(static_cast<double>(numbers[i]), expected[i], 1e-6);
}

// Slices of rows of different lengths, filled up with counts of 0.
void check_counts(const Kernels& kernels) {
    constexpr std::size_t rows = deepspec::kernels::slice_size, n = 6 * rows;
    std::mt19937 random(17);
    std::vector<std::int64_t> starts{0};
    std::vector<std::int32_t> columns;
    std::vector<std::uint8_t> counts;
    std::vector<float> pairs(2 * n);
    for (float& number : pairs) number = static_cast<float>(random() % 1000) / 1000.0f;
    std::vector<double> expected(2 * n, 0.0);
    for (std::size_t slice = 0; slice < n / rows; ++slice) {
        for (std::size_t j = 0; j < 5 * slice; ++j)
            for (std::size_t r = 0; r < rows; ++r) {
                columns.push_back(static_cast<std::int32_t>(random() % n));
                counts.push_back(static_cast<std::uint8_t>(j < r ? 0 : random() % 255));
                for (std::size_t v = 0; v < 2; ++v)
                    expected[2 * (slice * rows + r) + v] +=
                        static_cast<double>(counts.back()) *
                        static_cast<double>(pairs[2 * static_cast<std::size_t>(columns.back()) + v]);
            }
        starts.push_back(static_cast<std::int64_t>(columns.size()));
    }
    for (const std::size_t begin : {0u, 2u}) {
        std::vector<float> products(2 * (n - begin * rows));
        kernels.pixels.count_products(starts.data(), columns.data(), counts.data(), pairs.data(), begin,
                                      n / rows, products.data());
        for (std::size_t i = 0; i < products.size(); ++i)
            CHECK_NEAR(static_cast<double>(products[i]), expected[2 * begin * rows + i], 1e-2);
    }
}

// Rows of all sorts of lengths, none among them, with columns that come twice.
void check_rows(const Kernels& kernels) {
    constexpr std::size_t n = 23, unit = deepspec::kernels::row_unit;
    std::mt19937 random(20);
    std::uniform_real_distribution<float> uniform(-1.0f, 1.0f);
    std::vector<std::int64_t> starts{0};
    std::vector<std::int32_t> columns;
    std::vector<float> entries, pairs(2 * n);
    for (float& number : pairs) number = uniform(random);
    std::vector<double> expected(2 * n, 0.0);
    for (std::size_t row = 0; row < n; ++row) {
        for (std::size_t j = 0; j < unit * (row % 7); ++j) {
            columns.push_back(static_cast<std::int32_t>(random() % n));
            entries.push_back(uniform(random));
            for (std::size_t v = 0; v < 2; ++v)
                expected[2 * row + v] +=
                    static_cast<double>(entries.back()) *
                    static_cast<double>(pairs[2 * static_cast<std::size_t>(columns.back()) + v]);
        }
        starts.push_back(static_cast<std::int64_t>(columns.size()));
    }
    for (const std::size_t begin : {0u, 3u}) {
        std::vector<float> products(2 * (n - begin), NAN);
        kernels.pixels.row_products(starts.data(), columns.data(), entries.data(), pairs.data(), begin, n,
                                    products.data());
        for (std::size_t i = 0; i < products.size(); ++i)
            CHECK_NEAR(static_cast<double>(products[i]), expected[2 * begin + i], 1e-5);
    }
}

// dots and subtract, beside sums one after the other. Vectors have entries up to `unit`.
template <class Number, class Entry>
void check_long_vectors(const deepspec::kernels::LongVectors<Number, Entry>& kernels, double unit,
                        std::size_t count, std::size_t n_x, std::size_t length) {
    const double rounding = unit * std::numeric_limits<Number>::epsilon();
    const std::size_t stride = length + deepspec::kernels::length_unit;
    std::mt19937 random(10);
    std::uniform_real_distribution<double> uniform(-1.0, 1.0);
    std::vector<Entry> vectors(count * stride);
    std::vector<Number> x(n_x * stride);
    std::vector<double> factors(count * n_x), products(count * n_x, NAN);
    for (Entry& entry : vectors) entry = static_cast<Entry>(unit * uniform(random));
    if (!vectors.empty()) vectors.front() = static_cast<Entry>(-unit);
    for (Number& number : x) number = static_cast<Number>(uniform(random));
    for (double& factor : factors) factor = uniform(random);
    kernels.dots(vectors.data(), stride, count, x.data(), n_x, length, products.data());
    std::vector<double> expected(x.begin(), x.end());
    for (std::size_t m = 0; m < n_x; ++m)
        for (std::size_t j = 0; j < count; ++j) {
            double product = 0.0;
            for (std::size_t i = 0; i < length; ++i) {
                const auto number = static_cast<double>(vectors[j * stride + i]);
                product += number * static_cast<double>(x[m * stride + i]);
                expected[m * stride + i] -= factors[m * count + j] * number;
            }
            CHECK_NEAR(products[m * count + j], product, 4.5 * rounding * static_cast<double>(length));
        }
    kernels.subtract(vectors.data(), stride, count, factors.data(), x.data(), n_x, length);
    for (std::size_t i = 0; i < x.size(); ++i) CHECK_NEAR(x[i], expected[i], 45.0 * rounding);
}

// Dot products with vectors here and there, the same wherever one stands among them.
void check_dots_with(const Kernels& kernels, std::size_t count, std::size_t length) {
    constexpr std::size_t n = 12;
    std::mt19937 random(11);
    std::uniform_real_distribution<float> uniform(-1.0f, 1.0f);
    std::vector<float> vectors(n * length), x(length);
    for (float& number : vectors) number = uniform(random);
    for (float& number : x) number = uniform(random);
    const std::vector<std::uint32_t> all{11, 0, 5, 5, 7, 2, 3};
    std::vector<float> products(count + 1, NAN);
    kernels.dots_with(vectors.data(), all.data(), count, x.data(), length, products.data());
    for (std::size_t k = 0; k < count; ++k) {
        double expected = 0.0;
        for (std::size_t i = 0; i < length; ++i)
            expected += static_cast<double>(vectors[all[k] * length + i]) * static_cast<double>(x[i]);
        CHECK_NEAR(static_cast<double>(products[k]), expected, 1e-7 * static_cast<double>(length));
        float alone = NAN;
        kernels.dots_with(vectors.data(), all.data() + k, 1, x.data(), length, &alone);
        CHECK_EQUAL(alone, products[k]);
    }
    CHECK(std::isnan(products[count]));
}

}  // namespace

int main() {
    const char* variable = std::getenv("DEEPSPEC_ISA");
    const std::string forced = variable != nullptr ? variable : "";
    if (forced == "unknown") {
        CHECK_THROWS(std::invalid_argument, "got \"unknown\"", deepspec::kernels::selected());
        return check::result();
    }
    if (!check::has_kernels()) return check::skipped;
    const Kernels& kernels = deepspec::kernels::selected();
    std::cout << kernels.instruction_set << "\n";
    if (!forced.empty()) CHECK_EQUAL(std::string(kernels.instruction_set), forced);
    for (const float least : {0.0f, -HUGE_VALF}) check_blend(kernels, least);
    check_transpose(kernels);
    for (const std::size_t length : {16u, 32u, 48u, 1024u, 1040u, 3008u})
        for (const std::size_t count : {0u, 1u, 3u, 4u, 9u})
            for (const std::size_t n_x : {1u, 2u, 3u}) {
                check_long_vectors(kernels.long_floats, 1.0, count, n_x, length);
                check_long_vectors(kernels.long_doubles, 1.0, count, n_x, length);
                check_long_vectors(kernels.long_words, 32767.0, count, n_x, length);
            }
    for (const std::size_t length : {16u, 384u, 1040u})
        for (const std::size_t count : {0u, 1u, 4u, 7u}) check_dots_with(kernels, count, length);
    for (const std::size_t channels : {1u, 3u, 128u, 129u, 384u})
        for (const float scale : {1.0f, 0.125f, 3.0f})
            for (const float least : {0.0f, -HUGE_VALF})
                for (const Digits digits : {Digits::float32, Digits::fixed16, Digits::bfloat16})
                    check_gram(digits, channels, scale, least);
    for (const std::size_t channels : {1u, 2u, 33u, 130u, 384u})
        for (const Digits digits : {Digits::float32, Digits::fixed16, Digits::bfloat16})
            check_exact_gram(digits, channels);
    for (const std::size_t channels : {1u, 2u, 33u, 384u, 1025u}) check_signs(channels);
    for (const std::size_t count : {1u, 15u, 16u, 384u, 387u}) {
        check_features<float>(kernels, count);
        check_features<double>(kernels, count);
    }
    for (const std::size_t count : {1u, 2u, 5u}) check_product(kernels, count);
    check_fixed_point(kernels);
    for (const std::size_t dimensions : {1u, 2u, 5u, 6u}) {
        check_near_boxes(kernels, dimensions);
        check_scan_leaf(kernels, dimensions);
    }
    for (const std::size_t count : {1u, 15u, 16u, 17u, 64u, 90u})
        for (const int levels : {1, 2, 7, 1'000'000}) {
            check_ranks(kernels, count, 1, 1, levels);
            check_ranks(kernels, count, count, count, levels);
            check_ranks(kernels, count, (count + 1) / 2, (count + 1) / 2 + 3, levels);
        }
    for (const std::size_t count : {0u, 1u, 2u, 77u}) check_cells(kernels, count);
    check_counts(kernels);
    check_rows(kernels);
    return check::result();
}
