// The loops of the dense CRF, included once in each instruction set's file, inside an anonymous namespace:
// compilers turn them into the vectors of whatever instruction set the file is for.

inline float rounded(float x) { return (x + 12582912.0f) - 12582912.0f; }  // where |x| < 2^22

// exp(x) for x <= 0, to 3e-7 of it; below -80 it is that of -80.
inline float exp_of(float x) {
    x = x < -80.0f ? -80.0f : x;
    const float halvings = rounded(x * 1.44269504f);
    const float rest = (x - halvings * 0.693359375f) + halvings * 2.12194440e-4f;  // two parts of log 2
    float series = 1.0f / 720.0f;
    series = series * rest + 1.0f / 120.0f;
    series = series * rest + 1.0f / 24.0f;
    series = series * rest + 1.0f / 6.0f;
    series = series * rest + 0.5f;
    series = series * rest + 1.0f;
    series = series * rest + 1.0f;
    return series * __builtin_bit_cast(float, (static_cast<std::int32_t>(halvings) + 127) << 23);
}

// See CrfLoops::enclose.
template <int DIMENSIONS>
void enclose_in(const float* points, const float* scales, std::int32_t* coordinates, std::int32_t* ranks,
                float* shares) {
    constexpr std::size_t n = deepspec::kernels::lattice_block;
    constexpr int corners = DIMENSIONS + 1;
    float left[corners][n], sorted[corners][n];
    for (std::size_t p = 0; p < n; ++p) left[0][p] = 0.0f;
    for (int j = DIMENSIONS; j > 0; --j)
        for (std::size_t p = 0; p < n; ++p) {
            const float scaled = points[static_cast<std::size_t>(j - 1) * n + p] * scales[j - 1];
            left[j][p] = left[0][p] - static_cast<float>(j) * scaled;
            left[0][p] += scaled;
        }
    std::int32_t multiples[n] = {};  // of the vertex's coordinates, in all: zero where it is on the plane
    for (int i = 0; i < corners; ++i)
        for (std::size_t p = 0; p < n; ++p) {
            const float multiple = rounded(left[i][p] * (1.0f / corners));
            left[i][p] -= corners * multiple;
            coordinates[i * n + p] = corners * static_cast<std::int32_t>(multiple);
            multiples[p] += static_cast<std::int32_t>(multiple);
        }
    for (int i = 0; i < corners; ++i)
        for (std::size_t p = 0; p < n; ++p) ranks[i * n + p] = multiples[p];
    for (int i = 0; i < corners; ++i)
        for (int j = i + 1; j < corners; ++j)
            for (std::size_t p = 0; p < n; ++p) {
                const std::int32_t less = left[i][p] < left[j][p] ? 1 : 0;
                ranks[i * n + p] += less;
                ranks[j * n + p] += 1 - less;
            }
    for (int i = 0; i < corners; ++i)
        for (std::size_t p = 0; p < n; ++p) {
            const std::int32_t rank = ranks[i * n + p];
            const std::int32_t back = rank < 0 ? corners : rank > DIMENSIONS ? -corners : 0;
            ranks[i * n + p] += back;
            coordinates[i * n + p] += back;
            left[i][p] -= static_cast<float>(back);
        }
    for (int r = 0; r < corners; ++r)
        for (std::size_t p = 0; p < n; ++p) sorted[r][p] = 0.0f;
    for (int i = 0; i < corners; ++i)
        for (int r = 0; r < corners; ++r)
            for (std::size_t p = 0; p < n; ++p)
                sorted[r][p] = ranks[i * n + p] == r ? left[i][p] * (1.0f / corners) : sorted[r][p];
    for (std::size_t p = 0; p < n; ++p) shares[p] = 1.0f + sorted[DIMENSIONS][p] - sorted[0][p];
    for (int k = 1; k < corners; ++k)
        for (std::size_t p = 0; p < n; ++p)
            shares[k * n + p] = sorted[DIMENSIONS - k][p] - sorted[DIMENSIONS + 1 - k][p];
}

inline void enclose(const float* points, std::size_t dimensions, const float* scales,
                    std::int32_t* coordinates, std::int32_t* ranks, float* shares) {
    if (dimensions == 2)
        enclose_in<2>(points, scales, coordinates, ranks, shares);
    else
        enclose_in<5>(points, scales, coordinates, ranks, shares);
}

// Part<WIDTH>::run(first channel, channels, …) for parts of the channels that registers hold.
template <template <int> class Part, class... Arguments>
inline void in_parts(std::size_t channels, Arguments... arguments) {
    std::size_t c = 0;
    for (; c + 32 <= channels; c += 32) Part<32>::run(c, channels, arguments...);
    if (channels - c == 24) Part<24>::run(c, channels, arguments...);
    if (channels - c == 16) Part<16>::run(c, channels, arguments...);
    if (channels - c == 8) Part<8>::run(c, channels, arguments...);
}

template <int CORNERS>
void splat_numbers(const std::uint32_t* rows, const float* weights, std::size_t count,
                   const float* __restrict in, float* __restrict values) {
    for (std::size_t p = 0; p < count; ++p, rows += CORNERS, weights += CORNERS)
        for (int k = 0; k < CORNERS; ++k) values[rows[k]] += weights[k] * in[p];
}

template <int WIDTH>
struct Splat {
    static void run(std::size_t first, std::size_t channels, const std::uint32_t* rows, const float* weights,
                    std::size_t corners, std::size_t count, const float* in, float* values) {
        for (std::size_t p = 0; p < count; ++p) {
            float numbers[WIDTH];
            for (int c = 0; c < WIDTH; ++c) numbers[c] = in[p * channels + first + c];
            for (std::size_t k = p * corners; k < (p + 1) * corners; ++k) {
                float* const row = values + rows[k] * channels + first;
                for (int c = 0; c < WIDTH; ++c) row[c] += weights[k] * numbers[c];
            }
        }
    }
};

inline void splat(const std::uint32_t* rows, const float* weights, std::size_t corners, std::size_t count,
                  const float* in, std::size_t channels, float* values) {
    if (channels > 1)
        in_parts<Splat>(channels, rows, weights, corners, count, in, values);
    else if (corners == 3)
        splat_numbers<3>(rows, weights, count, in, values);
    else
        splat_numbers<6>(rows, weights, count, in, values);
}

template <int CORNERS>
void slice_numbers(const std::uint32_t* rows, const float* weights, std::size_t count,
                   const float* __restrict values, float* __restrict out) {
    for (std::size_t p = 0; p < count; ++p, rows += CORNERS, weights += CORNERS) {
        float sum = 0.0f;
        for (int k = 0; k < CORNERS; ++k) sum += weights[k] * values[rows[k]];
        out[p] += sum;
    }
}

template <int WIDTH>
struct Slice {
    static void run(std::size_t first, std::size_t channels, const std::uint32_t* rows, const float* weights,
                    std::size_t corners, std::size_t count, const float* values, float* out) {
        for (std::size_t p = 0; p < count; ++p) {
            float sums[WIDTH];
            for (int c = 0; c < WIDTH; ++c) sums[c] = out[p * channels + first + c];
            for (std::size_t k = p * corners; k < (p + 1) * corners; ++k) {
                const float* const row = values + rows[k] * channels + first;
                for (int c = 0; c < WIDTH; ++c) sums[c] += weights[k] * row[c];
            }
            for (int c = 0; c < WIDTH; ++c) out[p * channels + first + c] = sums[c];
        }
    }
};

inline void slice(const std::uint32_t* rows, const float* weights, std::size_t corners, std::size_t count,
                  const float* values, std::size_t channels, float* out) {
    if (channels > 1)
        in_parts<Slice>(channels, rows, weights, corners, count, values, out);
    else if (corners == 3)
        slice_numbers<3>(rows, weights, count, values, out);
    else
        slice_numbers<6>(rows, weights, count, values, out);
}

inline void blur(const float* values, const std::uint32_t* before, const std::uint32_t* after,
                 std::size_t begin, std::size_t end, std::size_t channels, float* __restrict out) {
    if (channels == 1) {
        for (std::size_t v = begin; v < end; ++v)
            out[v] = values[v] + 0.5f * (values[before[v]] + values[after[v]]);
        return;
    }
    for (std::size_t v = begin; v < end; ++v) {
        const float* const first = values + before[v] * channels;
        const float* const second = values + after[v] * channels;
        for (std::size_t c = 0; c < channels; ++c)
            out[v * channels + c] = values[v * channels + c] + 0.5f * (first[c] + second[c]);
    }
}

inline void softmax(const float* logits, std::size_t channels, std::size_t count, float* __restrict out) {
    constexpr std::size_t lanes = 8;
    for (std::size_t p = 0; p < count; ++p, logits += channels, out += channels) {
        float most[lanes], sums[lanes] = {};
        for (std::size_t lane = 0; lane < lanes; ++lane) most[lane] = logits[lane];
        for (std::size_t c = lanes; c < channels; c += lanes)
            for (std::size_t lane = 0; lane < lanes; ++lane)
                most[lane] = logits[c + lane] > most[lane] ? logits[c + lane] : most[lane];
        for (std::size_t half = lanes / 2; half > 0; half /= 2)
            for (std::size_t lane = 0; lane < half; ++lane)
                most[lane] = most[lane + half] > most[lane] ? most[lane + half] : most[lane];
        const float largest = most[0];
        for (std::size_t c = 0; c < channels; c += lanes)
            for (std::size_t lane = 0; lane < lanes; ++lane) {
                const float size = exp_of(logits[c + lane] - largest);
                out[c + lane] = size;
                sums[lane] += size;
            }
        for (std::size_t half = lanes / 2; half > 0; half /= 2)
            for (std::size_t lane = 0; lane < half; ++lane) sums[lane] += sums[lane + half];
        const float factor = 1.0f / sums[0];
        for (std::size_t c = 0; c < channels; ++c) out[c] *= factor;
    }
}

inline void tanh_half(const float* numbers, std::size_t count, float* __restrict out) {
    for (std::size_t p = 0; p < count; ++p) {
        const float x = numbers[p], small = exp_of(x < 0.0f ? x : -x);
        const float size = (1.0f - small) / (1.0f + small);
        out[p] = x < 0.0f ? -size : size;
    }
}

constexpr deepspec::kernels::CrfLoops crf_loops{enclose, splat, blur, slice, softmax, tanh_half};
