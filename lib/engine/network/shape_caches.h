// SPDX-License-Identifier: MIT
//
// What networks keep for each shape of image (embeddings, tables) is dropped when there are too many shapes.
#pragma once

#include <cstdint>

namespace da3 {

// How often that has happened on this thread. Recorded work that refers to what was dropped is not valid any
// more.
inline uint64_t& dropped_shape_caches() {
  thread_local uint64_t count = 0;
  return count;
}

}  // namespace da3
