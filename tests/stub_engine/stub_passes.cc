// SPDX-License-Identifier: MIT
//
// What the passes of the stub engine compute, and how they go wrong.
#include <algorithm>
#include <limits>

#include "stub_core.h"

namespace da3::stub {

// ---- what the stub computes
// ---------------------------------------------------------------------------------------

namespace {

void compute_view(const Da3Request& request, const Da3View& view, uint32_t index, Da3Result& result) {
  const size_t plane = size_t(request.width) * request.height;
  double red = 0;
  for (int y = 0; y < request.height; ++y) {
    const uint8_t* row = view.rgb + size_t(y) * view.stride;
    for (int x = 0; x < request.width; ++x) {
      const uint8_t* p = row + 3 * x;
      const size_t at = index * plane + size_t(y) * request.width + x;
      red += p[0];
      result.depth[at] = 1.0f + 9.0f * float(p[0] + p[1] + p[2]) / 765.0f;
      if (!result.confidence.empty()) result.confidence[at] = 1.0f + float(p[0]) / 255.0f;
      if (!result.sky.empty()) result.sky[at] = float(p[2]) / 255.0f;
    }
  }
  if (result.extrinsics.empty()) return;
  const float mean = float(red / double(plane) / 255.0);
  const float w2c[12] = {1, 0, 0, mean, 0, 1, 0, float(index), 0, 0, 1, float(request.n_views)};
  const float k[9] = {float(request.width),
                      0,
                      float(request.width) / 2,
                      0,
                      2.0f * float(request.height),
                      float(request.height) / 2,
                      0,
                      0,
                      1};
  std::copy_n(w2c, 12, result.extrinsics.begin() + 12 * index);
  std::copy_n(k, 9, result.intrinsics.begin() + 9 * index);
}

void spoil(const Core& engine, const Request& request, Da3Result& result) {
  Da3ResultData& data = result.data;
  if (engine.hits("nan-at", request)) {
    std::fill(result.depth.begin(), result.depth.end(), std::numeric_limits<float>::quiet_NaN());
  }
  if (engine.hits("some-nan-at", request)) result.depth[0] = std::numeric_limits<float>::quiet_NaN();
  if (engine.hits("wrong-size-at", request)) data.width -= 1;
  if (engine.hits("zero-size-at", request)) data.width = data.height = 0;
  if (engine.hits("wrong-views-at", request)) data.n_views += 1;
  if (engine.hits("no-depth-at", request)) data.depth = nullptr;
  if (engine.hits("no-confidence-at", request)) data.confidence = nullptr;
}

}  // namespace

Da3Result* new_result() {
  const std::lock_guard lock(global().mutex);
  ++global().counters.results_alive;
  return new Da3Result;
}

void stub_result_unref(Da3Result* result) {
  if (--result->refs > 0) return;
  delete result;
  const std::lock_guard lock(global().mutex);
  --global().counters.results_alive;
}

Da3Result* compute(const Core& engine, const Request& item, uint32_t batch) {
  const Da3Request& request = item.request;
  auto* result = new_result();
  const size_t n = request.n_views;
  const size_t values = n * request.width * request.height;
  result->depth.resize(values);
  if (request.outputs & DA3_OUTPUT_CONFIDENCE) result->confidence.resize(values);
  if (request.outputs & DA3_OUTPUT_SKY) result->sky.resize(values);
  if (request.outputs & DA3_OUTPUT_POSE) {
    result->extrinsics.resize(12 * n);
    result->intrinsics.resize(9 * n);
  }
  for (uint32_t i = 0; i < n; ++i) compute_view(request, item.views[i], i, *result);

  Da3ResultData& data = result->data;
  data.struct_size = sizeof(data);
  data.n_views = request.n_views;
  data.width = request.width;
  data.height = request.height;
  data.depth = result->depth.data();
  const auto plane = [](const std::vector<float>& v) { return v.empty() ? nullptr : v.data(); };
  if (request.outputs & DA3_OUTPUT_RAY) {
    data.ray_width = request.width / DA3_PATCH_SIZE;
    data.ray_height = request.height / DA3_PATCH_SIZE;
    result->ray.assign(n * data.ray_width * data.ray_height * 6, 0.5f);
    result->ray_confidence.assign(n * data.ray_width * data.ray_height, 2.0f);
  }
  data.confidence = plane(result->confidence);
  data.sky = plane(result->sky);
  data.ray = plane(result->ray);
  data.ray_confidence = plane(result->ray_confidence);
  data.extrinsics = plane(result->extrinsics);
  data.intrinsics = plane(result->intrinsics);
  data.kind = engine.info.kind;
  data.scale_factor = 1;
  data.metric_valid = engine.number("metric-valid", 1);
  data.batch = batch;
  const int64_t queued = std::chrono::nanoseconds(Clock::now() - item.submitted).count();
  data.queued_ns =
      engine.number("queued-us", -1) < 0 ? queued : int64_t(1000) * engine.number("queued-us", 0);
  data.inference_ns = int64_t(1000) * engine.number("inference-us", 1000);
  spoil(engine, item, *result);
  return result;
}

// ---- passes that go wrong
// ---------------------------------------------------------------------------------------------------

void warn(const std::vector<Request*>& items, Da3ErrorCode code, const char* text) {
  std::set<const Da3Engine*> references;
  for (const Request* item : items) references.insert(item->reference);
  for (const Da3Engine* reference : references) {
    if (reference->config.warning) reference->config.warning(reference->config.user, code, text);
  }
}

std::string error_text(Da3ErrorCode code, int number) {
  switch (code) {
    case DA3_ERROR_CANCELLED:
      return "The request was cancelled.";
    case DA3_ERROR_EXPIRED:
      return "The deadline could not be met.";
    case DA3_ERROR_NO_MEMORY:
      return "Out of memory: the stub needs 1 byte more; use a smaller process-res.";
    default:
      return "The stub failed at request " + std::to_string(number) + ".";
  }
}

Da3ErrorCode begin_pass(Core& engine, const std::vector<Request*>& items, int* culprit) {
  Global& g = global();
  std::unique_lock lock(g.mutex);
  if (g.counters.batches < DA3_STUB_MAX_BATCHES) {
    g.counters.batch_sizes[g.counters.batches] = int(items.size());
  }
  ++g.counters.batches;
  ++engine.batches;
  Da3ErrorCode code = DA3_OK;
  for (Request* item : items) {
    if (engine.hits("slow-at", *item) && !std::exchange(item->slow_done, true)) {
      ++g.counters.slow_passes;
      g.changed.notify_all();
      g.changed.wait(lock, [&] { return engine.stopping || g.slow_passes != 0; });
      if (g.slow_passes > 0) --g.slow_passes;
    }
    const bool halves = items.size() > 1 && engine.hits("halve-at", *item) && !item->halved;
    item->halved |= halves;
    const bool no_memory = halves || engine.hits("oom-at", *item);
    if (!no_memory && !engine.hits("break-at", *item)) continue;
    code = no_memory ? DA3_ERROR_NO_MEMORY : DA3_ERROR_FAILED;
    *culprit = item->number;
  }
  if (code != DA3_OK) ++g.counters.broken_passes;
  return code;
}

void tell(const Request& item, Da3Result* result, const Da3Error* error) {
  Global& g = global();
  {
    const std::lock_guard lock(g.mutex);
    --g.outstanding;  // before done(): its callee may submit the next one
  }
  const Da3ErrorCode code = error ? error->code : DA3_OK;
  item.request.done(item.request.user, result, error);
  const std::lock_guard lock(g.mutex);
  ++g.counters.finished;
  if (code == DA3_ERROR_CANCELLED) ++g.counters.cancelled;
  if (code == DA3_ERROR_EXPIRED) ++g.counters.expired;
  g.changed.notify_all();
}

}  // namespace da3::stub
