// SPDX-License-Identifier: MIT
#include <ATen/core/grad_mode.h>

#include <cmath>
#include <limits>

#include "tiny.h"
#include "train/demo_config.h"
#include "train/losses.h"
#include "train/optimizer.h"
#include "train/parallel.h"
#include "train/probes.h"

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

// A network whose branches have left zero, so that gradients pass everywhere.
struct Tiny {
  TrainableWeights weights{1, at::kCPU};
  ModelConfig config = config_from_json(test::tiny_train_config());
  std::unique_ptr<Network> network = make_network(config, weights, {});
  void stir() {
    const at::NoGradGuard no_grad;
    for (Parameter& p : weights.parameters()) p.value.detach().add_(at::randn_like(p.value.detach()) * 0.02);
  }
};

bool begins_with(const std::string& text, const std::string& start) {
  return text.rfind(start, 0) == 0;
}

double similarity(const Tensor& a, const Tensor& b) {
  return (a * b).sum().item<double>() / (a.norm() * b.norm()).item<double>();
}

constexpr const char* kPatchEmbedding = "model.backbone.pretrained.patch_embed.proj.weight";

// Read-outs that repeat the first of their channels, and descriptors that are the features.
struct RepeatingProbes {
  TrainableWeights weights{1, at::kCPU};
  Probes probes;
  explicit RepeatingProbes(int64_t width = 10) : probes(weights, width) {
    const at::NoGradGuard no_grad;
    for (Parameter& p : weights.parameters())
      if (p.value.dim() == 2) p.value.detach().copy_(at::eye(p.value.size(0), width));
  }
  // What the last three levels of features cost.
  double loss(const Tensor& one, const Tensor& two, const Tensor& three, const Targets& t) {
    const Tracer tracer = probes.tracer();
    tracer("feat.0", at::full_like(one, 1e6));  // has seen one view only, and is not read
    tracer("feat.1", one);
    tracer("feat.2", two);
    tracer("feat.3", three);
    return probes.loss(t).item<double>();
  }
  double loss(const Tensor& all, const Targets& t) { return loss(all, all, all, t); }
  double match(const Tensor& all, const Targets& t) {
    loss(all, t);
    return probes.last_match();
  }
};

// Two views from one place; `change` says how the second differs.
template <typename Change>
Targets doubled(Change&& change) {
  Batch batch = small_batch(2);
  for (ViewSet& set : batch) {
    const size_t half = set.depth.size() / 2;
    for (size_t p = 0; p < half; ++p) set.depth[p] = set.depth[half + p] = float(2 + p % 5 * 0.01);
    set.extrinsics[1] = set.extrinsics[0];
    set.intrinsics[1] = set.intrinsics[0];
    change(set);
  }
  return make_targets(batch, at::kCPU);
}

// Features [images, rows, columns, 10] that are the truth of their patches themselves: depth, ray.
Tensor telling_features(const Targets& t) {
  const int64_t height = t.depth.size(2), width = t.depth.size(3);
  const auto pooled = [&](const Tensor& map, int64_t pixels) {
    return at::adaptive_avg_pool2d(map, {height / pixels, width / pixels});
  };
  const Tensor share = pooled(t.valid.view({-1, 1, height, width}), 7);
  const Tensor depth = pooled(t.log_depth.view({-1, 1, height, width}), 7) / share.clamp_min(1e-6);
  const Tensor ray = pooled(t.ray.flatten(0, 1).permute({0, 3, 1, 2}), 14);
  return at::cat({at::pixel_unshuffle(depth, 2), ray}, 1).permute({0, 2, 3, 1}).contiguous();
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

TEST_CASE("train: a step without maps runs no head and teaches the rest") {
  Tiny tiny;
  tiny.stir();
  const Targets t = make_targets(small_batch(), at::kCPU);
  NetworkOptions o;
  o.ref_view_strategy = DA3_REF_VIEW_FIRST;
  const NetworkOutput with = tiny.network->forward(t.image, o, Tracer{});
  o.want_maps = false;
  const NetworkOutput out = tiny.network->forward(t.image, o, Tracer{});
  CHECK(with.depth.defined());
  CHECK(!out.depth.defined());
  CHECK(!out.confidence.defined());
  CHECK(!out.ray.defined());
  CHECK(at::equal(out.pose_encoding, with.pose_encoding));
  const Losses losses = compute_losses(out, t);
  CHECK(losses.total.item<double>() == doctest::Approx(losses.camera));
  CHECK(losses.depth == 0);
  losses.total.backward();
  for (const Parameter& p : tiny.weights.parameters()) {
    INFO(p.key);
    if (begins_with(p.key, "model.head.")) CHECK(!p.value.grad().defined());
    if (begins_with(p.key, "model.cam_dec.") || p.key == kPatchEmbedding) {
      REQUIRE(p.value.grad().defined());
      CHECK(p.value.grad().abs().max().item<float>() > 0);
    }
  }
}

TEST_CASE("train: rays bring the maps with them, wanted or not") {
  Tiny tiny;
  const Targets t = make_targets(small_batch(), at::kCPU);
  NetworkOptions o;
  o.want_maps = false;
  o.want_ray = true;
  const NetworkOutput out = tiny.network->forward(t.image, o, Tracer{});
  CHECK(out.depth.defined());
  CHECK(out.ray.defined());
}

TEST_CASE("train: without depth cameras are judged all the same") {
  const Targets t = make_targets(small_batch(), at::kCPU);
  NetworkOutput out = perfect(t);
  out.depth = out.confidence = Tensor();
  CHECK(total(out, t) == doctest::Approx(0));
  out.pose_encoding = t.pose.clone();
  SUBCASE("translation backwards") {
    out.pose_encoding.narrow(-1, 0, 3).neg_();
  }
  SUBCASE("rotation the other way") {
    out.pose_encoding.narrow(-1, 3, 3).neg_();
  }
  SUBCASE("half the field of view") {
    out.pose_encoding.narrow(-1, 7, 2).mul_(0.5);
  }
  CHECK(total(out, t) > 0.01);
}

TEST_CASE("train: tokens that tell the truth cost nothing, others do") {
  const Targets t = make_targets(small_batch(1), at::kCPU);
  const Tensor truth = telling_features(t);
  RepeatingProbes probes;
  CHECK(probes.loss(truth, t) == doctest::Approx(0).epsilon(1e-4));
  CHECK(probes.loss(-truth, t) > 0.5);
  CHECK(probes.loss(truth.flip({2}), t) > 0.05);  // left for right
  CHECK(probes.loss(truth.flip({1}), t) > 0.05);
  CHECK(probes.loss(truth.flip({0}), t) > 0.05);       // another picture's
  CHECK(probes.loss(truth.roll({4}, {3}), t) > 0.05);  // rays for depth
  CHECK(probes.loss(truth + 0.1, t) > 0.1);            // another scale
  const Tensor wrong = truth + 0.1;
  CHECK(probes.loss(wrong, truth, truth, t) > 0);
  CHECK(probes.loss(truth, truth, wrong, t) >
        2 * probes.loss(wrong, truth, truth, t));  // the last counts most
}

TEST_CASE("train: tokens need not tell the depth of the sky") {
  Batch batch = small_batch(1);
  for (ViewSet& set : batch) std::fill_n(set.depth.begin(), 28 * 56, 0.0f);  // two rows of patches
  const Targets t = make_targets(batch, at::kCPU);
  RepeatingProbes probes;
  Tensor said = telling_features(t);
  said.slice(1, 0, 2).slice(3, 0, 4).add_(5);
  CHECK(probes.loss(said, t) == doctest::Approx(0).epsilon(1e-4));
  said.slice(1, 2, 3).slice(3, 0, 4).add_(5);
  CHECK(probes.loss(said, t) > 1);
}

TEST_CASE("train: a pass that nobody listened to has no token loss") {
  const Targets t = make_targets(small_batch(1), at::kCPU);
  RepeatingProbes probes;
  CHECK_THROWS(probes.probes.loss(t));
  const Tensor truth = telling_features(t);
  CHECK(probes.loss(truth, t) == doctest::Approx(0).epsilon(1e-4));
  CHECK_THROWS(probes.probes.loss(t));  // each pass is used once
}

TEST_CASE("train: the token loss reaches the whole backbone and no head") {
  Tiny tiny;
  tiny.stir();
  Probes probes(tiny.weights, tiny.config.backbone.feature_width());
  const Targets t = make_targets(small_batch(), at::kCPU);
  NetworkOptions o;
  o.ref_view_strategy = DA3_REF_VIEW_FIRST;
  o.want_maps = false;
  tiny.network->forward(t.image, o, probes.tracer());
  probes.loss(t).backward();
  REQUIRE((t.match >= 0).any().item<bool>());
  int read_outs = 0;
  for (const Parameter& p : tiny.weights.parameters()) {
    INFO(p.key);
    if (begins_with(p.key, kProbePrefix)) ++read_outs;
    if (begins_with(p.key, kProbePrefix) || p.key.find(".blocks.") != std::string::npos ||
        p.key == kPatchEmbedding) {
      REQUIRE(p.value.grad().defined());
      CHECK(p.value.grad().abs().max().item<float>() > 0);
    }
    if (begins_with(p.key, "model.head.") || begins_with(p.key, "model.cam_dec."))
      CHECK(!p.value.grad().defined());
  }
  CHECK(read_outs == 3 * 2 + 2);
}

TEST_CASE("train: patches match what shows the same point, and nothing else") {
  const int64_t patches = 4 * 3;
  const Tensor themselves = at::arange(patches, at::TensorOptions(at::kLong)).expand({2, 2, patches});
  CHECK(at::equal(doubled([](ViewSet&) {}).match, themselves));
  SUBCASE("a camera that looks away") {
    const Targets t = doubled([](ViewSet& set) {
      set.extrinsics[1].row(0) *= -1;
      set.extrinsics[1].row(2) *= -1;
    });
    CHECK((t.match == -1).all().item<bool>());
  }
  SUBCASE("something in between") {
    const Targets t = doubled([](ViewSet& set) {
      std::fill(set.depth.begin() + ptrdiff_t(set.depth.size() / 2), set.depth.end(), 1.0f);
    });
    CHECK((t.match == -1).all().item<bool>());
  }
  SUBCASE("sky") {
    const Targets t = doubled([](ViewSet& set) { std::fill(set.depth.begin(), set.depth.end(), 0.0f); });
    CHECK((t.match == -1).all().item<bool>());
  }
  SUBCASE("a step to the right shows the neighbour") {
    // By one patch at this depth, so what the first view shows at x lies at x - 14 in the second.
    const Targets t = doubled([](ViewSet& set) {
      std::fill(set.depth.begin(), set.depth.end(), 2.0f);
      set.extrinsics[1](0, 3) -= 14 * 2 / set.intrinsics[0](0, 0);
    });
    for (int64_t i = 0; i < patches; ++i) {
      CHECK(t.match[0][0][i].item<int64_t>() == (i % 4 == 0 ? -1 : i - 1));
      CHECK(t.match[0][1][i].item<int64_t>() == (i % 4 == 3 ? -1 : i + 1));
    }
  }
  CHECK((make_targets(small_batch(1), at::kCPU).match == -1).all().item<bool>());
}

TEST_CASE("train: descriptors of one point cost nothing, of others they do") {
  const int64_t patches = 4 * 3;
  const Targets t = doubled([](ViewSet&) {});
  RepeatingProbes probes(patches);
  // Each patch has a direction of its own.
  const Tensor own = at::eye(patches).expand({4, patches, patches}).contiguous();
  CHECK(probes.match(own, t) < 0.01);
  CHECK(probes.match(own * 7, t) < 0.01);
  Tensor mixed = own.clone();
  mixed[1].copy_(own[1].flip({0}));  // the second view of the first set
  CHECK(probes.match(mixed, t) > 3);
  CHECK(probes.match(-own, t) < 0.01);  // only the angle between them counts
  // Those that are all alike know nothing.
  CHECK(probes.match(at::ones_like(own), t) == doctest::Approx(std::log(double(patches))));
  CHECK(std::isfinite(probes.match(at::zeros_like(own), t)));
}

TEST_CASE("train: single views have no descriptors to compare") {
  const Targets t = make_targets(small_batch(1), at::kCPU);
  RepeatingProbes probes;
  CHECK(probes.match(telling_features(t), t) == 0);
}

TEST_CASE("train: patches begin as waves, of which no two are alike") {
  TrainableWeights a(1, at::kCPU), same(1, at::kCPU), other(2, at::kCPU);
  const std::vector<int64_t> shape = {48, 3, 14, 14};
  const Tensor waves = a.take(kPatchEmbedding, shape).detach();
  CHECK(at::equal(waves, same.take(kPatchEmbedding, shape)));
  CHECK(!at::equal(waves, other.take(kPatchEmbedding, shape)));
  for (int64_t i = 0; i < shape[0]; ++i)
    for (int64_t j = 0; j < i; ++j) {
      CAPTURE(i);
      CAPTURE(j);
      CHECK(std::abs(similarity(waves[i], waves[j])) < 0.2);
    }
  // Behind the three plain colours the first tells left from right, the second above from below, and neither
  // the other.
  CHECK(similarity(waves[3], waves[3].flip({2})) < -0.8);
  CHECK(similarity(waves[3], waves[3].flip({1})) > 0.8);
  CHECK(similarity(waves[4], waves[4].flip({2})) > 0.8);
  CHECK(similarity(waves[4], waves[4].flip({1})) < -0.8);
}

TEST_CASE("train: the network that ships has numbers of its own and fits into its file") {
  const ModelConfig config = config_from_json(demo_config());
  CHECK(config.name == "da3-demo");
  CHECK(config.process_res == 196);
  CHECK(config.backbone.pos_grid == config.process_res / 14);
  CHECK(config.backbone.width == 192);
  CHECK(config.cameras);
  int64_t parameters = 0;
  for (const KeyShape& k : network_keys(config)) {
    int64_t count = 1;
    for (const int64_t side : k.shape) count *= side;
    parameters += count;
  }
  CHECK(2 * parameters < 11'950'000);  // half precision, and names
}

// The slope of `loss` along its gradient for `parameter` is the gradient's length.
template <typename Loss>
void check_slope(Parameter& parameter, const Loss& loss) {
  loss().backward();
  const Tensor direction = parameter.value.grad().clone();
  const double slope = direction.square().sum().item<double>();
  REQUIRE(slope > 0);
  const at::NoGradGuard no_grad;
  const double h = 1e-3 / std::sqrt(slope);
  parameter.value.detach().add_(direction, h);
  const double up = loss().template item<double>();
  parameter.value.detach().sub_(direction, 2 * h);
  const double down = loss().template item<double>();
  CHECK((up - down) / (2 * h) == doctest::Approx(slope).epsilon(0.05));
}

TEST_CASE("train: the gradient is the slope of the loss") {
  TrainableWeights weights(1, at::kCPU);
  const auto network = make_network(config_from_json(test::tiny_train_config()), weights, {});
  const Targets t = make_targets(small_batch(), at::kCPU);
  const auto loss = [&] {
    NetworkOutput out = network->forward(t.image, NetworkOptions{}, Tracer{});
    out.confidence = at::ones_like(out.confidence);  // it does not weigh the depth's gradient
    return compute_losses(out, t).total;
  };
  for (Parameter& p : weights.parameters())
    if (p.key.find("patch_embed.proj.weight") != std::string::npos) check_slope(p, loss);
}

TEST_CASE("train: confidence learns from the errors and leaves the depth to them") {
  const Targets t = make_targets(small_batch(), at::kCPU);
  Parameter sure{"confidence", at::full_like(t.depth, 1.5).requires_grad_()};
  Parameter said{"depth", (t.depth * 1.3 + 0.1).requires_grad_()};
  NetworkOutput out = perfect(t);
  const auto loss = [&] {
    out.depth = said.value;
    out.confidence = sure.value;
    return compute_losses(out, t).total;
  };
  check_slope(sure, loss);
  // The depth's gradient is that of the plain error, however sure it is.
  said.value.mutable_grad().reset();
  loss().backward();
  const Tensor at_one_and_a_half = said.value.grad().clone();
  said.value.mutable_grad().reset();
  sure.value = at::full_like(t.depth, 9).requires_grad_();
  loss().backward();
  CHECK(at::equal(said.value.grad(), at_one_and_a_half));
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

TEST_CASE("train: embeddings and the camera decoder take smaller steps") {
  std::vector<Parameter> parameters;
  const std::pair<const char*, double> rates[] = {
      {"a.patch_embed.proj.bias", 0.1},
      {"a.pos_embed", 0.3},
      {"cam_dec.fc_t.bias", 0.25},
      {"a.norm.bias", 1},
      {"probe.1.bias", 1},
  };
  for (const auto& [key, rate] : rates) parameters.push_back(parameter(key, at::ones({4})));
  Optimizer optimizer(parameters, {});
  for (Parameter& p : parameters) p.value.mutable_grad() = at::full({4}, 0.01);
  optimizer.step(0.001, 1);
  for (size_t i = 0; i < parameters.size(); ++i) {
    INFO(parameters[i].key);
    const double moved = 1 - parameters[i].value.detach()[0].item<double>();
    CHECK(moved == doctest::Approx(0.001 * rates[i].second).epsilon(0.01));
  }
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
