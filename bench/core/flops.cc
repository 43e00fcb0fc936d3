// SPDX-License-Identifier: MIT
#include "core/flops.h"

#include <stdexcept>

namespace da3::bench {
namespace {

double product(int64_t rows, int64_t in, int64_t out) {
  return 2.0 * double(rows) * double(in) * double(out);
}

struct Map {
  int64_t height, width;
  int64_t pixels() const { return height * width; }
};

double convolution(const Map& out, int64_t kernel, int64_t in_channels, int64_t out_channels) {
  return product(out.pixels(), kernel * kernel * in_channels, out_channels);
}

double attention(int64_t sequences, int64_t tokens, int64_t width) {
  return 2 * double(sequences) * product(tokens, width, tokens);
}

double block_matrices(int64_t tokens, int64_t width, int64_t hidden, bool swiglu) {
  return product(tokens, width, 3 * width) + product(tokens, width, width) +
         product(tokens, width, swiglu ? 2 * hidden : hidden) + product(tokens, hidden, width);
}

void count_backbone(const BackboneConfig& c, int64_t batch, int64_t views, const Map& patches,
                    OperationCount* out) {
  const int64_t images = batch * views, tokens = 1 + patches.pixels();
  out->matrices += product(images * patches.pixels(), 3 * DA3_PATCH_SIZE * DA3_PATCH_SIZE, c.width);
  for (int i = 0; i < c.depth; ++i) {
    out->matrices += block_matrices(images * tokens, c.width, c.ffn_hidden, c.swiglu);
    out->attention +=
        c.is_global(i) ? attention(batch, views * tokens, c.width) : attention(images, tokens, c.width);
  }
}

// Level maps of the pyramid, fine to coarse: 4x, 2x, 1x, and half rounded up.
struct Pyramid {
  Map level[4];
  explicit Pyramid(const Map& p)
      : level{{4 * p.height, 4 * p.width},
              {2 * p.height, 2 * p.width},
              p,
              {(p.height + 1) / 2, (p.width + 1) / 2}} {}
  Map fused() const { return {2 * level[0].height, 2 * level[0].width}; }
};

// Projection, resizing and the 3x3 convolution to a common width, of one image.
double trunk(const HeadConfig& head, int64_t token_width, const Map& patches) {
  const Pyramid pyramid(patches);
  const auto& o = head.out_channels;
  double sum = 0;
  for (size_t k = 0; k < 4; ++k) sum += convolution(patches, 1, token_width, o[k]);
  // A transposed convolution whose stride is its kernel: every input pixel is multiplied with all taps.
  sum += product(patches.pixels(), o[0], 16 * o[0]) + product(patches.pixels(), o[1], 4 * o[1]);
  sum += convolution(pyramid.level[3], 3, o[3], o[3]);
  for (size_t k = 0; k < 4; ++k) sum += convolution(pyramid.level[k], 3, o[k], head.features);
  return sum;
}

double fusion_chain(const HeadConfig& head, const Map& patches) {
  const Pyramid pyramid(patches);
  double sum = 0;
  for (int k = 0; k < 4; ++k) {
    const int units = k == 3 ? 1 : 2;
    sum += 2 * units * convolution(pyramid.level[k], 3, head.features, head.features) +
           convolution(pyramid.level[k], 1, head.features, head.features);
  }
  return sum;
}

// From the fused map to `outputs` channels at full size.
double full_size_output(const HeadConfig& head, const Map& patches, const Map& image, int64_t outputs) {
  const int64_t half = head.features / 2;
  return convolution(Pyramid(patches).fused(), 3, head.features, half) + convolution(image, 3, half, 32) +
         convolution(image, 1, 32, outputs);
}

double ray_branch(const HeadConfig& head, const Map& patches) {
  const Map fused = Pyramid(patches).fused();
  const int64_t half = head.features / 2;
  return fusion_chain(head, patches) + 5 * convolution(fused, 3, head.features, half) +
         convolution(fused, 3, half, 32) + convolution(fused, 1, 32, 7);
}

double camera_decoder(int64_t width, int64_t images) {
  return 2 * product(images, width, width) + product(images, width, 3 + 4 + 2);
}

double camera_encoder(int64_t width, int64_t batch, int64_t views) {
  constexpr int kBlocks = 4;
  const int64_t images = batch * views;
  return product(images, 9, width / 2) + product(images, width / 2, width) +
         kBlocks * (block_matrices(images, width, 4 * width, false) + attention(batch, views, width));
}

double gaussian_head(const HeadConfig& head, int64_t token_width, const Map& patches, const Map& image) {
  const int64_t f = head.features, widths[] = {3, f / 8, f / 4, f / 2};
  double sum = trunk(head, token_width, patches) + fusion_chain(head, patches) +
               full_size_output(head, patches, image, 38);
  for (int i = 0; i < 3; ++i) sum += convolution(image, 3, widths[i], widths[i + 1]);
  return sum;
}

}  // namespace

OperationCount count_operations(const ModelConfig& config, const PassShape& s) {
  if (s.batch < 1 || s.views < 1 || s.height < DA3_PATCH_SIZE || s.width < DA3_PATCH_SIZE ||
      s.height % DA3_PATCH_SIZE != 0 || s.width % DA3_PATCH_SIZE != 0)
    throw std::invalid_argument("operations are counted for sides that are positive multiples of 14");
  const Map image{s.height, s.width}, patches{s.height / DA3_PATCH_SIZE, s.width / DA3_PATCH_SIZE};
  const int64_t images = s.batch * s.views, tokens = config.backbone.feature_width();
  OperationCount out;
  count_backbone(config.backbone, s.batch, s.views, patches, &out);
  double head = trunk(config.head, tokens, patches) + fusion_chain(config.head, patches);
  if (config.head.dual) {
    head += full_size_output(config.head, patches, image, 2);
    if (s.ray) out.ray = double(images) * ray_branch(config.head, patches);
  } else {
    // Depth and sky share the map before them.
    head += full_size_output(config.head, patches, image, 1) +
            convolution(image, 3, config.head.features / 2, 32) + convolution(image, 1, 32, 1);
  }
  out.head = double(images) * head;
  const bool nested = config.nested();
  if (config.cameras && (s.pose || nested)) out.cameras += camera_decoder(tokens, images);
  if (config.cameras && s.known_cameras)
    out.cameras += camera_encoder(config.backbone.width, s.batch, s.views);
  if (config.gaussians && s.gaussians)
    out.gaussians = double(images) * gaussian_head(config.gaussians->head, tokens, patches, image);
  if (nested) {
    PassShape single = s;
    single.ray = single.known_cameras = single.gaussians = false;
    const OperationCount metric = count_operations(*config.metric, single);
    out.matrices += metric.matrices;
    out.attention += metric.attention;
    out.head += metric.head;
  }
  return out;
}

}  // namespace da3::bench
