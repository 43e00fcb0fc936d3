// SPDX-License-Identifier: MIT
#include "train/demo_config.h"

namespace da3::train {

std::string demo_config() {
  return R"({
  "model_name": "da3-demo",
  "process_res": 196,
  "config": {
    "__object__": { "path": "depth_anything_3.model.da3", "name": "DepthAnything3Net", "args": "as_params" },
    "net": {
      "__object__": { "path": "depth_anything_3.model.dinov2.dinov2", "name": "DinoV2", "args": "as_params" },
      "embed_dim": 192,
      "depth": 8,
      "num_heads": 3,
      "ffn_layer": "mlp",
      "ffn_hidden": 576,
      "pos_grid": 14,
      "out_layers": [1, 3, 5, 7],
      "alt_start": 2,
      "qknorm_start": 2,
      "rope_start": 2,
      "cat_token": true
    },
    "head": {
      "__object__": { "path": "depth_anything_3.model.dualdpt", "name": "DualDPT", "args": "as_params" },
      "dim_in": 384,
      "output_dim": 2,
      "features": 32,
      "out_channels": [32, 48, 96, 96]
    },
    "cam_enc": {
      "__object__": { "path": "depth_anything_3.model.cam_enc", "name": "CameraEnc", "args": "as_params" },
      "dim_out": 192
    },
    "cam_dec": {
      "__object__": { "path": "depth_anything_3.model.cam_dec", "name": "CameraDec", "args": "as_params" },
      "dim_in": 384
    }
  }
}
)";
}

}  // namespace da3::train
