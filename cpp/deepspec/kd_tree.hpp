#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <numeric>
#include <vector>

#include "deepspec/kernels/kernels.hpp"

namespace deepspec {

// Exact nearest neighbours among n points of a few dimensions.
//
// Neighbours are ordered by (squared distance, index), so that the answer does not depend on the tree.
// A node's bound and a point's distance are summed in the same order, which makes the bound a true lower
// bound in floating point too: pruning never loses a neighbour, not even a tied one.
template <std::size_t Dimensions>
class KdTree {
  public:
    using Point = std::array<double, Dimensions>;

    struct Neighbor {
        double squared_distance;
        std::int32_t index;
        bool operator<(const Neighbor& other) const {
            return squared_distance < other.squared_distance ||
                   (squared_distance == other.squared_distance && index < other.index);
        }
    };

    explicit KdTree(const std::vector<Point>& points) : order_(points.size()) {
        std::iota(order_.begin(), order_.end(), 0);
        build(points, 0, points.size());
        for (Node& node : nodes_) {
            if (node.right != 0) continue;
            node.leaf = leaves_.size();
            leaves_.emplace_back();
            for (auto& axis : leaves_.back()) axis.fill(std::numeric_limits<double>::infinity());
            for (std::size_t d = 0; d < Dimensions; ++d)
                for (std::size_t i = node.begin; i < node.end; ++i)
                    leaves_.back()[d][i - node.begin] = points[static_cast<std::size_t>(order_[i])][d];
        }
    }

    // The points in the order of the leaves: queries made in this order find the cache warm.
    const std::vector<std::int32_t>& order() const { return order_; }

    // The k nearest points to `query`, nearest first; k <= n. `nearest` is overwritten.
    void search(const Point& query, std::size_t k, std::vector<Neighbor>& nearest) const {
        nearest.assign(k,
                       {std::numeric_limits<double>::infinity(), std::numeric_limits<std::int32_t>::max()});
        descend(0, query, nearest);
    }

  private:
    static constexpr std::size_t leaf_size = kernels::leaf_size;

    struct Node {
        Point lower, upper;
        std::size_t begin, end;
        std::size_t right;  // the left child follows its parent; 0 marks a leaf
        std::size_t leaf;
    };

    // One dimension after the other, filled up with points at infinity.
    using Leaf = std::array<std::array<double, leaf_size>, Dimensions>;

    std::size_t build(const std::vector<Point>& points, std::size_t begin, std::size_t end) {
        const std::size_t self = nodes_.size();
        Node node{points[static_cast<std::size_t>(order_[begin])],
                  points[static_cast<std::size_t>(order_[begin])],
                  begin,
                  end,
                  0,
                  0};
        for (std::size_t i = begin; i < end; ++i) {
            const Point& p = points[static_cast<std::size_t>(order_[i])];
            for (std::size_t d = 0; d < Dimensions; ++d) {
                node.lower[d] = std::min(node.lower[d], p[d]);
                node.upper[d] = std::max(node.upper[d], p[d]);
            }
        }
        nodes_.push_back(node);
        if (end - begin <= leaf_size) return self;
        std::size_t widest = 0;
        for (std::size_t d = 1; d < Dimensions; ++d)
            if (node.upper[d] - node.lower[d] > node.upper[widest] - node.lower[widest]) widest = d;
        const std::size_t middle = begin + (end - begin) / 2;
        const auto at = [&](std::size_t i) { return order_.begin() + static_cast<std::ptrdiff_t>(i); };
        std::nth_element(at(begin), at(middle), at(end), [&](std::int32_t a, std::int32_t b) {
            const double x = points[static_cast<std::size_t>(a)][widest];
            const double y = points[static_cast<std::size_t>(b)][widest];
            return x < y || (x == y && a < b);
        });
        build(points, begin, middle);
        const std::size_t right = build(points, middle, end);
        nodes_[self].right = right;
        return self;
    }

    static double squared_distance(const Node& node, const Point& query) {
        double sum = 0.0;
        for (std::size_t d = 0; d < Dimensions; ++d) {
            const double gap = std::max({node.lower[d] - query[d], query[d] - node.upper[d], 0.0});
            sum += gap * gap;
        }
        return sum;
    }

    void descend(std::size_t index, const Point& query, std::vector<Neighbor>& nearest) const {
        const Node& node = nodes_[index];
        if (node.right == 0) return scan(node, query, nearest);
        std::size_t near = index + 1, far = node.right;
        double near_bound = squared_distance(nodes_[near], query);
        double far_bound = squared_distance(nodes_[far], query);
        if (far_bound < near_bound) {
            std::swap(near, far);
            std::swap(near_bound, far_bound);
        }
        // Not >=: a point at the same distance with a smaller index still belongs to the answer.
        if (near_bound > nearest.back().squared_distance) return;
        descend(near, query, nearest);
        if (far_bound > nearest.back().squared_distance) return;
        descend(far, query, nearest);
    }

    void scan(const Node& leaf, const Point& query, std::vector<Neighbor>& nearest) const {
        std::array<double, leaf_size> distances;
        unsigned near = kernel_.leaf_distances(leaves_[leaf.leaf].front().data(), query.data(), Dimensions,
                                               nearest.back().squared_distance, distances.data());
        near &= (1u << (leaf.end - leaf.begin)) - 1;  // while fewer than k are known, infinity is near too
        for (; near != 0; near &= near - 1) {
            const auto i = static_cast<std::size_t>(std::countr_zero(near));
            const Neighbor candidate{distances[i], order_[leaf.begin + i]};
            if (!(candidate < nearest.back())) continue;
            std::size_t slot = nearest.size() - 1;
            for (; slot > 0 && candidate < nearest[slot - 1]; --slot) nearest[slot] = nearest[slot - 1];
            nearest[slot] = candidate;
        }
    }

    std::vector<Node> nodes_;
    std::vector<std::int32_t> order_;
    std::vector<Leaf> leaves_;
    const kernels::Kernels& kernel_ = kernels::selected();
};

}  // namespace deepspec
