// SPDX-License-Identifier: MIT
//
// Sky filling and the scale of the nested model: exact statistics, per item.
#include "engine/network/postprocess.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "tiny_model.h"

using namespace da3;
using namespace da3::test;

namespace {

const auto kFloat = at::TensorOptions(at::kFloat);

Tensor tensor_of(const std::vector<float>& values) {
  return at::tensor(at::ArrayRef<float>(values), kFloat);
}

// Numbers without order, from a formula.
std::vector<float> numbers(size_t count, const std::string& name) {
  std::vector<float> out(count);
  for (size_t i = 0; i < count; ++i) out[i] = float(5 + 4 * synthetic::unit(name, i, 0));
  return out;
}

// By sorting, as the definition says.
double quantile_by_sorting(std::vector<float> values, double q) {
  std::sort(values.begin(), values.end());
  const double at = q * double(values.size() - 1);
  const size_t low = size_t(at), high = std::min(low + 1, values.size() - 1);
  return values[low] + (at - double(low)) * (double(values[high]) - values[low]);
}

// Maps [B, 1, 10, 10]: depth 1..100, the first `count` pixels of each item are sky.
struct Scene {
  Tensor depth, sky;
};

Scene scene_with_sky(const std::vector<int64_t>& counts) {
  const int64_t batch = int64_t(counts.size());
  Scene s{at::empty({batch, 1, 10, 10}, kFloat), at::zeros({batch, 1, 10, 10}, kFloat)};
  for (int64_t b = 0; b < batch; ++b) {
    s.depth[b].copy_(at::arange(1, 101, kFloat).view({1, 10, 10}) * double(b + 1));
    s.sky[b].flatten().narrow(0, 0, counts[size_t(b)]).fill_(0.7);
  }
  return s;
}

}  // namespace

TEST_SUITE("quantile") {
  TEST_CASE("equals sorting, for many lengths and fractions") {
    for (const size_t n : {1, 2, 3, 10, 99, 100, 101, 1000, 65537})
      for (const double q : {0.0, 0.01, 0.5, 0.9, 0.99, 1.0}) {
        CAPTURE(n);
        CAPTURE(q);
        const auto values = numbers(n, "quantile");
        CHECK(exact_quantile(tensor_of(values), q) ==
              doctest::Approx(quantile_by_sorting(values, q)).epsilon(1e-12));
      }
  }

  TEST_CASE("equal values, falling values, infinity") {
    CHECK(exact_quantile(at::full({50}, 3.0, kFloat), 0.99) == 3.0);
    CHECK(exact_quantile(at::arange(100, 0, -1, kFloat), 0.5) == 50.5);
    CHECK(exact_quantile(tensor_of({1, 2, 3, INFINITY}), 0.5) == 2.5);
  }

  TEST_CASE("does not touch its input, takes any shape and type") {
    const Tensor values = tensor_of(numbers(64, "shape")).view({4, 16}), before = values.clone();
    const double expected = exact_quantile(values.flatten(), 0.3);
    CHECK(exact_quantile(values, 0.3) == expected);
    CHECK(exact_quantile(values.t(), 0.3) == expected);
    CHECK(exact_quantile(values.to(at::kDouble), 0.3) == expected);
    CHECK(same_bits(values, before));
  }
}

TEST_SUITE("sky") {
  TEST_CASE("takes the 0.99 quantile of the rest, everything else stays") {
    const Scene s = scene_with_sky({40});
    const Tensor before = s.depth.clone();
    const Tensor out = fill_sky(s.depth, s.sky).flatten(), depth = s.depth.flatten();
    std::vector<float> rest;
    for (int i = 41; i <= 100; ++i) rest.push_back(float(i));
    const float far = float(quantile_by_sorting(rest, 0.99));
    CHECK(same_bits(out.narrow(0, 0, 40), at::full({40}, far, kFloat)));
    CHECK(same_bits(out.narrow(0, 40, 60), depth.narrow(0, 40, 60)));
    CHECK(same_bits(s.depth, before));
  }

  TEST_CASE("ten pixels of a kind are too few, eleven are enough, on either side") {
    for (const int64_t count : {0, 1, 10, 90, 99, 100}) {
      CAPTURE(count);
      const Scene s = scene_with_sky({count});
      CHECK(same_bits(fill_sky(s.depth, s.sky), s.depth));
    }
    for (const int64_t count : {11, 50, 89}) {
      CAPTURE(count);
      const Scene s = scene_with_sky({count});
      CHECK(!same_bits(fill_sky(s.depth, s.sky), s.depth));
    }
  }

  TEST_CASE("0.3 is sky, what is below is not") {
    Scene s = scene_with_sky({0});
    s.sky.flatten().narrow(0, 0, 20).fill_(std::nextafter(0.3f, 0.0f));
    CHECK(same_bits(fill_sky(s.depth, s.sky), s.depth));
    s.sky.flatten().narrow(0, 0, 20).fill_(0.3f);
    CHECK(!same_bits(fill_sky(s.depth, s.sky), s.depth));
  }

  TEST_CASE("every item has its own quantile and its own ten-pixel rule") {
    const Scene s = scene_with_sky({40, 5, 100, 60});
    const Tensor out = fill_sky(s.depth, s.sky);
    for (int64_t b = 0; b < 4; ++b)
      CHECK(same_bits(out[b], fill_sky(s.depth.narrow(0, b, 1), s.sky.narrow(0, b, 1))[0]));
    CHECK(same_bits(out[1], s.depth[1]));
    CHECK(same_bits(out[2], s.depth[2]));
  }

  TEST_CASE("views of one item share theirs") {
    const Scene s = scene_with_sky({40, 5});
    // As two views the five pixels are filled too, with one value for both.
    const Tensor out = fill_sky(s.depth.transpose(0, 1), s.sky.transpose(0, 1));
    CHECK(!same_bits(out[0][1], s.depth[1][0]));
    CHECK(out[0][0][0][0].item<float>() == out[0][1][0][0].item<float>());
  }
}

namespace {

// Any-view maps and a metric branch whose depth in metres is exactly `scale` times as large: focal length
// 600.
struct Nested {
  Tensor depth, confidence, extrinsics, intrinsics, metric_depth, metric_sky;

  explicit Nested(const std::vector<double>& scales) {
    const int64_t batch = int64_t(scales.size());
    depth = tensor_of(numbers(size_t(batch) * 200, "nested")).view({batch, 2, 10, 10});
    confidence = tensor_of(numbers(size_t(batch) * 200, "confidence")).view({batch, 2, 10, 10});
    std::tie(extrinsics, intrinsics) = make_cameras(batch, 2);
    intrinsics.select(3, 0).select(2, 0).fill_(500);
    intrinsics.select(3, 1).select(2, 1).fill_(700);
    metric_depth = depth.clone();
    for (int64_t b = 0; b < batch; ++b) metric_depth[b].mul_(scales[size_t(b)] / 2);
    metric_sky = at::zeros_like(depth);
  }
  MetricAlignment align() const {
    return align_to_metric(depth, confidence, extrinsics, intrinsics, metric_depth, metric_sky);
  }
};

}  // namespace

TEST_SUITE("metric scale") {
  TEST_CASE("is found, per item, and moves depth and translations") {
    const Nested n({3.0, 0.25});
    const MetricAlignment out = n.align();
    for (int64_t b = 0; b < 2; ++b) {
      const double scale = b == 0 ? 3.0 : 0.25;
      CHECK(out.valid[b].item<bool>());
      CHECK(out.scale[b].item<double>() == doctest::Approx(scale).epsilon(1e-6));
      CHECK(distance(out.depth[b], n.depth[b] * scale) < 1e-6);
      CHECK(distance(out.extrinsics[b].select(2, 3), n.extrinsics[b].select(2, 3) * scale) < 1e-6);
      CHECK(same_bits(out.extrinsics[b].narrow(2, 0, 3), n.extrinsics[b].narrow(2, 0, 3)));
    }
    CHECK(same_bits(out.confidence, n.confidence));
  }

  TEST_CASE("each view is scaled by its own focal length") {
    Nested n({3.0});
    n.intrinsics[0][1].mul_(2);
    n.metric_depth[0][1].div_(2);
    CHECK(n.align().scale[0].item<double>() == doctest::Approx(3.0).epsilon(1e-6));
  }

  TEST_CASE("less confident pixels, sky, and depth near zero do not count") {
    Nested n({3.0});
    const Tensor depth = n.depth.flatten(), metric = n.metric_depth.flatten(), sky = n.metric_sky.flatten(),
                 confidence = n.confidence.flatten();
    const double middle = exact_quantile(n.confidence, 0.5);
    int64_t spoiled = 0;
    for (int64_t i = 0; i < 200; ++i)
      if (confidence[i].item<double>() < middle - 0.5) {
        metric[i] = 1000;
        ++spoiled;
      }
    CHECK(spoiled > 50);
    confidence[190] = confidence[191] = confidence[192] = 100;
    metric[190] = 0.004;  // 0.008 m
    depth[191] = 0.0009;
    metric[191] = 1000;
    CHECK(n.align().scale[0].item<double>() == doctest::Approx(3.0).epsilon(1e-6));
    metric[192] = 1000;
    CHECK(n.align().scale[0].item<double>() > 3.5);
    sky[192] = 0.3;
    CHECK(n.align().scale[0].item<double>() == doctest::Approx(3.0).epsilon(0.02));
  }

  TEST_CASE("sky: depth of the 0.99 quantile, confidence 1") {
    Nested n({3.0});
    n.metric_sky[0][1].fill_(1);
    const MetricAlignment out = n.align();
    std::vector<float> rest;
    const Tensor solid = out.depth[0][0].contiguous().flatten();
    rest.assign(solid.data_ptr<float>(), solid.data_ptr<float>() + 100);
    CHECK(same_bits(out.depth[0][1], at::full({10, 10}, quantile_by_sorting(rest, 0.99), kFloat)));
    CHECK(same_bits(out.confidence[0][1], at::ones({10, 10}, kFloat)));
    CHECK(same_bits(out.confidence[0][0], n.confidence[0][0]));
  }

  TEST_CASE("sky is never farther than 200 m") {
    Nested n({300.0});
    n.metric_sky[0][1].fill_(1);
    const MetricAlignment out = n.align();
    CHECK(out.depth[0][0].max().item<float>() > 1000);
    CHECK(same_bits(out.depth[0][1], at::full({10, 10}, 200.0, kFloat)));
  }

  TEST_CASE("ten solid pixels are too few: invalid, scale 1, nothing moves; the neighbour is not touched") {
    Nested n({3.0, 3.0});
    n.metric_sky[0].fill_(1);
    n.metric_sky[0].flatten().narrow(0, 0, 10).fill_(0);
    const MetricAlignment out = n.align();
    CHECK(!out.valid[0].item<bool>());
    CHECK(out.scale[0].item<float>() == 1.0f);
    CHECK(same_bits(out.depth[0], n.depth[0]));
    CHECK(same_bits(out.confidence[0], n.confidence[0]));
    CHECK(same_bits(out.extrinsics[0], n.extrinsics[0]));
    CHECK(out.valid[1].item<bool>());
    n.metric_sky[0].flatten().narrow(0, 0, 11).fill_(0);
    CHECK(n.align().valid[0].item<bool>());
  }

  TEST_CASE("nothing but sky") {
    Nested n({3.0});
    n.metric_sky.fill_(5);
    const MetricAlignment out = n.align();
    CHECK(!out.valid[0].item<bool>());
    CHECK(out.scale[0].item<float>() == 1.0f);
    CHECK(same_bits(out.depth, n.depth));
  }

  TEST_CASE("no pixel to fit with: invalid, and depth is not zero") {
    Nested n({3.0});
    n.metric_depth.fill_(1e-3);
    n.metric_sky[0][1].fill_(1);
    const MetricAlignment out = n.align();
    CHECK(!out.valid[0].item<bool>());
    CHECK(out.scale[0].item<float>() == 1.0f);
    CHECK(same_bits(out.depth[0][0], n.depth[0][0]));
    CHECK(same_bits(out.extrinsics, n.extrinsics));
  }

  TEST_CASE("inputs are not written to") {
    const Nested n({3.0}), before({3.0});
    n.metric_sky[0][1].fill_(1);
    n.align();
    CHECK(same_bits(n.depth, before.depth));
    CHECK(same_bits(n.confidence, before.confidence));
    CHECK(same_bits(n.extrinsics, before.extrinsics));
    CHECK(same_bits(n.metric_depth, before.metric_depth));
  }
}
