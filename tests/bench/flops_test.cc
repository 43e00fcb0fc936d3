// SPDX-License-Identifier: MIT
//
// Operation counts against counts by hand.
#include "core/flops.h"

#include <doctest/doctest.h>

#include <stdexcept>

using namespace da3;
using namespace da3::bench;

namespace {

// 8 blocks of width 16 on an image of 2 by 2 patches: small enough for pencil and paper.
ModelConfig tiny() {
  ModelConfig c;
  c.backbone.width = 16;
  c.backbone.depth = 2;
  c.backbone.heads = 2;
  c.backbone.ffn_hidden = 64;
  c.head.dual = true;
  c.head.features = 8;
  c.head.out_channels = {4, 4, 8, 8};
  return c;
}

PassShape square(int64_t side) {
  PassShape s;
  s.height = s.width = side;
  return s;
}

}  // namespace

TEST_CASE("backbone of a tiny network by hand") {
  const OperationCount n = count_operations(tiny(), square(28));
  // 4 patches of 588 numbers to 16 channels; then 5 tokens through 2 blocks: 16 -> 48, 16 -> 16, 16 -> 64, 64
  // -> 16.
  CHECK(n.matrices == 2.0 * 4 * 588 * 16 + 2 * 2.0 * 5 * (16 * 48 + 16 * 16 + 16 * 64 + 64 * 16));
  // 5 by 5 scores of 16 channels, twice, in 2 blocks.
  CHECK(n.attention == 2 * 2 * 2.0 * 5 * 5 * 16);
  CHECK(n.cameras == 0);
  CHECK(n.ray == 0);
}

TEST_CASE("head of a tiny network by hand") {
  const OperationCount n = count_operations(tiny(), square(28));
  // Patches 2x2, levels 8x8, 4x4, 2x2, 1x1, fused 16x16, image 28x28.
  double macs = 4 * 16 * (4 + 4 + 8 + 8);             // 1x1 projections
  macs += 4 * 4 * 4 * 16 + 4 * 4 * 4 * 4;             // transposed 4x4 and 2x2
  macs += 1 * 9 * 8 * 8;                              // stride 2
  macs += 9 * 8 * (64 * 4 + 16 * 4 + 4 * 8 + 1 * 8);  // to 8 features
  const double unit = 2 * 9 * 8 * 8;                  // two 3x3 convolutions, per pixel
  macs += unit * (2 * 64 + 2 * 16 + 2 * 4 + 1) + 8 * 8 * (64 + 16 + 4 + 1);
  macs += 256.0 * 9 * 8 * 4;              // output_conv1
  macs += 784.0 * (9 * 4 * 32 + 32 * 2);  // at full size
  CHECK(n.head == 2 * macs);
}

TEST_CASE("the ray branch is a second chain and five convolutions") {
  PassShape s = square(28);
  s.ray = true;
  const OperationCount n = count_operations(tiny(), s);
  const double chain = 2 * 9 * 8 * 8 * (2 * 64 + 2 * 16 + 2 * 4 + 1) + 8 * 8 * (64 + 16 + 4 + 1);
  CHECK(n.ray == 2 * (chain + 256.0 * (5 * 9 * 8 * 4 + 9 * 4 * 32 + 32 * 7)));
}

TEST_CASE("known figures of the published models, within one percent") {
  struct Known {
    int64_t width;
    int depth, heads;
    int64_t features;
    std::array<int64_t, 4> channels;
    double gflop_square, gflop_wide;
  };
  // Counted with the 1x1 convolutions after the resize, which is up to 0.8 % more.
  const Known all[] = {{384, 12, 6, 64, {48, 96, 192, 384}, 108.1, 52.4},
                       {768, 12, 12, 128, {96, 192, 384, 768}, 359.6, 184.6},
                       {1024, 24, 16, 256, {256, 512, 1024, 1024}, 1232, 644}};
  for (const Known& k : all) {
    ModelConfig c;
    c.backbone.width = k.width;
    c.backbone.depth = k.depth;
    c.backbone.heads = k.heads;
    c.backbone.ffn_hidden = 4 * k.width;
    c.backbone.alt_start = k.depth / 3;
    c.backbone.cat_token = true;
    c.head = {true, k.features, k.channels};
    c.cameras = true;
    CHECK(count_operations(c, square(504)).total() / 1e9 == doctest::Approx(k.gflop_square).epsilon(0.012));
    PassShape wide = square(504);
    wide.height = 280;
    CHECK(count_operations(c, wide).total() / 1e9 == doctest::Approx(k.gflop_wide).epsilon(0.012));
  }
}

TEST_CASE("batches are independent, views attend to each other") {
  ModelConfig c = tiny();
  c.backbone.alt_start = 1;  // block 1 is global
  const OperationCount one = count_operations(c, square(28));
  PassShape batch = square(28), views = square(28);
  batch.batch = 3;
  views.views = 3;
  CHECK(count_operations(c, batch).total() == 3 * one.total());
  const OperationCount together = count_operations(c, views);
  CHECK(together.matrices == 3 * one.matrices);
  CHECK(together.head == 3 * one.head);
  // The local block three times, the global one nine times.
  CHECK(together.attention == (3 + 9) * one.attention / 2);
}

TEST_CASE("nothing counts that nobody asked for") {
  ModelConfig c = tiny();
  c.cameras = true;
  PassShape s = square(28);
  s.pose = false;
  CHECK(count_operations(c, s).cameras == 0);
  s.pose = true;
  CHECK(count_operations(c, s).cameras == 2 * (16 * 16 * 2 + 16 * 9));
  s.known_cameras = true;
  CHECK(count_operations(c, s).cameras > 2 * (16 * 16 * 2 + 16 * 9));
  CHECK(count_operations(c, s).gaussians == 0);
  c.head.dual = false;
  s.ray = true;
  CHECK(count_operations(c, s).ray == 0);
}

TEST_CASE("SwiGLU has two gates") {
  ModelConfig c = tiny();
  const double plain = count_operations(c, square(28)).matrices;
  c.backbone.swiglu = true;
  CHECK(count_operations(c, square(28)).matrices - plain == 2 * 2.0 * 5 * 16 * 64);
}

TEST_CASE("sizes that are none") {
  for (const int64_t side : {int64_t(0), int64_t(-14), int64_t(13), int64_t(29)})
    CHECK_THROWS_AS(count_operations(tiny(), square(side)), std::invalid_argument);
  PassShape s = square(28);
  s.batch = 0;
  CHECK_THROWS_AS(count_operations(tiny(), s), std::invalid_argument);
  s.batch = 1;
  s.views = -1;
  CHECK_THROWS_AS(count_operations(tiny(), s), std::invalid_argument);
}
