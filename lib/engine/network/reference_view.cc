// SPDX-License-Identifier: MIT
#include "engine/network/reference_view.h"

#include <algorithm>
#include <cmath>

namespace da3 {
namespace {

struct SceneTokens {
  std::vector<double> norms, variances;
  std::vector<double> similarity;  // S x S cosine, diagonal reduced by 1
};

SceneTokens analyse(const float* tokens, int64_t views, int64_t width) {
  SceneTokens out;
  std::vector<double> unit(size_t(views * width));
  for (int64_t s = 0; s < views; ++s) {
    const float* t = tokens + s * width;
    double square = 0;
    for (int64_t c = 0; c < width; ++c) square += double(t[c]) * t[c];
    const double norm = std::sqrt(square);
    double mean = 0;
    for (int64_t c = 0; c < width; ++c) mean += unit[size_t(s * width + c)] = t[c] / norm;
    mean /= double(width);
    double variance = 0;
    for (int64_t c = 0; c < width; ++c) {
      const double d = unit[size_t(s * width + c)] - mean;
      variance += d * d;
    }
    out.norms.push_back(norm);
    out.variances.push_back(variance / double(width - 1));
  }
  out.similarity.resize(size_t(views * views));
  for (int64_t a = 0; a < views; ++a)
    for (int64_t b = a; b < views; ++b) {
      // The diagonal is 1 - 1: written as 0, two views that are each other's nearest tie exactly.
      double dot = 0;
      for (int64_t c = 0; c < width && a != b; ++c)
        dot += unit[size_t(a * width + c)] * unit[size_t(b * width + c)];
      out.similarity[size_t(a * views + b)] = out.similarity[size_t(b * views + a)] = dot;
    }
  return out;
}

void add_distance_from_middle(std::vector<double> values, std::vector<double>* score) {
  const auto [low, high] = std::minmax_element(values.begin(), values.end());
  const double min = *low, range = *high - *low + 1e-8;
  for (size_t i = 0; i < values.size(); ++i) (*score)[i] += std::abs((values[i] - min) / range - 0.5);
}

int64_t balanced(const SceneTokens& scene, int64_t views) {
  std::vector<double> mean_similarity(static_cast<size_t>(views)), score(static_cast<size_t>(views));
  for (int64_t a = 0; a < views; ++a) {
    double sum = 0;
    for (int64_t b = 0; b < views; ++b) sum += scene.similarity[size_t(a * views + b)];
    mean_similarity[size_t(a)] = sum / double(views - 1);
  }
  add_distance_from_middle(mean_similarity, &score);
  add_distance_from_middle(scene.norms, &score);
  add_distance_from_middle(scene.variances, &score);
  return std::min_element(score.begin(), score.end()) - score.begin();
}

int64_t widest_range(const SceneTokens& scene, int64_t views) {
  int64_t best = 0;
  double best_range = -1;
  for (int64_t a = 0; a < views; ++a) {
    const auto row = scene.similarity.begin() + a * views;
    const auto [low, high] = std::minmax_element(row, row + views);
    if (*high - *low > best_range) {
      best_range = *high - *low;
      best = a;
    }
  }
  return best;
}

}  // namespace

std::vector<int64_t> select_reference_views(const at::Tensor& tokens, Da3RefViewStrategy strategy) {
  const int64_t batch = tokens.size(0), views = tokens.size(1), width = tokens.size(2);
  if (strategy == DA3_REF_VIEW_FIRST) return std::vector<int64_t>(size_t(batch), 0);
  if (strategy == DA3_REF_VIEW_MIDDLE) return std::vector<int64_t>(size_t(batch), views / 2);
  const at::Tensor host = tokens.detach().to(at::kCPU, at::kFloat).contiguous();
  std::vector<int64_t> out;
  for (int64_t b = 0; b < batch; ++b) {
    const SceneTokens scene = analyse(host.data_ptr<float>() + b * views * width, views, width);
    out.push_back(strategy == DA3_REF_VIEW_SADDLE_BALANCED ? balanced(scene, views)
                                                           : widest_range(scene, views));
  }
  return out;
}

ViewOrder make_view_order(const std::vector<int64_t>& reference, int64_t views, at::Device device) {
  const int64_t batch = int64_t(reference.size());
  ViewOrder order;
  order.forward = at::empty({batch, views}, at::TensorOptions(at::kLong));
  order.inverse = at::empty({batch, views}, at::TensorOptions(at::kLong));
  for (int64_t b = 0; b < batch; ++b) {
    const int64_t r = reference[size_t(b)];
    order.identity &= r == 0;
    int64_t* forward = order.forward.data_ptr<int64_t>() + b * views;
    int64_t* inverse = order.inverse.data_ptr<int64_t>() + b * views;
    for (int64_t p = 0; p < views; ++p) forward[p] = p == 0 ? r : (p <= r ? p - 1 : p);
    for (int64_t p = 0; p < views; ++p) inverse[forward[p]] = p;
  }
  order.forward = order.forward.to(device);
  order.inverse = order.inverse.to(device);
  return order;
}

at::Tensor reorder_views(const at::Tensor& x, const at::Tensor& order) {
  const at::Tensor rows = at::arange(x.size(0), order.options()).unsqueeze(1);
  return at::index(x, {rows, order});
}

}  // namespace da3
