// SPDX-License-Identifier: MIT
//
// What the stub engine is made of, and what its files call of each other.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdlib>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "engine/api/engine.h"
#include "engine/runtime/batch_worker.h"
#include "stub_engine.h"
#include "stub_time.h"

namespace da3::stub {
struct Core;
}

struct Da3Result {
  std::atomic<int> refs{1};
  std::string failure;  // why it is none
  Da3ResultData data{};
  std::vector<float> depth, confidence, sky, ray, ray_confidence, extrinsics, intrinsics;
};

// What open() hands out.
struct Da3Engine {
  da3::stub::Core* core = nullptr;
  Da3EngineConfig config{};
  mutable da3::Client client;  // of queue=former
  bool stop_warm_up = false;
};

namespace da3::stub {

using Clock = std::chrono::steady_clock;
using Options = std::map<std::string, std::string>;

// One lock and one condition for the whole stub: it is a test double, not a race for speed.
struct Global {
  std::mutex mutex;
  std::condition_variable changed;
  Da3StubCounters counters{};
  int outstanding = 0;
  int passes = 0;  // how many blocked requests may go; negative: all
  int open_passes = 0;
  int opening = 0;  // open() that waited
  int to_expire = 0;
  int slow_passes = 0;  // how many slow passes may end; negative: all
  std::set<std::pair<const Da3Engine*, const void*>> streams;
  std::map<std::string, Core*> engines;
};

Global& global();
da3::testing::StubTime& test_time();

struct Request {
  Da3Engine* reference = nullptr;
  Da3Request request;
  std::vector<Da3View> views;
  int number = 0;  // of this engine, from 1
  bool expire = false;
  bool halved = false;     // by halve-at
  bool slow_done = false;  // by slow-at
  bool abandoned = false;  // runs, and nobody wants it any more
  Clock::time_point submitted;
};

// The real engine's queue and worker.
struct Former {
  bool in_test_time = false;
  std::atomic<std::thread::id> thread{};
  std::unique_ptr<da3::BatchWorker> worker;  // last: ends before the rest goes
};

// What the references to a model share.
struct Core {
  std::string key, name, source, device;
  Options options;
  Da3ModelInfo info{};
  std::set<const Da3Engine*> references;
  int requests = 0;
  bool stopping = false;
  std::deque<std::unique_ptr<Request>> pending;
  std::vector<std::unique_ptr<Request>> running;
  std::thread worker;
  int64_t single_ns = 0;
  uint64_t batches = 0;
  std::unique_ptr<Former> former;  // queue=former; else the stub's own queue

  int number(const char* option, int fallback) const {
    const auto found = options.find(option);
    return found == options.end() ? fallback : std::atoi(found->second.c_str());
  }
  bool hits(const char* option, const Request& request) const { return number(option, 0) == request.number; }
};

int set_error(Da3Error* error, Da3ErrorCode code, const std::string& message, const char* detail = nullptr);
// Whether the caller of open() or warm_up() has lost interest.
bool asks_to_stop(const Da3EngineConfig& config);

// ---- passes (stub_passes.cc)

Da3Result* new_result();
void stub_result_unref(Da3Result* result);
Da3Result* compute(const Core& engine, const Request& item, uint32_t batch);
// All who have a part in the pass; while they have, they are not closed. Called without the lock.
void warn(const std::vector<Request*>& items, Da3ErrorCode code, const char* text);
std::string error_text(Da3ErrorCode code, int number);
// Notes a pass of these items. Returns why it fails as a whole, with the number of the request that did it.
Da3ErrorCode begin_pass(Core& engine, const std::vector<Request*>& items, int* culprit);
// The owner of a request hears of its end. Called without the lock.
void tell(const Request& item, Da3Result* result, const Da3Error* error);

// ---- the stub's own queue and worker (stub_queue.cc)

// The worker's thread, until the engine stops.
void work(Core* engine);
// What becomes of running requests that are cancelled: they end as cancelled, or are waited for.
enum class Running { mark, wait };

// What waits of the reference, and of the stream if not of all, ends.
void take_out(Da3Engine* reference, const void* stream, bool all, Running what_runs);

// ---- the real engine's queue and worker (stub_former.cc)

void start_former(Core& engine);
void submit_to_former(Da3Engine& reference, std::unique_ptr<Request> request);
void cancel_former_items(std::vector<da3::Item> items);
void take_out_of_former(Da3Engine* reference, const void* stream, bool all);
da3::Item item_like(const Da3Engine& reference, const Da3Shape& shape);
int warm_up_former(Da3Engine& reference, const Da3Shape& shape, Da3Error* error);

}  // namespace da3::stub
