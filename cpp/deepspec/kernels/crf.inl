// The loops of the dense CRF, included once in each instruction set's file, inside an anonymous namespace. V
// is the type of floats that kernels.inl describes, with divide and largest of its numbers, and
// power_of_two for whole exponents; one of more than 8 floats has the type of 8, Half. What is not written
// with it, compilers turn into vectors of whatever instruction set the file is for.

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

// Two types of floats as one that has the numbers of both.
template <class V, class W>
struct Both {
    struct type {
        typename V::type first;
        typename W::type second;
    };
    static constexpr int width = V::width + W::width;
    static type load(const float* p) { return {V::load(p), W::load(p + V::width)}; }
    static type broadcast(float a) { return {V::broadcast(a), W::broadcast(a)}; }
    static void store(float* p, const type& a) {
        V::store(p, a.first);
        W::store(p + V::width, a.second);
    }
    static type add(const type& a, const type& b) {
        return {V::add(a.first, b.first), W::add(a.second, b.second)};
    }
    static type mul(const type& a, const type& b) {
        return {V::mul(a.first, b.first), W::mul(a.second, b.second)};
    }
    static type multiply_add(const type& a, const type& b, const type& c) {
        return {V::multiply_add(a.first, b.first, c.first), W::multiply_add(a.second, b.second, c.second)};
    }
    static type greater(const type& a, const type& b) {
        return {V::greater(a.first, b.first), W::greater(a.second, b.second)};
    }
    static type power_of_two(const type& k) { return {V::power_of_two(k.first), W::power_of_two(k.second)}; }
    // Of two of one type.
    static float largest(const type& a) { return V::largest(V::greater(a.first, a.second)); }
    static float total(const type& a) { return V::total(V::add(a.first, a.second)); }
};

// The type of WIDTH floats, 8 or more, made of V's and, where V is wider than 8, of V::Half.
template <class V, int WIDTH>
constexpr auto make_floats() {
    constexpr int first = WIDTH > 16 ? 16 : WIDTH > 8 ? 8 : 4;
    if constexpr (WIDTH == V::width)
        return V();
    else if constexpr (WIDTH < V::width)
        return typename V::Half();
    else
        return Both<decltype(make_floats<V, first>()), decltype(make_floats<V, WIDTH - first>())>();
}

template <class V, int WIDTH>
using Floats = decltype(make_floats<V, WIDTH>());

// loop(Floats, first channel) for parts of the channels, multiples of 8, that registers hold.
template <class V, class Loop>
inline void in_parts(std::size_t channels, const Loop& loop) {
    std::size_t c = 0;
    for (; c + 32 <= channels; c += 32) loop(Floats<V, 32>(), c);
    switch (channels - c) {
        case 8:
            loop(Floats<V, 8>(), c);
            break;
        case 16:
            loop(Floats<V, 16>(), c);
            break;
        case 24:
            loop(Floats<V, 24>(), c);
            break;
    }
}

template <int CORNERS>
void splat_numbers(const std::uint32_t* rows, const float* weights, std::size_t count,
                   const float* __restrict in, float* __restrict values) {
    for (std::size_t p = 0; p < count; ++p, rows += CORNERS, weights += CORNERS)
        for (int k = 0; k < CORNERS; ++k) values[rows[k]] += weights[k] * in[p];
}

template <class V>
inline void splat(const std::uint32_t* rows, const float* weights, std::size_t corners, std::size_t count,
                  const float* in, std::size_t channels, float* values) {
    if (channels > 1)
        in_parts<V>(channels, [=]<class F>(F, std::size_t first) {
            for (std::size_t p = 0; p < count; ++p) {
                const auto numbers = F::load(in + p * channels + first);
                for (std::size_t k = p * corners; k < (p + 1) * corners; ++k) {
                    float* const row = values + rows[k] * channels + first;
                    F::store(row, F::multiply_add(F::broadcast(weights[k]), numbers, F::load(row)));
                }
            }
        });
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

template <class V>
inline void slice(const std::uint32_t* rows, const float* weights, std::size_t corners, std::size_t count,
                  const float* values, std::size_t channels, const float* base, float* out) {
    if (channels > 1)
        in_parts<V>(channels, [=]<class F>(F, std::size_t first) {
            for (std::size_t p = 0; p < count; ++p) {
                auto sums = F::load(base + p * channels + first);
                for (std::size_t k = p * corners; k < (p + 1) * corners; ++k)
                    sums = F::multiply_add(F::broadcast(weights[k]),
                                           F::load(values + rows[k] * channels + first), sums);
                F::store(out + p * channels + first, sums);
            }
        });
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
    in_parts<V>(channels, [=]<class F>(F, std::size_t first) {
        const float* const in = values + first;
        for (std::size_t row = begin; row < end; ++row) {
            const auto both =
                F::add(F::load(in + before[row] * channels), F::load(in + after[row] * channels));
            F::store(out + row * channels + first,
                     F::multiply_add(F::broadcast(0.5f), both, F::load(in + row * channels)));
        }
    });
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

// Step by step for all rows: within a row each step waits for the one before.
template <class V>
inline void softmax(const float* logits, std::size_t channels, std::size_t count, float* out) {
    using Eight = Floats<V, 8>;
    using deepspec::kernels::lattice_block;
    float largest[lattice_block];
    for (std::size_t p = 0; p < count; ++p) {
        auto most = Eight::load(logits + p * channels);
        for (std::size_t c = 8; c < channels; c += 8)
            most = Eight::greater(most, Eight::load(logits + p * channels + c));
        largest[p] = Eight::largest(most);
    }
    in_parts<V>(channels, [&]<class F>(F, std::size_t first) {
        for (std::size_t p = 0; p < count; ++p) {
            const std::size_t at = p * channels + first;
            F::store(out + at, exp_of<F>(F::add(F::load(logits + at), F::broadcast(-largest[p]))));
        }
    });
    for (std::size_t p = 0; p < count; ++p) {
        float* const row = out + p * channels;
        auto sums = Eight::load(row);
        for (std::size_t c = 8; c < channels; c += 8) sums = Eight::add(sums, Eight::load(row + c));
        const auto factor = Eight::broadcast(1.0f / Eight::total(sums));
        for (std::size_t c = 0; c < channels; c += 8)
            Eight::store(row + c, Eight::mul(Eight::load(row + c), factor));
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
