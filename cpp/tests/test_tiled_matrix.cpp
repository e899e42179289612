#include <cmath>
#include <limits>
#include <random>
#include <stdexcept>
#include <vector>

#include "check.hpp"
#include "deepspec/kernels/kernels.hpp"
#include "deepspec/tiled_matrix.hpp"
#include "instruction_set.hpp"

using namespace deepspec;
using kernels::tile_size;

namespace {

constexpr Entries kinds[] = {Entries::float32, Entries::fixed16, Entries::split16, Entries::fixed8};
constexpr std::size_t sizes[] = {1, 95, 96, 97, 300, 2000};

// A symmetric matrix of numbers from 0 to 1, row-major.
std::vector<float> random_matrix(std::size_t n) {
    std::mt19937 random(5);
    std::vector<float> matrix(n * n);
    for (std::size_t i = 0; i < n; ++i)
        for (std::size_t j = 0; j <= i; ++j)
            matrix[i * n + j] = matrix[j * n + i] = std::uniform_real_distribution(0.0f, 1.0f)(random);
    return matrix;
}

void fill(TiledMatrix& tiled, const std::vector<float>& matrix, std::size_t n) {
    for (std::size_t index = 0; index < tiled.n_tiles(); ++index) {
        const auto [row, column] = tiled.position(index);
        std::vector<float> block(tile_size * tile_size, 0.0f);
        for (std::size_t i = 0; i < tile_size && row * tile_size + i < n; ++i)
            for (std::size_t j = 0; j < tile_size && column * tile_size + j < n; ++j)
                block[i * tile_size + j] = matrix[(row * tile_size + i) * n + column * tile_size + j];
        tiled.set_tile(row, column, block.data());
    }
}

TiledMatrix tile(const std::vector<float>& matrix, std::size_t n, Entries entries) {
    TiledMatrix tiled(n, entries);
    fill(tiled, matrix, n);
    return tiled;
}

void keeps_its_entries(Entries entries) {
    const double error = entries == Entries::float32  ? 0.0
                         : entries == Entries::fixed8 ? 0x1p-9 * 1.01
                                                      : 0x1p-17 * 1.01;
    for (const std::size_t n : sizes) {
        const std::vector<float> matrix = random_matrix(n);
        const TiledMatrix tiled = tile(matrix, n, entries);
        CHECK_EQUAL(tiled.size(), n);
        for (std::size_t i = 0; i < n; ++i)
            for (std::size_t j = 0; j < n; ++j)
                CHECK_NEAR(static_cast<double>(tiled.at(i, j)), static_cast<double>(matrix[i * n + j]),
                           error);
    }
}

void multiplies_like_its_entries(Entries entries) {
    for (const std::size_t n : sizes) {
        const TiledMatrix matrix = tile(random_matrix(n), n, entries);
        std::mt19937 random(6);
        std::vector<double> x(n);
        for (double& value : x) value = std::uniform_real_distribution(-1.0, 1.0)(random);
        ThreadPool alone(1);
        std::vector<double> expected(n);
        matrix.multiply(x.data(), expected.data(), alone);
        for (std::size_t i = 0; i < n; ++i) {
            double sum = 0.0;
            for (std::size_t j = 0; j < n; ++j) sum += static_cast<double>(matrix.at(i, j)) * x[j];
            CHECK_NEAR(expected[i], sum, 1e-6 * std::sqrt(static_cast<double>(n)));
        }
        // Magnitudes so far apart that the order of the sums shows in their bits.
        for (std::size_t j = 0; j < n; ++j) x[j] *= std::pow(10.0, static_cast<double>(j % 37) - 18.0);
        matrix.multiply(x.data(), expected.data(), alone);
        for (const int threads : {2, 4, 7}) {
            ThreadPool pool(threads);
            std::vector<double> y(n, NAN);
            matrix.multiply(x.data(), y.data(), pool);
            CHECK(y == expected);
        }
    }
}

// Worked out whenever they are needed, the entries are those that are kept.
void works_tiles_out() {
    for (const std::size_t n : sizes) {
        const std::vector<float> matrix = random_matrix(n);
        const TiledMatrix kept = tile(matrix, n, Entries::float32);
        const TiledMatrix computed(n, [&](std::size_t row, std::size_t column, float* out) {
            for (std::size_t i = 0; i < tile_size; ++i)
                for (std::size_t j = 0; j < tile_size; ++j) {
                    const std::size_t r = row * tile_size + i, c = column * tile_size + j;
                    out[i * tile_size + j] = r < n && c < n ? matrix[r * n + c] : 0.0f;
                }
        });
        CHECK_EQUAL(computed.at(n - 1, n / 2), matrix[(n - 1) * n + n / 2]);
        std::vector<double> x(n, 1.0), expected(n), y(n, NAN);
        ThreadPool pool(3);
        kept.multiply(x.data(), expected.data(), pool);
        computed.multiply(x.data(), y.data(), pool);
        CHECK(y == expected);
    }
}

void multiplies_several_vectors(Entries entries) {
    constexpr std::size_t n = 700, count = 3;
    const TiledMatrix matrix = tile(random_matrix(n), n, entries);
    std::vector<double> x(count * n), expected(count * n), y(count * n, 0.0);
    for (std::size_t i = 0; i < x.size(); ++i) x[i] = std::sin(static_cast<double>(i));
    ThreadPool pool(2);
    for (std::size_t vector = 0; vector < count; ++vector)
        matrix.multiply(x.data() + vector * n, expected.data() + vector * n, pool);
    matrix.multiply(x.data(), y.data(), pool, count, n);
    CHECK(y == expected);
    // Rows of it, added to what is there, of vectors that are multiplied by F before.
    const std::vector<double> twice(n, 2.0);
    TiledMatrix::Product product(matrix, twice.data(), x.data(), count, n);
    pool.run(product.n_tasks(), [&](std::size_t task) { product.run(task); });
    constexpr std::size_t begin = 380, end = 600;  // of more than one block
    std::vector<double> rows(end - begin, 1.0);
    product.add_rows(1, begin, end, rows.data());
    for (std::size_t i = begin; i < end; ++i)
        CHECK_NEAR(rows[i - begin], 1.0 + 2.0 * expected[n + i], 1e-12 * std::abs(expected[n + i]));
}

// The upper half of the digits is what fixed8 keeps.
void coarse_products() {
    constexpr std::size_t n = 300;
    const std::vector<float> numbers = random_matrix(n);
    const TiledMatrix split = tile(numbers, n, Entries::split16), coarse = tile(numbers, n, Entries::fixed8);
    CHECK(split.has_coarse());
    CHECK(!coarse.has_coarse());
    std::vector<double> x(n), expected(n), y(n, 0.0);
    for (std::size_t i = 0; i < n; ++i) x[i] = std::sin(static_cast<double>(i));
    ThreadPool pool(2);
    coarse.multiply(x.data(), expected.data(), pool);
    split.multiply(x.data(), y.data(), pool, 1, n, Detail::coarse);
    CHECK(y == expected);
}

// Bits are 1 where an entry is above the threshold, and multiply so.
void keeps_bits() {
    constexpr float threshold = 0.4f;
    for (const std::size_t n : sizes) {
        const std::vector<float> numbers = random_matrix(n);
        TiledMatrix bits(n, Entries::bits, threshold);
        std::vector<float> ones(n * n);
        for (std::size_t i = 0; i < n * n; ++i) ones[i] = numbers[i] > threshold ? 1.0f : 0.0f;
        fill(bits, numbers, n);
        const TiledMatrix expected = tile(ones, n, Entries::float32);
        std::vector<double> x(3 * n), y(3 * n, 0.0), of_floats(3 * n, 0.0);
        for (std::size_t i = 0; i < 3 * n; ++i) x[i] = std::sin(static_cast<double>(i));
        for (std::size_t i = 0; i < n; ++i)
            for (std::size_t j = 0; j < n; ++j) CHECK_EQUAL(bits.at(i, j), ones[i * n + j]);
        ThreadPool pool(2);
        bits.multiply(x.data(), y.data(), pool, 3, n);
        expected.multiply(x.data(), of_floats.data(), pool, 3, n);
        CHECK(y == of_floats);
    }
    CHECK_EQUAL(TiledMatrix::bytes(1000, Entries::bits), 66.0 * 96.0 * 96.0 / 8.0);
}

template <class Scalar>
void packs_dense() {
    ThreadPool pool(2);
    for (const std::size_t n : {1u, 96u, 200u}) {
        const std::vector<float> random = random_matrix(n);
        const std::vector<Scalar> matrix(random.begin(), random.end());
        const TiledMatrix packed = pack_dense(matrix.data(), n, pool);
        for (std::size_t i = 0; i < n; ++i)
            for (std::size_t j = 0; j < n; ++j) CHECK_EQUAL(packed.at(i, j), random[i * n + j]);
    }
    const auto pack = [&](const std::vector<Scalar>& matrix) { return pack_dense(matrix.data(), 2, pool); };
    CHECK_THROWS(std::invalid_argument, "symmetric", pack({0, 1, 2, 0}));
    pack({0, Scalar(1), Scalar(1.0000005), 0});  // asymmetry of rounding is forgiven
    constexpr auto nan = std::numeric_limits<Scalar>::quiet_NaN(),
                   infinity = std::numeric_limits<Scalar>::infinity();
    for (const Scalar wrong : {Scalar(-1), nan, infinity, -infinity}) {
        CHECK_THROWS(std::invalid_argument, "finite and not negative", pack({0, wrong, wrong, 0}));
        CHECK_THROWS(std::invalid_argument, "finite and not negative", pack({0, 1, wrong, 0}));
        CHECK_THROWS(std::invalid_argument, "(1, 1)", pack({0, 1, 1, wrong}));
    }
}

void sizes_are_told_in_advance() {
    CHECK_EQUAL(TiledMatrix::bytes(96, Entries::float32), 96.0 * 96.0 * 4.0);
    CHECK_EQUAL(TiledMatrix::bytes(97, Entries::float32), 3.0 * 96.0 * 96.0 * 4.0);
    const TiledMatrix matrix(1000, Entries::float32);
    CHECK_EQUAL(matrix.tile_rows(), 11u);
    CHECK_EQUAL(matrix.n_tiles(), 66u);
    CHECK_EQUAL(TiledMatrix::bytes(1000, Entries::float32), 66.0 * 96.0 * 96.0 * 4.0);
    CHECK_EQUAL(TiledMatrix::bytes(1000, Entries::fixed16), 66.0 * 96.0 * 96.0 * 2.0);
    CHECK_EQUAL(TiledMatrix::bytes(1000, Entries::split16), 66.0 * 96.0 * 96.0 * 2.0);
    CHECK_EQUAL(TiledMatrix::bytes(1000, Entries::fixed8), 66.0 * 96.0 * 96.0);
    CHECK(TiledMatrix::product_bytes(1000, 2) > 2.0 * TiledMatrix::product_bytes(1000, 1) * 0.9);
    CHECK(TiledMatrix::product_bytes(20000, 1) < 0.03 * TiledMatrix::bytes(20000, Entries::fixed16));
}

}  // namespace

int main() {
    if (!check::has_kernels()) return check::skipped;
    for (const Entries entries : kinds) {
        keeps_its_entries(entries);
        multiplies_like_its_entries(entries);
        multiplies_several_vectors(entries);
    }
    works_tiles_out();
    coarse_products();
    keeps_bits();
    packs_dense<float>();
    packs_dense<double>();
    sizes_are_told_in_advance();
    return check::result();
}
