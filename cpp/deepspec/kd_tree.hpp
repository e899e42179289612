#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cfloat>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <vector>

#include "deepspec/kernels/kernels.hpp"
#include "deepspec/memory.hpp"

namespace deepspec {

// The exact nearest neighbours of each of n points of a few dimensions, among these points.
//
// Neighbours are ordered by (squared distance, index), so that the answer does not depend on the tree.
// Distances are compared in float first, with a margin for rounding; of the few points within the margin of
// the k-th, the distances in double decide. The points of a leaf search together: a node is compared with
// the box around all of them, and a leaf only with those that may have neighbours there.
template <std::size_t Dimensions>
class KdTree {
  public:
    using Point = std::array<double, Dimensions>;

    // `points`, at least one, must outlive the tree.
    explicit KdTree(std::span<const Point> points);

    std::size_t n_leaves() const { return leaves_.size(); }

    // The points, leaf after leaf: near ones are not far apart. Where each stands here is its slot.
    std::span<const std::int32_t> order() const { return order_; }

    // visit(slot, nearest) for each point in the leaves [begin, end): the slots of the k <= n points nearest
    // to it, itself among them, in no order.
    template <class Visit>
    void search(std::size_t begin, std::size_t end, std::size_t k, Visit visit) const;

  private:
    class Search;

    static constexpr std::size_t leaf_size = kernels::leaf_size;
    static constexpr std::size_t sample_size = 256;

    // Coordinates in float, scaled to [-1, 1].
    struct Item {
        std::array<float, Dimensions> position;
        std::int32_t index;
    };
    struct Box {
        std::array<float, Dimensions> lower, upper;
    };

    // What is compared at once, one dimension after the other, filled up with infinity.
    using Lanes = std::array<std::array<float, leaf_size>, Dimensions>;
    struct Boxes {
        Lanes lower, upper;
    };

    static LargeVector<Item> scaled(std::span<const Point> points);
    static Box bounds(std::span<const Item> items);
    static std::array<Item, sample_size> sampled(std::span<const Item> items);
    static void arrange(std::span<Item> items);
    static std::size_t widest_dimension(std::span<const Item> items);
    static void halve(std::span<Item> items, std::size_t middle, std::size_t d);
    static void halve_many(std::span<Item> items, std::size_t middle);
    void make_leaves(std::span<const Item> items);
    void make_levels();
    double squared_distance(std::int32_t a, std::int32_t b) const;

    std::size_t size_of(std::size_t leaf) const {
        return std::min(leaf_size, order_.size() - leaf * leaf_size);
    }

    std::span<const Point> points_;
    LargeVector<std::int32_t> order_;  // by slot: leaf after leaf
    LargeVector<Lanes> leaves_;
    std::vector<Box> boxes_;  // of the leaves
    std::vector<std::vector<Boxes>>
        levels_;  // the same in groups, then the boxes of groups, ... up to one group
    const kernels::Kernels& kernel_ = kernels::selected();
};

// The search for the neighbours of the points of one leaf after another, and what it has found.
template <std::size_t Dimensions>
class KdTree<Dimensions>::Search {
  public:
    Search(const KdTree& tree, std::size_t k)
        : tree_(tree),
          k_(k),
          capacity_((k / leaf_size + 5) * leaf_size),
          distances_(leaf_size * capacity_),
          slots_(leaf_size * capacity_) {
        found_.capacity = capacity_;
        found_.distances = distances_.data();
        found_.slots = slots_.data();
    }

    void run(std::size_t leaf) {
        leaf_ = leaf;
        for (std::size_t q = 0; q < leaf_size; ++q) {
            found_.counts[q] = 0;
            found_.limits[q] = q < tree_.size_of(leaf) ? FLT_MAX : -1.0f;
        }
        widest_limit_ = FLT_MAX;
        scan_siblings();
        scan_rest();
        for (std::size_t q = 0; q < tree_.size_of(leaf); ++q) {
            if (found_.counts[q] <= k_) continue;
            const float below = tighten(q, k_);
            if (found_.counts[q] > k_) decide(q, below);
        }
    }

    // The slots of the neighbours of the q-th point of the leaf.
    std::span<const std::int32_t> nearest(std::size_t q) const { return {slots_.data() + q * capacity_, k_}; }

  private:
    struct NearLeaf {
        float squared_distance;
        std::size_t leaf;
        bool operator<(const NearLeaf& other) const { return squared_distance < other.squared_distance; }
    };

    // The leaf itself and the nearest others of its group: enough points for close limits.
    void scan_siblings() {
        siblings_.clear();
        collect(0, leaf_ / leaf_size, siblings_);
        for (NearLeaf& sibling : siblings_)
            if (sibling.leaf == leaf_) sibling.squared_distance = -1.0f;
        const std::size_t count = std::min(siblings_.size(), (k_ + 24) / leaf_size + 1);
        std::partial_sort(siblings_.begin(), siblings_.begin() + static_cast<std::ptrdiff_t>(count),
                          siblings_.end());
        siblings_.resize(count);
        for (const NearLeaf& sibling : siblings_) scan(sibling.leaf);
        for (std::size_t q = 0; q < tree_.size_of(leaf_); ++q)
            if (found_.counts[q] > k_) tighten(q, k_ + k_ / 4);
        update_widest_limit();
    }

    void scan_rest() {
        near_leaves_.clear();
        collect(tree_.levels_.size() - 1, 0, near_leaves_);
        // Nearer ones first, for the limits to shrink; sorting them all would take longer than it saves.
        std::partition(near_leaves_.begin(), near_leaves_.end(),
                       [&](const NearLeaf& near) { return near.squared_distance < 0.25f * widest_limit_; });
        for (const NearLeaf& near : near_leaves_)
            if (near.squared_distance <= widest_limit_ && !is_sibling(near.leaf)) scan(near.leaf);
    }

    bool is_sibling(std::size_t leaf) const {
        return std::any_of(siblings_.begin(), siblings_.end(),
                           [&](const NearLeaf& sibling) { return sibling.leaf == leaf; });
    }

    // Appends the leaves below a group that are within the widest limit of the leaf's box.
    void collect(std::size_t level, std::size_t group, std::vector<NearLeaf>& leaves) const {
        const Boxes& boxes = tree_.levels_[level][group];
        const Box& box = tree_.boxes_[leaf_];
        std::array<float, leaf_size> distances, limits;
        limits.fill(widest_limit_);
        unsigned near =
            tree_.kernel_.near_boxes(boxes.lower[0].data(), boxes.upper[0].data(), box.lower.data(),
                                     box.upper.data(), Dimensions, limits.data(), distances.data());
        for (; near != 0; near &= near - 1) {
            const auto lane = static_cast<std::size_t>(std::countr_zero(near));
            const std::size_t child = group * leaf_size + lane;
            if (level == 0)
                leaves.push_back({distances[lane], child});
            else
                collect(level - 1, child, leaves);
        }
    }

    void scan(std::size_t leaf) {
        const float* queries = tree_.leaves_[leaf_][0].data();
        const Box& box = tree_.boxes_[leaf];
        std::array<float, leaf_size> distances;
        const unsigned near = tree_.kernel_.near_boxes(queries, queries, box.lower.data(), box.upper.data(),
                                                       Dimensions, found_.limits, distances.data());
        unsigned full = tree_.kernel_.scan_leaf(tree_.leaves_[leaf][0].data(),
                                                static_cast<std::int32_t>(leaf * leaf_size), queries, near,
                                                Dimensions, found_);
        if (full == 0) return;
        for (; full != 0; full &= full - 1)
            tighten(static_cast<std::size_t>(std::countr_zero(full)), k_ + k_ / 4);
        update_widest_limit();
    }

    void update_widest_limit() {
        widest_limit_ = *std::max_element(std::begin(found_.limits), std::end(found_.limits));
    }

    // Lowers the limit of a query to about its `most`-th distance and drops what is beyond. Returns a squared
    // distance that fewer than k are within.
    float tighten(std::size_t q, std::size_t most) {
        float* distances = distances_.data() + q * capacity_;
        const auto [below, within] = tree_.kernel_.rank_limits(distances, found_.counts[q], k_, most);
        found_.limits[q] = std::min(found_.limits[q], widened(within));
        found_.counts[q] = tree_.kernel_.keep_near(distances, slots_.data() + q * capacity_, found_.counts[q],
                                                   found_.limits[q]);
        if (found_.counts[q] + leaf_size > capacity_) decide(q, below);
        return below;
    }

    // What a squared distance in float may be while that in double is not above one that is `squared` in
    // float. Rounding two coordinates and their difference moves the difference by up to 2^-23 and the
    // distance by `shift`; squares and sums add relative errors. Both distances err.
    static float widened(float squared) {
        const double distance = std::sqrt(static_cast<double>(squared)) + margin;
        return static_cast<float>(distance * distance * (1.0 + relative_margin));
    }

    // The other way round: what is above `squared` in float is farther in double than what this returns or
    // less.
    static float narrowed(float squared) {
        const double distance = std::sqrt(static_cast<double>(std::max(squared, 0.0f))) - margin;
        return distance > 0.0 ? static_cast<float>(distance * distance * (1.0 - 2.0 * relative_margin))
                              : -1.0f;
    }

    // Keeps the k nearest by (squared distance in double, index). Fewer are within `below` in float.
    void decide(std::size_t q, float below) {
        float* const distances = distances_.data() + q * capacity_;
        std::int32_t* const slots = slots_.data() + q * capacity_;
        const std::int32_t query = tree_.order_[leaf_ * leaf_size + q];
        const float certain = narrowed(below);
        std::size_t kept = 0;
        candidates_.clear();
        for (std::size_t i = 0; i < found_.counts[q]; ++i) {
            if (distances[i] <= certain) {
                distances[kept] = distances[i];
                slots[kept++] = slots[i];
                continue;
            }
            const std::int32_t index = tree_.order_[static_cast<std::size_t>(slots[i])];
            candidates_.push_back({tree_.squared_distance(query, index), index, slots[i], distances[i]});
        }
        const auto missing = static_cast<std::ptrdiff_t>(k_ - kept);
        std::nth_element(candidates_.begin(), candidates_.begin() + missing - 1, candidates_.end());
        for (auto candidate = candidates_.begin(); kept < k_; ++candidate, ++kept) {
            slots[kept] = candidate->slot;
            distances[kept] = candidate->rounded_distance;
        }
        found_.counts[q] = k_;
    }

    struct Candidate {
        double squared_distance;
        std::int32_t index, slot;
        float rounded_distance;
        bool operator<(const Candidate& other) const {
            return squared_distance < other.squared_distance ||
                   (squared_distance == other.squared_distance && index < other.index);
        }
    };

    inline static const double margin = 2.0 * std::sqrt(static_cast<double>(Dimensions)) * 0x1p-23;
    static constexpr double relative_margin = Dimensions * 0x1p-21;

    const KdTree& tree_;
    std::size_t k_;
    std::size_t capacity_;  // k and what a few leaves add before the farthest are dropped
    std::vector<float> distances_;
    std::vector<std::int32_t> slots_;
    kernels::Candidates found_{};
    std::size_t leaf_ = 0;
    float widest_limit_ = 0.0f;
    std::vector<NearLeaf> siblings_, near_leaves_;
    std::vector<Candidate> candidates_;
};

template <std::size_t Dimensions>
template <class Visit>
void KdTree<Dimensions>::search(std::size_t begin, std::size_t end, std::size_t k, Visit visit) const {
    Search search(*this, k);
    for (std::size_t leaf = begin; leaf < end; ++leaf) {
        search.run(leaf);
        for (std::size_t q = 0; q < size_of(leaf); ++q) visit(leaf * leaf_size + q, search.nearest(q));
    }
}

template <std::size_t Dimensions>
KdTree<Dimensions>::KdTree(std::span<const Point> points) : points_(points) {
    LargeVector<Item> items = scaled(points);
    arrange(items);
    make_leaves(items);
    make_levels();
}

template <std::size_t Dimensions>
auto KdTree<Dimensions>::scaled(std::span<const Point> points) -> LargeVector<Item> {
    double largest = 0.0;
    for (const Point& point : points)
        for (const double x : point) largest = std::max(largest, std::abs(x));
    int exponent = 0;
    std::frexp(largest, &exponent);
    const double scale = std::ldexp(1.0, -std::max(exponent, -1000));  // a power of two: exact
    LargeVector<Item> items(points.size());
    for (std::size_t i = 0; i < items.size(); ++i) {
        for (std::size_t d = 0; d < Dimensions; ++d)
            items[i].position[d] = static_cast<float>(points[i][d] * scale);
        items[i].index = static_cast<std::int32_t>(i);
    }
    return items;
}

template <std::size_t Dimensions>
auto KdTree<Dimensions>::bounds(std::span<const Item> items) -> Box {
    Box box{items.front().position, items.front().position};
    for (const Item& item : items)
        for (std::size_t d = 0; d < Dimensions; ++d) {
            box.lower[d] = std::min(box.lower[d], item.position[d]);
            box.upper[d] = std::max(box.upper[d], item.position[d]);
        }
    return box;
}

// Of many items, those at places that no regular order of theirs meets.
template <std::size_t Dimensions>
auto KdTree<Dimensions>::sampled(std::span<const Item> items) -> std::array<Item, sample_size> {
    constexpr std::uint64_t golden_ratio = 0x9e3779b9;  // times 2^32
    std::array<Item, sample_size> sample;
    for (std::uint64_t i = 0; i < sample_size; ++i)
        sample[i] = items[(i * golden_ratio % (std::uint64_t{1} << 32) * items.size()) >> 32];
    return sample;
}

// Halves across the widest dimension. Whole leaves, whole groups of them and so on stay together: all leaves
// but the last are full, and the boxes of every level are small.
template <std::size_t Dimensions>
void KdTree<Dimensions>::arrange(std::span<Item> items) {
    if (items.size() <= leaf_size) return;
    std::size_t unit = leaf_size;
    while (unit * leaf_size < items.size()) unit *= leaf_size;
    const std::size_t middle = std::max(unit, (items.size() + unit) / 2 / unit * unit);
    if (items.size() > 8 * sample_size)
        halve_many(items, middle);
    else
        halve(items, middle, widest_dimension(items));
    arrange(items.first(middle));
    arrange(items.subspan(middle));
}

template <std::size_t Dimensions>
std::size_t KdTree<Dimensions>::widest_dimension(std::span<const Item> items) {
    const Box box = bounds(items);
    std::size_t widest = 0;
    for (std::size_t d = 1; d < Dimensions; ++d)
        if (box.upper[d] - box.lower[d] > box.upper[widest] - box.lower[widest]) widest = d;
    return widest;
}

// Puts the `middle` lowest in dimension d first.
template <std::size_t Dimensions>
void KdTree<Dimensions>::halve(std::span<Item> items, std::size_t middle, std::size_t d) {
    std::nth_element(items.begin(), items.begin() + static_cast<std::ptrdiff_t>(middle), items.end(),
                     [d](const Item& a, const Item& b) { return a.position[d] < b.position[d]; });
}

// As `halve` across the widest dimension, which a sample tells, and with it two coordinates around the middle
// one with few items between them.
template <std::size_t Dimensions>
void KdTree<Dimensions>::halve_many(std::span<Item> items, std::size_t middle) {
    std::array<Item, sample_size> sample = sampled(items);
    const std::size_t d = widest_dimension(sample);
    const std::size_t at = middle * sample_size / items.size(), margin = sample_size / 16;
    const auto coordinate = [&](std::size_t rank) {
        halve(sample, rank, d);
        return sample[rank].position[d];
    };
    const float low = coordinate(at - std::min(at, margin));
    const float high = coordinate(std::min(at + margin, sample_size - 1));
    // Goes on with the side that holds the middle; says whether that is the wanted one.
    const auto put_first = [&](auto wanted) {
        const auto others = std::partition(items.begin(), items.end(), wanted);
        const auto count = static_cast<std::size_t>(others - items.begin());
        const bool among = middle < count;
        items = among ? items.first(count) : items.subspan(count);
        middle -= among ? 0 : count;
        return among;
    };
    if (!put_first([=](const Item& item) { return item.position[d] < low; }))
        put_first([=](const Item& item) { return item.position[d] <= high; });
    halve(items, middle, d);
}

template <std::size_t Dimensions>
void KdTree<Dimensions>::make_leaves(std::span<const Item> items) {
    constexpr float infinity = std::numeric_limits<float>::infinity();
    const std::size_t n_leaves = (items.size() + leaf_size - 1) / leaf_size;
    boxes_.reserve(n_leaves);
    leaves_.reserve(n_leaves);
    order_.reserve(items.size());
    for (std::size_t begin = 0; begin < items.size(); begin += leaf_size) {
        const auto members = items.subspan(begin, std::min(leaf_size, items.size() - begin));
        boxes_.push_back(bounds(members));
        Lanes& leaf = leaves_.emplace_back();
        for (std::size_t d = 0; d < Dimensions; ++d)
            for (std::size_t i = 0; i < leaf_size; ++i)
                leaf[d][i] = i < members.size() ? members[i].position[d] : infinity;
    }
    for (const Item& item : items) order_.push_back(item.index);
}

template <std::size_t Dimensions>
void KdTree<Dimensions>::make_levels() {
    constexpr float infinity = std::numeric_limits<float>::infinity();
    std::vector<Box> boxes = boxes_;
    do {
        std::vector<Boxes> groups;
        std::vector<Box> around;
        for (std::size_t begin = 0; begin < boxes.size(); begin += leaf_size) {
            Boxes& group = groups.emplace_back();
            for (std::size_t d = 0; d < Dimensions; ++d) {
                group.lower[d].fill(infinity);
                group.upper[d].fill(infinity);
            }
            Box& whole = around.emplace_back(boxes[begin]);
            for (std::size_t i = begin; i < std::min(begin + leaf_size, boxes.size()); ++i)
                for (std::size_t d = 0; d < Dimensions; ++d) {
                    group.lower[d][i - begin] = boxes[i].lower[d];
                    group.upper[d][i - begin] = boxes[i].upper[d];
                    whole.lower[d] = std::min(whole.lower[d], boxes[i].lower[d]);
                    whole.upper[d] = std::max(whole.upper[d], boxes[i].upper[d]);
                }
        }
        levels_.push_back(std::move(groups));
        boxes = std::move(around);
    } while (boxes.size() > 1);
}

template <std::size_t Dimensions>
double KdTree<Dimensions>::squared_distance(std::int32_t a, std::int32_t b) const {
    const Point& p = points_[static_cast<std::size_t>(a)];
    const Point& q = points_[static_cast<std::size_t>(b)];
    double sum = 0.0;
    for (std::size_t d = 0; d < Dimensions; ++d) sum += (p[d] - q[d]) * (p[d] - q[d]);
    return sum;
}

}  // namespace deepspec
