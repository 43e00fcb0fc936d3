// SPDX-License-Identifier: MIT
//
// Sums and norms in one pass, and transformer blocks that are made of them.
#include "engine/kernels/add_norm.h"

#include <doctest/doctest.h>

#include <cmath>
#include <functional>
#include <limits>
#include <map>
#include <string>
#include <vector>

#include "engine/network/block.h"
#include "instruction_sets.h"

using namespace da3;
using at::Tensor;

namespace {

constexpr float kEps = 1e-6f;

template <typename T>
bool ours() {
  return kernels::AddNorm<T>::available();
}

template <typename T>
at::ScalarType type_of() {
  return sizeof(T) == sizeof(float) ? at::kFloat : at::kBFloat16;
}

struct Weights {
  Tensor weight, bias;
  explicit Weights(int64_t width) {
    at::manual_seed(31);
    weight = at::randn({width}) + 1;
    bias = at::randn({width});
  }
  Tensor norm(const Tensor& x) const {
    return at::layer_norm(x.to(at::kDouble), {x.size(-1)}, weight.to(at::kDouble), bias.to(at::kDouble),
                          double(kEps));
  }
};

// Rows in two calls; what is undefined is not asked for.
template <typename T>
void run(const Tensor& x, const Tensor& add, const Weights& w, Tensor* sum, Tensor* normed) {
  kernels::AddNorm<T> job;
  job.x = x.data_ptr<float>();
  job.width = x.size(1);
  job.eps = kEps;
  job.weight = w.weight.data_ptr<float>();
  job.bias = w.bias.data_ptr<float>();
  if (add.defined()) job.add = static_cast<const T*>(add.data_ptr());
  if (sum) job.sum = sum->data_ptr<float>();
  if (normed) job.normed = static_cast<T*>(normed->data_ptr());
  job.run(x.size(0) / 2, x.size(0));
  job.run(0, x.size(0) / 2);
}

template <typename T>
void check_every_form(int64_t rows, int64_t width) {
  const Weights w(width);
  const Tensor x = at::randn({rows, width}) * 3 + 1, add = at::randn({rows, width}).to(type_of<T>());
  const Tensor both = x + add.to(at::kFloat), before = x.clone();
  const auto empty = [&] { return at::full({rows, width}, -7.0, at::TensorOptions(type_of<T>())); };
  // Half a step of the type, relative; norms cancel where weight and bias do.
  const double step = type_of<T>() == at::kFloat ? 1e-6 : 1.0 / 256;
  const auto near = [&](const Tensor& y, const Tensor& exact) {
    const Tensor off = (y.to(at::kDouble) - exact).abs() - step * exact.abs();
    return off.max().item<double>() < 1e-5;
  };
  Tensor sum = at::full({rows, width}, -7.0), normed = empty();
  run<T>(x, add, w, &sum, &normed);
  CHECK(at::equal(sum, both));
  CHECK(near(normed, w.norm(both)));
  normed = empty();
  run<T>(x, add, w, nullptr, &normed);  // the sum is not kept
  CHECK(near(normed, w.norm(both)));
  normed = empty();
  run<T>(x, {}, w, nullptr, &normed);
  CHECK(near(normed, w.norm(x)));
  sum = at::full({rows, width}, -7.0);
  run<T>(x, add, w, &sum, nullptr);
  CHECK(at::equal(sum, both));
  CHECK(at::equal(x, before));
}

}  // namespace

TEST_CASE("sum and norm: its definition, every form of it, for widths that fill no other block") {
  for (const int64_t width : {16, 48, 80, 384, 1040})
    for (const int64_t rows : {1, 2, 7}) {
      CAPTURE(width);
      CAPTURE(rows);
      if (ours<float>()) check_every_form<float>(rows, width);
      if (ours<uint16_t>()) check_every_form<uint16_t>(rows, width);
    }
}

TEST_CASE("sum and norm: great values, and a mean far from zero") {
  if (!ours<float>()) return;
  const Weights w(80);
  at::manual_seed(32);
  for (const double scale : {1e-12, 1.0, 1e15}) {
    const Tensor x = at::randn({3, 80}) * scale;
    Tensor normed = at::zeros({3, 80});
    run<float>(x, {}, w, nullptr, &normed);
    CHECK((normed.to(at::kDouble) - w.norm(x)).abs().max().item<double>() < 1e-5);
  }
  const Tensor x = at::randn({3, 80}) + 1e4;
  Tensor normed = at::zeros({3, 80});
  run<float>(x, {}, w, nullptr, &normed);
  CHECK((normed.to(at::kDouble) - w.norm(x)).abs().max().item<double>() < 1e-2);
}

TEST_CASE("sum and norm: bfloat16 is the float result, rounded to the nearest") {
  if (!ours<uint16_t>()) return;
  const Weights w(112);
  at::manual_seed(33);
  const Tensor x = at::randn({9, 112}), add = at::randn({9, 112}).to(at::kBFloat16);
  Tensor exact = at::zeros({9, 112}), half = at::zeros({9, 112}).to(at::kBFloat16);
  run<float>(x, add.to(at::kFloat), w, nullptr, &exact);
  run<uint16_t>(x, add, w, nullptr, &half);
  CHECK(at::equal(half, exact.to(at::kBFloat16)));
}

TEST_CASE("sum and norm: what is not a number spoils its row and no other") {
  if (!ours<uint16_t>()) return;
  const Weights w(48);
  for (const float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
    Tensor x = at::randn({4, 48});
    x[2][5] = bad;
    Tensor normed = at::zeros({4, 48}).to(at::kBFloat16);
    run<uint16_t>(x, {}, w, nullptr, &normed);
    CHECK(normed[2].isnan().all().item<bool>());
    CHECK(normed.isnan().sum().item<int64_t>() == 48);
  }
}

TEST_CASE("sum and norm: not on a processor without AVX-512") {
  const test::Limited limited(kernels::Instructions::none);
  CHECK_FALSE(ours<float>());
  CHECK_FALSE(ours<uint16_t>());
}

namespace {

// Parameters that depend on the key only; those that `trains` names are trained.
class SomeWeights : public WeightSource {
 public:
  explicit SomeWeights(std::function<bool(const std::string&)> trains = {}) : trains_(std::move(trains)) {}
  Tensor take(const std::string& key, const std::vector<int64_t>& shape) override {
    uint64_t seed = 5;
    for (const char c : key) seed = seed * 131 + uint64_t(c);
    at::manual_seed(seed);
    Tensor out = at::randn(shape);
    if (shape.size() > 1) out = out / std::sqrt(double(shape[1]));
    if (trains_ && trains_(key)) leaves[key] = out.set_requires_grad(true);
    return out;
  }
  void declare(const std::string&, const std::vector<int64_t>&) override {}
  std::map<std::string, Tensor> leaves;

 private:
  std::function<bool(const std::string&)> trains_;
};

// Heads of 64 channels: all kernels of our own fit. What is laid out beforehand passes no gradients on.
Block make_block(WeightSource& source, at::ScalarType compute, bool int8 = false, bool prepack = true) {
  Placement placement;
  placement.compute = compute;
  placement.int8 = int8;
  placement.prepack = prepack;
  BlockShape shape;
  shape.width = 128;
  shape.heads = 2;
  shape.ffn_hidden = 256;
  shape.qk_norm = true;
  return Block(Scope(source, "b.", placement), shape);
}

RopeTable make_table(int64_t tokens) {
  const Tensor y = at::arange(tokens, at::TensorOptions(at::kLong));
  return make_rope_table(at::stack({y, (y * 7).remainder(11)}, 1), 64);
}

Tensor make_tokens() {
  at::manual_seed(34);
  return at::randn({2, 45, 128});
}

double rms_error(const Tensor& a, const Tensor& b) {
  return ((a - b).pow(2).sum() / b.pow(2).sum()).sqrt().item<double>();
}

}  // namespace

TEST_CASE("block: every processor computes the same") {
  SomeWeights fixed;
  const Tensor x = make_tokens(), before = x.clone();
  const RopeTable rope = make_table(45);
  const Tensor exact = make_block(fixed, at::kFloat).forward(x, rope);
  test::with_every_instruction_set([&] {
    CHECK(rms_error(make_block(fixed, at::kFloat).forward(x, rope), exact) < 1e-5);
    const Tensor half = make_block(fixed, at::kBFloat16).forward(x, rope);
    CHECK((half.scalar_type() == at::kFloat));
    CHECK(rms_error(half, exact) < 0.02);
    CHECK(rms_error(make_block(fixed, at::kFloat, true).forward(x, rope), exact) < 0.05);
    CHECK(rms_error(make_block(fixed, at::kBFloat16, true).forward(x, rope), exact) < 0.05);
  });
  CHECK(at::equal(x, before));
}

TEST_CASE("block: gradients reach whatever is trained, the rest frozen") {
  const Tensor x = make_tokens();
  const RopeTable rope = make_table(45);
  SomeWeights fixed;
  const Tensor expected = make_block(fixed, at::kFloat).forward(x, rope);
  for (const char* part :
       {"attn.qkv.weight", "attn.proj.weight", "mlp.fc1.weight", "mlp.fc2.weight", "mlp.fc1.bias",
        "attn.proj.bias", "norm1.bias", "norm2.weight", "q_norm.weight", "k_norm.bias"})
    for (const at::ScalarType type : {at::kFloat, at::kBFloat16}) {
      CAPTURE(std::string(part));
      SomeWeights some([&](const std::string& key) { return key.find(part) != std::string::npos; });
      const Block block = make_block(some, type, false, false);
      REQUIRE(some.leaves.size() == 1);
      const Tensor y = block.forward(x, rope);
      CHECK(rms_error(y.detach(), expected) < (type == at::kFloat ? 1e-5 : 0.02));
      REQUIRE(y.requires_grad());
      y.pow(2).sum().backward();
      const Tensor gradient = some.leaves.begin()->second.grad();
      REQUIRE(gradient.defined());
      CHECK(gradient.abs().sum().item<double>() > 0);
    }
}

TEST_CASE("block: gradients reach the input") {
  SomeWeights fixed;
  const Tensor x = make_tokens().set_requires_grad(true);
  make_block(fixed, at::kBFloat16, false, false).forward(x, make_table(45)).pow(2).sum().backward();
  CHECK(x.grad().abs().sum().item<double>() > 0);
}
