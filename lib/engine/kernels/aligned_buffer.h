// SPDX-License-Identifier: MIT
//
// Memory that begins at a line of the cache: a vector or a row of a tile that crosses lines takes two loads.
#pragma once

#include <cstddef>
#include <memory>
#include <new>
#include <type_traits>

namespace da3::kernels {

template <typename T>
class AlignedBuffer {
  static_assert(std::is_trivially_copyable_v<T>);

 public:
  AlignedBuffer() = default;
  AlignedBuffer(AlignedBuffer&&) = delete;
  // `count` values; what they were is kept only if so many fitted before.
  T* get(size_t count) {
    if (count > capacity_) {
      memory_.reset();
      capacity_ = 0;
      memory_.reset(static_cast<T*>(::operator new(count * sizeof(T), kLine)));
      capacity_ = count;
    }
    return memory_.get();
  }
  const T* data() const { return memory_.get(); }
  size_t bytes() const { return capacity_ * sizeof(T); }
  void clear() {
    memory_.reset();
    capacity_ = 0;
  }

 private:
  static constexpr std::align_val_t kLine{64};
  struct Free {
    void operator()(T* memory) const { ::operator delete(memory, kLine); }
  };
  std::unique_ptr<T, Free> memory_;
  size_t capacity_ = 0;
};

}  // namespace da3::kernels
