// SPDX-License-Identifier: MIT
//
// What one da3infer has done since it started: counters that add up, and times of the stages.
// frames_in = frames_out + all drops + frames that are inside, at any moment.
#pragma once

#include <gst/gst.h>

#include <array>
#include <map>
#include <optional>

#include "engine/api/engine.h"
#include "infer_policy.h"

namespace da3::plugin {

// What a frame that goes on carries: a result of its own, that of another one, none, or upstream's mark of a
// gap.
enum class Pushed { inferred, reused, passed, gap };

struct InferFigures {
  guint64 frames_in = 0, frames_out = 0;  // out: downstream took it
  std::array<guint64, kDropReasons> dropped{};
  // Not inferred, whatever took their place: one QoS message each. Those that went on are in frames_out.
  std::array<guint64, kDropReasons> skipped{};
  // Of frames_out: without a result of their own (on-drop), and marked as gaps by upstream.
  guint64 reused = 0, passed = 0, gaps = 0;
  guint64 groups = 0;        // requests to the engine
  guint64 bytes_copied = 0;  // by the resize, planes that are scaled, memory that nobody may share
  guint64 latency_messages = 0, model_changes = 0;
  std::map<guint, guint64> batches;  // size of the forward pass -> requests that were in one
  guint64 last_batch = 0;
  gint64 last_inference_ns = 0, last_queued_ns = 0;

  // Nanoseconds. prepare: conversion and resize. wait: for the engine, once all views of the group are there.
  // queue: in the engine. inference: the forward pass. total: from arrival until it is pushed.
  Samples prepare, wait, queue, inference, total;
  Rate output;

  void drop(DropReason reason, guint64 frames = 1) { dropped[size_t(reason)] += frames; }
  void skip(DropReason reason) { ++skipped[size_t(reason)]; }
  // A frame that goes on, before it is pushed; taken back if downstream did not take it.
  void push(Pushed what) { add_output(what, 1); }
  void take_back(Pushed what) { add_output(what, guint64(-1)); }
  guint64 all_dropped() const;
  void learn(const Da3ResultData& data);

 private:
  void add_output(Pushed what, guint64 frames);
};

// The readings at one moment, besides the counters.
struct InferReadings {
  InferFigures figures;
  guint queued = 0;          // frames inside
  guint64 queued_bytes = 0;  // that they hold
  guint in_flight = 0;       // requests with the engine
  double fps = 0;            // frames out a second
  GstClockTime latency = 0;  // learned of the time inside; the answer to a query is bounded by max-latency
  bool live = false;
  std::optional<Da3EngineStats> engine;
};

// Structure "da3infer-stats" (transfer full). Fields: docs/live.md.
GstStructure* stats_structure(const InferReadings& readings);

}  // namespace da3::plugin
