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

struct InferFigures {
  guint64 frames_in = 0, frames_out = 0;  // out: downstream took it
  std::array<guint64, kDropReasons> dropped{};
  // Of frames_out: without a result of their own (on-drop), and marked as gaps by upstream.
  guint64 reused = 0, passed = 0, gaps = 0;
  guint64 groups = 0;        // requests to the engine
  guint64 bytes_copied = 0;  // pixels written by the resize; frames of da3preprocess are lent without a copy
  guint64 latency_messages = 0, model_changes = 0;
  std::map<guint, guint64> batches;  // size of the forward pass -> requests that were in one
  guint64 last_batch = 0;
  gint64 last_inference_ns = 0, last_queued_ns = 0;

  // Nanoseconds. prepare: conversion and resize. wait: from arrival to the engine (other views, a full line).
  // queue: in the engine. inference: the forward pass. total: from arrival until it is pushed.
  Samples prepare, wait, queue, inference, total;
  Rate output;

  void drop(DropReason reason, guint64 frames = 1) { dropped[size_t(reason)] += frames; }
  guint64 all_dropped() const;
  void learn(const Da3ResultData& data);
};

// The readings at one moment, besides the counters.
struct InferReadings {
  InferFigures figures;
  guint queued = 0;          // frames inside
  guint64 queued_bytes = 0;  // that they hold
  guint in_flight = 0;       // requests with the engine
  GstClockTime latency = 0;  // what a LATENCY query is told to add
  bool live = false;
  std::optional<Da3EngineStats> engine;
};

// Structure "da3infer-stats" (transfer full). Fields: docs/live.md.
GstStructure* stats_structure(const InferReadings& readings);

}  // namespace da3::plugin
