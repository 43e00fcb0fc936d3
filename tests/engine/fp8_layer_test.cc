// SPDX-License-Identifier: MIT
//
// Layers in 8-bit floats on the CPU, where LibTorch has their product for trying things out.
#include "engine/network/fp8_layer.h"

#include <doctest/doctest.h>
#include <torch/version.h>

#include <cmath>
#include <limits>
#include <utility>

#include "engine/network/ops.h"
#include "random_weights.h"

using namespace da3;
using at::Tensor;
using da3::test::RandomWeights;

namespace {

bool runs() {
  return Fp8Layer::refusal(at::kCPU).empty();
}

double rms_error(const Tensor& a, const Tensor& b) {
  return ((a.to(at::kFloat) - b).norm() / b.norm()).item<double>();
}

}  // namespace

#if TORCH_VERSION_MAJOR > 2 || (TORCH_VERSION_MAJOR == 2 && TORCH_VERSION_MINOR >= 13)
TEST_CASE("8-bit floats: this LibTorch multiplies them on the CPU") {
  CHECK(Fp8Layer::refusal(at::kCPU) == "");
}
#endif

TEST_CASE("8-bit floats: close to the exact layer, in bfloat16 and float16") {
  if (!runs()) return;
  at::manual_seed(61);
  for (const at::ScalarType type : {at::kBFloat16, at::kHalf})
    for (const auto& [in, out] : {std::pair<int64_t, int64_t>{16, 16}, {64, 192}, {768, 48}}) {
      CAPTURE(in);
      const Tensor w = at::randn({out, in}), b = at::randn({out}), x = at::randn({2, 7, in}).to(type);
      const Tensor exact = at::linear(x.to(at::kFloat), w, b);
      Tensor y;
      try {
        y = Fp8Layer(w, b, type).forward(x);
      } catch (const c10::Error&) {
        REQUIRE((type == at::kHalf));  // some releases give bfloat16 only
        continue;
      }
      CHECK((y.sizes() == exact.sizes()));
      CHECK((y.scalar_type() == type));
      CHECK(rms_error(y, exact) < 0.05);
      CHECK(rms_error(y, exact) > 0.001);  // it is really another arithmetic
      CHECK(rms_error(Fp8Layer(w, {}, type).forward(x), exact - b) < 0.05);
    }
}

TEST_CASE("8-bit floats: scales of rows and outputs keep what is small beside what is large") {
  if (!runs()) return;
  at::manual_seed(62);
  const Tensor w = at::randn({32, 64}), x = at::randn({4, 64}).to(at::kBFloat16);
  w[3].mul_(1e-4);
  w[4].mul_(1e4);
  x[2].mul_(1e-4);
  const Tensor y = Fp8Layer(w, {}, at::kBFloat16).forward(x), exact = at::linear(x.to(at::kFloat), w);
  for (const int64_t row : {0, 2})
    for (const int64_t output : {3, 4, 5})
      CHECK(std::abs((y[row][output].to(at::kFloat) - exact[row][output]).item<double>()) <
            0.1 * exact[row].abs().div(w.norm(2, 1)).max().item<double>() * w[output].norm().item<double>());
}

TEST_CASE("8-bit floats: scales in the product or apart from it are the same") {
  if (!runs()) return;
  at::manual_seed(65);
  const Tensor w = at::randn({32, 64}), b = at::randn({32}), x = at::randn({2, 5, 64}).to(at::kBFloat16);
  w[3].mul_(1e-3);
  x[1][2].mul_(100);
  for (const Tensor& bias : {b, Tensor()}) {
    const Tensor together = Fp8Layer(w, bias, at::kBFloat16).forward(x);
    const Tensor apart = Fp8Layer(w, bias, at::kBFloat16, true).forward(x);
    CHECK((apart.scalar_type() == at::kBFloat16 && apart.sizes() == together.sizes()));
    CHECK(at::allclose(apart.to(at::kFloat), together.to(at::kFloat), 1.0 / 128, 1e-4));
  }
}

TEST_CASE("8-bit floats: rows are independent, what is not finite stays in its row, no rows are no work") {
  if (!runs()) return;
  at::manual_seed(63);
  const Fp8Layer layer(at::randn({32, 64}), at::randn({32}), at::kBFloat16);
  Tensor x = at::randn({6, 64}).to(at::kBFloat16);
  const Tensor before = layer.forward(x);
  x[2][5] = std::numeric_limits<float>::quiet_NaN();
  x[4][5] = -std::numeric_limits<float>::infinity();
  const Tensor after = layer.forward(x);
  for (int64_t row = 0; row < 6; ++row) {
    if (row == 2 || row == 4)
      CHECK(after[row].isnan().all().item<bool>());
    else
      CHECK(at::equal(after[row], before[row]));
  }
  CHECK((layer.forward(x.narrow(0, 0, 0)).sizes() == at::IntArrayRef({0, 32})));
}

TEST_CASE("8-bit floats: in a layer of the network, with GELU, scale and residual") {
  if (!runs()) return;
  RandomWeights fixed;
  Placement eight;
  eight.fp8 = true;
  eight.compute = at::kBFloat16;
  at::manual_seed(64);
  const Tensor x = at::randn({2, 10, 96}), base = at::randn({2, 10, 128}), scale = at::rand({128}) + 0.5;
  const Linear a(Scope(fixed, "l.", eight), 96, 128, scale), b(Scope(fixed, "l.", {}), 96, 128, scale);
  CHECK((a.type() == at::kBFloat16));
  CHECK_FALSE(a.scale().defined());
  CHECK(rms_error(a(x), b(x)) < 0.05);
  CHECK(rms_error(a.forward_gelu(x), b.forward_gelu(x)) < 0.06);
  CHECK(rms_error(a.add_to(base, x), b.add_to(base, x)) < 0.05);
  CHECK((a.forward_compute(x).scalar_type() == at::kBFloat16));
  // Heads and cameras are not in 8 bits.
  const Linear head(Scope(fixed, "l.", eight).for_head(), 96, 128);
  const Linear camera(Scope(fixed, "l.", eight).in_float(), 96, 128), exact(Scope(fixed, "l.", {}), 96, 128);
  CHECK(at::equal(camera(x), exact(x)));
  CHECK(rms_error(head(x), exact(x)) < 0.01);
}

TEST_CASE("8-bit floats: what they cannot do is refused") {
  RandomWeights trained(true);
  Placement eight;
  eight.fp8 = true;
  eight.compute = at::kBFloat16;
  CHECK_THROWS_WITH_AS(Linear(Scope(trained, "l.", eight), 96, 128), doctest::Contains("not trained"),
                       std::logic_error);
  if (!runs()) {
    CHECK_THROWS_AS(Fp8Layer(at::randn({32, 64}), {}, at::kBFloat16), std::logic_error);
    CHECK(Fp8Layer::refusal(at::kCPU).find("8-bit floats") != std::string::npos);
    return;
  }
  CHECK(Fp8Layer::refusal(at::Device(at::kCUDA, 60)) != "");
  CHECK(Fp8Layer::refusal(at::Device(at::kCUDA, 60)).find('\n') == std::string::npos);
  CHECK_THROWS_WITH_AS(Fp8Layer(at::randn({40, 64}), {}, at::kBFloat16), doctest::Contains("[40, 64]"),
                       std::invalid_argument);
  CHECK_THROWS_WITH_AS(Fp8Layer(at::randn({32, 24}), {}, at::kBFloat16), doctest::Contains("multiples of 16"),
                       std::invalid_argument);
  Tensor w = at::randn({32, 64});
  w[3][3] = std::numeric_limits<float>::infinity();
  CHECK_THROWS_WITH_AS(Fp8Layer(w, {}, at::kBFloat16), doctest::Contains("not finite"),
                       std::invalid_argument);
  const Fp8Layer layer(at::randn({32, 64}), {}, at::kBFloat16);
  CHECK_THROWS_WITH(layer.forward(at::randn({2, 32}).to(at::kBFloat16)), doctest::Contains("64 inputs"));
  CHECK_THROWS_WITH(layer.forward(at::randn({2, 64})), doctest::Contains("in Float"));
}
