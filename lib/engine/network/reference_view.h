// SPDX-License-Identifier: MIT
//
// Which view the others are expressed against (upstream model/reference_view_selector.py). Computed in
// double, per scene, so it never depends on what shares a batch.
#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <vector>

#include "engine/api/engine.h"

namespace da3 {

// tokens: [B, S, C], class tokens before block alt_start - 1. Returns one index per scene; ties take the
// lowest.
std::vector<int64_t> select_reference_views(const at::Tensor& tokens, Da3RefViewStrategy strategy);

// Order with view r first: (r, 0, .., r-1, r+1, ..), and its inverse, both [B, S] int64 on `device`.
struct ViewOrder {
  at::Tensor forward, inverse;
  bool identity = true;
};
ViewOrder make_view_order(const std::vector<int64_t>& reference, int64_t views, at::Device device);

// x[b][order[b][s]] for [B, S, ...].
at::Tensor reorder_views(const at::Tensor& x, const at::Tensor& order);

}  // namespace da3
