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
 * thread, or inside cancel() and close() for requests that those take out; they must return soon and must not call
 * close() or cancel(). Call cancel() and close() without holding a lock that a callback takes.
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
  DA3_ERROR_LIBRARY         /* the engine module or LibTorch cannot be loaded */
} Da3ErrorCode;

/* Filled by a failing call; both texts belong to the engine: release with error_clear(). Zero it first. */
typedef struct {
  Da3ErrorCode code;
  char *message; /* one sentence for the user: what, which value, what to do */
  char *detail;  /* for the developer; may be NULL */
} Da3Error;

typedef enum { DA3_PRECISION_AUTO = 0, DA3_PRECISION_FP32, DA3_PRECISION_FP16, DA3_PRECISION_BF16 } Da3Precision;

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

typedef struct {
  uint32_t struct_size;   /* sizeof(Da3EngineConfig) */
  const char *model;      /* file, folder, Hugging Face repository id, or synthetic:NAME[?seed=N] */
  const char *device;     /* "auto", "cpu", "cuda", "cuda:N", "mps"; NULL = auto */
  Da3Precision precision; /* auto: bf16 or fp16 where the device is native in it, else fp32 */
  uint32_t max_batch;     /* most items put through the network together; 0 = the engine chooses */
  uint32_t threads;       /* CPU threads; 0 = all. Process-wide: the first engine that sets it wins */
  /* Remarks that are no errors ("not a trained model", "falling back to cpu"); may be NULL. Called from open(). */
  void (*notice)(void *user, const char *text);
  void *user;
} Da3EngineConfig;

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
  uint32_t max_batch;       /* what is really used */
  int32_t synthetic;        /* 1: untrained weights from a formula */
  int32_t focal_normalised; /* 1: metres = depth * focal length [px] / 300 (metric model on its own) */
  uint64_t parameters;
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
} Da3Request;

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

typedef struct {
  uint32_t abi;
  uint32_t struct_size;
  /* One line: LibTorch version, CPU capability, devices. Static storage. */
  const char *(*runtime)(void);
  /* Loads a model, or hands out the one already loaded with the same weights, device and precision
   * (reference-counted). Blocks. NULL and *error on failure. */
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
} Da3EngineApi;

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
