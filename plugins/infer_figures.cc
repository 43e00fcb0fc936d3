// SPDX-License-Identifier: MIT
#include "infer_figures.h"

#include <numeric>
#include <string>

namespace da3::plugin {
namespace {

void set(GstStructure* s, const char* field, guint64 value) {
  gst_structure_set(s, field, G_TYPE_UINT64, value, nullptr);
}

void add_structure(GstStructure* s, const char* field, GstStructure* value) {
  gst_structure_set(s, field, GST_TYPE_STRUCTURE, value, nullptr);
  gst_structure_free(value);
}

void add_stage(GstStructure* stages, const char* name, const Samples& samples) {
  add_structure(
      stages, name,
      gst_structure_new(name, "p50-ns", G_TYPE_INT64, samples.quantile(0.5), "p95-ns", G_TYPE_INT64,
                        samples.quantile(0.95), "p99-ns", G_TYPE_INT64, samples.quantile(0.99), nullptr));
}

GstStructure* stages_of(const InferFigures& f) {
  GstStructure* stages = gst_structure_new_empty("stages");
  add_stage(stages, "prepare", f.prepare);
  add_stage(stages, "wait", f.wait);
  add_stage(stages, "queue", f.queue);
  add_stage(stages, "inference", f.inference);
  add_stage(stages, "total", f.total);
  return stages;
}

GstStructure* drops_of(const InferFigures& f) {
  GstStructure* drops = gst_structure_new_empty("drops");
  for (size_t i = 0; i < kDropReasons; ++i) set(drops, drop_reason_name(DropReason(i)), f.dropped[i]);
  return drops;
}

GstStructure* skipped_of(const InferFigures& f) {
  GstStructure* skipped = gst_structure_new_empty("skipped");
  for (const DropReason reason : {DropReason::overrun, DropReason::late, DropReason::qos}) {
    set(skipped, drop_reason_name(reason), f.skipped[size_t(reason)]);
  }
  return skipped;
}

GstStructure* batches_of(const InferFigures& f) {
  GstStructure* batches = gst_structure_new_empty("batches");
  for (const auto& [size, requests] : f.batches) {
    set(batches, ("size-" + std::to_string(size)).c_str(), requests);
  }
  return batches;
}

GstStructure* quantiles_of(const char* name, const Da3Quantiles& q) {
  return gst_structure_new(name, "p50-ns", G_TYPE_INT64, gint64(q.p50_ns), "p95-ns", G_TYPE_INT64,
                           gint64(q.p95_ns), "p99-ns", G_TYPE_INT64, gint64(q.p99_ns), nullptr);
}

// Passes by their size.
GstStructure* passes_of(const Da3EngineStats& e) {
  GstStructure* passes = gst_structure_new_empty("passes");
  for (guint i = 0; i < DA3_BATCH_BUCKETS; ++i)
    if (e.batch_histogram[i] > 0)
      set(passes, ("size-" + std::to_string(i + 1)).c_str(), e.batch_histogram[i]);
  return passes;
}

// Of the engine, that is of all elements that share it.
GstStructure* engine_of(const Da3EngineStats& e) {
  GstStructure* engine = gst_structure_new_empty("engine");
  gst_structure_set(engine, "users", G_TYPE_UINT, e.users, "streams", G_TYPE_UINT, e.streams, "waiting",
                    G_TYPE_UINT, e.waiting, "running", G_TYPE_UINT, e.running, nullptr);
  set(engine, "submitted", e.submitted);
  set(engine, "completed", e.completed);
  set(engine, "failed", e.failed);
  set(engine, "cancelled", e.cancelled);
  set(engine, "expired", e.expired);
  set(engine, "batches", e.batches);
  set(engine, "memory-retries", e.memory_retries);
  set(engine, "memory-weights", e.memory_weights);
  set(engine, "memory-used", e.memory_used);
  set(engine, "memory-free", e.memory_free);
  set(engine, "memory-budget", e.memory_budget);
  set(engine, "cache-hits", e.cache_hits);
  set(engine, "cache-misses", e.cache_misses);
  set(engine, "cache-evictions", e.cache_evictions);
  set(engine, "cache-memory", e.cache_memory);
  add_structure(engine, "passes", passes_of(e));
  add_structure(engine, "service", quantiles_of("service", e.service));
  add_structure(engine, "queue-wait", quantiles_of("queue-wait", e.queue_wait));
  return engine;
}

}  // namespace

guint64 InferFigures::all_dropped() const {
  return std::accumulate(dropped.begin(), dropped.end(), guint64(0));
}

void InferFigures::add_output(Pushed what, guint64 frames) {
  frames_out += frames;
  if (what == Pushed::reused) reused += frames;
  if (what == Pushed::passed) passed += frames;
  if (what == Pushed::gap) gaps += frames;
}

void InferFigures::learn(const Da3ResultData& data) {
  last_batch = data.batch;
  last_inference_ns = data.inference_ns;
  last_queued_ns = data.queued_ns;
  ++batches[data.batch];
  queue.add(data.queued_ns);
  inference.add(data.inference_ns);
}

GstStructure* stats_structure(const InferReadings& r) {
  const InferFigures& f = r.figures;
  GstStructure* s = gst_structure_new_empty("da3infer-stats");
  set(s, "frames-in", f.frames_in);
  set(s, "frames-out", f.frames_out);
  set(s, "frames-dropped", f.all_dropped());
  set(s, "frames-reused", f.reused);
  set(s, "frames-passed", f.passed);
  set(s, "frames-gap", f.gaps);
  set(s, "groups", f.groups);
  gst_structure_set(s, "fps", G_TYPE_DOUBLE, r.fps, "live", G_TYPE_BOOLEAN, r.live, "queue-level",
                    G_TYPE_UINT, r.queued, "in-flight", G_TYPE_UINT, r.in_flight, nullptr);
  set(s, "queue-bytes", r.queued_bytes);
  set(s, "bytes-copied", f.bytes_copied);
  set(s, "latency", r.latency);
  set(s, "latency-messages", f.latency_messages);
  set(s, "model-changes", f.model_changes);
  set(s, "last-batch", f.last_batch);
  gst_structure_set(s, "last-inference-ns", G_TYPE_INT64, f.last_inference_ns, "last-queued-ns", G_TYPE_INT64,
                    f.last_queued_ns, nullptr);
  add_structure(s, "drops", drops_of(f));
  add_structure(s, "skipped", skipped_of(f));
  add_structure(s, "batches", batches_of(f));
  add_structure(s, "stages", stages_of(f));
  if (r.engine) add_structure(s, "engine", engine_of(*r.engine));
  return s;
}

}  // namespace da3::plugin
