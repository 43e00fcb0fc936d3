// SPDX-License-Identifier: MIT
//
// A loop on LibTorch's threads that does not wait for the slowest of them: at::parallel_for() cuts the work
// into as many equal parts as there are threads, and one that another program keeps from its core holds up
// all.
#pragma once

#include <cstdint>
#include <functional>

namespace da3 {

// Calls use(begin, end) for parts of 0 <= i < count, each index once, at the same time on several threads.
// Every thread begins with an equal share of neighbouring indices, as parallel_for() gives them, and takes it
// piece by piece; who has none left takes pieces from the far end of the largest share. A piece has at least
// `grain` indices, but for the last of a share. What use() throws is thrown here, once the others are done.
// Within a parallel region, and for one piece, it is a call on this thread.
void balanced_for(int64_t count, int64_t grain, const std::function<void(int64_t begin, int64_t end)>& use);

}  // namespace da3
