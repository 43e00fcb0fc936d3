// SPDX-License-Identifier: MIT
//
// The settings of a policy that LibTorch only has for the whole process, for the time of a pass.
#pragma once

namespace da3 {

struct MathSettings {
  bool choose_convolutions = false;  // cuDNN measures its algorithms
  bool tf32 = false;                 // float32 products with 10 bits of mantissa
};

// While some live at once (a worker for each engine): convolutions are measured if one of them wants it,
// TF32 is used if all of them do, so that nobody loses accuracy. With the last one the process gets back
// what it had before the first. Thread-safe.
class ScopedMath {
 public:
  explicit ScopedMath(const MathSettings& wanted);
  ~ScopedMath();
  ScopedMath(const ScopedMath&) = delete;
  ScopedMath& operator=(const ScopedMath&) = delete;

 private:
  const MathSettings wanted_;
};

}  // namespace da3
