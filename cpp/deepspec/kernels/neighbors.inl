// The kernels of the neighbour search, included after kernels.inl. Beside its arithmetic they need of V:
// subtract, at_most (a bit per lane), count (of bits), largest (of the lanes), and, where `packs` says that
// there is an instruction for it, pack.

inline unsigned lowest_bit(unsigned bits) {
#if defined(_MSC_VER) && !defined(__clang__)
    unsigned index = 0;
    while ((bits >> index & 1) == 0) ++index;
    return index;
#else
    return static_cast<unsigned>(__builtin_ctz(bits));
#endif
}

// Writes the lanes whose bits are set one after the other; what follows them in the vector is overwritten.
template <class V>
inline void pack_floats(float* out, const typename V::type& values, unsigned lanes) {
    if constexpr (V::packs) {
        V::pack(out, values, lanes);
    } else {
        float all[V::width];
        V::store(all, values);
        for (int i = 0; i < V::width; out += lanes >> i & 1, ++i) *out = all[i];
    }
}

template <class V>
inline void pack_integers(std::int32_t* out, const std::int32_t* values, unsigned lanes) {
    if constexpr (V::packs)
        V::pack(out, values, lanes);
    else
        for (int i = 0; i < V::width; out += lanes >> i & 1, ++i) *out = values[i];
}

template <class V>
inline unsigned near_boxes(const float* lower, const float* upper, const float* box_lower,
                           const float* box_upper, std::size_t dimensions, const float* limits,
                           float* distances) {
    using deepspec::kernels::leaf_size;
    constexpr int n_vectors = leaf_size / V::width;
    typename V::type sums[n_vectors];
    for (int v = 0; v < n_vectors; ++v) sums[v] = V::zero();
    for (std::size_t d = 0; d < dimensions; ++d) {
        const typename V::type low = V::broadcast(box_lower[d]), high = V::broadcast(box_upper[d]);
        for (int v = 0; v < n_vectors; ++v) {
            const std::size_t at = d * leaf_size + v * V::width;
            const typename V::type above = V::subtract(V::load(lower + at), high);
            const typename V::type below = V::subtract(low, V::load(upper + at));
            const typename V::type gap = V::greater(V::greater(above, below), V::zero());
            sums[v] = V::add(sums[v], V::mul(gap, gap));
        }
    }
    unsigned near = 0;
    for (int v = 0; v < n_vectors; ++v) {
        V::store(distances + v * V::width, sums[v]);
        near |= V::at_most(sums[v], V::load(limits + v * V::width)) << (v * V::width);
    }
    return near;
}

template <class V>
inline unsigned scan_leaf(const float* leaf, std::int32_t first_slot, const float* queries, unsigned which,
                          std::size_t dimensions, deepspec::kernels::Candidates& found) {
    using deepspec::kernels::leaf_size;
    constexpr int n_vectors = leaf_size / V::width;
    std::int32_t slots[leaf_size];
    for (std::size_t i = 0; i < leaf_size; ++i) slots[i] = first_slot + static_cast<std::int32_t>(i);
    unsigned full = 0;
    for (; which != 0; which &= which - 1) {
        const unsigned q = lowest_bit(which);
        typename V::type sums[n_vectors];
        for (int v = 0; v < n_vectors; ++v) sums[v] = V::zero();
        for (std::size_t d = 0; d < dimensions; ++d) {
            const typename V::type position = V::broadcast(queries[d * leaf_size + q]);
            for (int v = 0; v < n_vectors; ++v) {
                const float* points = leaf + d * leaf_size + v * V::width;
                const typename V::type gap = V::subtract(V::load(points), position);
                sums[v] = V::add(sums[v], V::mul(gap, gap));
            }
        }
        const typename V::type limit = V::broadcast(found.limits[q]);
        float* distances = found.distances + q * found.capacity;
        std::int32_t* found_slots = found.slots + q * found.capacity;
        std::size_t count = found.counts[q];
        for (int v = 0; v < n_vectors; ++v) {
            const unsigned near = V::at_most(sums[v], limit);
            if (near == 0) continue;
            pack_floats<V>(distances + count, sums[v], near);
            pack_integers<V>(found_slots + count, slots + v * V::width, near);
            count += V::count(near);
        }
        found.counts[q] = count;
        full |= static_cast<unsigned>(count + leaf_size > found.capacity) << q;
    }
    return full;
}

template <class V>
inline deepspec::kernels::RankLimits rank_limits(float* distances, std::size_t count, std::size_t least,
                                                 std::size_t most) {
    std::size_t end = count;
    for (; end % V::width != 0; ++end) distances[end] = 0.0f;
    typename V::type largest = V::zero();
    for (std::size_t i = 0; i < end; i += V::width) largest = V::greater(largest, V::load(distances + i));
    float low = 0.0f, high = V::largest(largest);
    float below = 0.0f, within = static_cast<float>(count);  // how many are at most `low` and `high`
    const float wanted = 0.5f * static_cast<float>(least + most);
    // Interpolated and halved in turn.
    for (int step = 0; step < 16 && within > static_cast<float>(most); ++step) {
        const float part = step % 2 == 0 ? (wanted - below) / (within - below) : 0.5f;
        const float middle = low + part * (high - low);
        const typename V::type limit = V::broadcast(middle);
        std::size_t near = 0;
        for (std::size_t i = 0; i < end; i += V::width)
            near += V::count(V::at_most(V::load(distances + i), limit));
        near -= end - count;  // the zeros
        const bool enough = near >= least;
        (enough ? high : low) = middle;
        (enough ? within : below) = static_cast<float>(static_cast<int>(near));
    }
    return {low > 0.0f ? low : -1.0f, high};
}

template <class V>
inline std::size_t keep_near(float* distances, std::int32_t* slots, std::size_t count, float limit) {
    const typename V::type bound = V::broadcast(limit);
    std::size_t kept = 0;
    for (std::size_t i = 0; i < count; i += V::width) {
        const typename V::type values = V::load(distances + i);
        unsigned near = V::at_most(values, bound);
        if (count - i < V::width) near &= (1u << (count - i)) - 1;
        pack_floats<V>(distances + kept, values, near);
        pack_integers<V>(slots + kept, slots + i, near);
        kept += V::count(near);
    }
    return kept;
}
