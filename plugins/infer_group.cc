// SPDX-License-Identifier: MIT
#include "infer_group.h"

#include <string>

#include "common/guard.h"
#include "engine/api/engine_error.h"

namespace da3::plugin {
namespace {

std::string size_text(int width, int height) {
  return std::to_string(width) + "x" + std::to_string(height);
}

[[noreturn]] void broken(const std::string& what) {
  throw ElementError(
      GST_STREAM_ERROR, GST_STREAM_ERROR_FAILED,
      "The network gave " + what + "; the model file or its precision is not usable (try precision=fp32).");
}

}  // namespace

uint32_t wanted_outputs(const Da3ModelInfo& model, bool use_ray_pose) {
  uint32_t outputs = DA3_OUTPUT_DEPTH;
  outputs |= model.outputs & (DA3_OUTPUT_CONFIDENCE | DA3_OUTPUT_SKY | DA3_OUTPUT_POSE);
  if (use_ray_pose) outputs |= DA3_OUTPUT_RAY;
  return outputs;
}

// A module older than this field has only models of the usual size.
int own_process_res(const Da3ModelInfo& model) {
  const bool has_field = model.struct_size >= offsetof(Da3ModelInfo, process_res) + sizeof model.process_res;
  return has_field && model.process_res > 0 ? model.process_res : kUsualProcessRes;
}

guint InferGroup::add(Pixels pixels, Stamp arrival) {
  pixels_.push_back(std::move(pixels));
  ready_at_ = arrival;
  return views_++;
}

void InferGroup::closed(Stamp now) {
  closed_at_ = now;
  if (!complete()) ready_at_ = now;
}

void InferGroup::submit(const std::shared_ptr<InferGroup>& self, const void* stream, gint64 deadline_ns,
                        bool may_expire) noexcept {
  try {
    Engine& engine = *self->engine();
    std::vector<Da3View> views;
    for (const Pixels& pixels : self->pixels_) views.push_back(pixels.view());
    self->outputs_ = wanted_outputs(engine.info(), self->settings_.use_ray_pose);
    Da3Request request{};
    request.struct_size = sizeof(request);
    request.stream = stream;
    request.views = views.data();
    request.n_views = uint32_t(views.size());
    request.width = self->size_.width;
    request.height = self->size_.height;
    request.outputs = self->outputs_;
    request.ref_view_strategy = self->settings_.ref_view_strategy;
    request.use_ray_pose = self->settings_.use_ray_pose;
    request.deadline_ns = deadline_ns;
    request.flags = may_expire ? DA3_REQUEST_DROP_EXPIRED : 0;
    request.done = on_done;
    auto holder = std::make_unique<std::shared_ptr<InferGroup>>(self);
    request.user = holder.get();
    engine.submit(request);
    holder.release();  // on_done() owns it now
  } catch (...) {
    finish(self, nullptr, std::current_exception());
  }
}

void InferGroup::on_done(void* user, Da3Result* result, const Da3Error* error) noexcept {
  const std::unique_ptr<std::shared_ptr<InferGroup>> holder(static_cast<std::shared_ptr<InferGroup>*>(user));
  std::shared_ptr<InferGroup> self = std::move(*holder);
  try {
    if (result) {
      auto shared = std::make_shared<InferResult>(self->engine()->api(), result);
      finish(std::move(self), std::move(shared), nullptr);
    } else if (error) {
      const auto failure = std::make_exception_ptr(
          EngineError(error->code, error->message ? error->message : "Inference failed.",
                      error->detail ? error->detail : ""));
      finish(std::move(self), nullptr, failure, error->code == DA3_ERROR_EXPIRED);
    } else {
      broken("no result");
    }
  } catch (...) {
    finish(std::move(self), nullptr, std::current_exception());
  }
}

void InferGroup::finish(std::shared_ptr<InferGroup> self, std::shared_ptr<InferResult> result,
                        std::exception_ptr error, bool expired) noexcept {
  const std::shared_ptr<StreamSync> sync = self->sync_;
  // Lent frames go back first: whoever pushes them next finds them writable.
  self->pixels_.clear();
  {
    const std::lock_guard lock(sync->mutex);
    self->result_ = std::move(result);
    self->error_ = std::move(error);
    self->expired_ = expired;
    self->finished_ = true;
    self.reset();  // whoever sees that it is finished is the last to hold it, and the engine through it
  }
  sync->changed.notify_all();
}

const std::shared_ptr<InferResult>& InferGroup::result() {
  if (error_) std::rethrow_exception(error_);
  if (!checked_) check();
  checked_ = true;
  return result_;
}

void InferGroup::check() const {
  const Da3ResultData& data = result_->data();
  if (data.width != size_.width || data.height != size_.height || data.n_views != views_) {
    broken(std::to_string(data.n_views) + " results of " + size_text(data.width, data.height) + " for " +
           std::to_string(views_) + " frames of " + size_text(size_.width, size_.height));
  }
  if (!data.depth) broken("no depth");
  if ((outputs_ & DA3_OUTPUT_CONFIDENCE) && !data.confidence) broken("no confidence");
  if ((outputs_ & DA3_OUTPUT_SKY) && !data.sky) broken("no sky");
  if ((outputs_ & DA3_OUTPUT_POSE) && (!data.extrinsics || !data.intrinsics)) broken("no camera");
  if ((outputs_ & DA3_OUTPUT_RAY) &&
      (!data.ray || !data.ray_confidence || data.ray_width < 1 || data.ray_height < 1)) {
    broken("no ray map");
  }
}

}  // namespace da3::plugin
