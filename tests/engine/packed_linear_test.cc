// SPDX-License-Identifier: MIT
#include "engine/network/packed_linear.h"

#include <ATen/Parallel.h>
#include <doctest/doctest.h>

#include <cmath>
#include <thread>
#include <utility>
#include <vector>

#include "engine/network/ops.h"
#include "engine/network/tiled_linear.h"
#include "instruction_sets.h"
#include "random_weights.h"

using namespace da3;
using at::Tensor;
using da3::test::Limited;
using da3::test::RandomWeights;
using da3::test::with_every_instruction_set;

namespace {

double relative_error(const Tensor& a, const Tensor& b) {
  return ((a - b).abs().max() / b.abs().max()).item<double>();
}

// Null where this LibTorch has no such kernels; then there is nothing to test.
std::shared_ptr<const PackedLinear> layer(int64_t in, int64_t out, Tensor* weight, Tensor* bias) {
  at::manual_seed(3);
  *weight = at::randn({out, in});
  *bias = at::randn({out});
  return PackedLinear::make(*weight, *bias);
}

}  // namespace

TEST_CASE("packed linear: equals the plain layer to rounding, for any number of rows") {
  Tensor w, b;
  const auto packed = layer(192, 576, &w, &b);
  if (!packed) return;
  for (const int64_t rows : {1, 7, 64, 1297}) {
    const Tensor x = at::randn({rows, 192});
    CHECK(relative_error(packed->forward(x), at::linear(x, w, b)) < 2e-6);
    CHECK(relative_error(packed->forward_gelu(x), at::gelu(at::linear(x, w, b))) < 2e-6);
    const Tensor other = at::randn({rows, 576});
    CHECK(relative_error(packed->forward_add(x, other), other + at::linear(x, w, b)) < 2e-6);
  }
}

TEST_CASE("packed linear: bfloat16 by whole tiles and by oneDNN, for any number of rows") {
  with_every_instruction_set([] {
    for (const auto& [in, out] : {std::pair<int64_t, int64_t>{588, 192}, {192, 576}, {3072, 64}}) {
      Tensor w, b;
      layer(in, out, &w, &b);
      w = (w / std::sqrt(double(in))).to(at::kBFloat16);
      b = b.to(at::kBFloat16);
      const auto packed = PackedLinear::make(w, b);
      if (!packed) continue;
      const Tensor wide = w.to(at::kFloat), bias = b.to(at::kFloat);
      for (const int64_t rows : {1, 7, 64, 449, 1297}) {
        CAPTURE(rows);
        const Tensor x = at::randn({1, rows, in}).to(at::kBFloat16);
        const Tensor other = at::randn({1, rows, out}).to(at::kBFloat16);
        const Tensor y = packed->forward(x), exact = at::linear(x.to(at::kFloat), wide, bias);
        CHECK((y.sizes() == at::IntArrayRef({1, rows, out})));
        CHECK((y.scalar_type() == at::kBFloat16));
        CHECK(relative_error(y.to(at::kFloat), exact) < 0.004);
        CHECK(relative_error(packed->forward_gelu(x).to(at::kFloat), at::gelu(exact)) < 0.004);
        CHECK(relative_error(packed->forward_add(x, other).to(at::kFloat), exact + other.to(at::kFloat)) <
              0.008);
      }
      // Input that is not contiguous.
      const Tensor apart = at::randn({in, 600}).to(at::kBFloat16).t();
      CHECK(relative_error(packed->forward(apart).to(at::kFloat),
                           at::linear(apart.to(at::kFloat), wide, bias)) < 0.004);
      CHECK_THROWS(packed->forward(at::zeros({3, in + 1}, at::kBFloat16)));
      CHECK_THROWS(packed->forward(at::zeros({3, in})));
    }
  });
}

TEST_CASE(
    "packed linear: by whole tiles weights are copied, a sum has memory of its own, and no bias is zero") {
  if (!TiledLinear::runs(at::kBFloat16)) return;
  Tensor w = at::randn({64, 128}).to(at::kBFloat16), b = at::randn({64}).to(at::kBFloat16);
  const auto packed = PackedLinear::make(w, b), bare = PackedLinear::make(w, {});
  const Tensor x = at::randn({40, 128}).to(at::kBFloat16), other = at::randn({40, 64}).to(at::kBFloat16);
  const Tensor before = other.clone(), y = packed->forward_add(x, other);
  CHECK(at::equal(other, before));
  CHECK((y.data_ptr() != other.data_ptr()));
  CHECK(relative_error(bare->forward(x).to(at::kFloat), at::linear(x.to(at::kFloat), w.to(at::kFloat))) <
        0.004);
  w.zero_();
  b.zero_();
  CHECK(at::equal(packed->forward_add(x, other), y));
  CHECK_THROWS(packed->forward_add(x, other.narrow(0, 0, 39)));
  CHECK_THROWS_WITH(packed->forward(x.t()), doctest::Contains("128 inputs cannot take [128, 40]"));
  CHECK_THROWS_WITH(packed->forward(x.to(at::kFloat)), doctest::Contains("cannot take Float"));
  CHECK_THROWS_WITH(TiledLinear(w, b.narrow(0, 0, 63)), doctest::Contains("bias of [63]"));
  CHECK_THROWS_WITH(TiledLinear(w[0], {}), doctest::Contains("cannot take BFloat16 of [128]"));
  CHECK_THROWS_WITH(TiledLinear(w, b.to(at::kFloat)), doctest::Contains("cannot take Float"));
  const Limited limited(kernels::Instructions::no_tiles);
  CHECK_THROWS_WITH(packed->forward(x), doctest::Contains("no tiles"));
}

TEST_CASE("packed linear: by whole tiles several threads give the bits of one") {
  if (!TiledLinear::runs(at::kBFloat16)) return;
  struct Threads {
    explicit Threads(int count) : before(at::get_num_threads()) { at::set_num_threads(count); }
    ~Threads() { at::set_num_threads(before); }
    const int before;
  };
  const Tensor w = at::randn({1000, 192}).to(at::kBFloat16), x = at::randn({700, 192}).to(at::kBFloat16);
  const auto packed = PackedLinear::make(w, {});
  Tensor expected;
  {
    const Threads one(1);
    expected = packed->forward(x);
  }
  const Threads four(4);
  for (int i = 0; i < 20; ++i) REQUIRE(at::equal(packed->forward(x), expected));
  // Callers beside each other, in a parallel region too.
  std::vector<Tensor> results(12);
  std::vector<std::thread> callers;
  for (size_t t = 0; t < 4; ++t) callers.emplace_back([&, t] { results[t] = packed->forward(x); });
  for (std::thread& caller : callers) caller.join();
  at::parallel_for(4, 12, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) results[size_t(i)] = packed->forward(x);
  });
  for (const Tensor& result : results) CHECK(at::equal(result, expected));
}

TEST_CASE("packed linear: tiles are for bfloat16 on a processor that has them") {
  CHECK_FALSE(TiledLinear::runs(at::kFloat));
  CHECK_FALSE(TiledLinear::runs(at::kHalf));
  CHECK(TiledLinear::runs(at::kBFloat16) == kernels::has_amx());
  const Limited limited(kernels::Instructions::no_tiles);
  CHECK_FALSE(TiledLinear::runs(at::kBFloat16));
}

TEST_CASE("packed linear: leading dimensions, and input that is not contiguous") {
  Tensor w, b;
  const auto packed = layer(128, 64, &w, &b);
  if (!packed) return;
  const Tensor x = at::randn({128, 5, 3}).permute({2, 1, 0});
  const Tensor y = packed->forward(x);
  CHECK((y.sizes() == at::IntArrayRef({3, 5, 64})));
  CHECK(relative_error(y, at::linear(x, w, b)) < 2e-6);
}

TEST_CASE("packed linear: the operand of a sum is not changed, nor are weights shared") {
  Tensor w, b;
  const auto packed = layer(128, 64, &w, &b);
  if (!packed) return;
  const Tensor x = at::randn({4, 128}), other = at::randn({4, 64}), before = other.clone();
  const Tensor expected = other + at::linear(x, w, b);
  const Tensor y = packed->forward_add(x, other);
  CHECK(at::equal(other, before));
  CHECK((y.data_ptr() != other.data_ptr()));
  w.zero_();
  b.zero_();
  CHECK(relative_error(packed->forward_add(x, other), expected) < 2e-6);
}

TEST_CASE("packed linear: without a bias") {
  const Tensor w = at::randn({96, 96}), x = at::randn({10, 96});
  const auto packed = PackedLinear::make(w, {});
  if (!packed) return;
  CHECK(relative_error(packed->forward(x), at::linear(x, w)) < 2e-6);
}

TEST_CASE("packed linear: the same input gives the same bits") {
  Tensor w, b;
  const auto packed = layer(192, 192, &w, &b);
  if (!packed) return;
  const Tensor x = at::randn({300, 192});
  CHECK(at::equal(packed->forward(x), packed->forward(x)));
}

TEST_CASE("packed linear: trained weights stay plain") {
  const Tensor w = at::randn({128, 128}).set_requires_grad(true);
  CHECK_FALSE(PackedLinear::make(w, {}));
}
TEST_CASE("packed linear: small layers stay plain") {
  CHECK_FALSE(PackedLinear::make(at::randn({9, 64}), at::randn({9})));
}
TEST_CASE("packed linear: types without kernels stay plain") {
  CHECK_FALSE(PackedLinear::make(at::ones({128, 128}, at::kDouble), {}));
  CHECK_FALSE(PackedLinear::make(at::ones({128, 128}, at::kInt), {}));
}
TEST_CASE("packed linear: input of another width is an error") {
  Tensor w, b;
  const auto packed = layer(128, 128, &w, &b);
  if (!packed) return;
  CHECK_THROWS(packed->forward(at::randn({4, 64})));
}

TEST_CASE("linear: laid out or plain, scaled or not, the numbers agree") {
  RandomWeights fixed(false), trained(true);
  const Tensor scale = at::rand({128}) + 0.5, x = at::randn({20, 96}), base = at::randn({20, 128});
  const Linear a(Scope(fixed, "l.", {}), 96, 128, scale), b(Scope(trained, "l.", {}), 96, 128, scale);
  CHECK(relative_error(a(x), b(x).detach()) < 3e-6);
  CHECK(relative_error(a.forward_gelu(x), b.forward_gelu(x).detach()) < 3e-6);
  CHECK(relative_error(a.add_to(base, x), b.add_to(base, x).detach()) < 3e-6);
  CHECK(relative_error(a.add_to(base, x), base + a(x)) < 3e-6);
  CHECK(b(x).requires_grad());
  const Linear plain(Scope(fixed, "l.", {}), 96, 128);
  CHECK(relative_error(plain(x) * scale, a(x)) < 3e-6);
}

TEST_CASE("linear: with few outputs a row gives the same bits wherever it lies") {
  RandomWeights fixed(false), trained(true);
  for (const int64_t rows : {4, 12, 14, 24})
    for (const int64_t in : {32, 48, 64, 96, 128, 256})
      for (const int64_t out : {2, 3, 4}) {
        CAPTURE(rows);
        CAPTURE(in);
        CAPTURE(out);
        const Linear layer(Scope(fixed, "l.", {}), in, out), same(Scope(trained, "l.", {}), in, out);
        const Tensor x = at::randn({rows, in}), y = layer(x);
        CHECK(y.sizes() == at::IntArrayRef({rows, out}));
        for (const int64_t by : {int64_t(1), int64_t(3), rows / 2})
          CHECK(at::equal(layer(x.roll(by, 0)), y.roll(by, 0)));
        CHECK(at::equal(layer(x.narrow(0, 1, 1)), y.narrow(0, 1, 1)));
        CHECK(at::equal(layer(x.view({2, rows / 2, in})).view({rows, out}), y));
        CHECK(relative_error(y, same(x).detach()) < 3e-6);
      }
  const Linear layer(Scope(fixed, "l.", {}), 8, 3);
  CHECK_THROWS_WITH_AS(layer(at::randn({4, 1})), doctest::Contains("8 inputs, not 1"), c10::Error);
}

TEST_CASE("linear: bfloat16 is close to float32") {
  RandomWeights fixed(false);
  Placement half;
  half.compute = at::kBFloat16;
  const Tensor x = at::randn({20, 96}), base = at::randn({20, 128});
  const Linear a(Scope(fixed, "l.", half), 96, 128), b(Scope(fixed, "l.", {}), 96, 128);
  CHECK(relative_error(a(x), b(x)) < 0.02);
  CHECK((a(x).scalar_type() == at::kFloat));
  CHECK(relative_error(a.add_to(base, x), b.add_to(base, x)) < 0.02);
}

TEST_CASE("linear: 8 bits are close to float32, with GELU, scale and residual") {
  RandomWeights fixed(false);
  Placement eight;
  eight.int8 = true;
  const Tensor x = at::randn({2, 10, 96}), base = at::randn({2, 10, 128}), scale = at::rand({128}) + 0.5;
  const Linear a(Scope(fixed, "l.", eight), 96, 128, scale), b(Scope(fixed, "l.", {}), 96, 128, scale);
  CHECK(relative_error(a(x), b(x)) < 0.02);
  CHECK(relative_error(a.forward_gelu(x), b.forward_gelu(x)) < 0.02);
  CHECK(relative_error(a.add_to(base, x), b.add_to(base, x)) < 0.02);
  CHECK_FALSE(at::equal(a(x), b(x)));  // it is really another arithmetic
  CHECK(at::equal(a(x.select(0, 1)), a(x)[1]));
}

TEST_CASE("linear: 8 bits beside bfloat16 are those of the same weights, rounded on the way out") {
  RandomWeights fixed(false);
  Placement eight, both;
  eight.int8 = both.int8 = true;
  both.compute = at::kBFloat16;
  const Tensor x = at::randn({2, 10, 96}).to(at::kBFloat16), base = at::randn({2, 10, 128});
  const Linear a(Scope(fixed, "l.", both), 96, 128), b(Scope(fixed, "l.", eight), 96, 128);
  CHECK((a.type() == at::kBFloat16));
  CHECK((a.forward_compute(x).scalar_type() == at::kBFloat16));
  CHECK((a.forward_gelu(x).scalar_type() == at::kBFloat16));
  CHECK((b.forward_compute(x).scalar_type() == at::kFloat));
  CHECK(at::equal(a.forward_compute(x), b.forward_compute(x).to(at::kBFloat16)));
  // Far to the left GELU leaves numbers that are no longer normal: processors round those to zero.
  const auto normal = [](const Tensor& t) { return t.to(at::kFloat) * (t.to(at::kFloat).abs() >= 1.2e-38); };
  CHECK(at::equal(normal(a.forward_gelu(x)), normal(b.forward_gelu(x).to(at::kBFloat16))));
  CHECK(at::equal(a.add_to(base, x), b.add_to(base, x)));  // the sum is not rounded
}

TEST_CASE("linear: no rows are no work, in 8 bits too") {
  RandomWeights fixed(false);
  for (const bool int8 : {false, true})
    for (const at::ScalarType type : {at::kFloat, at::kBFloat16}) {
      Placement placement;
      placement.int8 = int8;
      placement.compute = type;
      const Linear layer(Scope(fixed, "l.", placement), 96, 128);
      const Tensor x = at::randn({2, 0, 96});
      CHECK((layer(x).sizes() == at::IntArrayRef({2, 0, 128})));
      CHECK((layer.forward_gelu(x).sizes() == at::IntArrayRef({2, 0, 128})));
      CHECK((layer.add_to(at::randn({2, 0, 128}), x).sizes() == at::IntArrayRef({2, 0, 128})));
    }
}

TEST_CASE("linear: a bias that is trained alone keeps its gradient") {
  class TrainedBias : public RandomWeights {
   public:
    TrainedBias() : RandomWeights(false) {}
    Tensor take(const std::string& key, const std::vector<int64_t>& shape) override {
      const Tensor out = RandomWeights::take(key, shape);
      return key.ends_with("bias") ? bias = out.set_requires_grad(true) : out;
    }
    Tensor bias;
  } source;
  const Linear layer(Scope(source, "l.", {}), 96, 128);
  CHECK(layer.trained());
  layer(at::randn({3, 96})).sum().backward();
  CHECK(source.bias.grad().allclose(at::full({128}, 3.0)));
  RandomWeights fixed(false);
  CHECK_FALSE(Linear(Scope(fixed, "l.", {}), 96, 128).trained());
  Placement eight;
  eight.int8 = true;
  CHECK_THROWS_AS(Linear(Scope(source, "l.", eight), 96, 128), std::logic_error);
}

TEST_CASE("linear: 8-bit weights are not trained") {
  RandomWeights trained(true);
  Placement eight;
  eight.int8 = true;
  CHECK_THROWS_WITH_AS(Linear(Scope(trained, "l.", eight), 96, 128), doctest::Contains("not trained"),
                       std::logic_error);
}

TEST_CASE("linear: heads and cameras stay in float32 beside 8-bit backbones") {
  RandomWeights fixed(false);
  Placement eight;
  eight.int8 = true;
  const Tensor x = at::randn({10, 96});
  const Linear a(Scope(fixed, "l.", eight).in_float(), 96, 128), b(Scope(fixed, "l.", {}), 96, 128);
  CHECK(at::equal(a(x), b(x)));
}
