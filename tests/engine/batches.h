// SPDX-License-Identifier: MIT
//
// Requests that run in one batch, and what they give, for the tests of the engine's border.
#pragma once

#include "engine_api.h"

namespace da3::test {

// All planes of a result.
inline std::vector<Tensor> planes_of(const Da3ResultData& d) {
  std::vector<Tensor> out;
  const int64_t v = d.n_views, h = d.height, w = d.width;
  const auto add = [&](const float* data, std::vector<int64_t> shape) {
    if (data) out.push_back(plane(data, std::move(shape)));
  };
  add(d.depth, {v, h, w});
  add(d.confidence, {v, h, w});
  add(d.sky, {v, h, w});
  add(d.ray, {v, d.ray_height, d.ray_width, 6});
  add(d.extrinsics, {v, 3, 4});
  add(d.intrinsics, {v, 3, 3});
  return out;
}

// Runs the pictures in one batch, in this order; returns the planes of each.
inline std::vector<std::vector<Tensor>> run_together(Engine& engine, const std::deque<Pictures>& pictures,
                                                     const std::vector<size_t>& order, uint32_t outputs) {
  std::deque<Ticket> tickets(order.size());
  {
    const Busy busy(engine);
    for (size_t i = 0; i < order.size(); ++i) tickets[i].submit(engine, pictures[order[i]].request(outputs));
  }
  std::vector<std::vector<Tensor>> out(order.size());
  for (size_t i = 0; i < order.size(); ++i) {
    CHECK(tickets[i].data().batch == order.size());
    out[i] = planes_of(tickets[i].data());
  }
  return out;
}

inline double greatest_distance(const std::vector<Tensor>& a, const std::vector<Tensor>& b) {
  REQUIRE(a.size() == b.size());
  double worst = 0;
  for (size_t i = 0; i < a.size(); ++i) worst = std::max(worst, distance(a[i], b[i]));
  return worst;
}

inline bool all_same_bits(const std::vector<Tensor>& a, const std::vector<Tensor>& b) {
  REQUIRE(a.size() == b.size());
  for (size_t i = 0; i < a.size(); ++i)
    if (!same_bits(a[i], b[i])) return false;
  return true;
}

}  // namespace da3::test
