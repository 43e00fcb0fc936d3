// SPDX-License-Identifier: MIT
#include "engine/network/reference_view.h"

#include <doctest/doctest.h>

#include <cmath>

using namespace da3;
using at::Tensor;

namespace {

constexpr Da3RefViewStrategy kAll[] = {DA3_REF_VIEW_FIRST, DA3_REF_VIEW_MIDDLE, DA3_REF_VIEW_SADDLE_BALANCED,
                                       DA3_REF_VIEW_SADDLE_SIM_RANGE};

Tensor example_tokens(int64_t views, double phase = 0) {
  Tensor t = at::empty({1, views, 16}, at::TensorOptions(at::kFloat));
  for (int64_t s = 0; s < views; ++s)
    for (int64_t c = 0; c < 16; ++c)
      t[0][s][c] = std::sin(0.37 * double(s + 1) * double(c + 1) + phase) + 0.1 * double(s);
  return t;
}

std::vector<int64_t> list(const Tensor& t) {
  const Tensor flat = t.contiguous().flatten();
  return {flat.data_ptr<int64_t>(), flat.data_ptr<int64_t>() + flat.numel()};
}

using Indices = std::vector<int64_t>;

}  // namespace

TEST_SUITE("choice") {
  TEST_CASE("five views") {
    const Tensor t = example_tokens(5);
    CHECK(select_reference_views(t, DA3_REF_VIEW_FIRST) == Indices{0});
    CHECK(select_reference_views(t, DA3_REF_VIEW_MIDDLE) == Indices{2});
    CHECK(select_reference_views(t, DA3_REF_VIEW_SADDLE_BALANCED) == Indices{3});
    CHECK(select_reference_views(t, DA3_REF_VIEW_SADDLE_SIM_RANGE) == Indices{3});
  }

  TEST_CASE("the middle of even and odd numbers") {
    for (const auto& [views, middle] : {std::pair<int64_t, int64_t>{3, 1}, {4, 2}, {5, 2}, {6, 3}, {9, 4}})
      CHECK(select_reference_views(example_tokens(views), DA3_REF_VIEW_MIDDLE) == Indices{middle});
  }

  TEST_CASE("one choice per scene, whatever shares the batch") {
    std::vector<Tensor> scenes;
    for (int i = 0; i < 6; ++i) scenes.push_back(example_tokens(7, 0.9 * i));
    for (const auto strategy : kAll) {
      Indices alone;
      for (const Tensor& s : scenes) alone.push_back(select_reference_views(s, strategy).at(0));
      CHECK(select_reference_views(at::cat(scenes), strategy) == alone);
    }
  }

  TEST_CASE("the longest token of equal directions is no middle") {
    // Same direction, lengths 1, 2, 9: only the length tells them apart, and 2 is nearer to the middle.
    Tensor t = at::ones({1, 3, 8}, at::TensorOptions(at::kFloat));
    t[0][0][0] = 2;
    t[0][1].copy_(t[0][0] * 5);
    t[0][2].copy_(t[0][0] * 9);
    CHECK(select_reference_views(t, DA3_REF_VIEW_SADDLE_BALANCED) == Indices{1});
  }

  TEST_CASE("equal views: the first of them") {
    const Tensor t = example_tokens(1).expand({1, 4, 16}).contiguous();
    CHECK(select_reference_views(t, DA3_REF_VIEW_SADDLE_BALANCED) == Indices{0});
    CHECK(select_reference_views(t, DA3_REF_VIEW_SADDLE_SIM_RANGE) == Indices{0});
  }

  TEST_CASE("the similarity range counts the diagonal as zero") {
    // Views 0 and 1 are opposite (similarity -1, range 1), view 2 is at right angles to both (range 0).
    Tensor t = at::zeros({1, 3, 4}, at::TensorOptions(at::kFloat));
    t[0][0][1] = 1;
    t[0][1][2] = 1;
    t[0][2][2] = -1;
    CHECK(select_reference_views(t, DA3_REF_VIEW_SADDLE_SIM_RANGE) == Indices{1});
  }

  TEST_CASE("tokens that are zero or not finite still give an index") {
    for (const double value : {0.0, double(NAN), double(INFINITY)}) {
      Tensor t = example_tokens(4);
      t[0][2].fill_(value);
      for (const auto strategy : kAll) {
        const Indices r = select_reference_views(t, strategy);
        REQUIRE(r.size() == 1);
        CHECK(r[0] >= 0);
        CHECK(r[0] < 4);
      }
    }
  }

  TEST_CASE("tokens in half precision and of any memory layout") {
    const Tensor t = example_tokens(5);
    const Tensor strided = t.permute({2, 1, 0}).contiguous().permute({2, 1, 0});
    CHECK(select_reference_views(strided, DA3_REF_VIEW_SADDLE_BALANCED) == Indices{3});
    CHECK(select_reference_views(t.to(at::kDouble), DA3_REF_VIEW_SADDLE_BALANCED) == Indices{3});
    CHECK(select_reference_views(t.to(at::kBFloat16), DA3_REF_VIEW_SADDLE_BALANCED).size() == 1);
  }
}

TEST_SUITE("order") {
  TEST_CASE("the chosen view goes first, the others keep their order") {
    const ViewOrder order = make_view_order({2}, 5, at::kCPU);
    CHECK(list(order.forward) == Indices{2, 0, 1, 3, 4});
    CHECK(list(order.inverse) == Indices{1, 2, 0, 3, 4});
    CHECK(!order.identity);
  }

  TEST_CASE("first and last view") {
    CHECK(make_view_order({0, 0}, 4, at::kCPU).identity);
    const ViewOrder last = make_view_order({3}, 4, at::kCPU);
    CHECK(list(last.forward) == Indices{3, 0, 1, 2});
    CHECK(list(last.inverse) == Indices{1, 2, 3, 0});
  }

  TEST_CASE("one scene of the batch suffices to make it no identity") {
    const ViewOrder order = make_view_order({0, 1}, 3, at::kCPU);
    CHECK(!order.identity);
    CHECK(list(order.forward) == Indices{0, 1, 2, 1, 0, 2});
  }

  TEST_CASE("there and back, for every reference and differing per scene") {
    const Tensor x = at::arange(6 * 6 * 4, at::TensorOptions(at::kFloat)).view({6, 6, 2, 2});
    const ViewOrder order = make_view_order({0, 1, 2, 3, 4, 5}, 6, at::kCPU);
    const Tensor there = reorder_views(x, order.forward);
    for (int64_t b = 0; b < 6; ++b) CHECK(at::equal(there[b][0], x[b][b]));
    CHECK(!at::equal(there, x));
    CHECK(at::equal(reorder_views(there, order.inverse), x));
  }
}
