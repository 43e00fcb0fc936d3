// SPDX-License-Identifier: MIT
//
// What the machine can do at best. Call in a child process: LibTorch computes.
#pragma once

#include <string>
#include <vector>

#include "core/report.h"
#include "core/turns.h"

namespace da3::bench {

// {"rows": [...]}: one row for each operator and shape, with gflops.
Row measure_matmul(const std::string& device, int64_t threads, const std::vector<std::string>& precisions,
                   bool quick, const RunPlan& plan);
Row measure_convolution(const std::string& device, int64_t threads,
                        const std::vector<std::string>& precisions, bool quick, const RunPlan& plan);
Row measure_bandwidth(const std::string& device, int64_t threads, bool quick, const RunPlan& plan);

}  // namespace da3::bench
