// SPDX-License-Identifier: MIT
#include "engine/kernels/qk_norm_rope.h"

#include <doctest/doctest.h>

#include <limits>

#include "engine/network/block.h"
#include "instruction_sets.h"

using namespace da3;
using at::Tensor;

namespace {

double relative_error(const Tensor& a, const Tensor& b) {
  const Tensor x = a.to(at::kDouble), y = b.to(at::kDouble);
  return ((x - y).abs().max() / y.abs().max()).item<double>();
}

// Queries, keys and values of a layer, [batch, tokens, 3, heads, width].
Tensor make_qkv(int64_t batch, int64_t tokens, int64_t heads, int64_t width = 64) {
  at::manual_seed(9);
  return at::randn({batch, tokens, 3, heads, width}) * 3 + 1;
}

RopeTable make_table(int64_t tokens, int64_t width = 64) {
  const Tensor y = at::arange(tokens, at::TensorOptions(at::kLong));
  return make_rope_table(at::stack({y, (y * 7).remainder(11)}, 1), width);
}

LayerNorm make_norm(int64_t width = 64) {
  at::manual_seed(10);
  LayerNorm norm;
  norm.weight = at::randn({width}) + 1;
  norm.bias = at::randn({width});
  return norm;
}

Tensor by_definition(const Tensor& x, const LayerNorm* norm, const RopeTable& rope) {
  Tensor y = x.transpose(1, 2).to(at::kFloat);
  if (norm) y = (*norm)(y);
  return rope.defined() ? apply_rope(y, rope) : y;
}

}  // namespace

TEST_CASE("queries and keys: one pass equals the steps") {
  test::with_every_instruction_set([] {
    const LayerNorm norm = make_norm();
    const RopeTable table = make_table(13), none;
    for (const int64_t batch : {1, 3})
      for (const int64_t heads : {1, 6}) {
        const Tensor qkv = make_qkv(batch, 13, heads);
        for (const int64_t which : {0, 1})
          for (const LayerNorm* n : {static_cast<const LayerNorm*>(nullptr), &norm})
            for (const RopeTable* r : {&none, &table}) {
              const Tensor x = qkv.select(2, which), y = take_heads(x, n, *r);
              CHECK((y.sizes() == at::IntArrayRef({batch, heads, 13, 64})));
              CHECK(relative_error(y, by_definition(x, n, *r)) < 2e-6);
            }
      }
  });
}

TEST_CASE("queries and keys: a table for one view serves all views") {
  const LayerNorm norm = make_norm();
  const Tensor x = make_qkv(1, 26, 2).select(2, 1);
  CHECK(relative_error(take_heads(x, &norm, make_table(13)), by_definition(x, &norm, make_table(13))) < 2e-6);
}

TEST_CASE("queries and keys: bfloat16 is rounded once") {
  test::with_every_instruction_set([] {
    const LayerNorm norm = make_norm();
    const RopeTable table = make_table(40);
    const Tensor x = make_qkv(2, 40, 3).to(at::kBFloat16).select(2, 0);
    const Tensor exact = by_definition(x, &norm, table);
    CHECK(((take_heads(x, &norm, table).to(at::kFloat) - exact).abs() - exact.abs() / 250)
              .max()
              .item<double>() < 1e-5);
  });
}

TEST_CASE("queries and keys: other widths and types take the steps") {
  const LayerNorm norm = make_norm(32);
  const Tensor x = make_qkv(1, 9, 2, 32).select(2, 0);
  CHECK(relative_error(take_heads(x, &norm, make_table(9, 32)), by_definition(x, &norm, make_table(9, 32))) <
        1e-6);
  const LayerNorm wide = make_norm();
  const Tensor half = make_qkv(1, 9, 2).to(at::kHalf).select(2, 0);
  CHECK(relative_error(take_heads(half, &wide, make_table(9)), by_definition(half, &wide, make_table(9))) <
        1e-6);
}

TEST_CASE("queries and keys: gradients pass, to the input and to the weights") {
  LayerNorm norm = make_norm();
  norm.weight.set_requires_grad(true);
  const Tensor qkv = make_qkv(1, 5, 2).set_requires_grad(true);
  take_heads(qkv.select(2, 0), &norm, make_table(5)).pow(2).sum().backward();
  CHECK(qkv.grad().abs().sum().item<double>() > 0);
  CHECK(norm.weight.grad().abs().sum().item<double>() > 0);
}

TEST_CASE("queries and keys: what is not a number stays in its head, and nothing is written over") {
  const LayerNorm norm = make_norm();
  Tensor qkv = make_qkv(1, 6, 3);
  qkv[0][2][0][1][5] = std::numeric_limits<float>::quiet_NaN();
  const Tensor before = qkv.clone(), y = take_heads(qkv.select(2, 0), &norm, make_table(6));
  CHECK(y[0][1][2].isnan().all().item<bool>());
  CHECK(y.isnan().sum().item<int64_t>() == 64);
  CHECK(at::equal(qkv.nan_to_num(0), before.nan_to_num(0)));
}
