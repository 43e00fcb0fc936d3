// SPDX-License-Identifier: MIT
#include "scene/bvh.h"

#include <Eigen/Dense>
#include <algorithm>
#include <cmath>
#include <limits>

namespace da3::scene {
namespace {

constexpr int kBins = 12;
constexpr uint32_t kLeaf = 3;

Bounds empty() {
  constexpr float inf = std::numeric_limits<float>::infinity();
  return {{inf, inf, inf}, {-inf, -inf, -inf}};
}
void grow(Bounds& b, const Bounds& o) {
  for (int k = 0; k < 3; ++k) {
    b.lo[k] = std::min(b.lo[k], o.lo[k]);
    b.hi[k] = std::max(b.hi[k], o.hi[k]);
  }
}
float area(const Bounds& b) {
  const float x = b.hi[0] - b.lo[0], y = b.hi[1] - b.lo[1], z = b.hi[2] - b.lo[2];
  return x < 0 ? 0 : x * y + y * z + z * x;
}
float middle(const Bounds& b, int axis) {
  return 0.5f * (b.lo[axis] + b.hi[axis]);
}

struct Build {
  const std::vector<Bounds>& bounds;
  std::vector<Node>& nodes;
  std::vector<uint32_t>& order;

  int bin(uint32_t p, int axis, float lo, float width) const {
    return std::clamp(int((middle(bounds[p], axis) - lo) / width * kBins), 0, kBins - 1);
  }

  // The place to cut order[first, last) in two, by the surface area heuristic; sorts it so.
  uint32_t split(uint32_t first, uint32_t last, int* best_axis) {
    float best = std::numeric_limits<float>::infinity();
    int cut = -1;
    float cut_lo = 0, cut_width = 1;
    *best_axis = 0;
    for (int axis = 0; axis < 3; ++axis) {
      float lo = std::numeric_limits<float>::infinity(), hi = -lo;
      for (uint32_t i = first; i < last; ++i) {
        lo = std::min(lo, middle(bounds[order[i]], axis));
        hi = std::max(hi, middle(bounds[order[i]], axis));
      }
      if (!(hi - lo > 1e-6f)) continue;
      Bounds box[kBins];
      int count[kBins] = {};
      std::fill(box, box + kBins, empty());
      for (uint32_t i = first; i < last; ++i) {
        const int k = bin(order[i], axis, lo, hi - lo);
        grow(box[k], bounds[order[i]]);
        ++count[k];
      }
      float right_cost[kBins] = {};
      Bounds sum = empty();
      int n = 0;
      for (int k = kBins - 1; k > 0; --k) {
        grow(sum, box[k]);
        n += count[k];
        right_cost[k] = area(sum) * float(n);
      }
      sum = empty();
      n = 0;
      for (int k = 0; k + 1 < kBins; ++k) {
        grow(sum, box[k]);
        n += count[k];
        const float cost = area(sum) * float(n) + right_cost[k + 1];
        if (n > 0 && n < int(last - first) && cost < best) {
          best = cost;
          cut = k;
          cut_lo = lo;
          cut_width = hi - lo;
          *best_axis = axis;
        }
      }
    }
    if (cut < 0) return first + (last - first) / 2;
    const auto at = std::stable_partition(order.begin() + first, order.begin() + last, [&](uint32_t p) {
      return bin(p, *best_axis, cut_lo, cut_width) <= cut;
    });
    return uint32_t(at - order.begin());
  }

  void node(uint32_t first, uint32_t last) {
    const size_t self = nodes.size();
    nodes.emplace_back();
    Bounds all = empty();
    for (uint32_t i = first; i < last; ++i) grow(all, bounds[order[i]]);
    std::copy_n(all.lo, 3, nodes[self].lo);
    std::copy_n(all.hi, 3, nodes[self].hi);
    nodes[self].axis = 0;
    if (last - first <= kLeaf) {
      nodes[self].first = first;
      nodes[self].count = uint16_t(last - first);
      return;
    }
    int axis = 0;
    const uint32_t at = split(first, last, &axis);
    nodes[self].count = 0;
    nodes[self].axis = uint16_t(axis);
    node(first, at);
    nodes[self].first = uint32_t(nodes.size());
    node(at, last);
  }
};

}  // namespace

Bounds bounds_of(const Primitive& p) {
  Bounds b = empty();
  if (p.shape == Shape::cell) {
    const float* m = p.inverse;
    const float size = 1 / m[2];
    b.lo[0] = m[0] - 1e-3f * size;
    b.hi[0] = m[0] + size * 1.001f;
    b.lo[2] = m[1] - 1e-3f * size;
    b.hi[2] = m[1] + size * 1.001f;
    b.lo[1] = std::min(std::min(m[3], m[4]), std::min(m[5], m[6])) - 1e-3f;
    b.hi[1] = std::max(std::max(m[3], m[4]), std::max(m[5], m[6])) + 1e-3f;
    return b;
  }
  Eigen::Matrix3d inverse;
  Eigen::Vector3d offset;
  for (int r = 0; r < 3; ++r) {
    for (int c = 0; c < 3; ++c) inverse(r, c) = p.inverse[4 * r + c];
    offset[r] = p.inverse[4 * r + 3];
  }
  const Eigen::Matrix3d forward = inverse.inverse();
  const Eigen::Vector3d centre = -forward * offset;
  for (int k = 0; k < 3; ++k) {
    const Eigen::Vector3d row = forward.row(k);
    double reach = 0;
    if (p.shape == Shape::ellipsoid) {
      reach = row.norm();
    } else if (p.shape == Shape::cylinder || p.shape == Shape::cone) {
      reach = std::hypot(row.x(), row.z()) + std::abs(row.y());
    } else {
      reach = row.cwiseAbs().sum();
    }
    reach += 1e-4 + 1e-6 * std::abs(centre[k]);
    b.lo[k] = float(centre[k] - reach);
    b.hi[k] = float(centre[k] + reach);
  }
  return b;
}

void build_bvh(const std::vector<Primitive>& primitives, std::vector<Node>* nodes,
               std::vector<uint32_t>* order) {
  nodes->clear();
  order->resize(primitives.size());
  std::vector<Bounds> bounds(primitives.size());
  for (size_t i = 0; i < primitives.size(); ++i) {
    bounds[i] = bounds_of(primitives[i]);
    (*order)[i] = uint32_t(i);
  }
  if (primitives.empty()) return;
  nodes->reserve(primitives.size());
  Build{bounds, *nodes, *order}.node(0, uint32_t(primitives.size()));
}

}  // namespace da3::scene
