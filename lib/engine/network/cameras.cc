// SPDX-License-Identifier: MIT
#include "engine/network/cameras.h"

#include "geometry/rigid.h"

namespace da3 {
namespace {

constexpr int kEncoderHeads = 16;  // whatever the width
constexpr int kEncoderBlocks = 4;

geometry::Matrix34 read_pose(const float* p) {
  geometry::Matrix34 m;
  for (int r = 0; r < 3; ++r)
    for (int c = 0; c < 4; ++c) m(r, c) = p[r * 4 + c];
  return m;
}

}  // namespace

Tensor encode_cameras(const Tensor& extrinsics, const Tensor& intrinsics, int64_t height, int64_t width) {
  const Tensor e = extrinsics.to(at::kCPU, at::kFloat).contiguous();
  const Tensor k = intrinsics.to(at::kCPU, at::kFloat).contiguous();
  const int64_t count = e.size(0) * e.size(1), stride = e.size(2) * 4;
  Tensor out = at::empty({e.size(0), e.size(1), 9}, at::TensorOptions(at::kFloat));
  for (int64_t i = 0; i < count; ++i) {
    geometry::PinholeCamera camera;
    camera.camera_to_world = geometry::invert(read_pose(e.data_ptr<float>() + i * stride));
    for (int j = 0; j < 9; ++j) camera.intrinsics(j / 3, j % 3) = k.data_ptr<float>()[i * 9 + j];
    const geometry::PoseEncoding encoding = geometry::encode_pose(camera, int(width), int(height));
    for (int j = 0; j < 9; ++j) out.data_ptr<float>()[i * 9 + j] = float(encoding[j]);
  }
  return out;
}

Cameras decode_cameras(const Tensor& pose_encoding, int64_t height, int64_t width) {
  const Tensor p = pose_encoding.to(at::kCPU, at::kFloat).contiguous();
  const int64_t batch = p.size(0), views = p.size(1);
  Cameras out;
  out.extrinsics = at::empty({batch, views, 3, 4}, at::TensorOptions(at::kFloat));
  out.intrinsics = at::empty({batch, views, 3, 3}, at::TensorOptions(at::kFloat));
  for (int64_t i = 0; i < batch * views; ++i) {
    geometry::PoseEncoding encoding;
    for (int j = 0; j < 9; ++j) encoding[j] = p.data_ptr<float>()[i * 9 + j];
    const geometry::PinholeCamera camera = geometry::decode_pose(encoding, int(width), int(height));
    const geometry::Matrix34 w2c = geometry::invert(camera.camera_to_world);
    for (int j = 0; j < 12; ++j) out.extrinsics.data_ptr<float>()[i * 12 + j] = float(w2c(j / 4, j % 4));
    for (int j = 0; j < 9; ++j)
      out.intrinsics.data_ptr<float>()[i * 9 + j] = float(camera.intrinsics(j / 3, j % 3));
  }
  return out;
}

CameraEncoder::CameraEncoder(const Scope& s, int64_t width)
    : fc1_(s / "pose_branch" / "fc1", 9, width / 2),
      fc2_(s / "pose_branch" / "fc2", width / 2, width),
      token_norm_(s / "token_norm", width, 1e-5),
      trunk_norm_(s / "trunk_norm", width, 1e-5) {
  BlockShape shape;
  shape.width = width;
  shape.heads = kEncoderHeads;
  shape.ffn_hidden = 4 * width;
  shape.norm_eps = 1e-5;
  for (int t = 0; t < kEncoderBlocks; ++t) trunk_.emplace_back(s / "trunk" / t, shape);
}

Tensor CameraEncoder::forward(const Tensor& pose_encoding, const Tracer& trace) const {
  trace("cam_enc.pose_encoding", pose_encoding);
  Tensor x = fc2_(at::gelu(fc1_(pose_encoding)));
  trace("cam_enc.pose_branch", x);
  x = token_norm_(x);
  trace("cam_enc.token_norm", x);
  for (size_t t = 0; t < trunk_.size(); ++t) {
    x = trunk_[t].forward(x, {});
    trace("cam_enc.trunk." + std::to_string(t), x);
  }
  x = trunk_norm_(x);
  trace("cam_enc.trunk_norm", x);
  return x;
}

CameraDecoder::CameraDecoder(const Scope& s, int64_t width)
    : backbone0_(s / "backbone" / 0, width, width),
      backbone2_(s / "backbone" / 2, width, width),
      translation_(s / "fc_t", width, 3),
      quaternion_(s / "fc_qvec", width, 4),
      fov_(s / "fc_fov" / 0, width, 2) {}

Tensor CameraDecoder::forward(const Tensor& token, const Tracer& trace) const {
  const Tensor x = at::relu(backbone2_(at::relu(backbone0_(token))));
  trace("cam_dec.backbone", x);
  const Tensor out = at::cat({translation_(x), quaternion_(x), at::relu(fov_(x))}, -1);
  trace("pose_enc", out);
  return out;
}

}  // namespace da3
