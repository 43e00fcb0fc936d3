// SPDX-License-Identifier: MIT
#include <ATen/core/grad_mode.h>

#include <cmath>
#include <limits>

#include "tiny.h"
#include "train/losses.h"
#include "train/optimizer.h"
#include "train/parallel.h"

// After LibTorch, some builds of which have a CHECK of their own.
#include <doctest/doctest.h>

using namespace da3;
using namespace da3::train;
using at::Tensor;

namespace {

Batch small_batch(int views = 2) {
  scene::Renderer renderer(1);
  Batch batch;
  for (uint64_t i = 0; i < 2; ++i)
    batch.push_back(make_view_set(training_set(3, i, views, 56, 42), renderer));
  return batch;
}

// What a perfect network would say.
NetworkOutput perfect(const Targets& t) {
  NetworkOutput out;
  out.depth = at::where(t.depth > 0, t.depth, (t.farthest + 1).exp().expand_as(t.depth));
  out.confidence = at::ones_like(t.depth);
  out.ray = t.ray;
  out.ray_confidence = at::ones(t.ray.sizes().slice(0, 4));
  out.pose_encoding = t.pose;
  return out;
}

double total(const NetworkOutput& out, const Targets& t) {
  return compute_losses(out, t).total.item<double>();
}

Parameter parameter(const char* key, const Tensor& value) {
  return {key, value.clone().set_requires_grad(true)};
}

}  // namespace

TEST_CASE("train: targets are in the first camera's frame and consistent with each other") {
  const Targets t = make_targets(small_batch(3), at::kCPU);
  for (int64_t b = 0; b < 2; ++b) {
    const Tensor first = t.pose[b][0];
    CHECK(first.narrow(0, 0, 3).abs().max().item<float>() < 1e-5f);
    CHECK(first[6].item<float>() == doctest::Approx(1).epsilon(1e-5));
    // The ray's origin is the camera's centre, and the axis of the first camera is z.
    for (int64_t v = 0; v < 3; ++v)
      for (int64_t i = 0; i < 3; ++i)
        CHECK(t.ray[b][v][0][0][3 + i].item<float>() == doctest::Approx(t.pose[b][v][i].item<float>()));
    const Tensor mean = t.ray[b][0].narrow(-1, 0, 3).mean(at::IntArrayRef{0, 1});
    CHECK(mean[0].item<float>() == doctest::Approx(0).epsilon(1e-4));
    CHECK(mean[2].item<float>() == doctest::Approx(1));
    // The field of view fits the rays: tan(fov / 2) is at the edge of the picture.
    const double tangent = std::tan(t.pose[b][0][8].item<double>() / 2);
    const int64_t columns = t.ray.size(3);
    const double right = t.ray[b][0][0][columns - 1][0].item<double>();
    CHECK(right == doctest::Approx(tangent * double(columns - 1) / double(columns)).epsilon(1e-4));
  }
}

TEST_CASE("train: the truth has no loss") {
  const Targets t = make_targets(small_batch(), at::kCPU);
  const Losses l = compute_losses(perfect(t), t);
  CHECK(l.total.item<double>() == doctest::Approx(0).epsilon(1e-4));
  CHECK(l.point == doctest::Approx(0).epsilon(1e-3));
}

TEST_CASE("train: a wrong sign, axis or scale costs") {
  const Targets t = make_targets(small_batch(), at::kCPU);
  const double none = total(perfect(t), t);
  SUBCASE("translation backwards") {
    NetworkOutput out = perfect(t);
    out.pose_encoding = t.pose.clone();
    out.pose_encoding.narrow(-1, 0, 3).neg_();
    CHECK(total(out, t) > none + 0.01);
  }
  SUBCASE("rotation the other way") {
    NetworkOutput out = perfect(t);
    out.pose_encoding = t.pose.clone();
    out.pose_encoding.narrow(-1, 3, 3).neg_();
    CHECK(total(out, t) > none + 0.01);
  }
  SUBCASE("width and height of the field of view exchanged") {
    NetworkOutput out = perfect(t);
    out.pose_encoding =
        at::cat({t.pose.narrow(-1, 0, 7), t.pose.narrow(-1, 8, 1), t.pose.narrow(-1, 7, 1)}, -1);
    CHECK(total(out, t) > none + 0.01);
  }
  SUBCASE("rays mirrored") {
    NetworkOutput out = perfect(t);
    out.ray = t.ray.flip({3});
    CHECK(total(out, t) > none + 0.01);
  }
  SUBCASE("depth twice as large") {
    NetworkOutput out = perfect(t);
    out.depth = out.depth * 2;
    CHECK(total(out, t) > none + 0.3);
  }
  SUBCASE("depth upside down") {
    NetworkOutput out = perfect(t);
    out.depth = out.depth.flip({2});
    CHECK(total(out, t) > none + 0.05);
  }
}

TEST_CASE("train: a high confidence pays for true depth and costs for wrong depth") {
  const Targets t = make_targets(small_batch(), at::kCPU);
  NetworkOutput good = perfect(t), bad = perfect(t);
  const double plain = total(good, t);
  good.confidence = good.confidence * 3;
  CHECK(total(good, t) < plain);
  bad.depth = bad.depth * 3;
  const double wrong = total(bad, t);
  bad.confidence = bad.confidence * 3;
  CHECK(total(bad, t) > wrong);
}

TEST_CASE("train: sky that is near costs, sky that is far does not") {
  Batch batch = small_batch(1);
  for (ViewSet& set : batch) std::fill_n(set.depth.begin(), 28 * 56, 0.0f);  // the upper part
  const Targets t = make_targets(batch, at::kCPU);
  NetworkOutput out = perfect(t);
  CHECK(compute_losses(out, t).sky == doctest::Approx(0));
  out.depth = at::where(t.depth > 0, t.depth, at::full_like(t.depth, 0.01));
  CHECK(compute_losses(out, t).sky > 1);
}

TEST_CASE("train: a set without any depth has finite losses") {
  Batch batch = small_batch(1);
  for (ViewSet& set : batch) std::fill(set.depth.begin(), set.depth.end(), 0.0f);
  const Targets t = make_targets(batch, at::kCPU);
  NetworkOutput out = perfect(t);
  out.depth = at::ones_like(t.depth);
  CHECK(std::isfinite(total(out, t)));
}

TEST_CASE("train: every parameter of the network gets a gradient") {
  TrainableWeights weights(1, at::kCPU);
  const auto network = make_network(config_from_json(test::tiny_train_config()), weights, {});
  const Targets t = make_targets(small_batch(), at::kCPU);
  // Branches begin at zero; a few random values let gradients pass.
  {
    const at::NoGradGuard no_grad;
    for (Parameter& p : weights.parameters()) p.value.detach().add_(at::randn_like(p.value.detach()) * 0.02);
  }
  NetworkOptions o;
  o.want_ray = true;
  o.ref_view_strategy = DA3_REF_VIEW_FIRST;
  compute_losses(network->forward(t.image, o, Tracer{}), t).total.backward();
  o.extrinsics = t.extrinsics;
  o.intrinsics = t.intrinsics;
  compute_losses(network->forward(t.image, o, Tracer{}), t).total.backward();
  for (const Parameter& p : weights.parameters()) {
    INFO(p.key);
    REQUIRE(p.value.grad().defined());
    CHECK(p.value.grad().abs().max().item<float>() > 0);
  }
}

TEST_CASE("train: the gradient is the slope of the loss") {
  TrainableWeights weights(1, at::kCPU);
  const auto network = make_network(config_from_json(test::tiny_train_config()), weights, {});
  const Targets t = make_targets(small_batch(), at::kCPU);
  const auto loss = [&] {
    return compute_losses(network->forward(t.image, NetworkOptions{}, Tracer{}), t).total;
  };
  loss().backward();
  for (Parameter& p : weights.parameters()) {
    if (p.key.find("patch_embed.proj.weight") == std::string::npos) continue;
    const Tensor direction = p.value.grad().clone();
    const double slope = direction.square().sum().item<double>();
    const at::NoGradGuard no_grad;
    const double h = 1e-3 / std::sqrt(slope);
    p.value.detach().add_(direction, h);
    const double up = loss().item<double>();
    p.value.detach().sub_(direction, 2 * h);
    const double down = loss().item<double>();
    CHECK((up - down) / (2 * h) == doctest::Approx(slope).epsilon(0.05));
  }
}

TEST_CASE("train: both rules of the optimiser go downhill") {
  std::vector<Parameter> parameters = {parameter("layer.weight", at::ones({16, 20})),
                                       parameter("layer.bias", at::ones({20}))};
  Optimizer optimizer(parameters, {});
  const auto loss = [&] { return parameters[0].value.square().sum() + parameters[1].value.square().sum(); };
  const double before = loss().item<double>();
  for (int i = 0; i < 50; ++i) {
    loss().backward();
    CHECK(optimizer.step(0.02, i % 2 + 1) > 0);
  }
  CHECK(parameters[0].value.detach().square().mean().item<double>() < 0.9);
  CHECK(parameters[1].value.detach().square().mean().item<double>() < 0.5);
  CHECK(loss().item<double>() < 0.9 * before);
}

TEST_CASE("train: a gradient that is not finite changes nothing and is dropped") {
  std::vector<Parameter> parameters = {parameter("a.weight", at::ones({16, 16})),
                                       parameter("b.bias", at::ones({4}))};
  Optimizer optimizer(parameters, {});
  parameters[0].value.mutable_grad() = at::full({16, 16}, std::numeric_limits<float>::quiet_NaN());
  parameters[1].value.mutable_grad() = at::ones({4});
  CHECK(!std::isfinite(optimizer.step(0.1, 1)));
  CHECK(at::equal(parameters[0].value, at::ones({16, 16})));
  CHECK(at::equal(parameters[1].value, at::ones({4})));
  CHECK(!parameters[0].value.grad().defined());
}

TEST_CASE("train: a state that lacks something is refused") {
  std::vector<Parameter> parameters = {parameter("a.weight", at::ones({16, 16})),
                                       parameter("b.bias", at::ones({4}))};
  Optimizer optimizer(parameters, {});
  auto state = optimizer.state();
  SUBCASE("missing") {
    state.erase("second.b.bias");
  }
  SUBCASE("other shape") {
    state["first.a.weight"] = at::ones({3});
  }
  SUBCASE("empty") {
    state.clear();
  }
  CHECK_THROWS_AS(optimizer.restore(state), std::runtime_error);
}

TEST_CASE("train: weights are drawn by name, not by order") {
  TrainableWeights a(4, at::kCPU), b(4, at::kCPU), c(5, at::kCPU);
  const Tensor first = a.take("x.weight", {4, 8});
  b.take("y.weight", {4, 8});
  CHECK(at::equal(first, b.take("x.weight", {4, 8})));
  CHECK(!at::equal(first, c.take("x.weight", {4, 8})));
}

TEST_CASE("train: an error in one part reaches the caller") {
  CHECK_THROWS_AS(run_parallel(3,
                               [](int i) {
                                 if (i == 1) throw std::runtime_error("part");
                               }),
                  std::runtime_error);
  int done = 0;
  run_parallel(0, [&](int) { ++done; });
  CHECK(done == 0);
}
