// SPDX-License-Identifier: MIT
#pragma once

#include <memory>
#include <string>

#include "engine/runtime/inference.h"

namespace da3 {

// Takes the planes; the result starts with one reference.
Da3Result* make_result(std::unique_ptr<ResultPlanes> planes);
const Da3ResultData* result_data(const Da3Result* result);
Da3Result* result_ref(Da3Result* result);
void result_unref(Da3Result* result);
// Why there is nothing in it; empty: all is well.
std::string result_failure(const Da3Result* result);

}  // namespace da3
