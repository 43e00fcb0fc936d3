// SPDX-License-Identifier: MIT
//
// The arithmetic behind da3infer's decisions: quantiles, rates, the latency that is answered, quality of
// service.
#include <gst/check/gstcheck.h>

#include "infer_policy.h"
#undef fail

#include <string>

using namespace da3::plugin;

namespace {

constexpr gint64 kMs = GST_MSECOND;

GstEvent* qos(GstClockTimeDiff jitter, GstClockTime timestamp) {
  return gst_event_new_qos(GST_QOS_TYPE_UNDERFLOW, 1.5, jitter, timestamp);
}

void tell(QosGate& gate, GstClockTimeDiff jitter, GstClockTime timestamp, GstClockTime duration = 0) {
  GstEvent* event = qos(jitter, timestamp);
  gate.update(event, duration);
  gst_event_unref(event);
}

// Fills the estimate with `count` measurements; how often it moved.
int feed(LatencyEstimate& estimate, gint64 value, int count) {
  int moves = 0;
  for (int i = 0; i < count; ++i) moves += estimate.add(value);
  return moves;
}

}  // namespace

GST_START_TEST(quantiles_are_values_that_occurred) {
  Samples samples;
  for (int i = 1; i <= 100; ++i) samples.add(101 - i);
  fail_unless_equals_int64(samples.quantile(0.5), 50);
  fail_unless_equals_int64(samples.quantile(0.95), 95);
  fail_unless_equals_int64(samples.quantile(0.99), 99);
  fail_unless_equals_int64(samples.quantile(1), 100);
}
GST_END_TEST

GST_START_TEST(quantiles_of_nothing_and_of_one) {
  Samples samples;
  fail_unless_equals_int64(samples.quantile(0.95), 0);
  samples.add(7);
  for (const double share : {0.0, 0.5, 1.0}) fail_unless_equals_int64(samples.quantile(share), 7);
  samples.clear();
  fail_unless_equals_int64(samples.quantile(0.5), 0);
}
GST_END_TEST

GST_START_TEST(old_samples_are_forgotten) {
  Samples samples(4);
  for (const gint64 value : {1000, 1, 2, 3, 4}) samples.add(value);
  fail_unless_equals_int64(samples.quantile(1), 4);
  fail_unless_equals_int(int(samples.size()), 4);
}
GST_END_TEST

GST_START_TEST(rates) {
  Rate rate;
  fail_unless_equals_float(rate.per_second(), 0);
  rate.add(5);
  fail_unless_equals_float(rate.per_second(), 0);
  rate.add(5);
  fail_unless_equals_float(rate.per_second(), 0);  // a clock that stands still
  rate.clear();
  for (int i = 0; i < 100; ++i) rate.add(i * 20 * kMs);
  fail_unless(rate.per_second() > 49.9 && rate.per_second() < 50.1);
}
GST_END_TEST

GST_START_TEST(a_rate_falls_when_nothing_comes) {
  Rate rate;
  fail_unless_equals_float(rate.per_second(GST_SECOND), 0);
  for (int i = 0; i < 100; ++i) rate.add(i * 20 * kMs);
  const gint64 last = 99 * 20 * kMs;
  // Until the next one is due nothing has changed.
  for (const gint64 later : {0, 1, 19}) {
    fail_unless(rate.per_second(last + later * kMs) > 49.9 && rate.per_second(last + later * kMs) < 50.1);
  }
  fail_unless(rate.per_second(last + 100 * kMs) < 46);
  fail_unless(rate.per_second(last + 10 * gint64(GST_SECOND)) < 3.1);
  fail_unless(rate.per_second(last + 3600 * gint64(GST_SECOND)) < 0.01);
  rate.add(last + 20 * kMs);
  fail_unless(rate.per_second(last - 20 * kMs) > 49.9, "a clock that went back");
}
GST_END_TEST

GST_START_TEST(warm_up_passes_do_not_count) {
  LatencyEstimate estimate;
  fail_if(estimate.add(900 * kMs));
  fail_if(estimate.add(800 * kMs));
  fail_unless(estimate.add(10 * kMs));
  fail_unless_equals_int64(estimate.value(), 10 * kMs);
}
GST_END_TEST

GST_START_TEST(latency_does_not_follow_noise) {
  LatencyEstimate estimate;
  feed(estimate, 100 * kMs, 3);
  int moves = 0;
  for (int i = 0; i < 1000; ++i) moves += estimate.add((95 + (i * 7) % 14) * kMs);  // 95 to 108 ms
  fail_unless_equals_int(moves, 0);
}
GST_END_TEST

GST_START_TEST(one_outlier_is_no_change) {
  LatencyEstimate estimate;
  feed(estimate, 100 * kMs, 40);
  fail_unless_equals_int(feed(estimate, 500 * kMs, 1), 0);
  fail_unless_equals_int(feed(estimate, 100 * kMs, 40), 0);
}
GST_END_TEST

GST_START_TEST(a_real_rise_moves_it_once) {
  LatencyEstimate estimate;
  feed(estimate, 100 * kMs, 40);
  fail_unless_equals_int(feed(estimate, 200 * kMs, 100), 1);
  fail_unless_equals_int64(estimate.value(), 200 * kMs);
}
GST_END_TEST

GST_START_TEST(a_real_fall_moves_it_after_a_while) {
  LatencyEstimate estimate;
  feed(estimate, 200 * kMs, 100);
  fail_unless_equals_int(feed(estimate, 100 * kMs, 30), 0);
  fail_unless_equals_int(feed(estimate, 100 * kMs, 100), 1);
  fail_unless_equals_int64(estimate.value(), 100 * kMs);
}
GST_END_TEST

GST_START_TEST(a_small_fall_does_not) {
  LatencyEstimate estimate;
  feed(estimate, 100 * kMs, 100);
  fail_unless_equals_int(feed(estimate, 80 * kMs, 300), 0);
}
GST_END_TEST

GST_START_TEST(what_is_assumed_holds_until_it_is_measured) {
  LatencyEstimate estimate;
  fail_if(estimate.assume(0));
  fail_unless(estimate.assume(50 * kMs));
  fail_if(estimate.assume(70 * kMs), "it is known already");
  fail_unless_equals_int(feed(estimate, 52 * kMs, 20), 0);
  estimate.clear();
  fail_unless_equals_int64(estimate.value(), 0);
}
GST_END_TEST

GST_START_TEST(late_frames_shut_the_gate_for_the_next_ones) {
  QosGate gate;
  fail_if(gate.too_late(0), "nobody has complained");
  tell(gate, 30 * kMs, GST_SECOND, 40 * kMs);
  // 1 s + 2 * 30 ms + 40 ms.
  fail_unless(gate.too_late(GST_SECOND + 99 * kMs));
  fail_if(gate.too_late(GST_SECOND + 100 * kMs));
  fail_unless_equals_int64(gate.lateness(GST_SECOND + 90 * kMs), 10 * kMs);
  fail_unless_equals_int64(gate.lateness(2 * GST_SECOND), 0);
  fail_unless_equals_float(gate.proportion(), 1.5);
}
GST_END_TEST

GST_START_TEST(early_frames_open_it) {
  QosGate gate;
  tell(gate, 500 * kMs, GST_SECOND);
  tell(gate, -20 * kMs, 2 * GST_SECOND);
  fail_unless(gate.too_late(GST_SECOND));
  fail_if(gate.too_late(2 * GST_SECOND - 20 * kMs));
  tell(gate, -20 * kMs, 20 * kMs);
  fail_if(gate.too_late(0), "nothing is before the beginning");
}
GST_END_TEST

GST_START_TEST(nothing_is_said_about_unknown_times) {
  QosGate gate;
  tell(gate, GST_SECOND, GST_SECOND, GST_CLOCK_TIME_NONE);
  fail_if(gate.too_late(GST_CLOCK_TIME_NONE));
  fail_unless(gate.too_late(GST_SECOND));
  tell(gate, GST_SECOND, GST_CLOCK_TIME_NONE);
  fail_if(gate.too_late(0));
  tell(gate, GST_SECOND, GST_SECOND);
  gate.clear();
  fail_if(gate.too_late(0));
}
GST_END_TEST

GST_START_TEST(budgets) {
  fail_unless_equals_int64(age_budget(0, 0), 100 * kMs);
  fail_unless_equals_int64(age_budget(0, 10 * kMs), 100 * kMs);
  fail_unless_equals_int64(age_budget(0, 2 * gint64(GST_SECOND)), 6 * gint64(GST_SECOND));
  fail_unless_equals_int64(age_budget(7, 2 * gint64(GST_SECOND)), 7);
  fail_unless_equals_int64(age_budget(GST_CLOCK_TIME_NONE - 1, 0), G_MAXINT64);
}
GST_END_TEST

GST_START_TEST(requests_with_the_engine) {
  // Alone: one waits in front of the engine.
  fail_unless_equals_int(int(requests_in_flight(100 * kMs, 0, 0, 8)), 2);   // not known yet
  fail_unless_equals_int(int(requests_in_flight(100 * kMs, 50, 0, 8)), 4);  // 50/s for 0.1 s, less one
  fail_unless_equals_int(int(requests_in_flight(100 * kMs, 1, 0, 8)), 2);   // one runs, one waits
  fail_unless_equals_int(int(requests_in_flight(100 * kMs, 1e9, 0, 8)), 8);
  fail_unless_equals_int(int(requests_in_flight(G_MAXINT64, 1e9, 0, 8)), 8);
  fail_unless_equals_int(int(requests_in_flight(0, 100, 0, 1)), 2);
  // Beside others: an equal share at least, rounded up.
  fail_unless_equals_int(int(requests_in_flight(100 * kMs, 0, 41, 8)), 5);
  fail_unless_equals_int(int(requests_in_flight(100 * kMs, 12, 41, 8)), 5);
  fail_unless_equals_int(int(requests_in_flight(100 * kMs, 61, 41, 8)), 7);
  fail_unless_equals_int(int(requests_in_flight(100 * kMs, 5, 5, 8)), 2);
  fail_unless_equals_int(int(requests_in_flight(100 * kMs, 5, 1e9, 8)), 8);
}
GST_END_TEST

GST_START_TEST(policies) {
  fail_unless(effective_policy(DropPolicy::automatic, true) == DropPolicy::oldest);
  fail_unless(effective_policy(DropPolicy::automatic, false) == DropPolicy::never);
  for (const bool live : {false, true}) {
    for (const DropPolicy policy : {DropPolicy::never, DropPolicy::oldest, DropPolicy::newest}) {
      fail_unless(effective_policy(policy, live) == policy);
    }
  }
}
GST_END_TEST

GST_START_TEST(every_reason_has_a_name_of_its_own) {
  for (size_t a = 0; a < kDropReasons; ++a) {
    const std::string name = drop_reason_name(DropReason(a));
    fail_if(name.empty());
    for (size_t b = 0; b < a; ++b) fail_if(name == drop_reason_name(DropReason(b)));
  }
}
GST_END_TEST

static Suite* da3infer_policy_suite() {
  Suite* suite = suite_create("da3infer-policy");
  TCase* cases = tcase_create("policy");
  tcase_add_test(cases, quantiles_are_values_that_occurred);
  tcase_add_test(cases, quantiles_of_nothing_and_of_one);
  tcase_add_test(cases, old_samples_are_forgotten);
  tcase_add_test(cases, rates);
  tcase_add_test(cases, a_rate_falls_when_nothing_comes);
  tcase_add_test(cases, warm_up_passes_do_not_count);
  tcase_add_test(cases, latency_does_not_follow_noise);
  tcase_add_test(cases, one_outlier_is_no_change);
  tcase_add_test(cases, a_real_rise_moves_it_once);
  tcase_add_test(cases, a_real_fall_moves_it_after_a_while);
  tcase_add_test(cases, a_small_fall_does_not);
  tcase_add_test(cases, what_is_assumed_holds_until_it_is_measured);
  tcase_add_test(cases, late_frames_shut_the_gate_for_the_next_ones);
  tcase_add_test(cases, early_frames_open_it);
  tcase_add_test(cases, nothing_is_said_about_unknown_times);
  tcase_add_test(cases, budgets);
  tcase_add_test(cases, requests_with_the_engine);
  tcase_add_test(cases, policies);
  tcase_add_test(cases, every_reason_has_a_name_of_its_own);
  suite_add_tcase(suite, cases);
  return suite;
}

int main(int argc, char** argv) {
  gst_check_init(&argc, &argv);
  return gst_check_run_suite(da3infer_policy_suite(), "da3infer_policy", __FILE__);
}
