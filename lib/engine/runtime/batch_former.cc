// SPDX-License-Identifier: MIT
#include "engine/runtime/batch_former.h"

#include <algorithm>
#include <set>
#include <utility>

namespace da3 {

bool Item::compatible(const Item& other) const {
  return width == other.width && height == other.height && views.size() == other.views.size() &&
         outputs == other.outputs && ref_view_strategy == other.ref_view_strategy &&
         use_ray_pose == other.use_ray_pose && extrinsics.empty() == other.extrinsics.empty();
}

void BatchFormer::push(Item item) {
  {
    const std::lock_guard<std::mutex> guard(lock_);
    waiting_.push_back(std::move(item));
  }
  changed_.notify_one();
}

std::vector<Item> BatchFormer::next() {
  std::unique_lock<std::mutex> guard(lock_);
  changed_.wait(guard, [this] { return stopped_ || !waiting_.empty(); });
  std::vector<Item> batch;
  if (waiting_.empty()) return batch;
  batch.push_back(std::move(waiting_.front()));
  waiting_.pop_front();
  size_t cap = batch.front().max_batch;
  std::set<const void*> skipped;  // streams that must wait, or their order would change
  for (auto it = waiting_.begin(); it != waiting_.end() && batch.size() < cap;) {
    const bool take =
        !skipped.count(it->stream) && it->compatible(batch.front()) && it->max_batch > batch.size();
    if (!take) {
      skipped.insert(it->stream);
      ++it;
      continue;
    }
    cap = std::min<size_t>(cap, it->max_batch);
    batch.push_back(std::move(*it));
    it = waiting_.erase(it);
  }
  return batch;
}

std::vector<Item> BatchFormer::remove(const std::function<bool(const Item&)>& predicate) {
  const std::lock_guard<std::mutex> guard(lock_);
  std::vector<Item> out;
  for (auto it = waiting_.begin(); it != waiting_.end();) {
    if (predicate(*it)) {
      out.push_back(std::move(*it));
      it = waiting_.erase(it);
    } else {
      ++it;
    }
  }
  return out;
}

void BatchFormer::stop() {
  {
    const std::lock_guard<std::mutex> guard(lock_);
    stopped_ = true;
  }
  changed_.notify_all();
}

}  // namespace da3
