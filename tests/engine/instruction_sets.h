// SPDX-License-Identifier: MIT
//
// Kernels as other processors run them.
#pragma once

#include <doctest/doctest.h>

#include "engine/kernels/instructions.h"

namespace da3::test {

// As long as it lives, nothing beyond `most` is used; afterwards what was before.
class Limited {
 public:
  explicit Limited(kernels::Instructions most) : before_(kernels::limit_instructions(most)) {}
  ~Limited() { kernels::limit_instructions(before_); }
  Limited(const Limited&) = delete;
  Limited& operator=(const Limited&) = delete;

 private:
  const kernels::Instructions before_;
};

// Runs the body as on this processor, as on one without tiles (AMX), as on one without products of bfloat16,
// and as on one without AVX-512.
template <typename Body>
void with_every_instruction_set(Body&& body) {
  for (const auto most : {kernels::Instructions::all, kernels::Instructions::no_tiles,
                          kernels::Instructions::no_bfloat16, kernels::Instructions::none}) {
    const int limit = int(most);
    CAPTURE(limit);
    const Limited limited(most);
    body();
  }
}

}  // namespace da3::test
