// SPDX-License-Identifier: MIT
#include "engine/runtime/batch_worker.h"

#include <algorithm>
#include <cmath>
#include <future>
#include <map>
#include <memory>
#include <new>
#include <optional>
#include <set>
#include <utility>

#include "engine/api/engine_error.h"

namespace da3 {
namespace {

struct Failure {
  Da3ErrorCode code = DA3_OK;
  std::string message, detail;
};

// What the exception in flight means to the owner of a request.
Failure current_failure() {
  try {
    throw;
  } catch (const EngineError& e) {
    return {e.code(), e.what(), e.detail()};
  } catch (const std::bad_alloc&) {
    return {DA3_ERROR_NO_MEMORY, "Out of memory. Lower process-res or views, or choose a smaller model.", {}};
  } catch (const std::exception& e) {
    return {DA3_ERROR_FAILED, "Inference failed: " + std::string(e.what()), {}};
  } catch (...) {
    return {DA3_ERROR_FAILED, "Inference failed for an unknown reason.", {}};
  }
}

const Failure kCancelled{DA3_ERROR_CANCELLED, "Cancelled.", {}};

std::string describe(const Item& item) {
  return std::to_string(item.width) + "x" + std::to_string(item.height) +
         (item.views.size() > 1 ? " with " + std::to_string(item.views.size()) + " views" : "");
}

}  // namespace

// What came of a pass: a failure, or a result each, of which some may be none.
struct BatchWorker::Attempt {
  Failure failure;
  std::vector<Da3Result*> results;
  std::vector<std::string> reasons;  // why a result is none; empty: it is good
  PassReport report;
};

BatchWorker::Attempt BatchWorker::attempt(size_t size,
                                          const std::function<std::vector<Da3Result*>(PassReport*)>& pass) {
  Attempt out;
  try {
    out.results = pass(&out.report);
    if (out.results.size() != size)
      throw EngineError(DA3_ERROR_FAILED, "Inference failed: " + std::to_string(out.results.size()) +
                                              " results for " + std::to_string(size) + " items.");
    for (const Da3Result* result : out.results)
      out.reasons.push_back(parts_.failure ? parts_.failure(result) : std::string());
  } catch (...) {
    out.failure = current_failure();
    for (Da3Result* result : out.results) parts_.release(result);
    out.results.clear();
    out.reasons.assign(size, {});
  }
  return out;
}

BatchWorker::BatchWorker(Parts parts, uint32_t limit, Clock& clock)
    : parts_(std::move(parts)), former_(limit, clock) {
  former_.set_memory_source(parts_.memory_budget);
  worker_ = std::thread([this] { work(); });
}

BatchWorker::~BatchWorker() {
  former_.stop();
  worker_.join();
}

void BatchWorker::work() {
  if (parts_.thread_started) parts_.thread_started();
  std::optional<Flying> flying;
  for (;;) {
    BatchFormer::Work work = flying ? former_.ahead() : former_.next();
    for (Item& item : work.expired)
      deliver(item, DA3_ERROR_EXPIRED, "The frame could not be computed before its deadline.");
    if (work.task) work.task();
    if (work.probe) {
      run_probe(std::move(work.batch));
    } else if (!work.batch.empty()) {
      flying = begin(std::move(work.batch), std::exchange(flying, std::nullopt));
    } else if (flying) {
      int64_t ended = 0;
      land(*std::exchange(flying, std::nullopt), &ended);
    }
    if (work.stopped) return;
  }
}

// Hands a batch to the device and then takes what `earlier` has become. What is under way afterwards.
std::optional<BatchWorker::Flying> BatchWorker::begin(std::vector<Item> batch,
                                                      std::optional<Flying> earlier) {
  int64_t ended = 0;
  if (earlier && parts_.begins_at_once && !parts_.begins_at_once(batch))
    land(*std::exchange(earlier, std::nullopt), &ended);
  Flying next{std::move(batch), former_.now(), nullptr};
  try {
    if (parts_.begin) next.flight = parts_.begin(next.batch);
  } catch (...) {
    // It is tried again, by itself: run() says what is wrong and what can be saved.
  }
  if (earlier) {
    // One that failed is tried again behind what is under way now, whose time then says nothing.
    next.typical = land(*std::exchange(earlier, std::nullopt), &ended);
    next.started = std::max(next.started, ended);
  }
  if (next.flight) return next;
  run(std::move(next.batch));
  return std::nullopt;
}

// False: the pass failed. `ended`: when it was over.
bool BatchWorker::land(Flying flying, int64_t* ended) {
  Attempt result = attempt(flying.batch.size(),
                           [&](PassReport* report) { return flying.flight->finish(flying.batch, report); });
  flying.flight.reset();
  result.report.typical &= flying.typical;
  const bool good = result.failure.code == DA3_OK;
  const int64_t started = flying.started;
  *ended = started + complete(std::move(flying.batch), std::move(result), started);
  return good;
}

// Returns how long the pass took.
int64_t BatchWorker::run(std::vector<Item> batch) {
  const int64_t started = former_.now();
  Attempt result = attempt(batch.size(), [&](PassReport* report) { return parts_.run(batch, report); });
  return complete(std::move(batch), std::move(result), started);
}

// Hands out what came of a pass, or tries again. Returns how long it took.
int64_t BatchWorker::complete(std::vector<Item> batch, Attempt attempt, int64_t started) {
  const int64_t elapsed = std::max<int64_t>(1, former_.now() - started);
  const bool failed = attempt.failure.code != DA3_OK;
  if (failed && batch.size() > 1) {
    if (attempt.failure.code == DA3_ERROR_NO_MEMORY && former_.out_of_memory(batch))
      warn_of_memory(batch, attempt.failure.message);
    run_halves(std::move(batch));
    return elapsed;
  }
  std::vector<bool> bad;
  for (const std::string& reason : attempt.reasons) bad.push_back(!reason.empty());
  const std::vector<bool> cancelled =
      former_.finished(batch, started, elapsed, attempt.report.bytes, failed, bad, attempt.report.typical);
  for (size_t i = 0; i < batch.size(); ++i) {
    if (cancelled[i] || failed || bad[i]) {
      if (!failed) parts_.release(attempt.results[i]);
      const Failure why = cancelled[i] ? kCancelled
                          : failed     ? attempt.failure
                                       : Failure{DA3_ERROR_FAILED, attempt.reasons[i], {}};
      deliver(batch[i], why.code, why.message, why.detail);
    } else {
      deliver(batch[i], attempt.results[i]);
    }
  }
  return elapsed;
}

// The same items in order, but for those that nobody wants any more. Who spoilt the pass, or that all of them
// were too many, shows when they run in smaller company; at the latest, alone.
void BatchWorker::run_halves(std::vector<Item> batch) {
  for (Item& item : former_.take_abandoned(&batch)) deliver(item, kCancelled.code, kCancelled.message);
  if (batch.empty()) return;
  const auto middle = batch.begin() + int64_t((batch.size() + 1) / 2);
  std::vector<Item> rest(std::make_move_iterator(middle), std::make_move_iterator(batch.end()));
  batch.erase(middle, batch.end());
  run(std::move(batch));
  if (rest.empty()) return;
  for (Item& item : former_.take_abandoned(&rest)) deliver(item, kCancelled.code, kCancelled.message);
  if (!rest.empty()) run(std::move(rest));
}

void BatchWorker::warn_of_memory(const std::vector<Item>& batch, const std::string& why) {
  const std::string text = "A batch of " + std::to_string(batch.size()) + " images of " +
                           describe(batch.front()) + " did not fit into memory; going on with at most " +
                           std::to_string(batch.size() / 2) + ". No frame is lost. (" + why + ")";
  std::set<const Client*> told;
  for (const Item& item : batch)
    if (item.client && item.client->warning && told.insert(item.client).second)
      item.client->warning(item.client->user, DA3_ERROR_NO_MEMORY, text.c_str());
}

// One item that may well come too late. When even that shows that such items cannot be in time, somebody
// should know why nothing comes.
void BatchWorker::run_probe(std::vector<Item> batch) {
  const Item& item = batch.front();
  Client* const client = item.client;
  const std::string what = describe(item);
  const int64_t slack = item.deadline - item.submitted;
  // Kept until the warning is out: close() waits for it.
  client->begin(nullptr);
  const int64_t time = run(std::move(batch));
  if (time > slack) warn_of_slowness(*client, what, slack, time);
  client->finish(nullptr);
}

void BatchWorker::warn_of_slowness(Client& client, const std::string& what, int64_t slack, int64_t time) {
  if (!client.warning || std::exchange(client.warned_of_slowness, true)) return;
  const auto ms = [](int64_t ns) { return std::to_string((ns + 500'000) / 1'000'000) + " ms"; };
  const std::string text = "One item of " + what + " takes " + ms(time) + " here, and its deadline leaves " +
                           ms(slack) + ": nearly every frame is dropped. Raise max-latency, lower " +
                           "process-res, or choose a smaller model or a faster device.";
  client.warning(client.user, DA3_ERROR_EXPIRED, text.c_str());
}

bool BatchWorker::call(const std::function<void()>& task) {
  // What goes wrong comes back as a value: an exception object is not shared between threads.
  auto done = std::make_shared<std::promise<Failure>>();
  auto result = done->get_future();
  const bool accepted = former_.add_task([&task, done] {
    Failure failure;
    try {
      task();
    } catch (...) {
      failure = current_failure();
    }
    done->set_value(std::move(failure));
  });
  if (!accepted) return false;
  const Failure failure = result.get();
  if (failure.code != DA3_OK) throw EngineError(failure.code, failure.message, failure.detail);
  return true;
}

bool BatchWorker::warm_up(const Item& like, uint32_t most, const std::function<bool()>& stop,
                          const std::function<void(double)>& progress) {
  // Passes of a size that count; where no sizes are compared one tells what it takes.
  const uint32_t least = most > 1 ? 3 : 1;
  // No longer for the sake of sizes that hardly differ, or of one more pass that takes long: they are
  // compared further while they are used.
  constexpr int64_t kLongest = 3'000'000'000;
  const int64_t begin = former_.now();
  std::map<uint32_t, uint32_t> counted;  // passes by size
  double done = 0;
  most = std::max(1u, most);
  const double steps = 1 + std::ceil(std::log2(double(most)));
  const auto advance = [&](double to) { progress(done = std::max(done, std::min(1.0, to))); };
  advance(0);
  for (uint32_t size = 1; size > 0 && size <= most; size = former_.to_measure(like)) {
    const bool fresh = !counted.count(size);
    const bool enough = fresh ? size > 1 : counted[size] > 0;
    if (enough && former_.now() - begin > kLongest) break;
    if (!fresh && most == 1) break;
    // The first pass of a size does not count: it fills caches and workspaces.
    for (int pass = fresh ? 0 : 1; pass < 2; ++pass) {
      if (stop()) return false;
      bool fits = true;
      if (!call([&] { fits = measure(like, size, pass > 0); })) return false;
      if (!fits) {
        advance(1);
        return true;
      }
      if (pass > 0) ++counted[size];
      advance((std::log2(double(size)) + std::min(1 + counted[size], least + 1) / (least + 1.0)) / steps);
    }
  }
  advance(1);
  return true;
}

// A pass that nobody asked for. False: it did not fit.
bool BatchWorker::measure(const Item& like, uint32_t size, bool counts) {
  const std::vector<Item> items(size, like);
  PassReport report;
  const int64_t started = former_.now();
  try {
    for (Da3Result* result : parts_.run(items, &report)) parts_.release(result);
  } catch (...) {
    if (current_failure().code != DA3_ERROR_NO_MEMORY || size == 1) throw;
    former_.out_of_memory(items);
    return false;
  }
  if (counts && report.typical)
    former_.measured(like, size, std::max<int64_t>(1, former_.now() - started), report.bytes);
  return true;
}

void deliver(Item& item, Da3Result* result) {
  item.done(item.user, result, nullptr);
  item.client->finish(item.stream);
}

void deliver(Item& item, Da3ErrorCode code, const std::string& message, const std::string& detail) {
  std::string m = message, d = detail;
  const Da3Error error{code, m.data(), d.empty() ? nullptr : d.data()};
  item.done(item.user, nullptr, &error);
  item.client->finish(item.stream);
}

}  // namespace da3
