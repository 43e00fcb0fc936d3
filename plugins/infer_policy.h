// SPDX-License-Identifier: MIT
//
// What da3infer decides by figures when it cannot keep up: which frames go without inference, how old a frame
// may become, and what it answers to a LATENCY query. Plain arithmetic without threads; the callers hold
// their own locks.
#pragma once

#include <gst/gst.h>

#include <array>
#include <vector>

G_BEGIN_DECLS

// Nicks auto, never, oldest, newest.
#define GST_TYPE_DA3_DROP_POLICY (gst_da3_drop_policy_get_type())
GType gst_da3_drop_policy_get_type(void);

// Nicks gap, reuse, pass.
#define GST_TYPE_DA3_ON_DROP (gst_da3_on_drop_get_type())
GType gst_da3_on_drop_get_type(void);

G_END_DECLS

namespace da3::plugin {

enum class DropPolicy { automatic, never, oldest, newest };
enum class OnDrop { gap, reuse, pass };

// Why a frame that came in did not get a result of its own.
enum class DropReason {
  flush,    // a flushing seek or a flush took it out
  stopped,  // the element went to READY
  refused,  // downstream wanted no more of its segment, or there is none
  error,    // it, or a frame before it, ended the stream
  overrun,  // live: newer frames came before its turn
  late,     // live: older than max-latency before its turn
  qos,      // downstream said that it would come too late
};
constexpr size_t kDropReasons = 7;
const char* drop_reason_name(DropReason reason);

struct FlowSettings {
  DropPolicy drop_policy = DropPolicy::automatic;
  OnDrop on_drop = OnDrop::gap;
  GstClockTime max_latency = 0;  // 0: chosen from the time of a forward pass
  GstClockTime stats_interval = 0;
  bool operator==(const FlowSettings&) const = default;
};

// The policy in force: auto is `oldest` behind a live source and `never` behind any other.
DropPolicy effective_policy(DropPolicy wanted, bool live);

// The last `capacity` of a series of measurements, and their quantiles.
class Samples {
 public:
  Samples() = default;
  explicit Samples(size_t capacity) : capacity_(capacity) {}
  void add(gint64 value);
  void clear() { values_.clear(), next_ = 0; }
  size_t size() const { return values_.size(); }
  // The smallest value that is not exceeded by `share` (0..1) of them; 0 when there is none.
  gint64 quantile(double share) const;

 private:
  size_t capacity_ = 256;
  size_t next_ = 0;
  std::vector<gint64> values_;
};

// Events per second over the last 32.
class Rate {
 public:
  void add(gint64 now_ns);
  void clear() { times_.clear(), next_ = 0; }
  // 0 while unknown. At `now_ns` no more than if the next one came then: it falls while nothing comes.
  double per_second(gint64 now_ns = G_MININT64) const;

 private:
  static constexpr size_t kWindow = 32;
  size_t next_ = 0;
  std::vector<gint64> times_;
};

// The figure behind a LATENCY answer. It moves only on a real change, because every move makes the whole
// pipeline compute its latency anew: up when the 95th percentile is more than a tenth above it for some
// frames in a row, down when it has been three tenths below it for a whole window.
class LatencyEstimate {
 public:
  // Returns true when value() has moved.
  bool add(gint64 ns);
  // A measurement from elsewhere (a warm-up) while there is none of one's own. The same return.
  bool assume(gint64 ns);
  void clear() { *this = LatencyEstimate{}; }
  gint64 value() const { return value_; }

 private:
  static constexpr guint kWarmUp = 2;  // the first passes build plans and fill caches
  static constexpr guint kRises = 4;
  static constexpr guint kWindow = 64;
  Samples recent_{kWindow};
  guint warm_up_left_ = kWarmUp, rises_ = 0, since_move_ = 0;
  gint64 value_ = 0;
};

// Which frames downstream has given up: the arithmetic of GStreamer's own decoders and filters.
class QosGate {
 public:
  // `frame_duration`: GST_CLOCK_TIME_NONE or 0 if unknown.
  void update(GstEvent* event, GstClockTime frame_duration);
  void clear() { *this = QosGate{}; }
  // A frame of this running time would come too late; false if either is unknown.
  bool too_late(GstClockTime running_time) const;
  // By how much.
  GstClockTimeDiff lateness(GstClockTime running_time) const;
  gdouble proportion() const { return proportion_; }

 private:
  GstClockTime earliest_ = GST_CLOCK_TIME_NONE;
  gdouble proportion_ = 1;
};

// How old a live frame may become: what the user says, or three forward passes and at least 100 ms.
gint64 age_budget(GstClockTime max_latency, gint64 forward_ns);

// How many requests a live stream has with the engine at once: as many as can be served within the budget at
// the rate `own` seen so far (0: not known), between two (one runs, one waits) and `most`. `share`: an equal
// share of what the engine can do, 0 when it serves no other stream. Alone, one of them waits in front of the
// engine, where a newer frame can take its place. Beside others a stream that happened to be slower would so
// get less room, and stay slower: then it is the share at least, rounded up, so that the engine has more than
// it can serve in time when there is too much, and is the one who chooses.
guint requests_in_flight(gint64 budget_ns, double own, double share, guint most);

}  // namespace da3::plugin
