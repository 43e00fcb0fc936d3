// SPDX-License-Identifier: MIT
#include "engine/kernels/flash_attention.h"

#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "engine/network/attention.h"
#include "instruction_sets.h"

using namespace da3;
using at::Tensor;

namespace {

Tensor by_definition(const Tensor& q, const Tensor& k, const Tensor& v) {
  const Tensor a = q.to(at::kDouble), b = k.to(at::kDouble), c = v.to(at::kDouble);
  return at::matmul(at::softmax(at::matmul(a, b.transpose(2, 3)) / std::sqrt(double(q.size(3))), -1), c);
}

double error(const Tensor& a, const Tensor& b) {
  const Tensor x = a.to(at::kDouble);
  return ((x - b).abs().max() / b.pow(2).mean().sqrt()).item<double>();
}

// [batch, heads, tokens, 64]; as the product for queries, keys and values gives them, or each by itself.
std::vector<Tensor> make_inputs(int64_t batch, int64_t heads, int64_t queries, int64_t keys, bool apart) {
  at::manual_seed(21);
  if (apart)
    return {at::randn({batch, heads, queries, 64}), at::randn({batch, heads, keys, 64}),
            at::randn({batch, heads, keys, 64})};
  const Tensor qkv = at::randn({batch, std::max(queries, keys), 3, heads, 64}).permute({2, 0, 3, 1, 4});
  return {qkv[0].narrow(2, 0, queries), qkv[1].narrow(2, 0, keys), qkv[2].narrow(2, 0, keys)};
}

template <typename T>
bool ours() {
  return kernels::FlashAttention<T>::available();
}

}  // namespace

TEST_CASE("own attention: its definition, for any number of queries and keys, on any processor") {
  const auto check = [](bool apart) {
    for (const auto& [queries, keys] : std::vector<std::pair<int64_t, int64_t>>{
             {1, 1}, {2, 31}, {13, 32}, {12, 33}, {191, 64}, {193, 385}, {30, 800}, {400, 7}}) {
      CAPTURE(queries);
      CAPTURE(keys);
      const auto in = make_inputs(2, 3, queries, keys, apart);
      const Tensor expected = by_definition(in[0], in[1], in[2]), out = attention(in[0], in[1], in[2]);
      CHECK((out.sizes() == expected.sizes()));
      CHECK(error(out, expected) < 1e-5);
      if (!ours<uint16_t>()) continue;
      std::vector<Tensor> half;
      for (const Tensor& t : in) half.push_back(t.to(at::kBFloat16));
      const Tensor low = attention(half[0], half[1], half[2]);
      CHECK((low.scalar_type() == at::kBFloat16));
      CHECK(error(low, by_definition(half[0], half[1], half[2])) < 0.03);
    }
  };
  test::with_every_instruction_set([&] {
    check(true);
    check(false);
  });
}

TEST_CASE("own attention: only where the processor has what it takes") {
  const bool bfloat16 = ours<uint16_t>();
  {
    const test::Limited limited(kernels::Instructions::no_tiles);
    CHECK(ours<uint16_t>() == bfloat16);
  }
  {
    const test::Limited limited(kernels::Instructions::no_bfloat16);
    CHECK_FALSE(ours<uint16_t>());
  }
  const test::Limited limited(kernels::Instructions::none);
  CHECK_FALSE(ours<float>());
  CHECK_FALSE(ours<uint16_t>());
}

TEST_CASE("attention: sizes that do not agree are an error, and nothing is read") {
  const Tensor q = at::randn({2, 4, 20, 64}), k = at::randn({2, 4, 30, 64});
  const std::vector<std::vector<Tensor>> wrong = {{q, k.narrow(0, 0, 1), k.narrow(0, 0, 1)},
                                                  {q.narrow(0, 0, 1), k, k},
                                                  {q, k.narrow(1, 0, 1), k.narrow(1, 0, 1)},
                                                  {q.narrow(1, 0, 3), k, k},
                                                  {q, k, k.narrow(2, 0, 29)},
                                                  {q, k.narrow(2, 0, 29), k},
                                                  {q, k, k.narrow(1, 0, 2)},
                                                  {q, k, k.narrow(3, 0, 32)},
                                                  {q, k.narrow(3, 0, 32), k},
                                                  {q.narrow(3, 0, 32), k, k},
                                                  {q.select(0, 0), k, k},
                                                  {q, k.select(0, 0), k.select(0, 0)}};
  test::with_every_instruction_set([&] {
    for (const auto kind : {DA3_ATTENTION_AUTO, DA3_ATTENTION_FUSED, DA3_ATTENTION_PLAIN})
      for (size_t i = 0; i < wrong.size(); ++i) {
        CAPTURE(i);
        CHECK_THROWS_WITH_AS(attention(wrong[i][0], wrong[i][1], wrong[i][2], kind),
                             doctest::Contains("equal batch, heads"), c10::Error);
      }
    CHECK(error(attention(q, k, k), by_definition(q, k, k)) < 1e-5);
  });
}

TEST_CASE("own attention: what a long row of keys needs is given back") {
  if (!ours<float>()) return;
  using Kernel = kernels::FlashAttention<float>;
  for (const int64_t keys : {100, 9000, 100}) {
    const Tensor q = at::randn({1, 1, 2, 64}), k = at::randn({1, 1, keys, 64});
    Tensor out = at::zeros({1, 1, 2, 64});
    const auto rows = [](const Tensor& t) {
      return kernels::HeadRows<const float>{t.data_ptr<float>(), t.stride(0), t.stride(1), t.stride(2)};
    };
    const Kernel kernel{rows(q), rows(k), rows(k), {out.data_ptr<float>(), 128, 128, 64}, 1, 1, 2, keys};
    kernel.run(0, 1);
    CHECK(error(out, by_definition(q, k, k)) < 1e-5);
    CHECK(Kernel::kept() <= size_t(4) << 20);
    CHECK((Kernel::kept() > 0) == (keys == 100));
  }
}

TEST_CASE("own attention: the result lies token by token where it is ours") {
  if (!ours<float>()) return;
  const auto in = make_inputs(2, 3, 20, 20, false);
  CHECK(attention(in[0], in[1], in[2]).transpose(1, 2).is_contiguous());
}

TEST_CASE("own attention: how work is divided changes no bit") {
  if (!ours<float>()) return;
  const auto in = make_inputs(1, 2, 700, 700, true);
  std::vector<Tensor> outs;
  for (const int64_t parts : {1, 3, 8}) {
    Tensor out = at::zeros({1, 2, 700, 64});
    const auto rows = [](const Tensor& t) {
      return kernels::HeadRows<const float>{t.data_ptr<float>(), t.stride(0), t.stride(1), t.stride(2)};
    };
    const kernels::FlashAttention<float> kernel{
        rows(in[0]), rows(in[1]),
        rows(in[2]), {out.data_ptr<float>(), out.stride(0), out.stride(1), out.stride(2)},
        1,           2,
        700,         700,
        parts};
    CHECK(kernel.units() == 2 * parts);
    for (int64_t u = kernel.units(); u-- > 0;) kernel.run(u, u + 1);
    outs.push_back(out);
  }
  CHECK(error(outs[0], by_definition(in[0], in[1], in[2])) < 1e-5);
  CHECK(at::equal(outs[0], outs[1]));
  CHECK(at::equal(outs[0], outs[2]));
}

TEST_CASE("own attention: whole tiles give what vectors give, and however work is divided") {
  if (!ours<uint16_t>()) return;
  if (!kernels::has_amx()) MESSAGE("no tiles on this processor: vectors are compared with vectors");
  for (const auto& [queries, keys] :
       std::vector<std::pair<int64_t, int64_t>>{{1, 1}, {31, 33}, {32, 384}, {200, 385}, {700, 1000}}) {
    CAPTURE(queries);
    CAPTURE(keys);
    std::vector<Tensor> in = make_inputs(1, 2, queries, keys, true);
    for (Tensor& t : in) t = t.to(at::kBFloat16);
    const auto rows = [](const Tensor& t) {
      return kernels::HeadRows<const uint16_t>{static_cast<const uint16_t*>(t.data_ptr()), t.stride(0),
                                               t.stride(1), t.stride(2)};
    };
    const auto run = [&](int64_t parts) {
      const Tensor out = at::zeros({1, 2, queries, 64}, at::TensorOptions(at::kBFloat16));
      const kernels::FlashAttention<uint16_t> kernel{
          rows(in[0]), rows(in[1]),
          rows(in[2]), {static_cast<uint16_t*>(out.data_ptr()), out.stride(0), out.stride(1), out.stride(2)},
          1,           2,
          queries,     keys,
          parts};
      for (int64_t u = kernel.units(); u-- > 0;) kernel.run(u, u + 1);
      return out;
    };
    const Tensor tiles = run(1), exact = by_definition(in[0], in[1], in[2]);
    CHECK(error(tiles, exact) < 0.03);
    if (queries >= 3) CHECK(at::equal(tiles, run(3)));
    const test::Limited limited(kernels::Instructions::no_tiles);
    const Tensor vectors = run(1);
    CHECK(error(vectors, exact) < 0.03);
    CHECK(error(tiles, vectors.to(at::kDouble)) < 0.03);
  }
}

TEST_CASE("own attention: great scores neither overflow nor lose the greatest") {
  test::with_every_instruction_set([] {
    auto in = make_inputs(1, 1, 40, 900, true);
    const Tensor q = in[0] * 60, k = in[1] * 60;
    CHECK(error(attention(q, k, in[2]), by_definition(q, k, in[2])) < 1e-2);
    // All weight on one key, wherever it lies.
    for (const int64_t key : {0, 383, 384, 899}) {
      Tensor sharp = at::zeros({1, 1, 900, 64});
      sharp[0][0][key] = 50.0;
      const Tensor ones = at::ones({1, 1, 40, 64});
      CHECK(error(attention(ones, sharp, in[2]),
                  in[2].narrow(2, key, 1).expand({1, 1, 40, 64}).to(at::kDouble)) < 1e-5);
    }
  });
}

TEST_CASE("own attention: what is not a number spoils its query, or all of its head, but nothing else") {
  const auto check = [](at::ScalarType type) {
    auto in = make_inputs(1, 2, 50, 60, true);
    for (Tensor& t : in) t = t.to(type);
    Tensor q = in[0].clone();
    q[0][1][7][3] = std::numeric_limits<float>::quiet_NaN();
    Tensor out = attention(q, in[1], in[2]);
    CHECK(out[0][1][7].isnan().all().item<bool>());
    CHECK(out.isnan().sum().item<int64_t>() == 64);
    Tensor k = in[1].clone();
    k[0][0][59][3] = std::numeric_limits<float>::quiet_NaN();
    out = attention(in[0], k, in[2]);
    CHECK(out[0][0].isnan().all().item<bool>());
    CHECK_FALSE(out[0][1].isnan().any().item<bool>());
    // Nothing stays behind in a thread's memory: fewer queries than before, of which the other rows are not
    // written again.
    const auto many = make_inputs(1, 1, 70, 400, true), few = make_inputs(1, 1, 5, 400, true);
    const auto run = [&](const std::vector<Tensor>& x, const Tensor& keys) {
      return attention(x[0].to(type), keys.to(type), x[2].to(type));
    };
    const Tensor before = run(few, few[1]);
    CHECK(run(many, many[1] * std::numeric_limits<float>::quiet_NaN()).isnan().all().item<bool>());
    CHECK(at::equal(run(few, few[1]), before));
  };
  test::with_every_instruction_set([&] {
    check(at::kFloat);
    if (ours<uint16_t>()) check(at::kBFloat16);
  });
}

TEST_CASE("own attention in bfloat16: great scores neither overflow nor lose the greatest") {
  if (!ours<uint16_t>()) return;
  test::with_every_instruction_set([] {
    if (!ours<uint16_t>()) return;
    const auto in = make_inputs(1, 1, 40, 900, true);
    const Tensor v = in[2].to(at::kBFloat16), ones = at::ones({1, 1, 40, 64}, v.options());
    for (const int64_t key : {0, 383, 384, 899}) {
      Tensor sharp = at::zeros({1, 1, 900, 64}, v.options());
      sharp[0][0][key] = 5000.0;
      const Tensor expected = v.narrow(2, key, 1).expand({1, 1, 40, 64}).to(at::kDouble);
      CHECK(error(attention(ones, sharp, v), expected) < 0.01);
    }
    // All scores far below zero.
    const Tensor low = at::full({1, 1, 900, 64}, -5000.0, v.options());
    CHECK(error(attention(ones, low, v), by_definition(ones, low, v)) < 0.03);
  });
}

TEST_CASE("own attention: gradients pass; other widths and types are left to LibTorch") {
  auto in = make_inputs(1, 2, 9, 9, true);
  const Tensor q = in[0].clone().set_requires_grad(true);
  attention(q, in[1], in[2]).sum().backward();
  CHECK(q.grad().defined());
  const Tensor narrow = at::randn({1, 2, 9, 32}),
               exact = at::randn({1, 2, 9, 64}, at::TensorOptions(at::kDouble));
  CHECK(error(attention(narrow, narrow, narrow), by_definition(narrow, narrow, narrow)) < 1e-5);
  CHECK(error(attention(exact, exact, exact), by_definition(exact, exact, exact)) < 1e-12);
}
