// SPDX-License-Identifier: MIT
//
// What a network may depend on, and what it may not.
#include "engine/network/network.h"

#include <doctest/doctest.h>

#include <algorithm>

#include "instruction_sets.h"
#include "tiny_model.h"

using namespace da3;
using namespace da3::test;

namespace {

// Rounding differs with the shapes of matrices; a neighbour's influence would be far above.
constexpr double kRounding = 2e-5;

NetworkOutput run(const Network& network, const Tensor& image, const NetworkOptions& options = {}) {
  return network.forward(image, options, {});
}

NetworkOptions with_ray() {
  NetworkOptions o;
  o.want_ray = true;
  return o;
}

struct Named {
  std::string name;
  Tensor value;
};

// Every result that is [B, ...].
std::vector<Named> results_of(const NetworkOutput& out) {
  std::vector<Named> all = {{"depth", out.depth},
                            {"confidence", out.confidence},
                            {"sky", out.sky},
                            {"ray", out.ray},
                            {"ray confidence", out.ray_confidence},
                            {"pose encoding", out.pose_encoding},
                            {"extrinsics", out.extrinsics},
                            {"intrinsics", out.intrinsics},
                            {"scale", out.scale},
                            {"means", out.gaussians.means},
                            {"scales", out.gaussians.scales},
                            {"rotations", out.gaussians.rotations},
                            {"harmonics", out.gaussians.harmonics},
                            {"opacities", out.gaussians.opacities}};
  for (const auto& f : out.features) all.push_back({"features", f.second});
  std::vector<Named> present;
  for (auto& n : all)
    if (n.value.defined()) present.push_back(n);
  return present;
}

// Item `b` of `many` is item `a` of `few`, up to rounding.
void check_same_item(const NetworkOutput& many, int64_t b, const NetworkOutput& few, int64_t a,
                     double tolerance = kRounding) {
  const auto x = results_of(many), y = results_of(few);
  REQUIRE(x.size() == y.size());
  for (size_t i = 0; i < x.size(); ++i) {
    CAPTURE(x[i].name);
    CHECK(distance(x[i].value[b], y[i].value[a]) < tolerance);
  }
  if (!few.reference.empty()) CHECK(many.reference.at(size_t(b)) == few.reference.at(size_t(a)));
}

void check_same_bits(const NetworkOutput& a, const NetworkOutput& b) {
  const auto x = results_of(a), y = results_of(b);
  REQUIRE(x.size() == y.size());
  for (size_t i = 0; i < x.size(); ++i) {
    CAPTURE(x[i].name);
    CHECK(same_bits(x[i].value, y[i].value));
  }
}

// Three different scenes, cut from three pictures.
std::vector<Tensor> scenes(int64_t views, int64_t height = 42, int64_t width = 56) {
  return {make_image("lake", 1, views, height, width), make_image("road", 1, views, height, width),
          make_image("room", 1, views, height, width) * 0.3};
}

// Alone, in twos and in threes, in every order: the same results. `options_for` gets the chosen scenes.
template <typename OptionsFor>
void check_batch_invariance(const Network& network, int64_t views, OptionsFor&& options_for,
                            double tolerance = kRounding) {
  const auto scene = scenes(views);
  std::vector<NetworkOutput> alone;
  for (int64_t i = 0; i < 3; ++i)
    alone.push_back(run(network, scene[size_t(i)], options_for(std::vector<int64_t>{i})));
  // The scenes must differ, or the test proves nothing.
  REQUIRE(distance(alone[0].depth, alone[1].depth) > 1e-2);
  const std::vector<std::vector<int64_t>> choices = {{0, 1, 2}, {2, 1, 0}, {1, 2, 0},      {0, 0, 1},
                                                     {2, 0},    {1, 1},    {0, 1, 2, 0, 1}};
  for (const auto& choice : choices) {
    std::vector<Tensor> parts;
    for (int64_t i : choice) parts.push_back(scene[size_t(i)]);
    const NetworkOutput together = run(network, at::cat(parts), options_for(choice));
    for (size_t b = 0; b < choice.size(); ++b) {
      CAPTURE(b);
      check_same_item(together, int64_t(b), alone[size_t(choice[b])], 0, tolerance);
    }
  }
}

}  // namespace

TEST_SUITE("batch") {
  TEST_CASE("items never influence each other: one view, all outputs") {
    const auto network = make_tiny(tiny_any_view());
    check_batch_invariance(*network, 1, [](const auto&) { return with_ray(); });
  }

  TEST_CASE("items never influence each other: scenes with a reference view each") {
    const auto network = make_tiny(tiny_any_view());
    for (const auto strategy : {DA3_REF_VIEW_FIRST, DA3_REF_VIEW_MIDDLE, DA3_REF_VIEW_SADDLE_BALANCED,
                                DA3_REF_VIEW_SADDLE_SIM_RANGE})
      check_batch_invariance(*network, 4, [&](const auto&) {
        NetworkOptions o;
        o.ref_view_strategy = strategy;
        o.feature_layers = {0, 4, 7};
        return o;
      });
  }

  TEST_CASE("items never influence each other: known cameras") {
    const auto network = make_tiny(tiny_any_view());
    const auto [extrinsics, intrinsics] = make_cameras(3, 3);
    check_batch_invariance(*network, 3, [&, e = extrinsics, k = intrinsics](const auto& choice) {
      NetworkOptions o;
      const Tensor rows = at::tensor(at::ArrayRef<int64_t>(choice), at::TensorOptions(at::kLong));
      o.extrinsics = e.index_select(0, rows);
      o.intrinsics = k.index_select(0, rows);
      return o;
    });
  }

  TEST_CASE("items never influence each other: sky of a mono model, scale of a nested one") {
    check_batch_invariance(*make_tiny(tiny_mono()), 2, [](const auto&) { return NetworkOptions(); });
    check_batch_invariance(*make_tiny(tiny_nested()), 2, [](const auto&) { return NetworkOptions(); });
  }

  TEST_CASE("items never influence each other: Gaussians, with and without known cameras") {
    const auto network = make_tiny(tiny_any_view(true));
    const auto [extrinsics, intrinsics] = make_cameras(3, 3);
    for (const bool known : {false, true})
      check_batch_invariance(
          *network, 3,
          [&, e = extrinsics, k = intrinsics](const auto& choice) {
            NetworkOptions o;
            o.want_gaussians = true;
            if (!known) return o;
            const Tensor rows = at::tensor(at::ArrayRef<int64_t>(choice), at::TensorOptions(at::kLong));
            o.extrinsics = e.index_select(0, rows);
            o.intrinsics = k.index_select(0, rows);
            return o;
          },
          2e-4);
  }

  TEST_CASE("items keep their places when a batch is ordered otherwise") {
    const auto network = make_tiny(tiny_any_view());
    const auto scene = scenes(3);
    const NetworkOutput first = run(*network, at::cat({scene[0], scene[1], scene[2]}), with_ray());
    const NetworkOutput second = run(*network, at::cat({scene[2], scene[0], scene[1]}), with_ray());
    const int64_t place[] = {1, 2, 0};
    const auto x = results_of(first), y = results_of(second);
    for (size_t i = 0; i < x.size(); ++i)
      for (int64_t b = 0; b < 3; ++b) {
        CAPTURE(x[i].name);
        CHECK(distance(x[i].value[b], y[i].value[place[b]]) < kRounding);
        CHECK(distance(x[i].value[b], y[i].value[(place[b] + 1) % 3]) > 1e-3);
      }
    CHECK(first.reference[2] == second.reference[0]);
  }

  TEST_CASE("the same input twice gives the same bits, also after other shapes") {
    const auto network = make_tiny(tiny_any_view());
    const Tensor image = make_image("lake", 2, 3);
    const NetworkOutput first = run(*network, image, with_ray());
    run(*network, make_image("road", 1, 1, 28, 70), with_ray());
    for (int64_t size = 14; size <= 14 * 40; size += 14)  // more shapes than are cached
      run(*network, make_image("road", 1, 1, 14, size));
    check_same_bits(run(*network, image, with_ray()), first);
  }

  TEST_CASE("chunks of the head change nothing") {
    for (const bool gaussians : {false, true}) {
      const auto network = make_tiny(tiny_any_view(gaussians));
      NetworkOptions whole = with_ray();
      whole.want_gaussians = gaussians;
      whole.head_chunk = 100;
      const Tensor image = make_image("lake", 2, 5);
      const NetworkOutput expected = run(*network, image, whole);
      for (const int64_t chunk : {1, 3, 7, 10}) {
        CAPTURE(chunk);
        NetworkOptions options = whole;
        options.head_chunk = chunk;
        const NetworkOutput out = run(*network, image, options);
        CHECK(out.depth.sizes() == expected.depth.sizes());
        for (int64_t b = 0; b < 2; ++b) check_same_item(out, b, expected, b);
      }
    }
  }

  TEST_CASE("chunks of a mono head lose no view") {
    // Upstream's own head loses views here when there are several scenes.
    const auto network = make_tiny(tiny_mono());
    NetworkOptions chunked;
    chunked.head_chunk = 2;
    const Tensor image = make_image("lake", 3, 3);
    const NetworkOutput out = run(*network, image, chunked), expected = run(*network, image);
    for (int64_t b = 0; b < 3; ++b) check_same_item(out, b, expected, b);
  }
}

TEST_SUITE("views") {
  TEST_CASE("views of a scene attend to each other") {
    const auto network = make_tiny(tiny_any_view());
    const Tensor a = make_image("lake", 1, 1), b = make_image("road", 1, 1);
    const NetworkOutput pair = run(*network, at::cat({a, b}, 1));
    const NetworkOutput alone = run(*network, a);
    CHECK(distance(pair.depth[0][0], alone.depth[0][0]) > 1e-3);
    const NetworkOutput other = run(*network, at::cat({a, a}, 1));
    CHECK(distance(pair.depth[0][0], other.depth[0][0]) > 1e-4);
  }

  TEST_CASE("the first of two views is the reference: they cannot change places") {
    const auto network = make_tiny(tiny_any_view());
    const Tensor a = make_image("lake", 1, 1), b = make_image("road", 1, 1);
    const NetworkOutput ab = run(*network, at::cat({a, b}, 1)), ba = run(*network, at::cat({b, a}, 1));
    CHECK(distance(ab.depth[0][0], ba.depth[0][1]) > 1e-4);
    CHECK(distance(ab.extrinsics[0][0], ba.extrinsics[0][1]) > 1e-4);
  }

  TEST_CASE("views of a mono model do not") {
    // Their sky is filled together, so only where there is none does a view stand alone.
    const auto network = make_tiny(tiny_mono(), 0, {{"sky_output_conv2.2.", 0.0}});
    const Tensor a = make_image("lake", 1, 1), b = make_image("road", 1, 1);
    const NetworkOutput pair = run(*network, at::cat({a, b}, 1));
    CHECK(pair.sky.max().item<float>() == 0.0f);
    CHECK(distance(pair.depth[0][0], run(*network, a).depth[0][0]) < kRounding);
    CHECK(distance(pair.depth[0][1], run(*network, b).depth[0][0]) < kRounding);
  }

  TEST_CASE("two views have no reference, three have, known cameras switch it off") {
    const auto network = make_tiny(tiny_any_view());
    CHECK(run(*network, make_image("lake", 1, 1)).reference.empty());
    CHECK(run(*network, make_image("lake", 1, 2)).reference.empty());
    NetworkOptions options;
    options.ref_view_strategy = DA3_REF_VIEW_MIDDLE;
    CHECK(run(*network, make_image("lake", 2, 3), options).reference == std::vector<int64_t>{1, 1});
    std::tie(options.extrinsics, options.intrinsics) = make_cameras(2, 3);
    CHECK(run(*network, make_image("lake", 2, 3), options).reference.empty());
  }

  TEST_CASE("results come back in the order of the input") {
    // (a, b, c) with the middle one first is (b, a, c) with the first one first: the same computation.
    const auto network = make_tiny(tiny_any_view());
    const Tensor image = make_image("lake", 1, 3);
    const Tensor turned = image.index_select(1, at::tensor({1, 0, 2}, at::TensorOptions(at::kLong)));
    NetworkOptions middle = with_ray(), first = with_ray();
    middle.ref_view_strategy = DA3_REF_VIEW_MIDDLE;
    first.ref_view_strategy = DA3_REF_VIEW_FIRST;
    middle.feature_layers = first.feature_layers = {0, 1, 4, 7};
    const auto x = results_of(run(*network, image, middle)), y = results_of(run(*network, turned, first));
    REQUIRE(x.size() == y.size());
    const int64_t place[] = {1, 0, 2};
    for (size_t i = 0; i < x.size(); ++i)
      for (int64_t s = 0; s < 3; ++s) {
        CAPTURE(x[i].name);
        CHECK(distance(x[i].value[0][s], y[i].value[0][place[s]]) < kRounding);
        // and views are told apart at all
        CHECK(distance(x[i].value[0][s], x[i].value[0][(s + 1) % 3]) > 1e-4);
      }
  }

  TEST_CASE("a chosen reference follows its picture when views change places") {
    const auto network = make_tiny(tiny_any_view());
    const Tensor image = make_image("lake", 1, 5);
    const std::vector<int64_t> order = {3, 0, 4, 1, 2};
    const Tensor turned =
        image.index_select(1, at::tensor(at::ArrayRef<int64_t>(order), at::TensorOptions(at::kLong)));
    const NetworkOutput x = run(*network, image), y = run(*network, turned);
    REQUIRE(x.reference.size() == 1);
    CHECK(order.at(size_t(y.reference[0])) == x.reference[0]);
    for (size_t s = 0; s < 5; ++s) CHECK(distance(y.depth[0][int64_t(s)], x.depth[0][order[s]]) < kRounding);
  }

  TEST_CASE("exported features: asked layers only, shapes, and upstream's order on demand") {
    const auto network = make_tiny(tiny_any_view());
    const Tensor image = make_image("lake", 1, 4);
    NetworkOptions options;
    options.ref_view_strategy = DA3_REF_VIEW_MIDDLE;
    options.feature_layers = {0, 3, 6};
    const auto restored = run(*network, image, options).features;
    REQUIRE(restored.size() == 3);
    options.restore_feature_order = false;
    const auto raw = run(*network, image, options).features;
    const int64_t forward[] = {2, 0, 1, 3};
    for (size_t i = 0; i < 3; ++i) {
      CHECK(restored[i].first == options.feature_layers[i]);
      CHECK(restored[i].second.sizes() == at::IntArrayRef({1, 4, 3, 4, 64}));
      for (int64_t p = 0; p < 4; ++p) {
        // Layer 0 runs before views are reordered.
        const int64_t from = options.feature_layers[i] == 0 ? p : forward[p];
        CHECK(same_bits(raw[i].second[0][p], restored[i].second[0][from]));
      }
    }
    CHECK(run(*network, image).features.empty());
  }
}

TEST_SUITE("outputs") {
  TEST_CASE("shapes and ranges of an any-view model") {
    const auto network = make_tiny(tiny_any_view());
    const NetworkOutput out = run(*network, make_image("lake", 2, 3), with_ray());
    CHECK(out.depth.sizes() == at::IntArrayRef({2, 3, 42, 56}));
    CHECK(out.confidence.sizes() == at::IntArrayRef({2, 3, 42, 56}));
    CHECK(out.ray.sizes() == at::IntArrayRef({2, 3, 24, 32, 6}));
    CHECK(out.ray_confidence.sizes() == at::IntArrayRef({2, 3, 24, 32}));
    CHECK(out.pose_encoding.sizes() == at::IntArrayRef({2, 3, 9}));
    CHECK(out.extrinsics.sizes() == at::IntArrayRef({2, 3, 3, 4}));
    CHECK(out.intrinsics.sizes() == at::IntArrayRef({2, 3, 3, 3}));
    CHECK(out.depth.min().item<float>() > 0);
    CHECK(out.confidence.min().item<float>() >= 1);
    CHECK(out.ray_confidence.min().item<float>() >= 1);
    CHECK(!out.sky.defined());
    CHECK(!out.gaussians.defined());
    CHECK(!out.metric);
    // World to camera: orthonormal.
    const Tensor r = out.extrinsics.narrow(3, 0, 3).to(at::kDouble);
    CHECK((at::matmul(r, r.transpose(2, 3)) - at::eye(3, r.options())).abs().max().item<double>() < 1e-5);
  }

  TEST_CASE("shapes and ranges of a mono model") {
    const NetworkOutput out = run(*make_tiny(tiny_mono()), make_image("lake", 2, 3));
    CHECK(out.depth.sizes() == at::IntArrayRef({2, 3, 42, 56}));
    CHECK(out.sky.sizes() == at::IntArrayRef({2, 3, 42, 56}));
    CHECK(out.sky.min().item<float>() >= 0);
    CHECK(!out.confidence.defined());
    CHECK(!out.extrinsics.defined());
    CHECK(!out.metric);
  }

  TEST_CASE("one patch is enough, and long thin images work") {
    const auto network = make_tiny(tiny_any_view());
    for (const auto& [h, w] : {std::pair<int64_t, int64_t>{14, 14}, {14, 280}, {280, 14}}) {
      const NetworkOutput out = run(*network, make_image("lake", 1, 2, h, w), with_ray());
      CHECK(out.depth.sizes() == at::IntArrayRef({1, 2, h, w}));
      CHECK(std::isfinite(out.depth.sum().item<double>()));
    }
  }

  TEST_CASE("the ray branch changes no other output") {
    const auto network = make_tiny(tiny_any_view());
    const Tensor image = make_image("lake", 2, 3);
    NetworkOptions both;
    const NetworkOutput without = run(*network, image), with = run(*network, image, with_ray());
    CHECK(!without.ray.defined());
    CHECK(!without.ray_confidence.defined());
    CHECK(with.ray.defined());
    CHECK(same_bits(without.depth, with.depth));
    CHECK(same_bits(without.confidence, with.confidence));
    CHECK(same_bits(without.extrinsics, with.extrinsics));
  }

  TEST_CASE("pose off: none, and the same depth") {
    const auto network = make_tiny(tiny_any_view());
    const Tensor image = make_image("lake", 1, 2);
    NetworkOptions off;
    off.want_pose = false;
    const NetworkOutput out = run(*network, image, off);
    CHECK(!out.extrinsics.defined());
    CHECK(!out.intrinsics.defined());
    CHECK(!out.pose_encoding.defined());
    CHECK(same_bits(out.depth, run(*network, image).depth));
  }

  TEST_CASE("ray pose: computes the rays it needs, the same pose every time, other than the decoder's") {
    const auto network = make_tiny(tiny_any_view());
    const Tensor image = make_image("lake", 1, 2);
    NetworkOptions options;
    options.use_ray_pose = true;
    std::vector<geometry::RayPose> poses;
    options.ray_poses = &poses;
    const NetworkOutput out = run(*network, image, options), again = run(*network, image, options);
    CHECK(out.ray.defined());
    CHECK(poses.size() == 4);
    CHECK(!out.pose_encoding.defined());
    CHECK(same_bits(out.extrinsics, again.extrinsics));
    CHECK(same_bits(out.intrinsics, again.intrinsics));
    CHECK(!same_bits(out.extrinsics, run(*network, image).extrinsics));
    CHECK(same_bits(out.depth, run(*network, image).depth));
  }

  TEST_CASE("known cameras condition the network, up to their last digit of order one") {
    const auto network = make_tiny(tiny_any_view());
    const Tensor image = make_image("lake", 1, 3);
    NetworkOptions known;
    std::tie(known.extrinsics, known.intrinsics) = make_cameras(1, 3);
    const NetworkOutput out = run(*network, image, known);
    CHECK(distance(out.depth, run(*network, image).depth) > 1e-3);
    NetworkOptions moved = known;
    moved.extrinsics = known.extrinsics.clone();
    moved.extrinsics[0][2][0][3] += 1.0;
    CHECK(distance(out.depth, run(*network, image, moved).depth) > 1e-4);
    // 4x4 matrices are the same cameras.
    NetworkOptions square = known;
    Tensor row = at::zeros({1, 3, 1, 4}, at::TensorOptions(at::kFloat));
    row.select(3, 3).fill_(1);
    square.extrinsics = at::cat({known.extrinsics, row}, 2);
    CHECK(same_bits(out.depth, run(*network, image, square).depth));
  }

  TEST_CASE("known cameras for a model without a camera encoder") {
    json description = tiny_any_view();
    description["config"].erase("cam_dec");
    description["config"].erase("cam_enc");
    const auto network = make_tiny(description);
    NetworkOptions known;
    std::tie(known.extrinsics, known.intrinsics) = make_cameras(1, 2);
    const Tensor image = make_image("lake", 1, 2);
    const Refusal refusal = refusal_of([&] { run(*network, image, known); });
    CHECK(refusal.code == DA3_ERROR_UNSUPPORTED);
    CHECK(refusal.says("'tiny' has no camera encoder"));
    CHECK(!run(*network, image).extrinsics.defined());
  }

  TEST_CASE("Gaussians: only on demand, one per pixel, in front of the pose switch") {
    const auto network = make_tiny(tiny_any_view(true));
    const Tensor image = make_image("lake", 2, 2, 28, 42);
    CHECK(!run(*network, image).gaussians.defined());
    NetworkOptions options;
    options.want_gaussians = true;
    options.want_pose = false;  // they need one all the same
    const NetworkOutput out = run(*network, image, options);
    const int64_t n = 2 * 28 * 42;
    CHECK(out.gaussians.means.sizes() == at::IntArrayRef({2, n, 3}));
    CHECK(out.gaussians.scales.sizes() == at::IntArrayRef({2, n, 3}));
    CHECK(out.gaussians.rotations.sizes() == at::IntArrayRef({2, n, 4}));
    CHECK(out.gaussians.harmonics.sizes() == at::IntArrayRef({2, n, 3, 9}));
    CHECK(out.gaussians.opacities.sizes() == at::IntArrayRef({2, n}));
    const Tensor norm = out.gaussians.rotations.norm(2, {-1});
    CHECK((norm - 1).abs().max().item<float>() < 1e-4f);
    CHECK(same_bits(out.depth, run(*network, image).depth));
  }

  TEST_CASE("Gaussians of a model that has none are not made") {
    NetworkOptions options;
    options.want_gaussians = true;
    CHECK(!run(*make_tiny(tiny_any_view()), make_image("lake", 1, 1), options).gaussians.defined());
  }

  TEST_CASE("nested: metres, one scale per item") {
    const auto network = make_tiny(tiny_nested());
    const auto branch = [&] {
      // The any-view branch alone, with the same weights: its keys have another prefix in the nested model.
      struct Renamed : WeightSource {
        SyntheticWeights inner{0, {}, 1};
        Tensor take(const std::string& key, const std::vector<int64_t>& shape) override {
          return inner.take("model.da3." + key.substr(6), shape);
        }
        void declare(const std::string&, const std::vector<int64_t>&) override {}
      } source;
      return make_network(tiny_config(tiny_any_view()), source, {});
    }();
    const Tensor image = make_image("lake", 2, 2);
    const NetworkOutput out = run(*network, image), relative = run(*branch, image);
    CHECK(out.metric);
    CHECK(!out.sky.defined());
    REQUIRE(out.scale.sizes() == at::IntArrayRef({2}));
    CHECK(same_bits(out.scale_valid, at::ones({2}, at::TensorOptions(at::kBool))));
    CHECK(same_bits(out.intrinsics, relative.intrinsics));
    for (int64_t b = 0; b < 2; ++b) {
      const float scale = out.scale[b].item<float>();
      CHECK(scale > 0);
      const Tensor t = out.extrinsics[b].select(2, 3), t0 = relative.extrinsics[b].select(2, 3);
      CHECK(distance(t, t0 * scale) < 1e-6);
      // Where there is no sky (confidence above 1), depth is the branch's times the scale.
      const Tensor solid = out.confidence[b].gt(1);
      CHECK(distance(out.depth[b].masked_select(solid), relative.depth[b].masked_select(solid) * scale) <
            1e-5);
    }
    CHECK(out.scale[0].item<float>() != out.scale[1].item<float>());
  }

  TEST_CASE("nested: nothing but sky leaves the any-view branch as it is") {
    const auto network = make_tiny(tiny_nested(), 0, {{"sky_output_conv2.2.bias", -100.0}});
    NetworkOptions no_pose;
    no_pose.want_pose = false;
    const NetworkOutput out = run(*network, make_image("lake", 2, 1), no_pose);
    CHECK(same_bits(out.scale, at::ones({2}, at::TensorOptions(at::kFloat))));
    CHECK(same_bits(out.scale_valid, at::zeros({2}, at::TensorOptions(at::kBool))));
    CHECK(out.depth.min().item<float>() > 0);
    CHECK(out.confidence.max().item<float>() > 1);
  }

  TEST_CASE("half precision in the backbone stays near, and is another computation") {
    SyntheticWeights weights(0, {}, 1);
    const auto half = make_network(tiny_config(tiny_any_view()), weights, {at::kCPU, at::kBFloat16});
    const auto full = make_tiny(tiny_any_view());
    const Tensor image = make_image("lake", 1, 2);
    const Tensor a = run(*half, image).depth, b = run(*full, image).depth;
    CHECK((a.scalar_type() == at::kFloat));
    CHECK(!same_bits(a, b));
    CHECK(rms_distance(a, b) < 0.03);
  }

  TEST_CASE("every processor computes the same, to rounding") {
    // One head of 64 channels, and maps of 32: kernels of our own fit.
    json description = tiny_any_view();
    description["config"]["net"]["num_heads"] = 1;
    description["config"]["head"]["features"] = 32;
    const Tensor image = make_image("lake", 1, 2);
    const auto depth_in = [&](const Placement& placement) {
      SyntheticWeights weights(0, {}, 1);
      return run(*make_network(tiny_config(description), weights, placement), image).depth;
    };
    Placement half, eight, floats;
    half.compute = floats.compute = at::kBFloat16;
    eight.int8 = floats.fp8 = true;
    const Tensor exact = depth_in({});
    with_every_instruction_set([&] {
      CHECK(distance(depth_in({}), exact) < 1e-4);
      CHECK(rms_distance(depth_in(half), exact) < 0.03);
      CHECK(rms_distance(depth_in(eight), exact) < 0.05);
      if (Fp8Layer::refusal(at::kCPU).empty()) CHECK(rms_distance(depth_in(floats), exact) < 0.1);
    });
  }

  TEST_CASE("what is traced is what is computed") {
    const auto network = make_tiny(tiny_any_view());
    std::map<std::string, Tensor> seen;
    const Tensor image = make_image("lake", 1, 2);
    const NetworkOutput out = network->forward(
        image, with_ray(), Tracer([&](const std::string& n, const Tensor& v) { seen[n] = v.clone(); }));
    for (const char* name : {"tokens.input", "block.0", "block.7", "feat.3", "dpt.output_conv2", "pose_enc"})
      CHECK_MESSAGE(seen.count(name) == 1, std::string(name));
    CHECK(same_bits(seen.at("head.depth"), out.depth));
    // Listening switches in-place additions off; results stay.
    check_same_bits(run(*network, image, with_ray()), out);
  }
}

TEST_SUITE("keys") {
  TEST_CASE("numbers of tensors and parameters of the published models") {
    const std::tuple<const char*, size_t, int64_t> expected[] = {{"da3-small", 443, 34299463},
                                                                 {"da3-base", 443, 135366599},
                                                                 {"da3-large", 643, 410941767},
                                                                 {"da3-giant", 977, 1355674125},
                                                                 {"da3mono-large", 406, 334171394},
                                                                 {"da3metric-large", 406, 334171394},
                                                                 {"da3nested-giant-large", 1383, 1689845519}};
    for (const auto& [name, tensors, parameters] : expected) {
      CAPTURE(name);
      const auto keys = network_keys(builtin_config(name));
      CHECK(keys.size() == tensors);
      int64_t sum = 0;
      for (const auto& k : keys) {
        int64_t n = 1;
        for (int64_t s : k.shape) n *= s;
        // Three of the four levels share their LayerNorm with the first: counted once.
        const bool shared = k.key.find("output_conv2_aux.") != std::string::npos &&
                            k.key.find("output_conv2_aux.0.") == std::string::npos &&
                            (k.key.ends_with(".2.weight") || k.key.ends_with(".2.bias"));
        if (!shared) sum += n;
      }
      CHECK(sum == parameters);
    }
  }

  TEST_CASE("no key twice, all below model.") {
    for (const auto& description : {tiny_any_view(true), tiny_mono(), tiny_nested()}) {
      std::set<std::string> seen;
      for (const auto& k : network_keys(tiny_config(description))) {
        CHECK_MESSAGE(seen.insert(k.key).second, k.key);
        CHECK(k.key.starts_with("model."));
      }
    }
  }

  TEST_CASE("what a model can compute") {
    const uint32_t any_view = DA3_OUTPUT_DEPTH | DA3_OUTPUT_CONFIDENCE | DA3_OUTPUT_RAY | DA3_OUTPUT_POSE;
    CHECK(network_outputs(builtin_config("da3-small")) == any_view);
    CHECK(network_outputs(builtin_config("da3-giant")) == (any_view | DA3_OUTPUT_GAUSSIANS));
    CHECK(network_outputs(builtin_config("da3mono-large")) == (DA3_OUTPUT_DEPTH | DA3_OUTPUT_SKY));
    CHECK(network_outputs(builtin_config("da3metric-large")) == (DA3_OUTPUT_DEPTH | DA3_OUTPUT_SKY));
    CHECK(network_outputs(builtin_config("da3nested-giant-large")) == (any_view | DA3_OUTPUT_GAUSSIANS));
  }
}
