// SPDX-License-Identifier: MIT
//
// Things that are costly to make and shared by everybody who asks for the same: one per key in a process,
// counted references, kept for a while after the last user (the model cache). No LibTorch.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <exception>
#include <functional>
#include <limits>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <type_traits>
#include <vector>

#include "engine/api/engine_error.h"
#include "engine/runtime/batch_former.h"

namespace da3 {

struct RegistryCounters {
  uint64_t hits = 0;       // found, in use or kept; those that waited for another's load too
  uint64_t misses = 0;     // loads that succeeded
  uint64_t evictions = 0;  // destroyed, by time, limit or need
  uint64_t unused_bytes = 0;
};

// Thread-safe. Loading and destroying happen without any lock held: they hold up nobody who wants another
// key.
template <typename Value>
class Registry {
 public:
  using Load = std::function<std::shared_ptr<Value>()>;
  using Cancelled = std::function<bool()>;

  explicit Registry(Clock& clock = Clock::real()) : clock_(clock) {}
  ~Registry() {
    {
      const std::lock_guard<std::mutex> guard(lock_);
      stopping_ = true;
      changed_.notify_all();
    }
    if (reaper_.joinable()) reaper_.join();
  }
  Registry(const Registry&) = delete;
  Registry& operator=(const Registry&) = delete;

  // The value of `key`: the one there is, or what `load` makes. Whoever asks while it is loaded waits and
  // gets the same value, or the same exception; a failure is not kept. `bytes` is what the value counts for
  // while nobody uses it: a number, or a function that says it when the value has to be made. Give it back
  // with release().
  // `cancelled` (may be empty) is asked while another loads, with no lock held: true throws EngineError
  // (CANCELLED). `load` asks for itself. Where the one who loads gives up that way, one of those who wait
  // takes over.
  template <typename Bytes>
  std::shared_ptr<Value> acquire(const std::string& key, const Bytes& bytes, const Load& load,
                                 const Cancelled& cancelled = {}) {
    std::unique_lock<std::mutex> guard(lock_);
    for (;;) {
      const auto found = slots_.find(key);
      if (found == slots_.end()) break;
      if (auto value = join(found->second, guard, cancelled)) return value;
    }
    const auto slot = std::make_shared<Slot>();
    slot->users = 1;
    slots_[key] = slot;
    guard.unlock();
    std::shared_ptr<Value> value;
    std::exception_ptr failure;
    bool given_up = false;
    uint64_t size = 0;
    try {
      if constexpr (std::is_invocable_v<Bytes>)
        size = bytes();
      else
        size = uint64_t(bytes);
      value = load();
    } catch (const EngineError& e) {
      failure = std::current_exception();
      given_up = e.code() == DA3_ERROR_CANCELLED;
    } catch (...) {
      failure = std::current_exception();
    }
    guard.lock();
    slot->bytes = size;
    slot->value = value;
    slot->failure = failure;
    slot->given_up = given_up;
    slot->loading = false;
    if (failure)
      slots_.erase(key);
    else
      ++counters_.misses;
    changed_.notify_all();
    if (failure) std::rethrow_exception(failure);
    return value;
  }

  // Gives one acquire() back. The last user's value is destroyed now, or kept for `keep` ns.
  void release(std::shared_ptr<Value> value, int64_t keep) {
    Garbage garbage(std::move(value));
    const std::lock_guard<std::mutex> guard(lock_);
    for (auto& [key, slot] : slots_) {
      if (slot->value == nullptr || slot->value != garbage.values.front()) continue;
      if (--slot->users > 0) return;
      slot->unused_since = ++uses_;
      slot->expires = clock_.now() + std::max<int64_t>(0, keep);
      collect(&garbage);
      if (keep > 0 && !reaper_.joinable()) reaper_ = std::thread([this] { reap(); });
      changed_.notify_all();
      return;
    }
  }

  // Over it, values without a user go, the one unused for longest first.
  void set_limit(uint64_t bytes) {
    Garbage garbage;
    const std::lock_guard<std::mutex> guard(lock_);
    limit_ = bytes;
    collect(&garbage);
  }
  // Destroys what nobody uses. True if there was something.
  bool evict_unused() {
    Garbage garbage;
    const std::lock_guard<std::mutex> guard(lock_);
    take_if(&garbage, [](const Slot&) { return true; });
    return !garbage.values.empty();
  }
  // Destroys what was kept long enough; a thread of the registry does that by itself.
  void expire() {
    Garbage garbage;
    const std::lock_guard<std::mutex> guard(lock_);
    collect(&garbage);
  }

  RegistryCounters counters() const {
    const std::lock_guard<std::mutex> guard(lock_);
    RegistryCounters out = counters_;
    out.unused_bytes = unused_bytes();
    return out;
  }
  uint32_t users(const Value* value) const {
    const std::lock_guard<std::mutex> guard(lock_);
    for (const auto& [key, slot] : slots_)
      if (slot->value.get() == value) return slot->users;
    return 0;
  }

 private:
  struct Slot {
    bool loading = true, given_up = false;
    std::shared_ptr<Value> value;
    std::exception_ptr failure;
    uint32_t users = 0;
    uint64_t bytes = 0, unused_since = 0;
    int64_t expires = kNever;
  };
  // Declared before a lock is taken: what is in it is destroyed after the lock is free.
  struct Garbage {
    Garbage() = default;
    explicit Garbage(std::shared_ptr<Value> value) { values.push_back(std::move(value)); }
    std::vector<std::shared_ptr<Value>> values;
  };

  static constexpr int64_t kAskAgain = 50'000'000;  // ns between two questions whether a wait is cancelled

  // Null: whoever loaded it gave up, so that it has to be asked for anew.
  std::shared_ptr<Value> join(std::shared_ptr<Slot> slot, std::unique_lock<std::mutex>& guard,
                              const Cancelled& cancelled) {
    ++slot->users;
    while (slot->loading) {
      if (!cancelled) {
        changed_.wait(guard);
        continue;
      }
      guard.unlock();
      const bool unwanted = cancelled();
      guard.lock();
      if (!slot->loading) break;
      if (unwanted) {
        --slot->users;
        throw EngineError(DA3_ERROR_CANCELLED, "Waiting for the model was cancelled.");
      }
      clock_.wait_until(changed_, guard, clock_.now() + kAskAgain);
    }
    if (slot->failure && slot->given_up) return nullptr;
    if (slot->failure) std::rethrow_exception(slot->failure);
    ++counters_.hits;
    return slot->value;
  }
  uint64_t unused_bytes() const {
    uint64_t sum = 0;
    for (const auto& [key, slot] : slots_)
      if (slot->users == 0) sum += slot->bytes;
    return sum;
  }
  template <typename Predicate>
  void take_if(Garbage* garbage, Predicate predicate) {
    std::erase_if(slots_, [&](const auto& entry) {
      const Slot& slot = *entry.second;
      if (slot.users > 0 || slot.loading || !predicate(slot)) return false;
      garbage->values.push_back(slot.value);
      ++counters_.evictions;
      return true;
    });
  }
  void collect(Garbage* garbage) {
    const int64_t now = clock_.now();
    take_if(garbage, [now](const Slot& slot) { return slot.expires <= now; });
    while (limit_ > 0 && unused_bytes() > limit_) {
      uint64_t oldest = std::numeric_limits<uint64_t>::max();
      for (const auto& [key, slot] : slots_)
        if (slot->users == 0) oldest = std::min(oldest, slot->unused_since);
      take_if(garbage, [oldest](const Slot& slot) { return slot.unused_since == oldest; });
    }
  }
  void reap() {
    std::unique_lock<std::mutex> guard(lock_);
    while (!stopping_) {
      int64_t next = kNever;
      for (const auto& [key, slot] : slots_)
        if (slot->users == 0 && !slot->loading) next = std::min(next, slot->expires);
      if (next == kNever) {
        changed_.wait(guard);
      } else if (next > clock_.now()) {
        clock_.wait_until(changed_, guard, next);
      } else {
        Garbage garbage;
        collect(&garbage);
        guard.unlock();
        garbage.values.clear();
        guard.lock();
      }
    }
  }

  Clock& clock_;
  mutable std::mutex lock_;
  std::condition_variable changed_;
  std::map<std::string, std::shared_ptr<Slot>> slots_;
  RegistryCounters counters_;
  uint64_t limit_ = 0, uses_ = 0;  // limit 0: none
  bool stopping_ = false;
  std::thread reaper_;
};

}  // namespace da3
