// SPDX-License-Identifier: MIT
//
// The properties of da3infer: what they are called, mean and default to, and where their values live.
#pragma once

#include <gst/gst.h>

#include <string>

#include "infer_model.h"
#include "infer_stream.h"

namespace da3::plugin {

enum InferProperty : guint {
  PROP_INFER_0,
  PROP_INFER_MODEL,
  PROP_INFER_DEVICE,
  PROP_INFER_PRECISION,
  PROP_INFER_PERFORMANCE_MODE,
  PROP_INFER_ATTENTION,
  PROP_INFER_THREADS,
  PROP_INFER_MAX_BATCH,
  PROP_INFER_MEMORY_FRACTION,
  PROP_INFER_CACHE_TTL,
  PROP_INFER_CACHE_MEMORY_LIMIT,
  PROP_INFER_PROCESS_RES,
  PROP_INFER_PROCESS_RES_METHOD,
  PROP_INFER_VIEWS,
  PROP_INFER_REF_VIEW_STRATEGY,
  PROP_INFER_USE_RAY_POSE,
  PROP_INFER_MAX_LATENCY,
  PROP_INFER_DROP_POLICY,
  PROP_INFER_ON_DROP,
  PROP_INFER_STATS_INTERVAL,
  PROP_INFER_ACTIVE_MODEL,
  PROP_INFER_ACTIVE_DEVICE,
  PROP_INFER_ACTIVE_PRECISION,
  PROP_INFER_ACTIVE_ATTENTION,
  PROP_INFER_STATS
};

struct InferProperties {
  ModelSettings model;
  StreamSettings stream;
  std::string active_model, active_device, active_precision, active_attention;  // empty: nothing is open
};

void install_infer_properties(GObjectClass* klass);

// False if there is no such property, or, for set, if it cannot be written. `stats` is none of theirs.
bool set_infer_property(InferProperties& properties, guint id, const GValue* value);
bool get_infer_property(const InferProperties& properties, guint id, GValue* value);

}  // namespace da3::plugin
