// SPDX-License-Identifier: MIT
//
// da3infer behind a live source, on an engine that computes when it is told to, and what came out of it.
#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <condition_variable>
#include <functional>
#include <mutex>
#include <string>

#include "infer_harness.h"

namespace da3::testing {

// A live stream of 56x28 frames with an engine that waits to be released, two requests at most in it.
constexpr char kBlocked[] = "model=stub:block=1 process-res=28 max-batch=1 ";

// What came out, as text: "0", "1d" (discont), "2-" (no depth), "3s" (stale depth), "gap2+280" (from frame 2,
// ms).
class Tape {
 public:
  explicit Tape(Infer& infer) : infer_(infer) {
    gst_pad_add_probe(infer.harness->sinkpad,
                      GstPadProbeType(GST_PAD_PROBE_TYPE_BUFFER | GST_PAD_PROBE_TYPE_EVENT_DOWNSTREAM), write,
                      this, nullptr);
  }
  // After the end of the stream.
  std::string read() {
    infer_.event(gst_event_new_eos());
    infer_.wait_eos();
    const std::lock_guard lock(mutex_);
    end_gap();
    return text_;
  }

 private:
  static GstPadProbeReturn write(GstPad*, GstPadProbeInfo* info, gpointer user) {
    auto* self = static_cast<Tape*>(user);
    const std::lock_guard lock(self->mutex_);
    if (info->type & GST_PAD_PROBE_TYPE_BUFFER) {
      self->end_gap();
      self->add(buffer_text(GST_PAD_PROBE_INFO_BUFFER(info)));
    } else if (GST_EVENT_TYPE(GST_PAD_PROBE_INFO_EVENT(info)) == GST_EVENT_GAP) {
      GstClockTime start = 0, duration = 0;
      gst_event_parse_gap(GST_PAD_PROBE_INFO_EVENT(info), &start, &duration);
      if (start != self->gap_end_) {
        self->end_gap();
        self->gap_start_ = start;
      }
      self->gap_end_ = start + duration;
    }
    return GST_PAD_PROBE_OK;
  }
  void end_gap() {
    if (gap_start_ == GST_CLOCK_TIME_NONE) return;
    add("gap" + std::to_string(gap_start_ / kFrameTime) + "+" +
        std::to_string((gap_end_ - gap_start_) / GST_MSECOND));
    gap_start_ = gap_end_ = GST_CLOCK_TIME_NONE;
  }
  void add(const std::string& entry) { text_ += (text_.empty() ? "" : " ") + entry; }
  static std::string buffer_text(GstBuffer* buffer) {
    std::string entry = std::to_string(GST_BUFFER_OFFSET(buffer));
    if (GST_BUFFER_FLAG_IS_SET(buffer, GST_BUFFER_FLAG_DISCONT)) entry += "d";
    if (!has_tensor(buffer, GST_DA3_TENSOR_DEPTH)) return entry + "-";
    return view_of(buffer).stale ? entry + "s" : entry;
  }

  Infer& infer_;
  std::mutex mutex_;
  std::string text_;
  GstClockTime gap_start_ = GST_CLOCK_TIME_NONE, gap_end_ = GST_CLOCK_TIME_NONE;
};

inline void expect_tape(Tape& tape, const char* expected) {
  const std::string text = tape.read();
  fail_unless(text == expected, "came: %s\nexpected: %s", text.c_str(), expected);
}

// Frame 0, and the warm-up before it, have passed: what follows is decided by the test alone.
inline void push_first(Infer& infer) {
  infer.caps(56, 28);
  infer.push_numbered(56, 28, 0, 1);
  stub().wait_submitted(1);
}

inline int count_messages(Infer& infer, GstMessageType type) {
  GstBus* bus = gst_element_get_bus(infer.element);
  int count = 0;
  while (GstMessage* message = gst_bus_pop_filtered(bus, type)) {
    ++count;
    gst_message_unref(message);
  }
  gst_object_unref(bus);
  return count;
}

inline void send_qos(Infer& infer, GstClockTimeDiff jitter, GstClockTime timestamp) {
  gst_harness_push_upstream_event(
      infer.harness, gst_event_new_qos(jitter > 0 ? GST_QOS_TYPE_UNDERFLOW : GST_QOS_TYPE_OVERFLOW,
                                       jitter > 0 ? 2.0 : 0.5, jitter, timestamp));
}

// Where a thread stands until the test lets it go on.
struct Door {
  std::mutex mutex;
  std::condition_variable changed;
  bool reached = false, is_open = false;

  void pass() {
    std::unique_lock lock(mutex);
    reached = true;
    changed.notify_all();
    changed.wait(lock, [this] { return is_open; });
  }
  void wait_reached() {
    std::unique_lock lock(mutex);
    changed.wait(lock, [this] { return reached; });
  }
  void open() {
    {
      const std::lock_guard lock(mutex);
      is_open = true;
    }
    changed.notify_all();
  }
};

inline GstPadProbeReturn wait_at_door(GstPad*, GstPadProbeInfo*, gpointer door) {
  static_cast<Door*>(door)->pass();
  return GST_PAD_PROBE_OK;
}

// Functions of the test in front of the stub's own, while this lives; made before the element that they are
// for.
class StubHooks {
 public:
  explicit StubHooks(std::function<void()> before_submit = {}, std::function<void()> before_close = {})
      : before_submit_(std::move(before_submit)), before_close_(std::move(before_close)) {
    current() = this;
    table().submit = submit;
    table().close = close;
  }
  ~StubHooks() {
    table().submit = original().submit;
    table().close = original().close;
  }
  StubHooks(const StubHooks&) = delete;
  StubHooks& operator=(const StubHooks&) = delete;
  // Until so many references to engines have been closed in this life.
  void wait_closed(int references) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return closed_ >= references; });
  }

 private:
  static StubHooks*& current() {
    static StubHooks* hooks = nullptr;
    return hooks;
  }
  // The stub's functions, where the elements find them. That memory is for reading only.
  static Da3EngineApi& table() {
    static Da3EngineApi* const api = [] {
      void* module = dlopen(g_getenv("DA3_STUB_ENGINE"), RTLD_NOW | RTLD_LOCAL);
      fail_unless(module != nullptr, "%s", dlerror());
      auto* get = reinterpret_cast<Da3EngineGetApiFunc>(dlsym(module, DA3_ENGINE_ENTRY));
      fail_unless(get != nullptr);
      auto* found = const_cast<Da3EngineApi*>(get(DA3_ENGINE_ABI));
      const auto page = size_t(sysconf(_SC_PAGESIZE));
      const auto address = reinterpret_cast<uintptr_t>(found);
      const uintptr_t begin = address / page * page;
      fail_unless_equals_int(
          mprotect(reinterpret_cast<void*>(begin), address + sizeof(*found) - begin, PROT_READ | PROT_WRITE),
          0);
      return found;
    }();
    return *api;
  }
  static const Da3EngineApi& original() {
    static const Da3EngineApi api = table();
    return api;
  }
  static int submit(Da3Engine* engine, const Da3Request* request, Da3Error* error) {
    if (current()->before_submit_) current()->before_submit_();
    return original().submit(engine, request, error);
  }
  static void close(Da3Engine* engine) {
    if (current()->before_close_) current()->before_close_();
    original().close(engine);
    {
      const std::lock_guard lock(current()->mutex_);
      ++current()->closed_;
    }
    current()->changed_.notify_all();
  }

  const std::function<void()> before_submit_, before_close_;
  const Da3EngineApi& saved_ = original();  // before anything is changed
  std::mutex mutex_;
  std::condition_variable changed_;
  int closed_ = 0;
};

// Runs a function of the test once, when system memory is mapped or unmapped the next time after arm(): in
// the middle of the resize of a frame, or when the engine gives a lent one back.
class MemoryHook {
 public:
  enum class At { map, unmap };
  MemoryHook(At at, std::function<void()> run) : at_(at), run_(std::move(run)) {
    static GstAllocator* allocator = nullptr;  // for good: other threads may be in its functions at any time
    if (!allocator) {
      allocator = gst_allocator_find(nullptr);
      original() = {allocator->mem_map, allocator->mem_unmap};
      allocator->mem_map = map;
      allocator->mem_unmap = unmap;
    }
    fail_unless(current().exchange(this) == nullptr, "one at a time");
  }
  ~MemoryHook() { current() = nullptr; }
  MemoryHook(const MemoryHook&) = delete;
  MemoryHook& operator=(const MemoryHook&) = delete;
  void arm() { armed_ = true; }
  int runs() const { return runs_; }

 private:
  struct Functions {
    GstMemoryMapFunction map;
    GstMemoryUnmapFunction unmap;
  };
  static Functions& original() {
    static Functions functions{};
    return functions;
  }
  static std::atomic<MemoryHook*>& current() {
    static std::atomic<MemoryHook*> hook{nullptr};
    return hook;
  }
  void hit(At at) {
    if (at != at_ || !armed_.exchange(false)) return;
    ++runs_;
    run_();
  }
  static gpointer map(GstMemory* memory, gsize size, GstMapFlags flags) {
    if (MemoryHook* hook = current()) hook->hit(At::map);
    return original().map(memory, size, flags);
  }
  static void unmap(GstMemory* memory) {
    if (MemoryHook* hook = current()) hook->hit(At::unmap);
    original().unmap(memory);
  }

  const At at_;
  const std::function<void()> run_;
  std::atomic<bool> armed_{false};
  std::atomic<int> runs_{0};
};

inline void restart_segment(Infer& infer) {
  GstSegment segment;
  gst_segment_init(&segment, GST_FORMAT_TIME);
  fail_unless(infer.event(gst_event_new_segment(&segment)));
}

}  // namespace da3::testing
