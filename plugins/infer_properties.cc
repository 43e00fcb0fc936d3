// SPDX-License-Identifier: MIT
#include "infer_properties.h"

#include "common/enums.h"

namespace da3::plugin {
namespace {

constexpr guint kMaxViews = 1024;
constexpr guint kMaxBatch = 1024;
constexpr guint kMaxThreads = 1024;
constexpr int kMinProcessRes = 0;
constexpr int kMaxProcessRes = 8190;
constexpr guint64 kLongest = guint64(24) * 3600 * GST_SECOND;  // a day

constexpr auto kStrings = GParamFlags(G_PARAM_STATIC_STRINGS);

GParamFlags ready() {
  return GParamFlags(G_PARAM_READWRITE | kStrings | GST_PARAM_MUTABLE_READY);
}
GParamFlags playing() {
  return GParamFlags(G_PARAM_READWRITE | kStrings | GST_PARAM_MUTABLE_PLAYING);
}
GParamFlags reading() {
  return GParamFlags(G_PARAM_READABLE | kStrings);
}

void install_model(GObjectClass* klass, const ModelSettings& defaults) {
  g_object_class_install_property(
      klass, PROP_INFER_MODEL,
      g_param_spec_string(
          "model", "Model",
          "da3-demo (the small checkpoint that ships), a .safetensors file, a folder with config.json, the "
          "id of a Hugging Face repository in the "
          "local cache (depth-anything/DA3-SMALL), or synthetic:NAME (untrained: synthetic:da3-small). "
          "While playing the new one loads in the background and takes over without losing a frame",
          defaults.model.c_str(), playing()));
  g_object_class_install_property(
      klass, PROP_INFER_DEVICE,
      g_param_spec_string(
          "device", "Device",
          "auto (the best there is), cpu, cuda, cuda:N or mps; a device that is not there is an error",
          "auto", ready()));
  g_object_class_install_property(klass, PROP_INFER_PRECISION,
                                  g_param_spec_enum("precision", "Precision", "Number format of the network",
                                                    GST_TYPE_DA3_PRECISION, DA3_PRECISION_AUTO, ready()));
  g_object_class_install_property(
      klass, PROP_INFER_PERFORMANCE_MODE,
      g_param_spec_enum("performance-mode", "Performance mode",
                        "How much is spent for speed: measurements, memory, size of batches",
                        GST_TYPE_DA3_PERFORMANCE_MODE, DA3_PERFORMANCE_BALANCED, ready()));
  g_object_class_install_property(
      klass, PROP_INFER_ATTENTION,
      g_param_spec_enum("attention", "Attention",
                        "How attention is computed; changes no result beyond rounding",
                        GST_TYPE_DA3_ATTENTION, DA3_ATTENTION_AUTO, ready()));
  g_object_class_install_property(
      klass, PROP_INFER_THREADS,
      g_param_spec_uint("threads", "Threads",
                        "Threads of the network on the CPU, 0 = one for each core. The process has one "
                        "number: the first element that gives one decides, another wish later is a warning",
                        0, kMaxThreads, 0, ready()));
  g_object_class_install_property(
      klass, PROP_INFER_MAX_BATCH,
      g_param_spec_uint(
          "max-batch", "Largest batch",
          "Most independent frames (or groups of views) put through the network together for speed; "
          "changes no result beyond rounding. 0 = chosen for the device",
          0, kMaxBatch, 0, ready()));
  g_object_class_install_property(
      klass, PROP_INFER_MEMORY_FRACTION,
      g_param_spec_double("memory-fraction", "Memory fraction",
                          "Part of the device's free memory that forward passes may take; batches stay "
                          "within it. Of several elements on one model the least counts",
                          0.01, 1, defaults.memory_fraction, ready()));
  g_object_class_install_property(
      klass, PROP_INFER_CACHE_TTL,
      g_param_spec_uint64(
          "cache-ttl", "Time to live in the cache",
          "How long the model stays loaded after the last element that uses it has closed it "
          "[ns]: a pipeline that starts within that time does not load it again. 0 = not at all",
          0, kLongest, defaults.cache_ttl, ready()));
  g_object_class_install_property(
      klass, PROP_INFER_CACHE_MEMORY_LIMIT,
      g_param_spec_uint64(
          "cache-memory-limit", "Memory limit of the cache",
          "Most that models kept by cache-ttl without a user may hold in this process [bytes]; over it, the "
          "one unused for longest is freed. 0 = as it is: no limit, or what another element has set",
          0, G_MAXUINT64, defaults.cache_memory_limit, ready()));
}

void install_frames(GObjectClass* klass, const InferSettings& defaults) {
  g_object_class_install_property(
      klass, PROP_INFER_PROCESS_RES,
      g_param_spec_int(
          "process-res", "Process resolution",
          "Side length in pixels that process-res-method aims at; sides become multiples of 14. 0 = what "
          "the model is meant for (504, da3-demo 196). Frames from da3preprocess keep their size",
          kMinProcessRes, kMaxProcessRes, defaults.process_res, playing()));
  g_object_class_install_property(
      klass, PROP_INFER_PROCESS_RES_METHOD,
      g_param_spec_enum("process-res-method", "Process resolution method",
                        "How a frame gets the process size", GST_TYPE_DA3_PROCESS_RES_METHOD,
                        gint(defaults.process_res_method), playing()));
  g_object_class_install_property(
      klass, PROP_INFER_VIEWS,
      g_param_spec_uint(
          "views", "Views",
          "Successive frames that attend to each other and share one world frame; changes results. 1 = "
          "every frame on its own. The end of the stream, new caps or a new segment close a smaller group, "
          "behind a live source also a gap or time",
          1, kMaxViews, defaults.views, playing()));
  g_object_class_install_property(
      klass, PROP_INFER_REF_VIEW_STRATEGY,
      g_param_spec_enum("ref-view-strategy", "Reference view strategy",
                        "Which view of a group is the reference (with 3 views or more)",
                        GST_TYPE_DA3_REF_VIEW_STRATEGY, defaults.ref_view_strategy, playing()));
  g_object_class_install_property(
      klass, PROP_INFER_USE_RAY_POSE,
      g_param_spec_boolean(
          "use-ray-pose", "Use ray pose",
          "Cameras from the ray map instead of the camera decoder: slower; attaches the ray map, too",
          defaults.use_ray_pose, playing()));
}

void install_flow(GObjectClass* klass, const FlowSettings& defaults) {
  g_object_class_install_property(
      klass, PROP_INFER_MAX_LATENCY,
      g_param_spec_uint64("max-latency", "Largest latency",
                          "How old a live frame may become in here before its inference is given up [ns]. "
                          "0 = three forward passes, at least 100 ms",
                          0, kLongest, defaults.max_latency, playing()));
  g_object_class_install_property(
      klass, PROP_INFER_DROP_POLICY,
      g_param_spec_enum("drop-policy", "Drop policy", "Which frames are not inferred when there are too many",
                        GST_TYPE_DA3_DROP_POLICY, gint(defaults.drop_policy), playing()));
  g_object_class_install_property(
      klass, PROP_INFER_ON_DROP,
      g_param_spec_enum("on-drop", "On drop", "What takes the place of a frame that is not inferred",
                        GST_TYPE_DA3_ON_DROP, gint(defaults.on_drop), playing()));
  g_object_class_install_property(
      klass, PROP_INFER_STATS_INTERVAL,
      g_param_spec_uint64("stats-interval", "Statistics interval",
                          "Time between element messages with the statistics [ns], frames or not. 0 = none",
                          0, kLongest, defaults.stats_interval, playing()));
}

void install_readings(GObjectClass* klass) {
  g_object_class_install_property(
      klass, PROP_INFER_ACTIVE_MODEL,
      g_param_spec_string("active-model", "Active model",
                          "Configuration in use, e.g. da3-small (from READY on; notifies)", nullptr,
                          reading()));
  g_object_class_install_property(
      klass, PROP_INFER_ACTIVE_DEVICE,
      g_param_spec_string("active-device", "Active device", "Device in use, e.g. cuda:0 (from READY on)",
                          nullptr, reading()));
  g_object_class_install_property(
      klass, PROP_INFER_ACTIVE_PRECISION,
      g_param_spec_string("active-precision", "Active precision",
                          "Precision in use, e.g. fp32 (from READY on)", nullptr, reading()));
  g_object_class_install_property(
      klass, PROP_INFER_ACTIVE_ATTENTION,
      g_param_spec_string("active-attention", "Active attention",
                          "Attention in use, e.g. fused (from READY on)", nullptr, reading()));
  g_object_class_install_property(
      klass, PROP_INFER_STATS,
      g_param_spec_boxed("stats", "Statistics",
                         "frames-in, frames-out, frames-dropped, drops by reason, fps, times of the stages, "
                         "sizes of batches, "
                         "queue-level [frames], the engine's memory and more: docs/live.md",
                         GST_TYPE_STRUCTURE, reading()));
}

std::string text_of(const GValue* value) {
  const gchar* text = g_value_get_string(value);
  return text ? text : "";
}

bool set_model_property(ModelSettings& model, guint id, const GValue* value) {
  switch (id) {
    case PROP_INFER_MODEL:
      model.model = text_of(value);
      if (model.model.empty()) model.model = ModelSettings{}.model;
      return true;
    case PROP_INFER_DEVICE:
      model.device = text_of(value);
      return true;
    case PROP_INFER_PRECISION:
      model.precision = Da3Precision(g_value_get_enum(value));
      return true;
    case PROP_INFER_PERFORMANCE_MODE:
      model.performance_mode = Da3PerformanceMode(g_value_get_enum(value));
      return true;
    case PROP_INFER_ATTENTION:
      model.attention = Da3Attention(g_value_get_enum(value));
      return true;
    case PROP_INFER_THREADS:
      model.threads = g_value_get_uint(value);
      return true;
    case PROP_INFER_MAX_BATCH:
      model.max_batch = g_value_get_uint(value);
      return true;
    case PROP_INFER_MEMORY_FRACTION:
      model.memory_fraction = g_value_get_double(value);
      return true;
    case PROP_INFER_CACHE_TTL:
      model.cache_ttl = g_value_get_uint64(value);
      return true;
    case PROP_INFER_CACHE_MEMORY_LIMIT:
      model.cache_memory_limit = g_value_get_uint64(value);
      return true;
    default:
      return false;
  }
}

bool set_stream_property(StreamSettings& stream, guint id, const GValue* value) {
  switch (id) {
    case PROP_INFER_PROCESS_RES:
      stream.infer.process_res = g_value_get_int(value);
      return true;
    case PROP_INFER_PROCESS_RES_METHOD:
      stream.infer.process_res_method = image::ProcessResMethod(g_value_get_enum(value));
      return true;
    case PROP_INFER_VIEWS:
      stream.infer.views = g_value_get_uint(value);
      return true;
    case PROP_INFER_REF_VIEW_STRATEGY:
      stream.infer.ref_view_strategy = Da3RefViewStrategy(g_value_get_enum(value));
      return true;
    case PROP_INFER_USE_RAY_POSE:
      stream.infer.use_ray_pose = g_value_get_boolean(value);
      return true;
    case PROP_INFER_MAX_LATENCY:
      stream.flow.max_latency = g_value_get_uint64(value);
      return true;
    case PROP_INFER_DROP_POLICY:
      stream.flow.drop_policy = DropPolicy(g_value_get_enum(value));
      return true;
    case PROP_INFER_ON_DROP:
      stream.flow.on_drop = OnDrop(g_value_get_enum(value));
      return true;
    case PROP_INFER_STATS_INTERVAL:
      stream.flow.stats_interval = g_value_get_uint64(value);
      return true;
    default:
      return false;
  }
}

void set_text(GValue* value, const std::string& text) {
  g_value_set_string(value, text.empty() ? nullptr : text.c_str());
}

bool get_model_property(const InferProperties& p, guint id, GValue* value) {
  switch (id) {
    case PROP_INFER_MODEL:
      set_text(value, p.model.model);
      return true;
    case PROP_INFER_DEVICE:
      g_value_set_string(value, p.model.device.c_str());
      return true;
    case PROP_INFER_PRECISION:
      g_value_set_enum(value, p.model.precision);
      return true;
    case PROP_INFER_PERFORMANCE_MODE:
      g_value_set_enum(value, p.model.performance_mode);
      return true;
    case PROP_INFER_ATTENTION:
      g_value_set_enum(value, p.model.attention);
      return true;
    case PROP_INFER_THREADS:
      g_value_set_uint(value, p.model.threads);
      return true;
    case PROP_INFER_MAX_BATCH:
      g_value_set_uint(value, p.model.max_batch);
      return true;
    case PROP_INFER_MEMORY_FRACTION:
      g_value_set_double(value, p.model.memory_fraction);
      return true;
    case PROP_INFER_CACHE_TTL:
      g_value_set_uint64(value, p.model.cache_ttl);
      return true;
    case PROP_INFER_CACHE_MEMORY_LIMIT:
      g_value_set_uint64(value, p.model.cache_memory_limit);
      return true;
    case PROP_INFER_ACTIVE_MODEL:
      set_text(value, p.active_model);
      return true;
    case PROP_INFER_ACTIVE_DEVICE:
      set_text(value, p.active_device);
      return true;
    case PROP_INFER_ACTIVE_PRECISION:
      set_text(value, p.active_precision);
      return true;
    case PROP_INFER_ACTIVE_ATTENTION:
      set_text(value, p.active_attention);
      return true;
    default:
      return false;
  }
}

bool get_stream_property(const StreamSettings& stream, guint id, GValue* value) {
  switch (id) {
    case PROP_INFER_PROCESS_RES:
      g_value_set_int(value, stream.infer.process_res);
      return true;
    case PROP_INFER_PROCESS_RES_METHOD:
      g_value_set_enum(value, gint(stream.infer.process_res_method));
      return true;
    case PROP_INFER_VIEWS:
      g_value_set_uint(value, stream.infer.views);
      return true;
    case PROP_INFER_REF_VIEW_STRATEGY:
      g_value_set_enum(value, stream.infer.ref_view_strategy);
      return true;
    case PROP_INFER_USE_RAY_POSE:
      g_value_set_boolean(value, stream.infer.use_ray_pose);
      return true;
    case PROP_INFER_MAX_LATENCY:
      g_value_set_uint64(value, stream.flow.max_latency);
      return true;
    case PROP_INFER_DROP_POLICY:
      g_value_set_enum(value, gint(stream.flow.drop_policy));
      return true;
    case PROP_INFER_ON_DROP:
      g_value_set_enum(value, gint(stream.flow.on_drop));
      return true;
    case PROP_INFER_STATS_INTERVAL:
      g_value_set_uint64(value, stream.flow.stats_interval);
      return true;
    default:
      return false;
  }
}

}  // namespace

void install_infer_properties(GObjectClass* klass) {
  install_model(klass, ModelSettings{});
  install_frames(klass, InferSettings{});
  install_flow(klass, FlowSettings{});
  install_readings(klass);
}

bool set_infer_property(InferProperties& properties, guint id, const GValue* value) {
  return set_model_property(properties.model, id, value) || set_stream_property(properties.stream, id, value);
}

bool get_infer_property(const InferProperties& properties, guint id, GValue* value) {
  return get_model_property(properties, id, value) || get_stream_property(properties.stream, id, value);
}

}  // namespace da3::plugin
