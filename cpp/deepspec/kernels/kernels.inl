// The kernels, included once in each instruction set's file, inside an anonymous
// namespace. V is a type of `width` floats or doubles: zero, load, broadcast, store, add, mul,
// multiply_add and total (of its numbers); of floats greater, lesser, at_most, ones_where (bits are set),
// add_sums, load for integers, and store_fixed, store_high and store_low for a fixed-point number and its
// halves.

// max(least, scale * A^T B) for ROWS x (COLUMNS vectors) entries; the sums stay in registers over the whole
// length. Entry is a channel, or what V takes for several at once.
template <class V, int ROWS, int COLUMNS, class Entry>
inline void gram_block(const Entry* rows, const Entry* columns, std::size_t length, float scale, float least,
                       float* out) {
    using deepspec::kernels::panel_size;
    using deepspec::kernels::tile_size;
    decltype(V::zero()) sums[ROWS][COLUMNS];
    for (int r = 0; r < ROWS; ++r)
        for (int v = 0; v < COLUMNS; ++v) sums[r][v] = V::zero();
    // Unrolled, sums need not be moved between registers.
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC unroll 4
#endif
    for (std::size_t c = 0; c < length; ++c) {
        decltype(V::load(columns)) b[COLUMNS];
        for (int v = 0; v < COLUMNS; ++v) b[v] = V::load(columns + c * panel_size + v * V::width);
        for (int r = 0; r < ROWS; ++r) {
            const auto a = V::broadcast(rows[c * panel_size + r]);
            for (int v = 0; v < COLUMNS; ++v) sums[r][v] = V::multiply_add(a, b[v], sums[r][v]);
        }
    }
    const auto factor = V::broadcast(scale), bound = V::broadcast(least);
    for (int r = 0; r < ROWS; ++r)
        for (int v = 0; v < COLUMNS; ++v)
            V::store(out + r * tile_size + v * V::width, V::greater(V::mul(sums[r][v], factor), bound));
}

// Panels of entries, each of CHANNELS channels: entry after entry, panel_size cells of each.
template <class Entry, int CHANNELS>
std::size_t panel_entries(std::size_t channels) {
    return (channels + CHANNELS - 1) / CHANNELS * deepspec::kernels::panel_size;
}

template <class Entry, int CHANNELS>
std::size_t panel_bytes(std::size_t channels) {
    return panel_entries<Entry, CHANNELS>(channels) * sizeof(Entry);
}

inline void pack_floats(const float* cells, std::size_t channels, std::size_t first, void* panel) {
    using namespace deepspec::kernels;
    float* const out = static_cast<float*>(panel) + first;
    for (std::size_t c = 0; c < channels; ++c)
        for (std::size_t i = 0; i < strip_size; ++i) out[c * panel_size + i] = cells[i * channels + c];
}

// Two channels, each converted to 16 bits, are an entry.
template <std::uint32_t (*CONVERT)(float)>
void pack_pairs(const float* cells, std::size_t channels, std::size_t first, void* panel) {
    using namespace deepspec::kernels;
    std::uint32_t* const out = static_cast<std::uint32_t*>(panel) + first;
    for (std::size_t c = 0; c < channels; c += 2)
        for (std::size_t i = 0; i < strip_size; ++i) {
            const float* const pair = cells + i * channels + c;
            const float second = c + 1 < channels ? pair[1] : 0.0f;
            out[c / 2 * panel_size + i] = CONVERT(pair[0]) | CONVERT(second) << 16;
        }
}

template <class V, int ROWS, int COLUMNS, class Entry, int CHANNELS>
void multiply_panels(const void* rows, const void* columns, std::size_t channels, float scale, float least,
                     float* out) {
    using deepspec::kernels::panel_size;
    using deepspec::kernels::tile_size;
    constexpr std::size_t block_columns = COLUMNS * V::width;
    static_assert(panel_size % ROWS == 0 && panel_size % block_columns == 0);
    const std::size_t length = panel_entries<Entry, CHANNELS>(channels) / panel_size;
    for (std::size_t j = 0; j < panel_size; j += block_columns)
        for (std::size_t i = 0; i < panel_size; i += ROWS)
            gram_block<V, ROWS, COLUMNS>(static_cast<const Entry*>(rows) + i,
                                         static_cast<const Entry*>(columns) + j, length, scale, least,
                                         out + i * tile_size + j);
}

// Products of floats.
template <class V, int ROWS, int COLUMNS>
constexpr deepspec::kernels::Gram gram_of_floats{panel_bytes<float, 1>, pack_floats, nullptr,
                                                 multiply_panels<V, ROWS, COLUMNS, float, 1>};

// Loops that compilers turn into the vectors of whatever instruction set the file is for.
template <class Number>
double sum_of_squares(const Number* numbers, std::size_t count) {
    constexpr std::size_t lanes = 16;  // one sum would wait for its own additions
    double sums[lanes] = {};
    std::size_t i = 0;
    for (; i + lanes <= count; i += lanes)
        for (std::size_t lane = 0; lane < lanes; ++lane) {
            const double number = static_cast<double>(numbers[i + lane]);
            sums[lane] += number * number;
        }
    for (; i < count; ++i) sums[0] += static_cast<double>(numbers[i]) * static_cast<double>(numbers[i]);
    for (std::size_t half = lanes / 2; half > 0; half /= 2)
        for (std::size_t lane = 0; lane < half; ++lane) sums[lane] += sums[lane + half];
    return sums[0];
}

template <class Number>
void scale(const Number* numbers, std::size_t count, double factor, float* out) {
    for (std::size_t i = 0; i < count; ++i)
        out[i] = static_cast<float>(static_cast<double>(numbers[i]) * factor);
}

template <class V>
inline void blend(const float* const* rows, const float* weights, float scale, float least, float* tile) {
    using deepspec::kernels::tile_size;
    const typename V::type bound = V::broadcast(least);
    for (std::size_t i = 0; i < tile_size; ++i) {
        const float* const* four = rows + 4 * i;
        typename V::type weight[4];
        for (int m = 0; m < 4; ++m) weight[m] = V::broadcast(scale * weights[4 * i + m]);
        for (std::size_t j = 0; j < tile_size; j += V::width) {
            typename V::type sum = V::mul(weight[0], V::load(four[0] + j));
            for (int m = 1; m < 4; ++m) sum = V::multiply_add(weight[m], V::load(four[m] + j), sum);
            V::store(tile + i * tile_size + j, V::greater(sum, bound));
        }
    }
}

template <class V>
inline void transpose(const float* in, std::size_t in_stride, float* out, std::size_t out_stride) {
    using deepspec::kernels::tile_size;
    // Whole rows of `out`, which may be far apart, at once.
    for (std::size_t j = 0; j < tile_size; j += V::square)
        for (std::size_t i = 0; i < tile_size; i += V::square)
            V::transpose(in + i * in_stride + j, in_stride, out + j * out_stride + i, out_stride);
}

// 16 bits, rounded if they are cut off.
template <class V>
inline typename V::type fixed_entries(const float* tile) {
    using deepspec::kernels::fixed_one;
    const typename V::type one = V::broadcast(fixed_one);
    return V::lesser(V::multiply_add(V::load(tile), one, V::broadcast(0.5f)), one);
}

template <class V>
inline void tile_to_fixed(const float* tile, std::uint16_t* fixed) {
    for (std::size_t i = 0; i < deepspec::kernels::tile_entries; i += V::width)
        V::store_fixed(fixed + i, fixed_entries<V>(tile + i));
}

template <class V>
inline void tile_to_halves(const float* tile, std::uint8_t* high, std::int8_t* low) {
    for (std::size_t i = 0; i < deepspec::kernels::tile_entries; i += V::width) {
        const typename V::type entries = fixed_entries<V>(tile + i);
        V::store_high(high + i, entries);
        if (low != nullptr) V::store_low(low + i, entries);
    }
}

constexpr std::size_t bits_of_word = 16;

template <class V>
inline void tile_to_bits(const float* tile, float threshold, std::uint16_t* bits) {
    const typename V::type limit = V::broadcast(threshold);
    constexpr unsigned all = (1u << V::width) - 1;
    for (std::size_t i = 0; i < deepspec::kernels::tile_entries; i += bits_of_word) {
        unsigned word = 0;
        for (std::size_t lane = 0; lane < bits_of_word; lane += V::width)
            word |= (all & ~V::at_most(V::load(tile + i + lane), limit)) << lane;
        bits[i / bits_of_word] = static_cast<std::uint16_t>(word);
    }
}

inline void prefetch(const void* address) {
#if defined(_MSC_VER) && !defined(__clang__)
    (void)address;
#else
    __builtin_prefetch(address, 0, 2);
#endif
}

// What is multiplied: the entries of a tile from the `at`-th on, and what is fetched long before they are.
constexpr std::size_t ahead = 8192;  // bytes: far enough for the third-level cache

inline void prefetch_bytes(const void* from, std::size_t count) {
    constexpr std::size_t line = 64;
    for (std::size_t b = 0; b < count; b += line) prefetch(static_cast<const char*>(from) + ahead + b);
}

template <class Entry>
struct Tile {
    const Entry* entries;
    template <class V>
    typename V::type load(std::size_t at) const {
        return V::load(entries + at);
    }
    void prefetch(std::size_t at, std::size_t count) const {
        prefetch_bytes(entries + at, count * sizeof(Entry));
    }
};

struct TileInHalves {
    const std::uint8_t* high;
    const std::int8_t* low;
    template <class V>
    typename V::type load(std::size_t at) const {
        return V::multiply_add(V::load(high + at), V::broadcast(256.0f), V::load(low + at));
    }
    void prefetch(std::size_t at, std::size_t count) const {
        prefetch_bytes(high + at, count);
        prefetch_bytes(low + at, count);
    }
};

struct TileOfBits {
    const std::uint16_t* bits;
    template <class V>
    typename V::type load(std::size_t at) const {
        return V::ones_where(static_cast<unsigned>(bits[at / bits_of_word]) >> at % bits_of_word);
    }
    void prefetch(std::size_t, std::size_t) const {}  // so few that they stay in the caches
};

// The products with VECTORS vectors, over CHUNK registers of columns at a time: what they have there of x and
// y stays in registers over all rows. ROWS rows go together, so that their sums need not wait for one
// another. An entry is read, and converted, once for all vectors.
template <class V, int VECTORS, int ROWS, int CHUNK, class Tile>
inline void multiply_rows(const Tile& tile, const deepspec::kernels::TileProduct* products) {
    using deepspec::kernels::tile_size;
    static_assert(tile_size % (CHUNK * V::width) == 0 && tile_size % ROWS == 0);
    for (std::size_t j = 0; j < tile_size; j += CHUNK * V::width) {
        typename V::type x[VECTORS][CHUNK], y[VECTORS][CHUNK];
        for (int p = 0; p < VECTORS; ++p)
            for (int v = 0; v < CHUNK; ++v) {
                x[p][v] = V::load(products[p].x_columns + j + v * V::width);
                y[p][v] = V::zero();
            }
        for (std::size_t i = 0; i < tile_size; i += ROWS) {
            const std::size_t first = i * tile_size + j;
            typename V::type xi[VECTORS][ROWS], sums[VECTORS][ROWS];
            for (int p = 0; p < VECTORS; ++p)
                for (int r = 0; r < ROWS; ++r) {
                    xi[p][r] = V::broadcast(products[p].x_rows[i + r]);
                    sums[p][r] = V::load(products[p].row_lanes + (i + r) * V::width);
                }
            for (int v = 0; v < CHUNK; ++v)
                for (int r = 0; r < ROWS; ++r) {
                    const typename V::type w = tile.template load<V>(first + r * tile_size + v * V::width);
                    for (int p = 0; p < VECTORS; ++p) {
                        y[p][v] = V::multiply_add(w, xi[p][r], y[p][v]);
                        sums[p][r] = V::multiply_add(w, x[p][v], sums[p][r]);
                    }
                }
            for (int p = 0; p < VECTORS; ++p)
                for (int r = 0; r < ROWS; ++r)
                    V::store(products[p].row_lanes + (i + r) * V::width, sums[p][r]);
            for (int r = 0; r < ROWS; ++r) tile.prefetch(first + r * tile_size, CHUNK * V::width);
        }
        for (int p = 0; p < VECTORS; ++p)
            for (int v = 0; v < CHUNK; ++v) {
                float* const sums = products[p].y_columns + j + v * V::width;
                V::store(sums, V::add(V::load(sums), y[p][v]));
            }
    }
}

// Two products at a time, with the registers' rows and columns for one and for two.
template <class V, int ROWS, int CHUNK, int ROWS_OF_TWO, int CHUNK_OF_TWO>
struct Products {
    template <class Tile>
    static void run(const Tile& tile, const deepspec::kernels::TileProduct* products, std::size_t count) {
        for (; count >= 2; count -= 2, products += 2)
            multiply_rows<V, 2, ROWS_OF_TWO, CHUNK_OF_TWO>(tile, products);
        if (count == 1) multiply_rows<V, 1, ROWS, CHUNK>(tile, products);
    }
    static void of_floats(const float* tile, const deepspec::kernels::TileProduct* products,
                          std::size_t count) {
        run(Tile<float>{tile}, products, count);
    }
    static void of_fixed(const std::uint16_t* tile, const deepspec::kernels::TileProduct* products,
                         std::size_t count) {
        run(Tile<std::uint16_t>{tile}, products, count);
    }
    static void of_halves(const std::uint8_t* high, const std::int8_t* low,
                          const deepspec::kernels::TileProduct* products, std::size_t count) {
        run(TileInHalves{high, low}, products, count);
    }
    static void of_high(const std::uint8_t* high, const deepspec::kernels::TileProduct* products,
                        std::size_t count) {
        run(Tile<std::uint8_t>{high}, products, count);
    }
    static void of_bits(const std::uint16_t* bits, const deepspec::kernels::TileProduct* products,
                        std::size_t count) {
        run(TileOfBits{bits}, products, count);
    }
};

template <class V>
inline void add_lanes(const float* row_lanes, float* y) {
    using deepspec::kernels::tile_size;
    for (std::size_t i = 0; i < tile_size; i += 4) {
        typename V::type rows[4];
        for (int r = 0; r < 4; ++r) rows[r] = V::load(row_lanes + (i + r) * V::width);
        V::add_sums(rows, y + i);
    }
}

// Long vectors are read in pieces that stay in the first-level cache while every vector meets x.
constexpr std::size_t piece = 1024;

// Of COUNT vectors with XS others.
template <class V, int COUNT, int XS, class Entry, class Number>
inline void dots_of(const Entry* vectors, std::size_t stride, const Number* x, std::size_t length,
                    double* products, std::size_t products_stride) {
    typename V::type even[XS][COUNT], odd[XS][COUNT];
    for (int m = 0; m < XS; ++m)
        for (int j = 0; j < COUNT; ++j) even[m][j] = odd[m][j] = V::zero();
    std::size_t i = 0;
    for (; i + 2 * V::width <= length; i += 2 * V::width)
        for (int j = 0; j < COUNT; ++j) {
            const typename V::type first = V::load(vectors + j * stride + i);
            const typename V::type second = V::load(vectors + j * stride + i + V::width);
            for (int m = 0; m < XS; ++m) {
                even[m][j] = V::multiply_add(first, V::load(x + m * stride + i), even[m][j]);
                odd[m][j] = V::multiply_add(second, V::load(x + m * stride + i + V::width), odd[m][j]);
            }
        }
    for (; i < length; i += V::width)
        for (int j = 0; j < COUNT; ++j)
            for (int m = 0; m < XS; ++m)
                even[m][j] = V::multiply_add(V::load(vectors + j * stride + i), V::load(x + m * stride + i),
                                             even[m][j]);
    for (int m = 0; m < XS; ++m)
        for (int j = 0; j < COUNT; ++j)
            products[m * products_stride + j] += static_cast<double>(V::total(V::add(even[m][j], odd[m][j])));
}

// x -= the vectors times the factors, of XS of them.
template <class V, int COUNT, int XS, class Entry, class Number>
inline void subtract_of(const Entry* vectors, std::size_t stride, const double* factors,
                        std::size_t factors_stride, Number* x, std::size_t length) {
    typename V::type negated[XS][COUNT];
    for (int m = 0; m < XS; ++m)
        for (int j = 0; j < COUNT; ++j)
            negated[m][j] = V::broadcast(static_cast<Number>(-factors[m * factors_stride + j]));
    for (std::size_t i = 0; i < length; i += V::width) {
        typename V::type sums[XS];
        for (int m = 0; m < XS; ++m) sums[m] = V::load(x + m * stride + i);
        for (int j = 0; j < COUNT; ++j) {
            const typename V::type entries = V::load(vectors + j * stride + i);
            for (int m = 0; m < XS; ++m) sums[m] = V::multiply_add(entries, negated[m][j], sums[m]);
        }
        for (int m = 0; m < XS; ++m) V::store(x + m * stride + i, sums[m]);
    }
}

template <class V, int XS, class Entry, class Number>
inline void dots_with_all(const Entry* vectors, std::size_t stride, std::size_t count, const Number* x,
                          std::size_t length, double* products) {
    for (std::size_t j = 0; j < XS * count; ++j) products[j] = 0.0;
    for (std::size_t begin = 0; begin < length; begin += piece) {
        const std::size_t part = length - begin < piece ? length - begin : piece;
        std::size_t j = 0;
        for (; j + 4 <= count; j += 4)
            dots_of<V, 4, XS>(vectors + j * stride + begin, stride, x + begin, part, products + j, count);
        for (; j < count; ++j)
            dots_of<V, 1, XS>(vectors + j * stride + begin, stride, x + begin, part, products + j, count);
    }
}

template <class V, int XS, class Entry, class Number>
inline void subtract_from(const Entry* vectors, std::size_t stride, std::size_t count, const double* factors,
                          Number* x, std::size_t length) {
    for (std::size_t begin = 0; begin < length; begin += piece) {
        const std::size_t part = length - begin < piece ? length - begin : piece;
        std::size_t j = 0;
        for (; j + 4 <= count; j += 4)
            subtract_of<V, 4, XS>(vectors + j * stride + begin, stride, factors + j, count, x + begin, part);
        for (; j < count; ++j)
            subtract_of<V, 1, XS>(vectors + j * stride + begin, stride, factors + j, count, x + begin, part);
    }
}

template <class V, class Number, class Entry = Number>
inline void dots(const Entry* vectors, std::size_t stride, std::size_t count, const Number* x,
                 std::size_t n_x, std::size_t length, double* products) {
    for (; n_x >= 2; n_x -= 2, x += 2 * stride, products += 2 * count)
        dots_with_all<V, 2>(vectors, stride, count, x, length, products);
    if (n_x == 1) dots_with_all<V, 1>(vectors, stride, count, x, length, products);
}

template <class V, class Number, class Entry = Number>
inline void subtract(const Entry* vectors, std::size_t stride, std::size_t count, const double* factors,
                     Number* x, std::size_t n_x, std::size_t length) {
    for (; n_x >= 2; n_x -= 2, x += 2 * stride, factors += 2 * count)
        subtract_from<V, 2>(vectors, stride, count, factors, x, length);
    if (n_x == 1) subtract_from<V, 1>(vectors, stride, count, factors, x, length);
}

// Four at a time, the last perhaps more than once: the same sums wherever a vector stands.
template <class V>
inline void dots_with(const float* vectors, const std::uint32_t* which, std::size_t count, const float* x,
                      std::size_t length, float* products) {
    for (std::size_t k = 0; k < count; k += 4) {
        const float* four[4];
        for (std::size_t r = 0; r < 4; ++r)
            four[r] = vectors + which[k + r < count ? k + r : count - 1] * length;
        typename V::type rows[4];
        for (int r = 0; r < 4; ++r) rows[r] = V::zero();
        for (std::size_t i = 0; i < length; i += V::width) {
            const typename V::type entries = V::load(x + i);
            for (int r = 0; r < 4; ++r) rows[r] = V::multiply_add(V::load(four[r] + i), entries, rows[r]);
        }
        float sums[4] = {0.0f, 0.0f, 0.0f, 0.0f};
        V::add_sums(rows, sums);
        for (std::size_t r = 0; r < 4 && k + r < count; ++r) products[k + r] = sums[r];
    }
}
