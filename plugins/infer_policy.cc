// SPDX-License-Identifier: MIT
#include "infer_policy.h"

#include <algorithm>
#include <cmath>

GType gst_da3_drop_policy_get_type(void) {
  using da3::plugin::DropPolicy;
  static gsize once = 0;
  static const GEnumValue values[] = {
      {int(DropPolicy::automatic), "oldest behind a live source, never behind any other", "auto"},
      {int(DropPolicy::never), "Upstream waits", "never"},
      {int(DropPolicy::oldest), "The frame that has waited longest goes: the newest wins", "oldest"},
      {int(DropPolicy::newest), "The frame that has just come goes", "newest"},
      {0, nullptr, nullptr}};
  if (g_once_init_enter(&once)) {
    g_once_init_leave(&once, g_enum_register_static("GstDa3DropPolicy", values));
  }
  return once;
}

GType gst_da3_on_drop_get_type(void) {
  using da3::plugin::OnDrop;
  static gsize once = 0;
  static const GEnumValue values[] = {
      {int(OnDrop::gap), "A gap event instead of the frame", "gap"},
      {int(OnDrop::reuse), "The frame with the depth of an earlier one, marked stale and without a pose",
       "reuse"},
      {int(OnDrop::pass), "The frame without depth", "pass"},
      {0, nullptr, nullptr}};
  if (g_once_init_enter(&once)) g_once_init_leave(&once, g_enum_register_static("GstDa3OnDrop", values));
  return once;
}

namespace da3::plugin {

const char* drop_reason_name(DropReason reason) {
  switch (reason) {
    case DropReason::flush:
      return "flush";
    case DropReason::stopped:
      return "stopped";
    case DropReason::refused:
      return "refused";
    case DropReason::error:
      return "error";
    case DropReason::overrun:
      return "overrun";
    case DropReason::late:
      return "late";
    case DropReason::qos:
      return "qos";
  }
  return "";
}

DropPolicy effective_policy(DropPolicy wanted, bool live) {
  if (wanted != DropPolicy::automatic) return wanted;
  return live ? DropPolicy::oldest : DropPolicy::never;
}

void Samples::add(gint64 value) {
  if (values_.size() < capacity_) {
    values_.push_back(value);
    return;
  }
  values_[next_] = value;
  next_ = (next_ + 1) % capacity_;
}

gint64 Samples::quantile(double share) const {
  if (values_.empty()) return 0;
  std::vector<gint64> sorted = values_;
  const auto rank = size_t(std::ceil(share * double(sorted.size())));
  const size_t at = std::clamp<size_t>(rank, 1, sorted.size()) - 1;
  std::nth_element(sorted.begin(), sorted.begin() + ptrdiff_t(at), sorted.end());
  return sorted[at];
}

void Rate::add(gint64 now_ns) {
  if (times_.size() < kWindow) {
    times_.push_back(now_ns);
    return;
  }
  times_[next_] = now_ns;
  next_ = (next_ + 1) % kWindow;
}

double Rate::per_second(gint64 now_ns) const {
  if (times_.size() < 2) return 0;
  const auto [first, last] = std::minmax_element(times_.begin(), times_.end());
  if (*last <= *first) return 0;
  const double seen = double(times_.size() - 1) * 1e9 / double(*last - *first);
  return now_ns > *last ? std::min(seen, double(times_.size()) * 1e9 / double(now_ns - *first)) : seen;
}

bool LatencyEstimate::add(gint64 ns) {
  if (warm_up_left_ > 0) {
    --warm_up_left_;
    return false;
  }
  recent_.add(ns);
  ++since_move_;
  const gint64 now = recent_.quantile(0.95);
  rises_ = now > value_ + value_ / 10 ? rises_ + 1 : 0;
  const bool rise = rises_ > 0 && (value_ == 0 || rises_ >= kRises);
  const bool fall = since_move_ >= kWindow && now < value_ - 3 * (value_ / 10);
  if (!rise && !fall) return false;
  value_ = now;
  rises_ = since_move_ = 0;
  return true;
}

bool LatencyEstimate::assume(gint64 ns) {
  if (value_ != 0 || ns <= 0) return false;
  warm_up_left_ = 0;
  value_ = ns;
  return true;
}

void QosGate::update(GstEvent* event, GstClockTime frame_duration) {
  GstClockTimeDiff jitter = 0;
  GstClockTime timestamp = GST_CLOCK_TIME_NONE;
  gst_event_parse_qos(event, nullptr, &proportion_, &jitter, &timestamp);
  if (!GST_CLOCK_TIME_IS_VALID(timestamp)) {
    earliest_ = GST_CLOCK_TIME_NONE;
    return;
  }
  // Late: leave out what would be late, too, by the time the result is there. Early: whatever is not behind.
  gint64 earliest = gint64(timestamp) + (jitter > 0 ? 2 * jitter : jitter);
  if (jitter > 0 && GST_CLOCK_TIME_IS_VALID(frame_duration)) earliest += gint64(frame_duration);
  earliest_ = GstClockTime(std::max<gint64>(0, earliest));
}

bool QosGate::too_late(GstClockTime running_time) const {
  return GST_CLOCK_TIME_IS_VALID(running_time) && GST_CLOCK_TIME_IS_VALID(earliest_) &&
         running_time < earliest_;
}

GstClockTimeDiff QosGate::lateness(GstClockTime running_time) const {
  return too_late(running_time) ? GST_CLOCK_DIFF(running_time, earliest_) : 0;
}

gint64 age_budget(GstClockTime max_latency, gint64 forward_ns) {
  if (max_latency > 0) return gint64(std::min<GstClockTime>(max_latency, G_MAXINT64));
  return std::max<gint64>(100 * GST_MSECOND, 3 * forward_ns);
}

guint requests_in_flight(gint64 budget_ns, double own, double share, guint most) {
  most = std::max(2u, most);
  const double budget = double(budget_ns) / 1e9;
  const double within = share > 0 ? std::ceil(std::max(own, share) * budget) : std::floor(own * budget) - 1;
  return guint(std::clamp(within, 2.0, double(most)));
}

}  // namespace da3::plugin
