// SPDX-License-Identifier: MIT
//
// The whole network: images in, depth, confidence, sky, rays, cameras, features and Gaussians out.
// Source: upstream model/da3.py.
#pragma once

#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "engine/network/backbone.h"
#include "engine/network/cameras.h"
#include "engine/network/config.h"
#include "engine/network/dpt.h"
#include "engine/network/gaussians.h"
#include "geometry/ray_pose.h"

namespace da3 {

struct NetworkOptions {
  Da3RefViewStrategy ref_view_strategy = DA3_REF_VIEW_SADDLE_BALANCED;
  bool use_ray_pose = false;  // pose from the ray map instead of the camera decoder
  bool want_ray = false;      // compute the ray map even when the pose does not need it
  bool want_pose = true;
  bool want_maps = true;  // depth and confidence; false: no head runs unless rays or Gaussians need one
  bool want_gaussians = false;
  std::vector<int> feature_layers;  // ascending
  bool restore_feature_order = true;
  // Known cameras: world-to-camera [B, S, 3 or 4, 4], already normalised (geometry::normalise_extrinsics),
  // and pixels [B, S, 3, 3]; both or none.
  Tensor extrinsics, intrinsics;
  geometry::RaySampleTable ray_samples;  // empty: a fixed-seed table
  int64_t head_chunk = 8;                // images through a head at once; never changes a result
  // The ray solver's result per view, for parity.
  std::vector<geometry::RayPose>* ray_poses = nullptr;
};

// float32; maps on the network's device, cameras on the CPU. Undefined where the model does not have it.
struct NetworkOutput {
  Tensor depth;                   // [B, S, H, W]
  Tensor confidence;              // [B, S, H, W], >= 1
  Tensor sky;                     // [B, S, H, W], >= 0
  Tensor ray;                     // [B, S, 8 H/14, 8 W/14, 6]
  Tensor ray_confidence;          // [B, S, 8 H/14, 8 W/14]
  Tensor pose_encoding;           // [B, S, 9]
  Tensor extrinsics, intrinsics;  // world-to-camera [B, S, 3, 4], pixels [B, S, 3, 3]
  Gaussians gaussians;
  std::vector<std::pair<int, Tensor>> features;  // [B, S, H/14, W/14, C]
  std::vector<int64_t> reference;                // reference view per item; empty when none was selected
  bool metric = false;                           // depth is in metres
  Tensor scale;                                  // [B] nested model
  Tensor scale_valid;                            // [B] nested model
  // Between compute() and finish() of the nested model: its metric branch, [B, S, H, W] each.
  Tensor metric_depth, metric_sky;
};

// Different items of a batch never influence each other. Not thread-safe.
class Network {
 public:
  virtual ~Network() = default;
  // image: [B, S, 3, H, W] float32 on the network's device, normalised; H and W multiples of 14.
  NetworkOutput forward(const Tensor& image, const NetworkOptions& options, const Tracer& trace) const {
    NetworkOutput out = compute(image, options, trace);
    finish({image.size(3), image.size(4)}, options, trace, &out);
    return out;
  }

  // Its two halves. What the device computes: everything but cameras (`pose_encoding` in their place, or rays
  // that they are solved from), the far depth of the sky and the scale of the nested model.
  virtual NetworkOutput compute(const Tensor& image, const NetworkOptions& options,
                                const Tracer& trace) const = 0;
  // The rest, for what compute() gave or any items of it, on the device or in host memory.
  virtual void finish(const ImageShape& image, const NetworkOptions& options, const Tracer& trace,
                      NetworkOutput* out) const = 0;
  // Whether compute() only hands work to the device: nothing that it does depends on what the device has
  // found, so it can be recorded and done again with other pictures of the same shape.
  virtual bool recordable(int64_t views, const NetworkOptions& options) const = 0;
};

// Builds the network of `config`, asking `source` for every parameter.
std::unique_ptr<Network> make_network(const ModelConfig& config, WeightSource& source,
                                      const Placement& placement);

// All checkpoint keys of `config`, with shapes.
std::vector<KeyShape> network_keys(const ModelConfig& config);

// Outputs (DA3_OUTPUT_*) that `config` has.
uint32_t network_outputs(const ModelConfig& config);

}  // namespace da3
