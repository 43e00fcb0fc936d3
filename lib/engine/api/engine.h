/* SPDX-License-Identifier: MIT
 *
 * The border of the inference engine: plain C types, no LibTorch, no GStreamer.
 *
 * The engine is a module (libda3engine.so) that is loaded at run time. It exports one symbol,
 * da3_engine_get_api(), which returns a table of functions. Nothing throws across this border.
 * engine_module.h is the C++ side that loads it.
 *
 * Units and axes
 *   images      8-bit RGB, row-major, top row first; sides multiples of 14 (the patch size)
 *   depth       z-depth along the optical axis; metres if the result is metric, else relative
 *   intrinsics  pixels of the image that was given (processed size); 3x3 row-major
 *   extrinsics  world to camera, 3x4 row-major [R|t], OpenCV camera axes (x right, y down, z forward)
 *
 * Threading: every function may be called from any thread. Done callbacks run on the engine's worker
 * thread, or inside cancel(), cancel_waiting() and close() for requests that those take out; they must return soon and
 * must not call close(), cancel() or warm_up(). Call these without holding a lock that a callback takes.
 *
 * Growth: structures and the table of functions only grow at their end. A structure is read (or written) as far as
 * its struct_size goes; fields beyond it have the value 0, which always means what the engine did before the field
 * existed. DA3_ENGINE_HAS() tells whether a table has a function.
 *
 * Batching: see docs/batching.md. Requests of all users of an engine wait in one place. The engine puts together
 * what may share a pass (same size, number of views, outputs, options), earliest deadline first; when not everything
 * can be served in time, streams are served equally. It waits for more requests only when a registered stream is
 * about to deliver one, no deadline would break and the items would pass faster for it. Sharing a pass never changes
 * a result beyond rounding.
 */
#ifndef DA3_ENGINE_API_H
#define DA3_ENGINE_API_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define DA3_ENGINE_ABI 1u
#define DA3_PATCH_SIZE 14

typedef enum {
  DA3_OK = 0,
  DA3_ERROR_SETTINGS,       /* an option has no meaning here (message says which and what to do) */
  DA3_ERROR_NOT_FOUND,      /* model file, folder or repository is not there */
  DA3_ERROR_OPEN_READ,      /* it is there and cannot be read */
  DA3_ERROR_WRONG_TYPE,     /* it can be read and is not a DA3 checkpoint (truncated, wrong keys, ...) */
  DA3_ERROR_DEVICE,         /* the device asked for does not exist in this LibTorch or machine */
  DA3_ERROR_NO_MEMORY,      /* out of memory at batch 1 */
  DA3_ERROR_UNSUPPORTED,    /* the model does not have this output or the device this precision */
  DA3_ERROR_FAILED,         /* inference failed */
  DA3_ERROR_CANCELLED,      /* the request was cancelled before it ran */
  DA3_ERROR_LIBRARY,        /* the engine module or LibTorch cannot be loaded */
  DA3_ERROR_EXPIRED         /* the deadline could not be met any more; no work was spent (DA3_REQUEST_DROP_EXPIRED) */
} Da3ErrorCode;

/* Filled by a failing call; both texts belong to the engine: release with error_clear(). Zero it first. */
typedef struct {
  Da3ErrorCode code;
  char *message; /* one sentence for the user: what, which value, what to do */
  char *detail;  /* for the developer; may be NULL */
} Da3Error;

typedef enum {
  DA3_PRECISION_AUTO = 0,
  DA3_PRECISION_FP32,
  DA3_PRECISION_FP16,
  DA3_PRECISION_BF16,
  DA3_PRECISION_INT8, /* 8-bit linear layers in the backbone (a scale a channel and a token), the rest bf16 where native, else fp32; CPU */
  DA3_PRECISION_FP8   /* the same in 8-bit floats (e4m3), the rest bf16; CUDA */
} Da3Precision;

/* How attention is computed: the same up to rounding. */
typedef enum {
  DA3_ATTENTION_AUTO = 0,  /* the fastest on this device for this model, measured when it is loaded */
  DA3_ATTENTION_PLAIN,     /* explicit products, everywhere */
  DA3_ATTENTION_FUSED,     /* our own kernel where it runs (CPU with AVX-512), else LibTorch's fused one; LibTorch 2 */
  DA3_ATTENTION_FLASH,     /* CUDA, capability 8.0, half precision */
  DA3_ATTENTION_EFFICIENT, /* CUDA: memory-efficient */
  DA3_ATTENTION_CUDNN      /* CUDA, capability 8.0, half precision */
} Da3Attention;

/* How much an engine spends for speed: docs/policies.md lists the settings. */
typedef enum {
  DA3_PERFORMANCE_BALANCED = 0,
  DA3_PERFORMANCE_MINIMAL, /* least memory, quickest start: nothing is measured, nothing is kept twice */
  DA3_PERFORMANCE_MAX      /* most throughput: longer measurements, larger batches; TF32 on CUDA */
} Da3PerformanceMode;

typedef enum {
  DA3_REF_VIEW_FIRST = 0,
  DA3_REF_VIEW_MIDDLE,
  DA3_REF_VIEW_SADDLE_BALANCED,
  DA3_REF_VIEW_SADDLE_SIM_RANGE
} Da3RefViewStrategy;

typedef enum { DA3_KIND_RELATIVE = 0, DA3_KIND_METRIC } Da3DepthKind;

/* What a model can compute, and what a request asks for. */
enum {
  DA3_OUTPUT_DEPTH = 1u << 0,
  DA3_OUTPUT_CONFIDENCE = 1u << 1,
  DA3_OUTPUT_SKY = 1u << 2,
  DA3_OUTPUT_POSE = 1u << 3, /* extrinsics and intrinsics */
  DA3_OUTPUT_RAY = 1u << 4,  /* ray map and its confidence */
  DA3_OUTPUT_GAUSSIANS = 1u << 5
};

typedef struct Da3Engine Da3Engine;
typedef struct Da3Result Da3Result;

typedef enum {
  DA3_PROGRESS_LOADING = 0, /* weights, from open(); at once 1 when the model is loaded already */
  DA3_PROGRESS_WARM_UP      /* measuring, from warm_up() */
} Da3ProgressStage;

typedef struct {
  uint32_t struct_size;   /* sizeof(Da3EngineConfig) */
  const char *model;      /* file, folder, Hugging Face repository id, or synthetic:NAME[?seed=N] */
  const char *device;     /* "auto", "cpu", "cuda", "cuda:N", "mps"; NULL = auto */
  Da3Precision precision; /* auto: the fastest that the device is native in, measured when the model is loaded */
  uint32_t max_batch;     /* most items put through the network together; 0 = the engine chooses */
  uint32_t threads;       /* CPU threads; 0 = all. Process-wide: the first engine that sets it or computes wins */
  /* Remarks that are no errors ("not a trained model", "falling back to cpu"); may be NULL. Called from open(). */
  void (*notice)(void *user, const char *text);
  void *user;
  /* ---- since 0.2 */
  /* Part of the device's free memory (other programs counted; on the CPU the available memory or what the control
   * group leaves) that passes may take: larger than 0 and at most 1; 0 = 0.85. Of several users of a model the least
   * counts. */
  float memory_fraction;
  /* How long the model stays loaded after its last user closed it, in milliseconds: the next open() finds it there.
   * 0 = freed by the last close(). Of several users the last one to close decides. */
  int32_t cache_ttl_ms;
  /* Bytes that models without a user may hold in this process; over it, the one unused for longest goes first.
   * 0 = no limit but the time above and the memory itself. Process-wide: the latest open with a value wins. */
  uint64_t cache_memory_limit;
  /* How far open() and warm_up() of this reference are: 0..1, never falling within a stage, 1 at its end unless it
   * fails. Called with `user` on the thread that called open() or warm_up(); may be NULL. */
  void (*progress)(void *user, Da3ProgressStage stage, double fraction);
  /* Something that went wrong and was mended: DA3_ERROR_NO_MEMORY when a batch had to be halved (once for each
   * new limit). Or that cannot be mended but should be known: DA3_ERROR_EXPIRED when one item takes longer than its
   * deadlines leave time (once for a reference), DA3_ERROR_UNSUPPORTED when passes of a GPU cannot be recorded (once
   * for an engine). Called with `user` on the engine's worker thread, to every reference that had an item in that
   * batch (the last one: to the first), until close() has returned; must return soon; may be NULL. */
  void (*warning)(void *user, Da3ErrorCode code, const char *text);
  Da3PerformanceMode performance_mode;
  Da3Attention attention;
  /* Whether nobody wants the model any more. Asked again and again with `user` on the thread that called open() or
   * warm_up(), while it does (from one weight, candidate or pass to the next, and while another open() loads the same
   * model): anything but 0 ends the call with DA3_ERROR_CANCELLED. Others who wait for the same model load it
   * themselves then. Must return soon; may be NULL. */
  int32_t (*cancelled)(void *user);
} Da3EngineConfig;
/* Up to `user`: the least that open() accepts. */
#define DA3_ENGINE_CONFIG_SIZE_1 offsetof(Da3EngineConfig, memory_fraction)

/* Valid as long as the engine. */
typedef struct {
  uint32_t struct_size;
  const char *name;         /* configuration name, e.g. "da3-small" */
  const char *source;       /* the file or folder that was loaded, or "synthetic:..." */
  const char *weights_hash; /* 16 hexadecimal digits: identity of keys, shapes and sampled content */
  const char *licence;      /* SPDX identifier, or "" when unknown */
  const char *device;       /* what is really used, e.g. "cpu" or "cuda:0" */
  const char *runtime;      /* e.g. "LibTorch 2.13.0" */
  Da3Precision precision;   /* what is really used */
  Da3DepthKind kind;
  uint32_t outputs;         /* DA3_OUTPUT_* bits this model can compute */
  uint32_t max_batch;       /* most that can share a pass; the cap in force is learned, see Da3ShapeStats */
  int32_t synthetic;        /* 1: untrained weights from a formula */
  int32_t focal_normalised; /* 1: metres = depth * focal length [px] / 300 (metric model on its own) */
  uint64_t parameters;
  /* ---- since 0.2 */
  int32_t process_res; /* longest side that the model is meant for [px]: config.json's "process_res", else 504 */
  Da3PerformanceMode performance_mode;
  Da3Attention attention; /* what is really used */
  const char *plan;       /* one line: what was chosen, and why */
} Da3ModelInfo;

/* One view: interleaved 8-bit RGB. Copied (normalised) when the batch starts; must stay valid until done(). */
typedef struct {
  const uint8_t *rgb;
  int32_t stride; /* bytes from row to row, >= 3 * width */
} Da3View;

typedef void (*Da3DoneFunc)(void *user, Da3Result *result, const Da3Error *error);

/* One item: `views` images of one scene that attend to each other. Different requests never influence each
 * other, however they are batched. */
typedef struct {
  uint32_t struct_size;
  const void *stream;    /* who asks; requests of one stream finish in the order of submission */
  const Da3View *views;  /* n_views entries; the array itself is copied by submit() */
  uint32_t n_views;
  int32_t width, height; /* the same for all views */
  uint32_t outputs;      /* DA3_OUTPUT_* wanted; asking for one the model lacks is an error */
  Da3RefViewStrategy ref_view_strategy;
  int32_t use_ray_pose;  /* pose from the ray map instead of the camera decoder */
  /* Known cameras of all views, or NULL: world to camera 3x4 and 3x3 in pixels of the given images. The model's
   * camera encoder is conditioned on them (normalised as upstream's api.py does). Copied by submit(). */
  const float *extrinsics;
  const float *intrinsics;
  /* Called exactly once per accepted request. On success `error` is NULL and the callee owns `result`
   * (result_unref()); on failure `result` is NULL and `error` is valid during the call. */
  Da3DoneFunc done;
  void *user;
  /* ---- since 0.2 */
  /* CLOCK_MONOTONIC (std::chrono::steady_clock, g_get_monotonic_time() * 1000) by which done() should have been
   * called; 0 = none: as soon as possible without hurting anybody's deadline, and never starved. */
  int64_t deadline_ns;
  uint32_t flags; /* DA3_REQUEST_* */
} Da3Request;
/* Up to `user`: the least that submit() accepts. */
#define DA3_REQUEST_SIZE_1 offsetof(Da3Request, deadline_ns)

enum {
  /* Once the deadline cannot be met any more (it has passed, or the time learned for one item does not fit before
   * it, or serving it would cost others theirs under overload), finish with DA3_ERROR_EXPIRED instead of
   * computing. In the order of the stream, like every other end. Without it a late request is computed late. */
  DA3_REQUEST_DROP_EXPIRED = 1u << 0
};

/* A stream that the engine knows of: something that will go on submitting. `stream` of requests names it. */
typedef struct {
  uint32_t struct_size;
  /* Requests that the stream can have unfinished (submitted and not done) at once, 0 = any number. With as many
   * unfinished it cannot add to a batch and no batch waits for it. */
  uint32_t max_pending;
  /* Time between its requests if it is known (live: the frame duration times the views of an item), else 0. Measured
   * from then on. */
  int64_t interval_ns;
} Da3Stream;

/* A result keeps its planes alive; n_views maps each, contiguous float32, [n_views, height, width] unless said.
 * A plane that was not asked for or does not exist is NULL. */
typedef struct {
  uint32_t struct_size;
  uint32_t n_views;
  int32_t width, height;
  const float *depth;
  const float *confidence; /* >= 1, no upper bound */
  const float *sky;        /* >= 0, sky from 0.3 up */
  const float *ray;        /* [n_views, ray_height, ray_width, 6]: direction, origin */
  const float *ray_confidence;
  int32_t ray_width, ray_height;
  const float *extrinsics; /* [n_views, 3, 4] */
  const float *intrinsics; /* [n_views, 3, 3] */
  Da3DepthKind kind;
  float scale_factor;      /* metric nested model: scale that was applied to the any-view branch; else 1 */
  int32_t metric_valid;    /* nested model: 0 when no pixel could be used to fit the scale */
  uint32_t batch;          /* how many items shared the forward pass */
  int64_t queued_ns;       /* waited in the engine */
  int64_t inference_ns;    /* upload, network, download, post-processing */
} Da3ResultData;

/* Of the last some hundred measurements; 0 while there is none. */
typedef struct {
  int64_t p50_ns, p95_ns, p99_ns;
  uint64_t count; /* all measurements so far */
} Da3Quantiles;

#define DA3_BATCH_BUCKETS 64

/* Of the engine, that is of all its users together, since it was loaded. */
typedef struct {
  uint32_t struct_size; /* set by the caller; what lies beyond is not written */
  uint32_t users;       /* references from open() that are not closed */
  uint32_t streams;     /* registered */
  uint32_t waiting, running; /* requests at this moment */
  /* submitted = completed + failed + cancelled + expired + waiting + running, at any moment. */
  uint64_t submitted, completed, failed, cancelled, expired;
  uint64_t batches;
  uint64_t batch_histogram[DA3_BATCH_BUCKETS]; /* [b - 1]: batches of b items; the last one: that many or more */
  uint64_t memory_retries;   /* times a batch ran out of memory and was halved */
  Da3Quantiles service;      /* a pass, upload to download (Da3ResultData.inference_ns) */
  Da3Quantiles queue_wait;   /* from submit() to the start of the pass (Da3ResultData.queued_ns) */
  uint64_t memory_weights;   /* bytes of parameters */
  uint64_t memory_used;      /* by this process: resident memory, or allocated on the device */
  uint64_t memory_free;      /* on the device, other programs counted */
  uint64_t memory_budget;    /* for passes, by memory_fraction */
  /* Of the process: open() that found its model loaded (in use or kept warm), that loaded it, models freed. */
  uint64_t cache_hits, cache_misses, cache_evictions;
  uint64_t cache_memory;     /* bytes of parameters held by models without a user */
} Da3EngineStats;

/* A kind of requests: what may share a pass, but for the reference view strategy and known cameras. */
typedef struct {
  uint32_t struct_size;
  int32_t width, height;
  uint32_t n_views;
  uint32_t outputs; /* as in the request */
  int32_t use_ray_pose;
  uint32_t max_batch;        /* warm_up(): largest batch to try, 0 = info.max_batch */
} Da3Shape;

/* What such requests cost. */
typedef struct {
  uint32_t struct_size;      /* set by the caller */
  uint32_t batch_cap;        /* items put together at most, as learned so far; 1 or more */
  uint64_t measured;         /* passes of this kind so far; 0: the times below are 0 too */
  int64_t single_ns;         /* learned time of a pass with one item */
  int64_t cap_ns;            /* and with batch_cap items */
  Da3Quantiles service;      /* of the latest passes of this kind, whatever their size */
  Da3Quantiles queue_wait;   /* and how long their requests had waited */
  double items_per_second;   /* batch_cap / cap_ns */
  uint64_t memory_single, memory_cap; /* learned bytes of a pass beyond the weights; 0 = not known */
  uint32_t streams;          /* registered with the engine and not drained, of whatever kind: items_per_second / streams
                              * is an equal share among streams of this kind */
  uint32_t reserved;
} Da3ShapeStats;

typedef struct {
  uint32_t abi;
  uint32_t struct_size;
  /* One line: LibTorch version, CPU capability, devices. Static storage. */
  const char *(*runtime)(void);
  /* Loads a model, or hands out the one already loaded with the same weights, device, precision,
   * attention and performance mode (reference-counted). Blocks. NULL and *error on failure. */
  Da3Engine *(*open)(const Da3EngineConfig *config, Da3Error *error);
  /* Gives the reference back; waits until this reference's callbacks have returned. */
  void (*close)(Da3Engine *engine);
  const Da3ModelInfo *(*info)(const Da3Engine *engine);
  /* Queues one item and returns at once; 0, or the error code with *error filled (done() is then not called). */
  int (*submit)(Da3Engine *engine, const Da3Request *request, Da3Error *error);
  /* Requests of `stream` that have not started finish with DA3_ERROR_CANCELLED; then waits for the running ones. */
  void (*cancel)(Da3Engine *engine, const void *stream);
  const Da3ResultData *(*result_data)(const Da3Result *result);
  Da3Result *(*result_ref)(Da3Result *result);
  void (*result_unref)(Da3Result *result);
  void (*error_clear)(Da3Error *error);
  /* ---- since 0.2; test with DA3_ENGINE_HAS() */
  /* A registered stream counts among those for which a batch may wait, from its first request on, and while it is
   * neither ended nor drained nor at max_pending. Requests of streams that are not registered are served all the
   * same; no batch waits for them. Registering again replaces the description. `description` may be NULL. Streams
   * belong to the reference `engine`: the same pointer of another reference is another stream. */
  void (*stream_begin)(Da3Engine *engine, const void *stream, const Da3Stream *description);
  /* Forgets the stream. Requests that wait go on (cancel() takes them out). close() ends all of its reference. */
  void (*stream_end)(Da3Engine *engine, const void *stream);
  /* Nothing more will come for now (end of stream, paused, blocked downstream): no batch waits for this stream any
   * more. Does not wait. The next submit() of the stream takes it back. */
  void (*drain)(Da3Engine *engine, const void *stream);
  /* Fill *out as far as out->struct_size. Never wait for a pass. */
  void (*stats)(const Da3Engine *engine, Da3EngineStats *out);
  void (*shape_stats)(const Da3Engine *engine, const Da3Shape *shape, Da3ShapeStats *out);
  /* Measures passes of 1, 2, 4, ... items of this kind on made-up pictures, up to `max_batch`, until two doublings
   * gain under 5 % together and the last hardly anything, one is clearly worse, three seconds are over, or the next
   * would not fit into memory or into the time that a live stream on the engine can wait. Blocks; passes of others run
   * in between. 0, or the error code with *error filled: as submit(), NO_MEMORY when one item does not fit, CANCELLED when warm_up_stop() was
   * called or Da3EngineConfig.cancelled says so. What was measured before stays. Not while close() of the same
   * reference runs. */
  int (*warm_up)(Da3Engine *engine, const Da3Shape *shape, Da3Error *error);
  /* Lets the warm_up() calls of this reference that have begun return after the pass that runs. A call that begins
   * later is not meant: whoever announces one on another thread says by Da3EngineConfig.cancelled that it is not
   * wanted any more. */
  void (*warm_up_stop)(Da3Engine *engine);
  /* As cancel(), but does not wait: requests of `stream` that have not started finish with DA3_ERROR_CANCELLED before
   * it returns; those that run finish with DA3_ERROR_CANCELLED when their pass ends, on the worker thread. A done()
   * that has begun goes on, and its result is what it is. Later requests of the stream are not touched. */
  void (*cancel_waiting)(Da3Engine *engine, const void *stream);
} Da3EngineApi;
/* Up to `error_clear`: the least that a table has. */
#define DA3_ENGINE_API_SIZE_1 offsetof(Da3EngineApi, stream_begin)
/* Whether the table `api` has the function `name`. */
#define DA3_ENGINE_HAS(api, name) \
  ((api)->struct_size >= offsetof(Da3EngineApi, name) + sizeof((api)->name) && (api)->name != NULL)

/* Returns NULL when the module does not speak ABI `abi`. */
typedef const Da3EngineApi *(*Da3EngineGetApiFunc)(uint32_t abi);
#if defined(DA3_ENGINE_BUILD)
__attribute__((visibility("default"))) const Da3EngineApi *da3_engine_get_api(uint32_t abi);
#endif
#define DA3_ENGINE_ENTRY "da3_engine_get_api"

#ifdef __cplusplus
}
#endif
#endif /* DA3_ENGINE_API_H */
