// SPDX-License-Identifier: MIT
#include "train/loader.h"

#include <algorithm>

namespace da3::train {

Loader::Loader(std::function<std::vector<SetDescription>(int64_t)> describe, int64_t first_step, int threads,
               int ahead)
    : describe_(std::move(describe)), ahead_(ahead), wanted_(first_step) {
  for (int i = 0; i < std::max(1, threads); ++i) threads_.emplace_back([this] { loop(); });
}

Loader::~Loader() {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    quit_ = true;
  }
  work_.notify_all();
  for (std::thread& t : threads_) t.join();
}

bool Loader::pick(int64_t* step, size_t* begin, size_t* end) {
  const int64_t last = wanted_ + (waiting_ ? 0 : -1) + ahead_;
  for (int64_t s = wanted_; s <= last; ++s) {
    auto [at, is_new] = pending_.try_emplace(s);
    Pending& p = at->second;
    if (is_new) {
      p.descriptions = describe_(s);
      p.sets.resize(p.descriptions.size());
    }
    if (p.started == p.descriptions.size()) continue;
    *step = s;
    *begin = p.started++;
    const SetDescription& first = p.descriptions[*begin];
    const auto same_scene = [&](const SetDescription& d) {
      return d.family == first.family && d.scene_seed == first.scene_seed;
    };
    while (p.started < p.descriptions.size() && same_scene(p.descriptions[p.started])) ++p.started;
    *end = p.started;
    return true;
  }
  return false;
}

void Loader::loop() {
  scene::Renderer renderer(1);
  std::unique_lock<std::mutex> lock(mutex_);
  for (;;) {
    int64_t step = 0;
    size_t begin = 0, end = 0;
    work_.wait(lock, [&] { return quit_ || error_ || pick(&step, &begin, &end); });
    if (quit_ || error_) return;
    const auto& all = pending_[step].descriptions;
    const std::vector<SetDescription> descriptions(all.begin() + ptrdiff_t(begin),
                                                   all.begin() + ptrdiff_t(end));
    lock.unlock();
    Batch sets;
    std::exception_ptr error;
    try {
      const SetDescription& first = descriptions.front();
      const scene::Scene scene = scene::Scene::make(first.family, first.scene_seed);
      for (const SetDescription& d : descriptions) sets.push_back(make_view_set(d, scene, renderer));
    } catch (...) {
      error = std::current_exception();
    }
    lock.lock();
    if (error) {
      error_ = error;
      ready_.notify_all();
      work_.notify_all();
      return;
    }
    Pending& p = pending_[step];
    std::move(sets.begin(), sets.end(), p.sets.begin() + ptrdiff_t(begin));
    p.done += end - begin;
    if (p.done == p.sets.size()) ready_.notify_all();
  }
}

Batch Loader::next() {
  std::unique_lock<std::mutex> lock(mutex_);
  waiting_ = true;
  work_.notify_all();
  ready_.wait(lock, [&] {
    const auto at = pending_.find(wanted_);
    return error_ || (at != pending_.end() && at->second.done == at->second.sets.size());
  });
  waiting_ = false;
  if (error_) std::rethrow_exception(error_);
  Batch out = std::move(pending_[wanted_].sets);
  pending_.erase(wanted_++);
  work_.notify_all();
  return out;
}

}  // namespace da3::train
