// SPDX-License-Identifier: MIT
#include "train/optimizer.h"

#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <cmath>
#include <stdexcept>

#include "train/parallel.h"
#include "train/probes.h"

namespace da3::train {
namespace {

// Embeddings and the layers that give the final numbers are no hidden matrices.
bool is_matrix(const Parameter& p) {
  const auto has = [&](const char* part) { return p.key.find(part) != std::string::npos; };
  if (p.value.dim() < 2 || has("patch_embed") || has("pos_embed") || has("_token") || has("cam_dec.") ||
      has(kProbePrefix) || has("output_conv2.2.") || has("output_conv2_aux.3.5."))
    return false;
  return p.value.size(0) >= 16 && p.value.numel() / p.value.size(0) >= 16;
}

// The camera decoder's two ReLU layers see one token a view: steps as large as elsewhere kill them before the
// tokens say anything about the camera.
// The patch embedding sums 588 inputs of like sign.
double rate_factor(const Parameter& p) {
  if (p.key.find("patch_embed") != std::string::npos) return 0.1;
  if (p.key.find("pos_embed") != std::string::npos) return 0.3;
  return p.key.find("cam_dec.") != std::string::npos ? 0.25 : 1;
}

// Nearest orthogonal matrix, about: five steps of a quintic whose fixed region is 0.7 to 1.2.
Tensor orthogonalise(const Tensor& matrix) {
  constexpr double a = 3.4445, b = -4.7750, c = 2.0315;
  const bool tall = matrix.size(0) > matrix.size(1);
  Tensor x = tall ? matrix.t().contiguous() : matrix.clone();
  x.div_(x.norm() + 1e-7);
  for (int i = 0; i < 5; ++i) {
    const Tensor g = at::mm(x, x.t());
    const Tensor h = at::addmm(g, g, g, b, c);  // b g + c g g
    x = at::addmm(x, h, x, a, 1);               // a x + h x
  }
  return tall ? x.t() : x;
}

}  // namespace

Optimizer::Optimizer(std::vector<Parameter>& parameters, Settings settings) : settings_(settings) {
  for (Parameter& p : parameters) {
    Slot slot{&p, is_matrix(p), rate_factor(p), at::zeros_like(p.value.detach()), {}, 0};
    if (!slot.matrix) slot.second = at::zeros_like(slot.first);
    slots_.push_back(std::move(slot));
  }
}

void Optimizer::step_matrix(Slot& slot, const Tensor& gradient, double rate) {
  Tensor& momentum = slot.first;
  momentum.mul_(settings_.momentum).add_(gradient, 1 - settings_.momentum);
  const Tensor nesterov = at::lerp(gradient, momentum, settings_.momentum);
  const Tensor update = orthogonalise(nesterov.reshape({gradient.size(0), -1}));
  const double size = 0.2 * std::sqrt(double(std::max(update.size(0), update.size(1))));
  Tensor value = slot.parameter->value.detach();
  value.mul_(1 - rate * settings_.weight_decay).sub_(update.reshape(value.sizes()), rate * size);
}

void Optimizer::step_vector(Slot& slot, const Tensor& gradient, double rate) {
  const Settings& s = settings_;
  slot.first.mul_(s.beta1).add_(gradient, 1 - s.beta1);
  slot.second.mul_(s.beta2).addcmul_(gradient, gradient, 1 - s.beta2);
  const double n = double(slot.steps);
  const double correction = std::sqrt(1 - std::pow(s.beta2, n)) / (1 - std::pow(s.beta1, n));
  const Tensor denominator = slot.second.sqrt().add_(s.eps);
  slot.parameter->value.detach().addcdiv_(slot.first, denominator, -rate * correction);
}

void Optimizer::update(Slot& slot, double factor, double rate) {
  Tensor& g = slot.parameter->value.mutable_grad();
  if (factor < 1) g.mul_(factor);
  ++slot.steps;
  if (slot.matrix)
    step_matrix(slot, g, rate * slot.rate);
  else
    step_vector(slot, g, rate * slot.rate);
}

double Optimizer::step(double rate, int threads) {
  const at::NoGradGuard no_grad;
  std::vector<Slot*> due;
  double square = 0;
  for (Slot& slot : slots_) {
    const Tensor& g = slot.parameter->value.grad();
    if (!g.defined()) continue;
    square += g.square().sum().item<double>();
    due.push_back(&slot);
  }
  const double norm = std::sqrt(square);
  if (std::isfinite(norm)) {
    const double factor = norm > settings_.clip ? settings_.clip / norm : 1;
    run_parallel(threads, [&](int t) {
      const at::NoGradGuard no_grad_here;
      for (size_t i = size_t(t); i < due.size(); i += size_t(threads)) update(*due[i], factor, rate);
    });
  }
  for (Slot* slot : due) slot->parameter->value.mutable_grad().reset();
  return norm;
}

std::map<std::string, Tensor> Optimizer::state() const {
  std::map<std::string, Tensor> out;
  for (const Slot& slot : slots_) {
    const std::string& key = slot.parameter->key;
    out["first." + key] = slot.first;
    if (slot.second.defined()) out["second." + key] = slot.second;
    out["steps." + key] = at::scalar_tensor(double(slot.steps), at::TensorOptions(at::kFloat));
  }
  return out;
}

void Optimizer::restore(const std::map<std::string, Tensor>& state) {
  const at::NoGradGuard no_grad;
  const auto load = [&](const std::string& name, Tensor& into) {
    const auto found = state.find(name);
    if (found == state.end() || found->second.sizes() != into.sizes())
      throw std::runtime_error("The saved state lacks '" + name + "' in the right shape.");
    into.copy_(found->second);
  };
  for (Slot& slot : slots_) {
    const std::string& key = slot.parameter->key;
    load("first." + key, slot.first);
    if (slot.second.defined()) load("second." + key, slot.second);
    Tensor steps = at::zeros({}, at::TensorOptions(at::kFloat));
    load("steps." + key, steps);
    slot.steps = int64_t(steps.item<float>());
  }
}

}  // namespace da3::train
