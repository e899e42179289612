// The loops of the dense CRF, included once in each instruction set's file, inside an anonymous namespace. V
// is the type of floats that kernels.inl describes, with divide, largest and total of its numbers, and
// power_of_two for whole exponents. What is not written with it, compilers turn into vectors of whatever
// instruction set the file is for.

inline float rounded(float x) { return (x + 12582912.0f) - 12582912.0f; }  // where |x| < 2^22

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
        for (std::size_t p = 0; p < n; ++p) {
            float found = 0.0f;
            for (int i = 0; i < corners; ++i) found = ranks[i * n + p] == r ? left[i][p] : found;
            sorted[r][p] = found * (1.0f / corners);
        }
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

// Part<V, VECTORS>::run(first channel, channels, …) for parts of the channels, multiples of 16, that
// registers hold.
template <class V, template <class, int> class Part, class... Arguments>
inline void in_parts(std::size_t channels, Arguments... arguments) {
    std::size_t c = 0;
    for (; c + 32 <= channels; c += 32) Part<V, 32 / V::width>::run(c, channels, arguments...);
    if (c < channels) Part<V, 16 / V::width>::run(c, channels, arguments...);
}

template <int CORNERS>
void splat_numbers(const std::uint32_t* rows, const float* weights, std::size_t count,
                   const float* __restrict in, float* __restrict values) {
    for (std::size_t p = 0; p < count; ++p, rows += CORNERS, weights += CORNERS)
        for (int k = 0; k < CORNERS; ++k) values[rows[k]] += weights[k] * in[p];
}

template <class V, int VECTORS>
struct Splat {
    static void run(std::size_t first, std::size_t channels, const std::uint32_t* rows, const float* weights,
                    std::size_t corners, std::size_t count, const float* in, float* values) {
        for (std::size_t p = 0; p < count; ++p) {
            typename V::type numbers[VECTORS];
            for (int v = 0; v < VECTORS; ++v) numbers[v] = V::load(in + p * channels + first + v * V::width);
            for (std::size_t k = p * corners; k < (p + 1) * corners; ++k) {
                float* const row = values + rows[k] * channels + first;
                const typename V::type weight = V::broadcast(weights[k]);
                for (int v = 0; v < VECTORS; ++v)
                    V::store(row + v * V::width,
                             V::multiply_add(weight, numbers[v], V::load(row + v * V::width)));
            }
        }
    }
};

template <class V>
inline void splat(const std::uint32_t* rows, const float* weights, std::size_t corners, std::size_t count,
                  const float* in, std::size_t channels, float* values) {
    if (channels > 1)
        in_parts<V, Splat>(channels, rows, weights, corners, count, in, values);
    else if (corners == 3)
        splat_numbers<3>(rows, weights, count, in, values);
    else
        splat_numbers<6>(rows, weights, count, in, values);
}

template <int CORNERS>
void slice_numbers(const std::uint32_t* rows, const float* weights, std::size_t count, const float* values,
                   const float* base, float* out) {
    for (std::size_t p = 0; p < count; ++p, rows += CORNERS, weights += CORNERS) {
        float sum = 0.0f;
        for (int k = 0; k < CORNERS; ++k) sum += weights[k] * values[rows[k]];
        out[p] = base[p] + sum;
    }
}

template <class V, int VECTORS>
struct Slice {
    static void run(std::size_t first, std::size_t channels, const std::uint32_t* rows, const float* weights,
                    std::size_t corners, std::size_t count, const float* values, const float* base,
                    float* out) {
        for (std::size_t p = 0; p < count; ++p) {
            const std::size_t at = p * channels + first;
            typename V::type sums[VECTORS];
            for (int v = 0; v < VECTORS; ++v) sums[v] = V::load(base + at + v * V::width);
            for (std::size_t k = p * corners; k < (p + 1) * corners; ++k) {
                const float* const row = values + rows[k] * channels + first;
                const typename V::type weight = V::broadcast(weights[k]);
                for (int v = 0; v < VECTORS; ++v)
                    sums[v] = V::multiply_add(weight, V::load(row + v * V::width), sums[v]);
            }
            for (int v = 0; v < VECTORS; ++v) V::store(out + at + v * V::width, sums[v]);
        }
    }
};

template <class V>
inline void slice(const std::uint32_t* rows, const float* weights, std::size_t corners, std::size_t count,
                  const float* values, std::size_t channels, const float* base, float* out) {
    if (channels > 1)
        in_parts<V, Slice>(channels, rows, weights, corners, count, values, base, out);
    else if (corners == 3)
        slice_numbers<3>(rows, weights, count, values, base, out);
    else
        slice_numbers<6>(rows, weights, count, values, base, out);
}

template <class V>
inline void blur(const float* values, const std::uint32_t* before, const std::uint32_t* after,
                 std::size_t begin, std::size_t end, std::size_t channels, float* __restrict out) {
    if (channels == 1) {
        for (std::size_t v = begin; v < end; ++v)
            out[v] = values[v] + 0.5f * (values[before[v]] + values[after[v]]);
        return;
    }
    const typename V::type half = V::broadcast(0.5f);
    for (std::size_t row = begin; row < end; ++row)
        for (std::size_t c = 0; c < channels; c += V::width) {
            const typename V::type both = V::add(V::load(values + before[row] * channels + c),
                                                 V::load(values + after[row] * channels + c));
            V::store(out + row * channels + c,
                     V::multiply_add(half, both, V::load(values + row * channels + c)));
        }
}

// exp(x), to 3e-7 of it; below -80 it is that of -80. Where x < 88.
template <class V>
inline typename V::type exp_of(typename V::type x) {
    const typename V::type shift = V::broadcast(12582912.0f), back = V::broadcast(-12582912.0f);
    x = V::greater(x, V::broadcast(-80.0f));
    const typename V::type halvings = V::add(V::multiply_add(x, V::broadcast(1.44269504f), shift), back);
    typename V::type rest = V::multiply_add(halvings, V::broadcast(-0.693359375f), x);  // two parts of log 2
    rest = V::multiply_add(halvings, V::broadcast(2.12194440e-4f), rest);
    typename V::type series = V::broadcast(1.0f / 720.0f);
    constexpr float coefficients[] = {1.0f / 120.0f, 1.0f / 24.0f, 1.0f / 6.0f, 0.5f, 1.0f, 1.0f};
    for (const float coefficient : coefficients)
        series = V::multiply_add(series, rest, V::broadcast(coefficient));
    return V::mul(series, V::power_of_two(halvings));
}

template <class V>
inline void softmax(const float* logits, std::size_t channels, std::size_t count, float* out) {
    for (std::size_t p = 0; p < count; ++p, logits += channels, out += channels) {
        typename V::type most = V::load(logits), sums = V::zero();
        for (std::size_t c = V::width; c < channels; c += V::width)
            most = V::greater(most, V::load(logits + c));
        const typename V::type largest = V::broadcast(-V::largest(most));
        for (std::size_t c = 0; c < channels; c += V::width) {
            const typename V::type sizes = exp_of<V>(V::add(V::load(logits + c), largest));
            V::store(out + c, sizes);
            sums = V::add(sums, sizes);
        }
        const typename V::type factor = V::broadcast(1.0f / V::total(sums));
        for (std::size_t c = 0; c < channels; c += V::width)
            V::store(out + c, V::mul(V::load(out + c), factor));
    }
}

// tanh(x / 2)
template <class V>
inline typename V::type tanh_half_of(typename V::type x) {
    const typename V::type one = V::broadcast(1.0f);
    const typename V::type power = exp_of<V>(V::lesser(x, V::broadcast(80.0f)));
    return V::divide(V::subtract(power, one), V::add(power, one));
}

template <class V>
inline void tanh_half(const float* numbers, std::size_t count, float* out) {
    std::size_t p = 0;
    for (; p + V::width <= count; p += V::width) V::store(out + p, tanh_half_of<V>(V::load(numbers + p)));
    if (p == count) return;
    float rest[V::width] = {};
    for (std::size_t i = p; i < count; ++i) rest[i - p] = numbers[i];
    V::store(rest, tanh_half_of<V>(V::load(rest)));
    for (std::size_t i = p; i < count; ++i) out[i] = rest[i - p];
}

template <class V>
constexpr deepspec::kernels::CrfLoops crf_loops{enclose,  splat<V>,   blur<V>,
                                                slice<V>, softmax<V>, tanh_half<V>};
