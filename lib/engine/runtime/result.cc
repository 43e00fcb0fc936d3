// SPDX-License-Identifier: MIT
#include "engine/runtime/result.h"

#include <atomic>

struct Da3Result {
  std::unique_ptr<da3::ResultPlanes> planes;
  std::atomic<int> references{1};
};

namespace da3 {

Da3Result* make_result(std::unique_ptr<ResultPlanes> planes) {
  auto* result = new Da3Result;
  result->planes = std::move(planes);
  return result;
}

const Da3ResultData* result_data(const Da3Result* result) {
  return &result->planes->data;
}

Da3Result* result_ref(Da3Result* result) {
  ++result->references;
  return result;
}

std::string result_failure(const Da3Result* result) {
  return result->planes->failure;
}

void result_unref(Da3Result* result) {
  if (result && --result->references == 0) delete result;
}

}  // namespace da3
