// The loops of the affinity of pixels. Where V has instructions for two vectors' numbers side by side
// (takes_pairs), it has add_four_pairs, store_pair, add_to_corners and between_corners.

template <class V>
inline void count_products(const std::int64_t* slice_starts, const std::int32_t* columns,
                           const std::uint8_t* counts, const float* pairs, std::size_t begin, std::size_t end,
                           float* products) {
    constexpr std::size_t rows = deepspec::kernels::slice_size;
    for (std::size_t slice = begin; slice < end; ++slice, products += 2 * rows) {
        const std::int64_t last = slice_starts[slice + 1];
        if constexpr (V::takes_pairs) {
            typename V::type sums = V::zero();
            for (std::int64_t slot = slice_starts[slice]; slot < last; slot += rows)
                sums = V::add_four_pairs(pairs, columns + slot, counts + slot, sums);
            V::store(products, sums);
        } else {
            float sums[rows][2] = {};
            for (std::int64_t slot = slice_starts[slice]; slot < last; slot += rows)
                for (std::size_t r = 0; r < rows; ++r) {
                    const float count = static_cast<float>(counts[slot + r]);
                    const float* const entries = pairs + 2 * static_cast<std::size_t>(columns[slot + r]);
                    for (std::size_t v = 0; v < 2; ++v) sums[r][v] += count * entries[v];
                }
            for (std::size_t r = 0; r < rows; ++r)
                for (std::size_t v = 0; v < 2; ++v) products[2 * r + v] = sums[r][v];
        }
    }
}

template <class V>
inline void row_products(const std::int64_t* row_starts, const std::int32_t* columns, const float* entries,
                         const float* pairs, std::size_t begin, std::size_t end, float* products) {
    constexpr std::size_t unit = deepspec::kernels::row_unit;
    for (std::size_t row = begin; row < end; ++row, products += 2) {
        std::int64_t slot = row_starts[row];
        const std::int64_t last = row_starts[row + 1];
        if constexpr (V::takes_pairs) {
            typename V::Eight eight = V::no_eight();
            for (; slot + static_cast<std::int64_t>(unit) < last; slot += 2 * unit)
                eight = V::add_eight_pairs(pairs, columns + slot, entries + slot, eight);
            typename V::type sums = V::fold(eight);
            if (slot < last) sums = V::add_four_pairs(pairs, columns + slot, entries + slot, sums);
            V::store_pair(products, sums);
        } else {
            float sums[unit][2] = {};
            for (; slot < last; slot += unit)
                for (std::size_t e = 0; e < unit; ++e) {
                    const float* const pair = pairs + 2 * static_cast<std::size_t>(columns[slot + e]);
                    for (std::size_t v = 0; v < 2; ++v) sums[e][v] += entries[slot + e] * pair[v];
                }
            for (std::size_t v = 0; v < 2; ++v)
                products[v] = (sums[0][v] + sums[1][v]) + (sums[2][v] + sums[3][v]);
        }
    }
}

// Of a place's cell and the one to its right, four numbers lie together; of those below them, too.
template <class V>
inline void add_to_cells(const deepspec::kernels::Place* places, std::size_t count, std::size_t width,
                         const float* numbers, double* cells) {
    for (std::size_t i = 0; i < count; ++i, numbers += 2) {
        const deepspec::kernels::Place& place = places[i];
        double* const top = cells + 2 * static_cast<std::size_t>(place.cell);
        double* const bottom = top + 2 * width;
        if constexpr (V::takes_pairs) {
            V::add_to_corners(place.down, place.right, numbers, top, bottom);
        } else {
            for (std::size_t c = 0; c < 4; ++c) {
                const float share = numbers[c % 2] * (c < 2 ? 1.0f - place.right : place.right);
                const float below = place.down * share;
                top[c] += static_cast<double>(share - below);
                bottom[c] += static_cast<double>(below);
            }
        }
    }
}

template <class V>
inline void from_cells(const deepspec::kernels::Place* places, std::size_t count, std::size_t width,
                       const float* cells, float* numbers) {
    for (std::size_t i = 0; i < count; ++i, numbers += 2) {
        const deepspec::kernels::Place& place = places[i];
        const float* const top = cells + 2 * static_cast<std::size_t>(place.cell);
        const float* const bottom = top + 2 * width;
        if constexpr (V::takes_pairs) {
            V::between_corners(place.down, place.right, top, bottom, numbers);
        } else {
            float both[4];
            for (std::size_t c = 0; c < 4; ++c) both[c] = top[c] + place.down * (bottom[c] - top[c]);
            for (std::size_t v = 0; v < 2; ++v) numbers[v] = both[v] + place.right * (both[2 + v] - both[v]);
        }
    }
}

template <class V>
constexpr deepspec::kernels::PixelLoops pixel_loops{count_products<V>, row_products<V>, add_to_cells<V>,
                                                    from_cells<V>};
