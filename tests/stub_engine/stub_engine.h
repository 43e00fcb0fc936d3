/* SPDX-License-Identifier: MIT
 *
 * An engine of known arithmetic for the tests of the elements: same C border as the real one (engine.h), no
 * LibTorch. Tests point DA3_ENGINE_PATH at it and fetch da3_stub_get_control() by name from the same module.
 *
 * Model string: "stub:KEY=VALUE,KEY=VALUE,...", every key optional
 *   kind=relative|metric     outputs=depth+confidence+sky+pose+ray (default depth+confidence+sky+pose)
 *   name=TEXT                batch=N (largest batch if the caller leaves it open, default 4)
 *   focal=1                  focal-normalised depth      synthetic=1   gives a notice in open()
 *   metric-valid=0           nested scale that could not be fitted
 *   delay-ms=N               every pass takes that long (cancel and close cut it short)
 *   block=1                  requests wait until release() lets them pass
 *   queue=former             requests wait in the real engine's BatchFormer and are run by its BatchWorker: deadlines,
 *                            fairness, learned batch sizes, halves. block=1 then holds its worker until the first
 *                            release(). batch=N is the largest batch that is learned; a max_batch of the caller is
 *                            taken as it is
 *   beside=1                 with queue=former: passes are computed beside the worker, as on a GPU
 *   test-time=1              with queue=former: it lives in the time of set_time(), where a pass of b items takes
 *   base-us=N, item-us=N     base-us + b item-us
 *   process-res=N            the side that the model says it is meant for (default 504)
 *   id=TEXT                  no meaning: tells two models apart
 *   cuda=1                   pretends to have a cuda device
 *   inference-us=N           what results say about their pass (default 1000)
 *   queued-us=N              what they say about their time in the queue (default: what it was)
 *   open-block=1             open() waits until release_opens(), or until its caller's cancelled() says so
 *   single-us=N              what warm_up() finds out
 *   warm-block=1, warm-fail=1   warm_up() waits until warm_up_stop(), cancelled() or release(); it fails
 * the N-th request (from 1) of the engine misbehaves:
 *   fail-at                  it finishes with DA3_ERROR_FAILED; the others of its pass do not notice
 *   break-at, oom-at         every pass that it is in fails as a whole, and is run again in halves, as the engine does;
 *                            alone it finishes with DA3_ERROR_FAILED, DA3_ERROR_NO_MEMORY
 *   halve-at                 the first pass that it shares does not fit into memory: its halves do, and a warning
 *                            says so
 *   slow-at                  its first pass takes until finish_slow()
 *   refuse-at                submit() itself fails
 *   expire-at                it finishes with DA3_ERROR_EXPIRED, if it allows that (not with queue=former)
 *   nan-at, some-nan-at      depth is all NaN; only its first value is
 *   wrong-size-at, zero-size-at, wrong-views-at, no-depth-at, no-confidence-at, no-result-at
 * models that do not open: stub:missing, stub:unreadable, stub:wrong-type, stub:no-memory, stub:failed
 *
 * What it computes, of every pixel (r, g, b in 0..255):
 *   depth = 1 + 9 (r + g + b) / 765      confidence = 1 + r / 255      sky = b / 255
 *   ray map of (width / 14) x (height / 14), all 0.5; its confidence 2
 *   extrinsics: identity, translation (mean of r over the view / 255, view index, number of views)
 *   intrinsics: fx = width, fy = 2 height, cx = width / 2, cy = height / 2
 */
#ifndef DA3_STUB_ENGINE_H
#define DA3_STUB_ENGINE_H

#include <stdint.h>

#define DA3_STUB_MAX_BATCHES 256

typedef struct {
  int opened, closed; /* references, not engines */
  int engines_alive;
  int submitted, finished; /* requests; finished in any way */
  int cancelled;
  int most_outstanding; /* most requests that were submitted and not finished at one time */
  int results_alive;    /* results whose last reference has not been given back */
  int batches;                           /* passes; what is run again in halves, and its halves, too */
  int batch_sizes[DA3_STUB_MAX_BATCHES]; /* items of the first passes */
  int view_counts[DA3_STUB_MAX_BATCHES]; /* views of the first requests, in the order of submission */
  uint32_t last_outputs;
  int last_ref_view_strategy, last_use_ray_pose;
  int last_width, last_height;
  int64_t last_deadline_ns;
  uint32_t last_flags;
  int expired;
  int streams; /* registered at this moment */
  int stream_begins, drains, warm_ups;
  uint32_t last_max_pending;
  int64_t last_interval_ns;
  float last_memory_fraction;
  int32_t last_cache_ttl_ms;
  uint64_t last_cache_memory_limit;
  int opens_cancelled;
  int cancels_without_waiting; /* calls of cancel_waiting() */
  int broken_passes;           /* by break-at, oom-at and halve-at */
  int slow_passes;             /* by slow-at, begun */
} Da3StubCounters;

/* What an engine with test-time=1 is at. */
typedef enum {
  DA3_STUB_BUSY = 0, /* never seen */
  DA3_STUB_IDLE,     /* no request is in it */
  DA3_STUB_RUNS,     /* a pass that ends at `until` */
  DA3_STUB_WAITS,    /* for more requests, at most until `until` */
  DA3_STUB_ENDED     /* the owner of a request was told of its end; it goes on after proceed() */
} Da3StubAt;

typedef struct {
  Da3StubAt at;
  int64_t until;
  uint8_t rgb[3]; /* ended: the first pixel */
  int code;       /* ended: Da3ErrorCode, 0: with a result */
} Da3StubState;

typedef struct {
  void (*reset)(void); /* counters to 0 (what is alive stays counted), releases to 0 */
  void (*counters)(Da3StubCounters* out);
  void (*release)(int requests);        /* lets so many blocked requests pass; -1: all, for ever */
  void (*wait_submitted)(int requests); /* returns when so many have been submitted since reset() */
  void (*wait_finished)(int requests);
  void (*release_opens)(int models); /* lets so many blocked open() pass; -1: all */
  void (*wait_opening)(int models);  /* returns when so many open() wait or have waited since reset() */
  void (*expire)(int requests);      /* so many of the next that allow it expire, whatever their deadline */
  void (*wait_slow)(int passes);     /* returns when so many slow passes have begun since reset() */
  void (*finish_slow)(int passes);   /* lets so many slow passes end; -1: all */
  /* Of test-time=1; one engine in it at a time. reset() sets the time to 0; negative: time does not matter any more. */
  void (*set_time)(int64_t ns);
  void (*look)(int idle_counts, Da3StubState* out); /* waits until it is at something; idle only if that counts */
  void (*proceed)(void);
} Da3StubControl;

#define DA3_STUB_ENTRY "da3_stub_get_control"

#endif
