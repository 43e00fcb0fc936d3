// SPDX-License-Identifier: MIT
//
// Which device and precision a model runs in. One meaning per word: what was asked for, or an error; only
// "auto" chooses.
#pragma once

#include <ATen/ATen.h>

#include <string>

#include "engine/runtime/policy.h"

namespace da3 {

// "auto" (CUDA, then MPS, then CPU), "cpu", "cuda", "cuda:N", "mps"; empty = auto.
// Throws EngineError: DEVICE when this LibTorch or machine lacks it, SETTINGS for another word.
at::Device select_device(const std::string& name);

// What `device` really has, asked of the processor or the driver.
DeviceTraits traits_of(at::Device device);

// Throws EngineError(UNSUPPORTED) for a precision the device cannot compute in. auto: by the table, without
// measuring (make_plan() measures).
Da3Precision select_precision(Da3Precision wanted, at::Device device);

at::ScalarType scalar_type_of(Da3Precision precision);

// No TF32, deterministic convolution choice: for comparison with recorded results. Process-wide.
void set_exact_arithmetic();

// Number of threads for CPU work, once per process: the first caller wins. Returns false if another number is
// in force, by a caller or because passes have run. 0: no wish; the number is LibTorch's, but if that is one
// or more than usable_cores() and not from the environment (OMP_NUM_THREADS, OMP_PROC_BIND and their like),
// these.
bool set_threads(unsigned threads);
// A pass runs: the number of threads it has is in force. A thread that has computed keeps its number.
void threads_are_used();

// One line: LibTorch version, CPU capability, threads, devices.
std::string describe_runtime();

}  // namespace da3
