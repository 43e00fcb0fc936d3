// SPDX-License-Identifier: MIT
//
// What tests see and decide of the stub engine.
#include "stub_core.h"

namespace da3::stub {

namespace {

void control_reset() {
  Global& g = global();
  const std::lock_guard lock(g.mutex);
  const Da3StubCounters old = g.counters;
  g.counters = Da3StubCounters{};
  g.counters.engines_alive = old.engines_alive;
  g.counters.results_alive = old.results_alive;
  g.passes = g.open_passes = g.opening = g.to_expire = g.slow_passes = 0;
  test_time().reset();
}

void control_counters(Da3StubCounters* out) {
  const std::lock_guard lock(global().mutex);
  *out = global().counters;
  out->streams = int(global().streams.size());
}

void control_release(int requests) {
  Global& g = global();
  const std::lock_guard lock(g.mutex);
  g.passes = requests < 0 ? -1 : g.passes + requests;
  g.changed.notify_all();
}

void control_wait_submitted(int requests) {
  Global& g = global();
  std::unique_lock lock(g.mutex);
  g.changed.wait(lock, [&] { return g.counters.submitted >= requests; });
}

void control_wait_finished(int requests) {
  Global& g = global();
  std::unique_lock lock(g.mutex);
  g.changed.wait(lock, [&] { return g.counters.finished >= requests; });
}

void control_release_opens(int models) {
  Global& g = global();
  const std::lock_guard lock(g.mutex);
  g.open_passes = models < 0 ? -1 : g.open_passes + models;
  g.changed.notify_all();
}

void control_wait_opening(int models) {
  Global& g = global();
  std::unique_lock lock(g.mutex);
  g.changed.wait(lock, [&] { return g.opening >= models; });
}

void control_expire(int requests) {
  const std::lock_guard lock(global().mutex);
  global().to_expire = requests;
}

void control_wait_slow(int passes) {
  Global& g = global();
  std::unique_lock lock(g.mutex);
  g.changed.wait(lock, [&] { return g.counters.slow_passes >= passes; });
}

void control_finish_slow(int passes) {
  Global& g = global();
  const std::lock_guard lock(g.mutex);
  g.slow_passes = passes < 0 ? -1 : g.slow_passes + passes;
  g.changed.notify_all();
}

void control_set_time(int64_t ns) {
  test_time().set(ns);
}

void control_look(int idle_counts, Da3StubState* out) {
  test_time().look(idle_counts != 0, out);
}

void control_proceed() {
  test_time().proceed();
}

}  // namespace

}  // namespace da3::stub

extern "C" {

__attribute__((visibility("default"))) const Da3StubControl* da3_stub_get_control(void) {
  using namespace da3::stub;
  static const Da3StubControl control = {control_reset,          control_counters,      control_release,
                                         control_wait_submitted, control_wait_finished, control_release_opens,
                                         control_wait_opening,   control_expire,        control_wait_slow,
                                         control_finish_slow,    control_set_time,      control_look,
                                         control_proceed};
  return &control;
}
}
