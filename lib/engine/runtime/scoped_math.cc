// SPDX-License-Identifier: MIT
#include "engine/runtime/scoped_math.h"

#include <ATen/ATen.h>

#include <mutex>

namespace da3 {
namespace {

// Those that live at this moment, and what was in force before the first of them.
struct Shared {
  std::mutex lock;
  int users = 0, choosing = 0, with_tf32 = 0;
  bool benchmark = false, blas = false, cudnn = false;

  // Call with the lock.
  void apply() const {
    auto& context = at::globalContext();
    context.setBenchmarkCuDNN(users > 0 ? choosing > 0 : benchmark);
    context.setAllowTF32CuBLAS(users > 0 ? with_tf32 == users : blas);
    context.setAllowTF32CuDNN(users > 0 ? with_tf32 == users : cudnn);
  }
  void count(const MathSettings& wanted, int one) {
    users += one;
    choosing += wanted.choose_convolutions ? one : 0;
    with_tf32 += wanted.tf32 ? one : 0;
  }
};

Shared& shared() {
  static auto* const it = new Shared;
  return *it;
}

}  // namespace

ScopedMath::ScopedMath(const MathSettings& wanted) : wanted_(wanted) {
  Shared& s = shared();
  const std::lock_guard<std::mutex> guard(s.lock);
  if (s.users == 0) {
    auto& context = at::globalContext();
    s.benchmark = context.benchmarkCuDNN();
    s.blas = context.allowTF32CuBLAS();
    s.cudnn = context.allowTF32CuDNN();
  }
  s.count(wanted_, 1);
  s.apply();
}

ScopedMath::~ScopedMath() {
  Shared& s = shared();
  const std::lock_guard<std::mutex> guard(s.lock);
  s.count(wanted_, -1);
  s.apply();
}

}  // namespace da3
