// SPDX-License-Identifier: MIT
//
// What LibTorch's tensors mean to the kernels for CUDA: shapes, strides and arguments, with the kernels run
// on the CPU; and what happens where they cannot run.
#include <ATen/ATen.h>  // before doctest: both define CHECK
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <limits>

#include "cuda_emulation.h"
#include "engine/cuda/driver.h"
#include "engine/cuda/fused.h"
#include "engine/network/block.h"
#include "engine/network/fp8_layer.h"

using namespace da3;
using at::Tensor;
using da3::test::start_emulated;

namespace {

constexpr at::ScalarType kTypes[] = {at::kFloat, at::kBFloat16, at::kHalf};

double step_of(at::ScalarType type) {
  return type == at::kFloat ? 1e-5 : type == at::kHalf ? 1.0 / 1024 : 1.0 / 128;
}

cuda::AddNormJob sum_job(at::ScalarType type, int64_t width = 64) {
  at::manual_seed(51);
  cuda::AddNormJob job;
  job.x = at::randn({2, 3, width}) * 3 + 1;
  job.add = at::randn({2, 3, width}).to(type);
  // Rows without variance, and with as much as eps.
  job.x[0][0].fill_(2);
  job.x[0][1].mul_(1e-3 / 3);
  job.add[0].narrow(0, 0, 2).zero_();
  job.scale = at::randn({width});
  job.norm = {at::randn({width}) + 1, at::randn({width}), 1e-6};
  job.type = type;
  return job;
}

// Keys of a layer: strides as the product of queries, keys and values has them.
cuda::HeadsJob heads_job(at::ScalarType type) {
  at::manual_seed(52);
  cuda::HeadsJob job;
  job.x = (at::randn({2, 10, 3, 2, 64}) * 3 + 1).to(type).select(2, 1);
  job.x[0][0][0].fill_(2);
  job.x[0][0][1].mul_(1e-3);
  job.norm = {at::randn({64}) + 1, at::randn({64}), 1e-5};
  const Tensor y = at::arange(5, at::TensorOptions(at::kLong));
  const RopeTable table = make_rope_table(at::stack({y, (y * 7).remainder(11)}, 1), 64);
  job.cosine = table.cos;
  job.sine = table.sin;
  return job;
}

bool near(const Tensor& mine, const Tensor& exact, at::ScalarType type) {
  return mine.scalar_type() == type && mine.sizes() == exact.sizes() &&
         at::allclose(mine.to(at::kDouble), exact.to(at::kDouble), step_of(type), 1e-5);
}

// Sets a variable of the environment while it lives.
class Variable {
 public:
  Variable(const char* name, const char* value) : name_(name) {
    if (const char* now = std::getenv(name)) before_ = now;
    setenv(name, value, 1);
  }
  ~Variable() { before_ ? setenv(name_, before_->c_str(), 1) : unsetenv(name_); }

 private:
  const char* name_;
  std::optional<std::string> before_;
};

}  // namespace

TEST_CASE("cuda kernels: sums and norms of tensors are those of the operators") {
  for (const at::ScalarType type : kTypes) {
    CAPTURE(c10::toString(type));
    const cuda::AddNormJob job = sum_job(type, 132);
    REQUIRE(cuda::refusal(job) == "");
    const cuda::SumAndNorm out = cuda::add_norm_by(start_emulated, job);
    const Tensor sum = at::addcmul(job.x, job.add.to(at::kFloat), job.scale);
    CHECK(near(out.sum, sum, at::kFloat));
    CHECK(near(out.normed, at::layer_norm(sum, {132}, job.norm.weight, job.norm.bias, job.norm.eps), type));
  }
}

TEST_CASE("cuda kernels: what is not asked for is not made") {
  cuda::AddNormJob job = sum_job(at::kBFloat16);
  job.norm = {};
  const cuda::SumAndNorm sum = cuda::add_norm_by(start_emulated, job);
  CHECK((sum.sum.defined() && !sum.normed.defined()));
  job = sum_job(at::kBFloat16);
  job.add = job.scale = Tensor();
  const cuda::SumAndNorm norm = cuda::add_norm_by(start_emulated, job);
  CHECK((norm.normed.defined() && !norm.sum.defined()));
}

TEST_CASE("cuda kernels: queries and keys of tensors are those of the operators") {
  for (const at::ScalarType type : kTypes) {
    CAPTURE(c10::toString(type));
    cuda::HeadsJob job = heads_job(type);
    REQUIRE(cuda::refusal(job) == "");
    const Tensor x = job.x.transpose(1, 2).to(at::kFloat);
    const Tensor normed = at::layer_norm(x, {64}, job.norm.weight, job.norm.bias, job.norm.eps);
    const RopeTable table{job.cosine, job.sine};
    CHECK(near(cuda::take_heads_by(start_emulated, job), apply_rope(normed, table), type));
    job.cosine = job.sine = Tensor();
    CHECK(near(cuda::take_heads_by(start_emulated, job), normed, type));
    job.norm = {};
    job.cosine = table.cos;
    job.sine = table.sin;
    CHECK(near(cuda::take_heads_by(start_emulated, job), apply_rope(x, table), type));
  }
}

TEST_CASE("cuda kernels: a trial finds that they are right") {
  for (const at::ScalarType type : kTypes) {
    CHECK(cuda::self_check(start_emulated, at::kCPU, type) == "");
    CHECK(cuda::self_check_rows(start_emulated, at::kCPU, type) == "");
  }
}

TEST_CASE("cuda kernels: a trial finds what is wrong") {
  using cuda::Element, cuda::Grid, cuda::Kernel;
  // Zeros are not the result.
  const auto clear = [](Kernel kernel, Element element, Grid, const void* arguments) {
    if (kernel != Kernel::add_norm) return;
    const auto& a = *static_cast<const cuda::AddNormArguments*>(arguments);
    const size_t count = size_t(3) * size_t(a.width);
    if (a.sum) std::fill_n(a.sum, count, 0.0f);
    if (a.normed) std::memset(a.normed, 0, count * (element == Element::float32 ? 4 : 2));
  };
  CHECK(cuda::self_check(clear, at::kCPU, at::kBFloat16).find("width 64 differ") != std::string::npos);
  // One value is not a number; one is off by a little; one kernel takes the wrong type.
  for (const float change : {std::numeric_limits<float>::quiet_NaN(), 1.001f}) {
    const auto off = [&](Kernel kernel, Element element, Grid grid, const void* arguments) {
      start_emulated(kernel, element, grid, arguments);
      if (kernel == Kernel::add_norm)
        if (float* sum = static_cast<const cuda::AddNormArguments*>(arguments)->sum) sum[70] *= change;
    };
    CHECK(cuda::self_check(off, at::kCPU, at::kFloat).find("sums and norms") != std::string::npos);
  }
  const auto other = [](Kernel kernel, Element element, Grid grid, const void* arguments) {
    if (kernel == Kernel::norm_rope) element = Element::float16;
    start_emulated(kernel, element, grid, arguments);
  };
  CHECK(cuda::self_check(other, at::kCPU, at::kBFloat16).find("queries and keys") != std::string::npos);
}

TEST_CASE("cuda kernels: a trial finds rows in 8 bits that are wrong") {
  for (const bool scales : {false, true}) {
    const auto off = [&](cuda::Kernel kernel, cuda::Element element, cuda::Grid grid, const void* arguments) {
      start_emulated(kernel, element, grid, arguments);
      if (kernel != cuda::Kernel::quantise) return;
      const auto& a = *static_cast<const cuda::QuantiseArguments*>(arguments);
      if (scales)
        a.scale[2] *= 1.01f;
      else
        a.to[5] ^= 0x08;  // another exponent
    };
    CHECK(cuda::self_check_rows(off, at::kCPU, at::kBFloat16).find("rows of 64 values") != std::string::npos);
    CHECK(cuda::self_check(off, at::kCPU, at::kBFloat16) == "");  // the others are right
  }
}

TEST_CASE("cuda kernels: rows of tensors in 8 bits") {
  for (const at::ScalarType type : kTypes) {
    at::manual_seed(55);
    const Tensor x = at::randn({5, 64}).to(type);
    REQUIRE(cuda::refusal(cuda::QuantiseJob{x}) == "");
    const cuda::EightBitRows out = cuda::quantise_rows_by(start_emulated, {x});
    CHECK((out.values.scalar_type() == at::kByte && out.values.sizes() == x.sizes()));
    CHECK((out.scale.sizes() == at::IntArrayRef({5, 1})));
    const Tensor largest = std::get<0>(x.to(at::kFloat).abs().max(1, true));
    CHECK(at::allclose(out.scale, largest / 448, 1e-6, 0));
    CHECK(at::equal(out.values.bitwise_and(0x7f).eq(0x7e).any(1), at::ones({5}, at::kBool)));
  }
  const auto refuses = [](const Tensor& x) { return cuda::refusal(cuda::QuantiseJob{x}) != ""; };
  const Tensor x = at::randn({6, 64});
  CHECK(refuses(Tensor()));
  CHECK(refuses(x[0]));
  CHECK(refuses(x.t()));
  CHECK(refuses(x.to(at::kDouble)));
  CHECK(refuses(x.narrow(0, 0, 0)));
  CHECK(refuses(at::randn({2, 66})));
  CHECK(refuses(at::randn({2, 4100})));
  CHECK(refuses(at::randn({1 + 64}).narrow(0, 1, 64).view({1, 64})));
  CHECK(refuses(x.clone().set_requires_grad(true)));
  CHECK_FALSE(cuda::quantise_rows({x}).has_value());  // of the CPU
  CHECK_FALSE(cuda::quantise_rows({}).has_value());
}

TEST_CASE("cuda kernels: a layer in 8-bit floats gives the same bits with them and without") {
  if (!Fp8Layer::refusal(at::kCPU).empty()) return;
  at::manual_seed(56);
  const Tensor w = at::randn({48, 64}), b = at::randn({48}), x = at::randn({2, 9, 64}).to(at::kBFloat16) * 3;
  x[0][3].fill_(0);
  x[1][2][7] = std::numeric_limits<float>::infinity();
  const Fp8Layer layer(w, b, at::kBFloat16);
  const Tensor plain = layer.forward(x);
  int count = 0;
  const cuda::ServesCpu serves(
      [&](cuda::Kernel kernel, cuda::Element element, cuda::Grid grid, const void* a) {
        count += kernel == cuda::Kernel::quantise;
        start_emulated(kernel, element, grid, a);
      });
  CHECK(at::equal(layer.forward(x).nan_to_num(-1), plain.nan_to_num(-1)));
  CHECK(count == 1);
  CHECK(at::equal(Fp8Layer(w, b, at::kBFloat16).forward(x).nan_to_num(-1), plain.nan_to_num(-1)));
  CHECK(count == 3);
}

TEST_CASE("cuda kernels: what cannot be started is no result") {
  const auto fails = [](cuda::Kernel, cuda::Element, cuda::Grid, const void*) {
    throw std::runtime_error("no kernel");
  };
  CHECK_THROWS_WITH(cuda::self_check(fails, at::kCPU, at::kFloat), "no kernel");
}

TEST_CASE("cuda kernels: sums that they cannot do are refused") {
  const auto refuses = [](auto change) {
    cuda::AddNormJob job = sum_job(at::kBFloat16);
    change(job);
    return cuda::refusal(job) != "";
  };
  using Job = cuda::AddNormJob;
  CHECK_FALSE(refuses([](Job&) {}));
  CHECK(refuses([](Job& j) { j.x = Tensor(); }));
  CHECK(refuses([](Job& j) { j.x = j.x.to(at::kDouble); }));
  CHECK(refuses([](Job& j) { j.x = j.x.transpose(0, 1); }));
  CHECK(refuses([](Job& j) { j.x = at::randn({1 + 2 * 3 * 64}).narrow(0, 1, 384).view({2, 3, 64}); }));
  CHECK(refuses([](Job& j) { j = sum_job(at::kBFloat16, 66); }));
  CHECK(refuses([](Job& j) { j = sum_job(at::kBFloat16, 4100); }));
  CHECK(refuses([](Job& j) { j.x = j.x.narrow(0, 0, 0), j.add = j.add.narrow(0, 0, 0); }));
  CHECK(refuses([](Job& j) { j.type = at::kHalf; }));
  CHECK(refuses([](Job& j) { j.type = at::kDouble, j.add = j.add.to(at::kDouble); }));
  CHECK(refuses([](Job& j) { j.add = j.add.narrow(1, 0, 2); }));
  CHECK(refuses([](Job& j) { j.add = j.add.transpose(0, 1).contiguous().transpose(0, 1); }));
  CHECK(refuses([](Job& j) { j.scale = j.scale.to(at::kBFloat16); }));
  CHECK(refuses([](Job& j) { j.scale = at::randn({128}).slice(0, 0, 128, 2); }));
  CHECK(refuses([](Job& j) { j.add = Tensor(); }));  // a scale of nothing
  CHECK(refuses([](Job& j) { j.norm.weight = at::randn({63}); }));
  CHECK(refuses([](Job& j) { j.norm.bias = Tensor(); }));
  CHECK(refuses([](Job& j) { j.norm = {}, j.add = j.scale = Tensor(); }));
  CHECK(refuses([](Job& j) { j.norm.weight.set_requires_grad(true); }));
}

TEST_CASE("cuda kernels: queries and keys that they cannot do are refused") {
  const auto refuses = [](auto change) {
    cuda::HeadsJob job = heads_job(at::kBFloat16);
    change(job);
    return cuda::refusal(job) != "";
  };
  using Job = cuda::HeadsJob;
  CHECK_FALSE(refuses([](Job&) {}));
  CHECK(refuses([](Job& j) { j.x = Tensor(); }));
  CHECK(refuses([](Job& j) { j.x = j.x.to(at::kLong); }));
  CHECK(refuses([](Job& j) { j.x = j.x[0]; }));
  CHECK(refuses([](Job& j) { j.x = j.x.narrow(3, 0, 32); }));
  CHECK(refuses([](Job& j) { j.x = j.x.narrow(1, 0, 0); }));
  CHECK(refuses([](Job& j) { j.x = j.x.transpose(1, 2); }));
  CHECK(refuses([](Job& j) { j.x = j.x.transpose(2, 3).contiguous().transpose(2, 3); }));
  CHECK(refuses([](Job& j) { j.x = at::as_strided(j.x, {1, 2, 1, 64}, {132, 66, 64, 1}); }));
  CHECK(refuses([](Job& j) { j.x = at::as_strided(j.x, {2, 1, 1, 64}, {66, 64, 64, 1}); }));
  CHECK_FALSE(refuses([](Job& j) { j.x = at::as_strided(j.x, {2, 1, 1, 64}, {68, 64, 64, 1}); }));
  CHECK(refuses([](Job& j) { j.norm.weight = j.norm.weight.to(at::kBFloat16); }));
  CHECK(refuses([](Job& j) { j.norm.bias = at::randn({32}); }));
  CHECK(refuses([](Job& j) { j.norm.weight = Tensor(); }));
  CHECK(refuses([](Job& j) { j.sine = Tensor(); }));
  CHECK(refuses([](Job& j) { j.cosine = Tensor(); }));
  CHECK(refuses([](Job& j) { j.cosine = j.cosine.narrow(1, 0, 32).contiguous(); }));
  CHECK(refuses([](Job& j) { j.sine = j.sine.narrow(0, 0, 3); }));
  CHECK(refuses([](Job& j) { j.cosine = j.cosine.narrow(0, 0, 0), j.sine = j.sine.narrow(0, 0, 0); }));
  CHECK(refuses([](Job& j) { j.norm.bias.set_requires_grad(true); }));
}

TEST_CASE("cuda kernels: other devices and types have none, and it is said why") {
  std::string why;
  CHECK_FALSE(cuda::has_fused(at::kCPU, at::kBFloat16, &why));
  CHECK(why.find("not for cpu") != std::string::npos);
  CHECK_FALSE(cuda::has_fused(at::Device(at::kCUDA, 0), at::kDouble, &why));
  CHECK(why.find("Double") != std::string::npos);
  CHECK_FALSE(cuda::has_fused(at::kCUDA, at::kFloat, &why));
  CHECK(why.find("number") != std::string::npos);
  CHECK_FALSE(cuda::has_fused(at::Device(at::kCUDA, 60), at::kFloat, &why));
  CHECK(why != "");
  CHECK_FALSE(cuda::has_fused(at::kCPU, at::kFloat));  // nobody wants to know
}

TEST_CASE("cuda kernels: they are there, or it is said why not, each time the same") {
  std::string first, second;
  const at::Device device(at::kCUDA, 0);
  const bool available = cuda::has_fused(device, at::kBFloat16, &first);
  CHECK(cuda::has_fused(device, at::kBFloat16, &second) == available);
  CHECK(first == second);
  CHECK(first.empty() == available);
  CHECK(first.find('\n') == std::string::npos);
  if (!at::hasCUDA()) CHECK(first.find("not built for CUDA") != std::string::npos);
}

TEST_CASE("cuda kernels: DA3_CUDA_KERNELS=0 turns them off, and any other value does not") {
  std::string why;
  {
    const Variable off("DA3_CUDA_KERNELS", "0");
    CHECK_FALSE(cuda::has_fused(at::Device(at::kCUDA, 61), at::kHalf, &why));
    CHECK(why.find("DA3_CUDA_KERNELS") != std::string::npos);
  }
  CHECK_FALSE(cuda::has_fused(at::Device(at::kCUDA, 61), at::kHalf, &why));
  CHECK(why.find("DA3_CUDA_KERNELS") != std::string::npos);  // it is remembered
  const Variable on("DA3_CUDA_KERNELS", "1");
  CHECK_FALSE(cuda::has_fused(at::Device(at::kCUDA, 62), at::kHalf, &why));
  CHECK(why.find("DA3_CUDA_KERNELS") == std::string::npos);
}

TEST_CASE("cuda kernels: tensors of the CPU are not theirs") {
  CHECK_FALSE(cuda::add_norm(sum_job(at::kBFloat16)).has_value());
  CHECK_FALSE(cuda::add_norm({}).has_value());
  CHECK_FALSE(cuda::take_heads(heads_job(at::kFloat)).has_value());
  CHECK_FALSE(cuda::take_heads({}).has_value());
}

namespace {

// Parameters that depend on the key only.
struct SomeWeights : WeightSource {
  Tensor take(const std::string& key, const std::vector<int64_t>& shape) override {
    uint64_t seed = 5;
    for (const char c : key) seed = seed * 131 + uint64_t(c);
    at::manual_seed(seed);
    const Tensor out = at::randn(shape);
    return shape.size() > 1 ? out / std::sqrt(double(shape[1])) : out;
  }
  void declare(const std::string&, const std::vector<int64_t>&) override {}
};

// Not laid out beforehand, as on a GPU: LayerScale is apart from the weights.
Block make_block(at::ScalarType compute, bool swiglu, bool prepack = false) {
  SomeWeights source;
  Placement placement;
  placement.compute = compute;
  placement.prepack = prepack;
  BlockShape shape;
  shape.width = 128;
  shape.heads = 2;
  shape.ffn_hidden = 256;
  shape.swiglu = swiglu;
  shape.qk_norm = true;
  return Block(Scope(source, "b.", placement), shape);
}

struct Input {
  Tensor x;
  RopeTable rope;
};

Input make_input() {
  at::manual_seed(54);
  const Tensor y = at::arange(9, at::TensorOptions(at::kLong));
  return {at::randn({2, 9, 128}), make_rope_table(at::stack({y, (y * 7).remainder(11)}, 1), 64)};
}

double rms_error(const Tensor& a, const Tensor& b) {
  return ((a - b).pow(2).sum() / b.pow(2).sum()).sqrt().item<double>();
}

}  // namespace

TEST_CASE("cuda kernels: a block that is made of them computes the same") {
  const auto [x, rope] = make_input();
  const Tensor before = x.clone();
  for (const bool swiglu : {false, true})
    for (const bool prepack : {false, true})
      for (const at::ScalarType type : {at::kFloat, at::kBFloat16}) {
        const Block block = make_block(type, swiglu, prepack);
        const Tensor exact = make_block(at::kFloat, swiglu).forward(x, rope);
        int sums = 0, heads = 0;
        const cuda::ServesCpu serves(
            [&](cuda::Kernel kernel, cuda::Element element, cuda::Grid grid, const void* arguments) {
              ++(kernel == cuda::Kernel::add_norm ? sums : heads);
              start_emulated(kernel, element, grid, arguments);
            });
        const Tensor y = block.forward(x, rope);
        CHECK((sums == 3 && heads == 2));
        CHECK((y.scalar_type() == at::kFloat && y.sizes() == x.sizes()));
        CHECK(rms_error(y, exact) < (type == at::kFloat ? 1e-5 : 0.02));
        CHECK(at::equal(x, before));
      }
}

TEST_CASE("cuda kernels: whichever of them cannot be started, the operators do it") {
  const auto [x, rope] = make_input();
  const Block block = make_block(at::kFloat, false);
  const Tensor exact = block.forward(x, rope);
  for (int bad = 0; bad < 5; ++bad) {
    CAPTURE(bad);
    int count = 0;
    const cuda::ServesCpu serves(
        [&](cuda::Kernel kernel, cuda::Element element, cuda::Grid grid, const void* arguments) {
          if (count++ == bad) throw cuda::CudaError("no kernel");
          start_emulated(kernel, element, grid, arguments);
        });
    CHECK(rms_error(block.forward(x, rope), exact) < 1e-5);
    CHECK(count > bad);
  }
}

TEST_CASE("cuda kernels: a block takes the operators for gradients, and for what is refused") {
  const auto [x, rope] = make_input();
  const Block block = make_block(at::kFloat, false);
  int count = 0;
  const cuda::ServesCpu serves([&](cuda::Kernel, cuda::Element, cuda::Grid, const void*) { ++count; });
  const Tensor leaf = x.clone().set_requires_grad(true);
  block.forward(leaf, rope).pow(2).sum().backward();
  CHECK(leaf.grad().abs().sum().item<double>() > 0);
  block.forward(x.narrow(0, 0, 0), RopeTable());
  CHECK(count == 0);
}

TEST_CASE("linear: product and scale apart are what is added") {
  SomeWeights source;
  at::manual_seed(53);
  const Tensor scale = at::randn({64}), x = at::randn({5, 64}), base = at::randn({5, 64});
  for (const bool prepack : {false, true})
    for (const at::ScalarType type : {at::kFloat, at::kBFloat16}) {
      Placement placement;
      placement.compute = type;
      placement.prepack = prepack;
      const Linear layer(Scope(source, "l.", placement), 64, 64, scale);
      Tensor y = layer.forward_unscaled(x);
      CHECK((y.scalar_type() == type));
      y = y.to(at::kFloat);
      if (layer.scale().defined()) y = y * layer.scale();
      if (!prepack) CHECK(layer.scale().defined());
      CHECK(at::allclose(y, layer(x), 1e-2, 1e-2));
      CHECK(at::allclose(base + y, layer.add_to(base, x), 1e-4, 1e-4));
    }
}
