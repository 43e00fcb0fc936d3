// SPDX-License-Identifier: MIT
#include "engine/runtime/images.h"

#include <array>
#include <cstring>

#include "engine/network/balanced_for.h"

namespace da3 {
namespace {

using at::Tensor;

constexpr float kMean[3] = {0.485f, 0.456f, 0.406f}, kDeviation[3] = {0.229f, 0.224f, 0.225f};

// 256 results per channel.
using Normaliser = std::array<std::array<float, 256>, 3>;

Normaliser make_normaliser() {
  Normaliser table;
  for (int c = 0; c < 3; ++c)
    for (int v = 0; v < 256; ++v)
      table[size_t(c)][size_t(v)] = (float(v) / 255.0f - kMean[c]) / kDeviation[c];
  return table;
}

// Interleaved bytes -> three float planes.
void normalise(const Da3View& view, int64_t width, int64_t height, float* out) {
  static const Normaliser table = make_normaliser();
  const int64_t plane = width * height;
  balanced_for(height, 16, [&](int64_t begin, int64_t end) {
    for (int64_t y = begin; y < end; ++y) {
      const uint8_t* row = view.rgb + y * view.stride;
      float *r = out + y * width, *g = r + plane, *b = g + plane;
      for (int64_t x = 0; x < width; ++x) {
        r[x] = table[0][row[3 * x]];
        g[x] = table[1][row[3 * x + 1]];
        b[x] = table[2][row[3 * x + 2]];
      }
    }
  });
}

// One value per channel, as [3, 1, 1]; made on the device, so that nothing waits for it.
Tensor per_channel(const float (&values)[3], at::Device device) {
  const Tensor out = at::empty({3, 1, 1}, at::TensorOptions(at::kFloat).device(device));
  for (int64_t c = 0; c < 3; ++c) out[c].fill_(values[c]);
  return out;
}

}  // namespace

Tensor images_by_table(const std::vector<Item>& items) {
  const Item& first = items.front();
  const int64_t views = int64_t(first.views.size()), h = first.height, w = first.width;
  Tensor images = at::empty({int64_t(items.size()), views, 3, h, w}, at::TensorOptions(at::kFloat));
  float* out = images.data_ptr<float>();
  for (const Item& item : items)
    for (const Da3View& view : item.views) {
      normalise(view, w, h, out);
      out += 3 * h * w;
    }
  return images;
}

Tensor pack_bytes(const std::vector<Item>& items, bool pinned) {
  const Item& first = items.front();
  const int64_t views = int64_t(first.views.size()), h = first.height, w = first.width;
  const Tensor bytes =
      at::empty({int64_t(items.size()), views, h, w, 3}, at::TensorOptions(at::kByte).pinned_memory(pinned));
  uint8_t* const to = bytes.data_ptr<uint8_t>();
  // While a GPU waits for them: on all threads.
  balanced_for(bytes.size(0) * views, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const Da3View& view = items[size_t(i / views)].views[size_t(i % views)];
      uint8_t* const picture = to + i * 3 * h * w;
      if (view.stride == 3 * w) {
        std::memcpy(picture, view.rgb, size_t(3 * h * w));
        continue;
      }
      for (int64_t y = 0; y < h; ++y)
        std::memcpy(picture + y * 3 * w, view.rgb + y * view.stride, size_t(3 * w));
    }
  });
  return bytes;
}

Tensor images_of_bytes(const Tensor& bytes) {
  const at::Device device = bytes.device();
  // Divisors are tensors on the device: by a number some devices multiply with its rounded inverse.
  const Tensor most = at::full({}, 255.0f, at::TensorOptions(at::kFloat).device(device));
  return bytes.permute({0, 1, 4, 2, 3})
      .to(at::kFloat, /*non_blocking=*/false, /*copy=*/true, at::MemoryFormat::Contiguous)
      .div_(most)
      .sub_(per_channel(kMean, device))
      .div_(per_channel(kDeviation, device));
}

Tensor images_by_arithmetic(const std::vector<Item>& items, at::Device device) {
  return images_of_bytes(
      pack_bytes(items, device.is_cuda()).to(device, at::kByte, /*non_blocking=*/device.is_cuda()));
}

Tensor make_images(const std::vector<Item>& items, at::Device device) {
  return device.is_cpu() ? images_by_table(items) : images_by_arithmetic(items, device);
}

Tensor to_host(const Tensor& t, bool wait) {
  if (!t.is_cuda()) return t.to(at::kCPU, at::kFloat).contiguous();
  const Tensor out = at::empty(t.sizes(), at::TensorOptions(at::kFloat).pinned_memory(true));
  return out.copy_(t, /*non_blocking=*/!wait);
}

}  // namespace da3
