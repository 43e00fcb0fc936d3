// SPDX-License-Identifier: MIT
//
// What each fault of an engine leaves behind at each place of a batch, with one stream and with four.
#include <memory>
#include <utility>

#include "infer_model.h"

using namespace da3::testing;

namespace {

// The stub's own queue, which takes whatever waits, and the queue and worker of the real engine.
constexpr const char* kQueues[] = {"own", "former"};

// Four requests that wait for the engine: of one stream, or of four. `fault` is what the engine does.
class FourRequests {
 public:
  FourRequests(const std::string& queue, const std::string& fault, int streams)
      : text_("queue=" + queue + " " + fault + ", " + std::to_string(streams) + " streams") {
    stub().reset();
    const std::string model =
        "model=stub:block=1,queue=" + queue + "," + fault + " process-res=28 max-batch=4";
    for (int i = 0; i < streams; ++i) {
      infers.push_back(std::make_unique<Infer>(model));
      infers.back()->caps(56, 28);
    }
    for (int i = 0; i < 4; ++i) infers[i % streams]->push_numbered(56, 28, i / streams, 1);
    stub().wait_submitted(4);
  }
  // Whatever happened: nothing of it is left behind.
  ~FourRequests() {
    infers.clear();
    fail_unless_equals_int(stub_counters().results_alive, 0);
  }
  FourRequests(const FourRequests&) = delete;
  FourRequests& operator=(const FourRequests&) = delete;

  // Lets the engine begin, and returns how many items its passes had until the four were through.
  std::vector<int> run() {
    stub().release(4);
    stub().wait_finished(4);
    stub().release(-1);
    return passes();
  }
  static std::vector<int> passes() {
    const Da3StubCounters counters = stub_counters();
    return {counters.batch_sizes, counters.batch_sizes + counters.batches};
  }
  // One more frame and the end of each stream but for the one that has `failed`, as the frames before it.
  void end_streams(int failed) {
    for (int i = 0; i < streams(); ++i) {
      if (i == failed) continue;
      infers[i]->push_numbered(56, 28, 4 / streams(), 1);
      infers[i]->event(gst_event_new_eos());
    }
  }
  // The first `good` frames of a stream came, in order and with depth of their own, and nothing else.
  void expect_frames(Infer& infer, int good) {
    infer.wait_eos();
    fail_unless(infer.received() == good, "%s: %d frames came, not %d", text(), infer.received(), good);
    for (int i = 0; i < good; ++i) {
      GstBuffer* buffer = infer.pull();
      fail_unless_equals_uint64(GST_BUFFER_OFFSET(buffer), i);
      // The last value: the first one is what some-nan-at spoils.
      assert_near(tensor_of(buffer, GST_DA3_TENSOR_DEPTH).back(), stub_depth(colour_of(i)));
      gst_buffer_unref(buffer);
    }
    infer.assert_accounts();
    fail_unless_equals_uint64(infer.stat("queue-level"), 0);
  }
  int streams() const { return int(infers.size()); }
  const char* text() const { return text_.c_str(); }

  std::vector<std::unique_ptr<Infer>> infers;

 private:
  const std::string text_;
};

std::string sizes_text(const std::vector<int>& sizes) {
  std::string text;
  for (const int size : sizes) text += " " + std::to_string(size);
  return text;
}

// How an engine gets at the one at place `bad` of a pass of four: by halves, until it is alone.
std::vector<int> halves(int size, int bad) {
  std::vector<int> sizes = {size};
  if (bad < 1 || bad > size || size == 1) return sizes;
  const int first = (size + 1) / 2;
  for (const auto& [part, place] : {std::pair{first, bad}, std::pair{size - first, bad - first}}) {
    const std::vector<int> more = halves(part, place);
    sizes.insert(sizes.end(), more.begin(), more.end());
  }
  return sizes;
}

// What a fault at place `at` does to the passes.
std::vector<int> expected_passes(const std::string& fault, int at) {
  if (fault == "break-at" || fault == "oom-at") return halves(4, at);
  if (fault == "halve-at") return {4, 2, 2};
  return {4};
}

// Four requests share a pass and the one at place `at` misbehaves. If that is `fatal`, the stream of the bad
// one says so once and stops; every other frame comes out.
void fault_in_a_batch(const char* queue, const char* fault, int at, int streams, bool fatal) {
  FourRequests four(queue, std::string(fault) + "=" + std::to_string(at), streams);
  const std::vector<int> passes = four.run();
  fail_unless(passes == expected_passes(fault, at), "%s at %d: passes of%s", four.text(), at,
              sizes_text(passes).c_str());
  const int failed = fatal ? (streams == 1 ? 0 : at - 1) : -1;
  four.end_streams(failed);
  for (int i = 0; i < streams; ++i) {
    Infer& infer = *four.infers[i];
    const bool hit = i == failed;
    const int good = hit ? (streams == 1 ? at - 1 : 0) : (streams == 1 ? 5 : 2);
    four.expect_frames(infer, good);
    if (hit) {
      const BusError error = infer.bus.wait(GST_MESSAGE_ERROR);
      fail_unless(error.found, "%s at %d: no error", four.text(), at);
      fail_unless_equals_uint64(infer.drops("error"), streams == 1 ? 4 - good : 1);
    }
    infer.bus.expect_no_error();
  }
}

}  // namespace

GST_START_TEST(every_fault_at_every_place_of_a_batch) {
  const char* faults[] = {"fail-at",          "break-at",     "oom-at",         "nan-at",
                          "wrong-size-at",    "zero-size-at", "wrong-views-at", "no-depth-at",
                          "no-confidence-at", "no-result-at"};
  for (const char* queue : kQueues) {
    for (const char* fault : faults) {
      for (int at = 1; at <= 4; ++at) {
        for (const int streams : {1, 4}) fault_in_a_batch(queue, fault, at, streams, true);
      }
    }
  }
}
GST_END_TEST

namespace {

// The same for a request that the engine does not take: it never gets into the batch.
void refusal_in_a_batch(const std::string& queue, int at, int streams) {
  stub().reset();
  const std::string model = "model=stub:block=1,queue=" + queue + ",refuse-at=" + std::to_string(at) +
                            " process-res=28 max-batch=4";
  std::vector<std::unique_ptr<Infer>> infers;
  for (int i = 0; i < streams; ++i) {
    infers.push_back(std::make_unique<Infer>(model));
    infers.back()->caps(56, 28);
  }
  for (int i = 0; i < 4; ++i) {
    const GstFlowReturn flow = infers[i % streams]->push(numbered_frame(56, 28, i / streams));
    // What comes behind the refused one may hear of it already.
    const bool may_know = streams == 1 && i >= at;
    fail_unless(flow == GST_FLOW_OK || (may_know && flow == GST_FLOW_ERROR), "frame %d: %s", i,
                gst_flow_get_name(flow));
  }
  stub().release(-1);
  for (int i = 0; i < streams; ++i) {
    Infer& infer = *infers[i];
    const bool hit = streams == 1 || i == at - 1;
    if (!hit) {
      infer.push_numbered(56, 28, 1, 1);
      infer.event(gst_event_new_eos());
    }
    infer.wait_eos();
    const int good = hit ? (streams == 1 ? at - 1 : 0) : 2;
    fail_unless_equals_int(infer.received(), good);
    if (hit) infer.bus.expect_one_error(GST_RESOURCE_ERROR, GST_RESOURCE_ERROR_SETTINGS, "refuses");
    infer.bus.expect_no_error();
    infer.assert_accounts();
    fail_unless_equals_uint64(infer.drops("error"), infer.stat("frames-in") - guint64(good));
    fail_unless(infer.drops("error") >= (hit ? 1 : 0));
    fail_unless_equals_uint64(infer.stat("queue-level"), 0);
  }
  infers.clear();
  fail_unless_equals_int(stub_counters().results_alive, 0);
}

}  // namespace

GST_START_TEST(a_refusal_at_every_place_of_a_batch) {
  for (const char* queue : kQueues) {
    for (int at = 1; at <= 4; ++at) {
      for (const int streams : {1, 4}) refusal_in_a_batch(queue, at, streams);
    }
  }
}
GST_END_TEST

GST_START_TEST(faults_that_are_none_lose_nothing) {
  for (const char* queue : kQueues) {
    for (const char* fault : {"some-nan-at", "halve-at"}) {
      for (int at = 1; at <= 4; ++at) {
        for (const int streams : {1, 4}) fault_in_a_batch(queue, fault, at, streams, false);
      }
    }
  }
}
GST_END_TEST

// Out of memory with four: the same four come out of two passes of two, and all who had a part in it hear of
// it.
GST_START_TEST(what_does_not_fit_is_run_again_in_halves) {
  for (const char* queue : kQueues) {
    for (const int streams : {1, 4}) {
      FourRequests four(queue, "halve-at=3", streams);
      const std::vector<int> passes = four.run();
      fail_unless(passes == (std::vector<int>{4, 2, 2}), "%s: passes of%s", four.text(),
                  sizes_text(passes).c_str());
      for (const auto& infer : four.infers) {
        const BusError warning = infer->bus.wait(GST_MESSAGE_WARNING);
        fail_unless(warning.found && warning.domain == GST_RESOURCE_ERROR &&
                        warning.code == GST_RESOURCE_ERROR_NO_SPACE_LEFT,
                    "%s: %s", four.text(), warning.text.c_str());
        for (int i = 0; i < 4 / streams; ++i) gst_buffer_unref(infer->pull());
        const Stats stats(*infer);
        fail_unless_equals_uint64(Stats::number(stats.part("batches"), "size-2"), 4 / streams);
        fail_unless_equals_uint64(infer->stat("frames-dropped"), 0);
        infer->bus.expect_no_error();
      }
    }
  }
}
GST_END_TEST

namespace {

// A live stream with an engine that has to be told to compute.
class LiveStream {
 public:
  LiveStream(const std::string& fault)
      : infer("model=stub:block=1," + fault + " process-res=28 max-batch=4 max-latency=1000000000",
              Source::live) {
    gst_harness_use_testclock(infer.harness);
    clock_ = gst_harness_get_testclock(infer.harness);
    infer.caps(56, 28);
  }
  ~LiveStream() { gst_object_unref(clock_); }
  LiveStream(const LiveStream&) = delete;
  LiveStream& operator=(const LiveStream&) = delete;

  void push() {
    gst_test_clock_advance_time(clock_, kFrameTime);
    infer.push_numbered(56, 28, pushed_++, 1);
  }
  // Frames whose result comes before the next one: their rate lets more of the next ones into the engine at
  // once.
  void push_and_pull(int frames) {
    for (int i = 0; i < frames; ++i) {
      push();
      stub().release(1);
      gst_buffer_unref(infer.pull());
    }
  }
  // All that were pushed, and not pulled, came in order, but for `missing`.
  void expect_all_but(int first, int missing) {
    infer.event(gst_event_new_eos());
    infer.wait_eos();
    for (int i = first; i < pushed_; ++i) {
      if (i == missing) continue;
      GstBuffer* buffer = infer.pull();
      fail_unless_equals_uint64(GST_BUFFER_OFFSET(buffer), i);
      assert_depth_of(buffer, colour_of(i));
      gst_buffer_unref(buffer);
    }
    fail_unless_equals_int(infer.received(), pushed_ - (missing < 0 ? 0 : 1));
    fail_unless_equals_uint64(infer.drops("late"), missing < 0 ? 0 : 1);
    fail_unless_equals_uint64(infer.stat("frames-dropped"), missing < 0 ? 0 : 1);
    infer.assert_accounts();
    fail_unless_equals_uint64(infer.stat("queue-level"), 0);
    infer.bus.expect_no_error();
  }

  Infer infer;

 private:
  GstTestClock* clock_;
  int pushed_ = 0;
};

// Four requests of live streams share a pass and the one at place `at` has expired.
void expiry_in_a_batch(int at, int streams) {
  stub().reset();
  const int before = streams == 1 ? 3 : 0;
  const std::string fault = "expire-at=" + std::to_string(before + at);
  std::vector<std::unique_ptr<LiveStream>> lives;
  for (int i = 0; i < streams; ++i) lives.push_back(std::make_unique<LiveStream>(fault));
  lives[0]->push_and_pull(before);
  for (int i = 0; i < 4; ++i) {
    lives[i % streams]->push();
    stub().wait_submitted(before + i + 1);  // the first of each is measured before, on another thread
  }
  stub().release(-1);
  stub().wait_finished(before + 4);
  const Da3StubCounters counters = stub_counters();
  fail_unless(counters.batches == before + 1 && counters.batch_sizes[before] == 4,
              "at %d of %d streams: %d passes", at, streams, counters.batches);
  fail_unless_equals_int(counters.expired, 1);
  for (int i = 0; i < streams; ++i) {
    const int missing = streams == 1 ? before + at - 1 : i == at - 1 ? 0 : -1;
    lives[i]->push();
    lives[i]->expect_all_but(before, missing);
  }
  lives.clear();
  fail_unless_equals_int(stub_counters().results_alive, 0);
}

}  // namespace

GST_START_TEST(what_expires_at_any_place_of_a_batch_is_late_and_the_only_one) {
  for (int at = 1; at <= 4; ++at) {
    for (const int streams : {1, 4}) expiry_in_a_batch(at, streams);
  }
}
GST_END_TEST

// Nothing comes while a pass takes long, and everything after it, what came meanwhile too.
GST_START_TEST(a_slow_engine_loses_nothing) {
  for (const char* queue : kQueues) {
    for (int at = 1; at <= 4; ++at) {
      for (const int streams : {1, 4}) {
        FourRequests four(queue, "slow-at=" + std::to_string(at), streams);
        stub().release(-1);
        stub().wait_slow(1);
        four.end_streams(-1);
        for (const auto& infer : four.infers) {
          fail_unless_equals_int(infer->received(), 0);
          infer->assert_accounts();
          fail_unless_equals_uint64(infer->stat("queue-level"), streams == 1 ? 5 : 2);
        }
        stub().finish_slow(1);
        for (const auto& infer : four.infers) four.expect_frames(*infer, streams == 1 ? 5 : 2);
        const std::vector<int> passes = FourRequests::passes();
        fail_unless(passes[0] == 4, "%s: passes of%s", four.text(), sizes_text(passes).c_str());
        fail_unless_equals_int(stub_counters().slow_passes, 1);
      }
    }
  }
}
GST_END_TEST

static Suite* da3infer_batch_faults_suite() {
  Suite* suite = suite_create("da3infer-batch-faults");
  TCase* faults = tcase_create("faults");
  tcase_set_timeout(faults, 120);
  tcase_add_test(faults, every_fault_at_every_place_of_a_batch);
  tcase_add_test(faults, a_refusal_at_every_place_of_a_batch);
  tcase_add_test(faults, faults_that_are_none_lose_nothing);
  tcase_add_test(faults, what_does_not_fit_is_run_again_in_halves);
  tcase_add_test(faults, what_expires_at_any_place_of_a_batch_is_late_and_the_only_one);
  tcase_add_test(faults, a_slow_engine_loses_nothing);
  suite_add_tcase(suite, faults);
  return suite;
}

int main(int argc, char** argv) {
  use_stub_engine();
  gst_check_init(&argc, &argv);
  return gst_check_run_suite(da3infer_batch_faults_suite(), "da3infer_batch_faults", __FILE__);
}
