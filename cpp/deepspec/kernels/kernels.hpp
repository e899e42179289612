#pragma once

#include <cstddef>
#include <cstdint>

// The inner loops, one set of functions per instruction set. The files that implement them
// include neither Eigen nor the standard library: an inline function compiled there for AVX-512 must
// not be the copy the linker keeps for everyone.
namespace deepspec::kernels {

inline constexpr std::size_t panel_size = 48;  // a multiple of every register block: 8x48, 6x16, 4x8
inline constexpr std::size_t strip_size = 16;  // cells that are packed together
inline constexpr std::size_t tile_size = 2 * panel_size;
inline constexpr std::size_t tile_entries = tile_size * tile_size;
inline constexpr std::size_t most_lanes = 16;  // of any instruction set

// A fixed-point entry is 256 high + low, in units of 1 / fixed_one: high from 0 to 255, low from -128 to 127.
inline constexpr float high_one = 255.0f;
inline constexpr float fixed_one = 256.0f * high_one;
inline constexpr std::size_t leaf_size = 16;
inline constexpr std::size_t length_unit = 16;  // what the lengths of long vectors are a multiple of
inline constexpr std::size_t slice_size = 4;    // rows of a matrix of counts whose entries alternate
inline constexpr std::size_t row_unit = 4;  // what the lengths of a matrix of floats' rows are a multiple of
inline constexpr std::size_t lattice_block = 64;  // points that go through a step together

// Around the distance of some rank: fewer than so many distances are at most `below`, not fewer at most
// `within`.
struct RankLimits {
    float below, within;
};

// What the queries of a leaf have found so far: squared distances and the slots of the points.
struct Candidates {
    std::size_t capacity;  // of a query, a multiple of leaf_size
    float* distances;      // (leaf_size, capacity)
    std::int32_t* slots;
    std::size_t counts[leaf_size];
    float limits[leaf_size];
};

// A way to multiply features, which it packs in panels of panel_size cells.
struct Gram {
    std::size_t (*panel_bytes)(std::size_t channels);

    // Sets the cells first ... first + strip_size - 1 of a panel from (strip_size, channels) floats.
    void (*pack)(const float* cells, std::size_t channels, std::size_t first, void* panel);

    // A panel as it is multiplied from the left, of as many bytes; null where it stays as it is.
    void (*to_rows)(const void* panel, std::size_t channels, void* rows);

    // out[i][j] = max(least, scale * the inner product of rows' cell i and columns' cell j); rows of out are
    // tile_size apart.
    void (*multiply)(const void* rows, const void* columns, std::size_t channels, float scale, float least,
                     float* out);
};

// y_columns += tile^T x_rows, and tile x_columns is added to the rows' partial sums, (tile_size, lanes) with
// at most most_lanes.
struct TileProduct {
    const float* x_rows;
    const float* x_columns;
    float* row_lanes;
    float* y_columns;
};

// Of `count` vectors and of n_x others, which are called x; both kinds are `stride` numbers apart.
template <class Number, class Entry = Number>
struct LongVectors {
    // products[m * count + j] = the dot product of vector j with the m-th x.
    void (*dots)(const Entry* vectors, std::size_t stride, std::size_t count, const Number* x,
                 std::size_t n_x, std::size_t length, double* products);

    // The m-th x -= sum_j factors[m * count + j] vector j.
    void (*subtract)(const Entry* vectors, std::size_t stride, std::size_t count, const double* factors,
                     Number* x, std::size_t n_x, std::size_t length);
};

// Of a filter on a permutohedral lattice in 2 or 5 dimensions, and of the mean field that it is for. Channels
// are one, or a multiple of 8.
struct CrfLoops {
    // The simplices that enclose lattice_block points, (dimensions, lattice_block), which `scales` bring to
    // the plane of the lattice. Of each, (dimensions + 1, lattice_block): the coordinates of the corner whose
    // remainder is 0, the coordinates' ranks among what the point is away from it, and the corners' shares of
    // the point.
    void (*enclose)(const float* points, std::size_t dimensions, const float* scales,
                    std::int32_t* coordinates, std::int32_t* ranks, float* shares);

    // Adds to the rows of values that are a point's corners their shares of its row of `in`, for `count`
    // points.
    void (*splat)(const std::uint32_t* rows, const float* weights, std::size_t corners, std::size_t count,
                  const float* in, std::size_t channels, float* values);

    // Row v of out, from begin to end: that of values, and half of both neighbours'.
    void (*blur)(const float* values, const std::uint32_t* before, const std::uint32_t* after,
                 std::size_t begin, std::size_t end, std::size_t channels, float* out);

    // The rows of `out` of `count` points: those of `base` and the points' shares of their corners' rows of
    // values.
    void (*slice)(const std::uint32_t* rows, const float* weights, std::size_t corners, std::size_t count,
                  const float* values, std::size_t channels, const float* base, float* out);

    // Of the channels, more than one, of each of `count` rows, at most lattice_block.
    void (*softmax)(const float* logits, std::size_t channels, std::size_t count, float* out);

    void (*tanh_half)(const float* numbers, std::size_t count, float* out);
};

// Where a pixel lies: the first of the four cells it is between, and how far from that.
struct Place {
    std::int32_t cell;
    float down, right;
};

// Of the affinity of pixels, and of two vectors, which are (n, 2).
struct PixelLoops {
    // The products of the slices from begin to end of a matrix of counts (see CountMatrix) with vectors.
    // Products begin with the first slice's.
    void (*count_products)(const std::int64_t* slice_starts, const std::int32_t* columns,
                           const std::uint8_t* counts, const float* pairs, std::size_t begin, std::size_t end,
                           float* products);

    // The same of the rows from begin to end of a RowMatrix.
    void (*row_products)(const std::int64_t* row_starts, const std::int32_t* columns, const float* entries,
                         const float* pairs, std::size_t begin, std::size_t end, float* products);

    // Adds to cells, in rows of `width`, their shares of the numbers at `count` places.
    void (*add_to_cells)(const Place* places, std::size_t count, std::size_t width, const float* numbers,
                         double* cells);

    // Numbers at places from those of cells, by the same shares.
    void (*from_cells)(const Place* places, std::size_t count, std::size_t width, const float* cells,
                       float* numbers);
};

struct Kernels {
    const char* instruction_set;

    Gram gram;  // in float32

    // In double precision, as the next.
    double (*sum_of_squares)(const float* numbers, std::size_t count);
    double (*sum_of_squares_double)(const double* numbers, std::size_t count);

    // out = factor * numbers
    void (*scale)(const float* numbers, std::size_t count, double factor, float* out);
    void (*scale_double)(const double* numbers, std::size_t count, double factor, float* out);

    // tile[i] = max(least, scale * sum_m weights[4 i + m] * rows[4 i + m]), m = 0 ... 3; a row has tile_size
    // numbers.
    void (*blend)(const float* const* rows, const float* weights, float scale, float least, float* tile);

    // The transpose of tile_size rows of so many numbers.
    void (*transpose)(const float* in, std::size_t in_stride, float* out, std::size_t out_stride);

    // The entries of a tile, from 0 to (a rounding error above) 1, rounded to 1 / fixed_one.
    void (*to_fixed)(const float* tile, std::uint16_t* fixed);

    // The same with the halves of the digits apart; `low` may be null.
    void (*to_halves)(const float* tile, std::uint8_t* high, std::int8_t* low);

    // Bit i % 16 of word i / 16: whether entry i is above the threshold.
    void (*to_bits)(const float* tile, float threshold, std::uint16_t* bits);

    // The products of a tile with `count` vectors, for both halves of the matrix it stands for.
    void (*product)(const float* tile, const TileProduct* products, std::size_t count);

    // The same for a fixed-point tile, times fixed_one.
    void (*product_fixed)(const std::uint16_t* tile, const TileProduct* products, std::size_t count);
    void (*product_halves)(const std::uint8_t* high, const std::int8_t* low, const TileProduct* products,
                           std::size_t count);

    // The same for the upper half of the digits, times high_one.
    void (*product_high)(const std::uint8_t* high, const TileProduct* products, std::size_t count);

    // The same for a tile of bits.
    void (*product_bits)(const std::uint16_t* bits, const TileProduct* products, std::size_t count);

    // y += the rows' partial sums.
    void (*add_lanes)(const float* row_lanes, float* y);

    // Squared distances of leaf_size boxes, whose bounds are (dimensions, leaf_size), from one box; bit i of
    // the result says that the i-th is at most limits[i].
    unsigned (*near_boxes)(const float* lower, const float* upper, const float* box_lower,
                           const float* box_upper, std::size_t dimensions, const float* limits,
                           float* distances);

    // Appends to what each query of which a bit is set has found the points of a leaf within its limit; the
    // leaf and the queries are (dimensions, leaf_size). Bit q of the result says that the q-th of them may
    // have no room for another leaf. Sums as near_boxes does, so that no point is nearer than its box.
    unsigned (*scan_leaf)(const float* leaf, std::int32_t first_slot, const float* queries, unsigned which,
                          std::size_t dimensions, Candidates& found);

    // Limits around the distance of rank `least`, at most `most` within but for those that are nearly equal.
    // `distances`, none negative, may be written up to the next multiple of leaf_size.
    RankLimits (*rank_limits)(float* distances, std::size_t count, std::size_t least, std::size_t most);

    // Moves what is within the limit to the front, in order, and returns how many there are.
    std::size_t (*keep_near)(float* distances, std::int32_t* slots, std::size_t count, float limit);

    LongVectors<float> long_floats;
    LongVectors<double> long_doubles;
    LongVectors<float, std::int16_t> long_words;

    // products[k] = the dot product of x with vector which[k], of those that are `length` floats apart.
    void (*dots_with)(const float* vectors, const std::uint32_t* which, std::size_t count, const float* x,
                      std::size_t length, float* products);

    PixelLoops pixels;
    CrfLoops crf;
};

extern const Kernels portable;
extern const Kernels avx2;
extern const Kernels avx512;
extern const Kernels neon;

// What the products of features are good for.
enum class Digits {
    float32,
    fixed16,   // entries of that kind: a term is off by at most 3 * 2^-16 of it, and of many most cancels
    bfloat16,  // channels rounded to it: a term is off by at most 2^-7 of it
    signs      // which entries may be negative: one is off by at most signs_error
};

// The fastest way of the selected set that gives so many digits, or more.
const Gram& gram(Digits digits);

// How far an entry of Digits::signs may be from that of float32, of features no longer than 1. They must not
// be longer.
float signs_error(std::size_t channels);

// Whether the selected set multiplies bfloat16.
bool has_bfloat16();

extern const Gram avx2_gram_words;
extern const Gram avx512_gram_bfloat16;
extern const Gram amx_gram_fixed16;
extern const Gram amx_gram_bfloat16;

// Whether the system lets this process use the matrix units.
bool ask_for_amx();

// The fastest set this processor runs; $DEEPSPEC_ISA (portable, avx2, avx512, amx, neon) forces one. "amx" is
// "avx512" with products of features by the matrix units.
// Throws std::invalid_argument when that one is unknown or cannot run here.
const Kernels& selected();

}  // namespace deepspec::kernels
