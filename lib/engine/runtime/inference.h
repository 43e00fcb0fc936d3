// SPDX-License-Identifier: MIT
//
// One forward pass for a batch of items, from 8-bit pixels to results in host memory.
#pragma once

#include <string>
#include <vector>

#include "engine/runtime/batch_former.h"
#include "engine/runtime/model.h"

namespace da3 {

// Reference-counted; owns the planes that `data` points to.
struct ResultPlanes {
  Da3ResultData data{};
  std::vector<at::Tensor> owned;
  std::string failure;  // not empty: this item went wrong, and why; the others of its batch are good
};

// The items must be compatible. Throws EngineError (NO_MEMORY when the device ran out) or c10::Error.
// Results are independent of what shares the batch.
std::vector<std::unique_ptr<ResultPlanes>> infer_batch(const Model& model, const std::vector<Item>& items);

}  // namespace da3
