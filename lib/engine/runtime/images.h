// SPDX-License-Identifier: MIT
//
// Pixels of a batch as the network takes them.
#pragma once

#include <ATen/ATen.h>

#include <vector>

#include "engine/runtime/batch_former.h"

namespace da3 {

// [items, views, 3, height, width], float32 on `device`, normalised: (v / 255 - mean) / deviation of
// ImageNet, as upstream's input processor does it, with the same bits on every device. The items must be
// compatible.
at::Tensor make_images(const std::vector<Item>& items, at::Device device);

// The two ways to get there. By a table, on the CPU:
at::Tensor images_by_table(const std::vector<Item>& items);
// By arithmetic on `device`, to which bytes are moved, a quarter of what floats would be:
at::Tensor images_by_arithmetic(const std::vector<Item>& items, at::Device device);
// and its two halves: [items, views, height, width, 3], uint8, in pages that do not move where `pinned`;
at::Tensor pack_bytes(const std::vector<Item>& items, bool pinned);
// of those, where they are.
at::Tensor images_of_bytes(const at::Tensor& bytes);

// A tensor in host memory, float32; from CUDA through pages that do not move. `wait` = false: it is there
// when what is in the current stream now is done.
at::Tensor to_host(const at::Tensor& t, bool wait = true);

}  // namespace da3
