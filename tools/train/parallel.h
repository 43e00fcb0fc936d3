// SPDX-License-Identifier: MIT
#pragma once

#include <functional>

namespace da3::train {

// work(0) ... work(count - 1), each on a thread of its own when there is more than one, with one LibTorch
// thread each: small operators gain little from more, and threads that meet at every operator wait for each
// other. Returns when all are done; throws the first exception.
void run_parallel(int count, const std::function<void(int)>& work);

}  // namespace da3::train
