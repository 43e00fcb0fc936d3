// SPDX-License-Identifier: MIT
#include "engine/network/conv.h"

#include <torch/version.h>

#include <algorithm>

#include "engine/kernels/maps.h"
#include "engine/network/balanced_for.h"

namespace da3 {
namespace {

// A band of a resized map should stay in the cache that the cores share.
constexpr int64_t kBandBytes = int64_t(4) << 20;
constexpr int64_t kFewestBandRows = 8;
// Rows and pixels that are worth a thread.
constexpr int64_t kRowGrain = 2, kPixelGrain = 2048;

Tensor as_channels_last(const Tensor& t) {
  return t.contiguous(at::MemoryFormat::ChannelsLast);
}

Tensor empty_map(at::IntArrayRef sizes, const Tensor& like) {
  return at::empty(sizes, like.options(), at::MemoryFormat::ChannelsLast);
}

// [N, C, h, w] <-> [N, h, w, C]
Tensor to_pixels(const Tensor& map) {
  return as_channels_last(map).permute({0, 2, 3, 1});
}
Tensor from_pixels(const Tensor& pixels) {
  return pixels.permute({0, 3, 1, 2});
}

// Calls use(pointer) with the values of a channels-last map of a fusible() layer.
template <typename Use>
void with_values(const Tensor& t, Use&& use) {
  if (t.scalar_type() == at::kFloat)
    use(t.data_ptr<float>());
  else
    use(reinterpret_cast<kernels::Bfloat16*>(t.data_ptr<at::BFloat16>()));
}

const float* floats_or_null(const Tensor& t) {
  return t.defined() ? t.data_ptr<float>() : nullptr;
}

int64_t rows_of_band(const ResizedMap& r) {
  const int64_t bytes = r.width * r.map.size(1) * int64_t(r.map.element_size());
  const int64_t most = std::clamp(kBandBytes / bytes, kFewestBandRows, std::max(kFewestBandRows, r.height));
  const int64_t bands = (r.height + most - 1) / most;
  // All about the same, and whole tiles of a convolution.
  return ((r.height + bands - 1) / bands + 3) / 4 * 4;
}

// Rows `row` - 1 to `row` + rows of one item; zeros beyond the edges.
template <typename T>
void fill_band(const kernels::Resize<T>& resize, int64_t row, int64_t rows, T* to) {
  const int64_t height = int64_t(resize.rows.weight.size());
  const int64_t values = int64_t(resize.columns.weight.size()) * resize.channels;
  balanced_for(rows + 2, kRowGrain, [&](int64_t begin, int64_t end) {
    const int64_t first = std::max<int64_t>(row - 1 + begin, 0), last = std::min(row - 1 + end, height);
    T* at = to + begin * values;
    if (row - 1 + begin < 0) at = std::fill_n(at, values, T(0));
    if (first < last) {
      kernels::resize_rows(resize, first, last, at);
      at += (last - first) * values;
    }
    if (row - 1 + end > height) std::fill_n(at, values, T(0));
  });
}

}  // namespace

Conv2d::Conv2d(const Scope& s, int64_t in, int64_t out, int64_t kernel, int64_t stride, bool with_bias,
               MapSize maps)
    : weight(s.take("weight", {out, in, kernel, kernel})),
      stride_(stride),
      padding_(kernel / 2),
      outputs_(out),
      type_(s.placement().compute) {
  if (with_bias) bias = s.take("bias", {out});
  if (!weight.defined()) return;  // only the names are of interest
  cpu_ = weight.is_cpu();
  trained_ = weight.requires_grad();
  if (cpu_ && !trained_ && s.placement().prepack) lay_out(maps);
  if (!weight.defined()) return;
  weight = weight.to(type_);
  if (with_bias) bias = bias.to(type_);
  if (!cpu_ && !trained_ && type_ != at::kFloat) weight = as_channels_last(weight);
}

void Conv2d::lay_out(MapSize maps) {
  using namespace kernels;
  const int64_t in = weight.size(1), kernel = weight.size(2);
  const bool square = kernel == 3 && stride_ == 1;
  const bool bfloat16 = type_ == at::kBFloat16;
  const bool fast = WinogradConv::available() && (bfloat16 ? WinogradConv::beats_bfloat16() : fusible());
  if (square && fast && maps == MapSize::large && WinogradConv::fits(in, outputs_)) {
    winograd_ = std::make_shared<WinogradConv>(weight.contiguous().data_ptr<float>(), floats_or_null(bias),
                                               outputs_, in);
  } else {
    const Tensor w = weight.to(type_).contiguous(), b = bias.defined() ? bias.to(type_) : bias;
    if (square && bfloat16 && Bfloat16Conv::available())
      tiled_ = std::make_shared<Bfloat16Conv>(static_cast<uint16_t*>(w.data_ptr()), floats_or_null(bias),
                                              outputs_, in);
    else if (kernel == 1 && stride_ == 1)
      linear_ = PackedLinear::make(w.flatten(1), b);
    else
      packed_ = PackedConv::make(w, b, stride_);
  }
  if (ours() || linear_ || packed_) weight = bias = Tensor();
}

void Conv2d::run_ours(const Tensor& input, int64_t padding_rows, bool relu, bool add,
                      const Tensor& to) const {
  const Tensor x = as_channels_last(input);
  const int64_t in = winograd_ ? winograd_->in() : tiled_->in();
  TORCH_CHECK(x.size(1) == in, "a map of ", x.size(1), " channels, not ", in);
  with_values(x, [&](auto* values) {
    using T = std::remove_pointer_t<decltype(values)>;
    const kernels::ConvJob<T> job{
        values, x.size(0), x.size(2), x.size(3), padding_rows, static_cast<T*>(to.data_ptr()), relu, add};
    if (winograd_) {
      balanced_for(winograd_->blocks(job), 1,
                   [&](int64_t begin, int64_t end) { winograd_->run(job, begin, end); });
    } else if constexpr (std::is_same_v<T, uint16_t>) {
      balanced_for(tiled_->pieces(job), 1, [&](int64_t begin, int64_t end) { tiled_->run(job, begin, end); });
    } else {
      TORCH_CHECK(false, "a convolution in bfloat16 cannot take ", x.scalar_type());
    }
  });
}

Tensor Conv2d::run(const Tensor& input, int64_t padding_rows, bool relu) const {
  const Tensor x = trained_ ? input : input.to(type_);
  if (ours()) {
    const Tensor y = empty_map({x.size(0), outputs_, x.size(2) + 2 * padding_rows - 2, x.size(3)}, x);
    run_ours(x, padding_rows, relu, false, y);
    return y;
  }
  if (packed_) return packed_->forward(x, padding_rows, padding_, relu);
  Tensor y = linear_ ? from_pixels(linear_->forward(to_pixels(x)))
                     : at::conv2d(x, weight, bias, {stride_, stride_}, {padding_rows, padding_});
  if (!relu) return y;
  return trained_ ? at::relu(y) : at::relu_(y);
}

Tensor Conv2d::add_to(const Tensor& base, const Tensor& input) const {
  const bool writable = base.scalar_type() == type_ && base.is_contiguous(at::MemoryFormat::ChannelsLast);
  if (writable && packed_) return packed_->add_to(base, input.to(type_), padding_, padding_);
  if (writable && ours()) {
    TORCH_CHECK(base.sizes() == at::IntArrayRef({input.size(0), outputs_, input.size(2), input.size(3)}),
                "a map of sizes ", base.sizes(), " cannot take this sum");
    run_ours(input.to(type_), padding_, false, true, base);
    return base;
  }
  return run(input, padding_, false).add_(base);
}

// LibTorch 1.13 takes a transposed convolution in bfloat16 on the CPU for one that is not.
constexpr bool kTransposedBf16IsWrong = TORCH_VERSION_MAJOR < 2;

UpConv2d::UpConv2d(const Scope& s, int64_t width, int64_t kernel)
    : weight_(s.take_compute("weight", {width, width, kernel, kernel})),
      bias_(s.take_compute("bias", {width})),
      kernel_(kernel) {
  if (!weight_.defined()) return;
  type_ = weight_.scalar_type();
  trained_ = weight_.requires_grad();
  if (trained_ || !weight_.is_cpu()) return;
  const bool wrong = kTransposedBf16IsWrong && type_ == at::kBFloat16;
  if (!s.placement().prepack && !wrong) return;
  const Tensor matrix = weight_.permute({2, 3, 1, 0}).reshape({kernel * kernel * width, width});
  const Tensor biases = bias_.repeat({kernel * kernel});
  if (s.placement().prepack) packed_ = PackedLinear::make(matrix, biases);
  if (!packed_ && !wrong) return;
  weight_ = bias_ = Tensor();
  if (packed_) return;
  matrix_ = matrix;
  biases_ = biases;
}

Tensor UpConv2d::operator()(const Tensor& input) const {
  const Tensor x = trained_ ? input : input.to(type_);
  if (!packed_ && !matrix_.defined()) return at::conv_transpose2d(x, weight_, bias_, {kernel_, kernel_});
  const int64_t n = x.size(0), width = x.size(1), rows = x.size(2), columns = x.size(3), k = kernel_;
  const Tensor pixels = to_pixels(x);
  const Tensor squares = (packed_ ? packed_->forward(pixels) : at::linear(pixels, matrix_, biases_))
                             .view({n, rows, columns, k, k, width});
  return from_pixels(squares.permute({0, 1, 3, 2, 4, 5}).reshape({n, rows * k, columns * k, width}));
}

Tensor LastConv::operator()(const Tensor& x) const {
  const Tensor y = at::conv2d(weight_.requires_grad() ? x : x.to(at::kFloat), weight_, bias_);
  return y.to(at::kFloat);
}

void LastConv::write(const Tensor& x, int64_t image, int64_t row, Tensor* to) const {
  const Tensor from = as_channels_last(x);
  const int64_t columns = x.size(3), pixels = x.size(2) * columns, plane = to->size(2) * to->size(3);
  const kernels::PixelProducts products{weight_.data_ptr<float>(), bias_.data_ptr<float>(), x.size(1),
                                        outputs(), plane};
  with_values(from, [&](const auto* values) {
    for (int64_t n = 0; n < x.size(0); ++n) {
      const auto* item = values + n * pixels * x.size(1);
      float* out = to->data_ptr<float>() + (image + n) * outputs() * plane + row * columns;
      balanced_for(pixels, kPixelGrain, [&](int64_t begin, int64_t end) {
        products.run(item + begin * x.size(1), end - begin, out + begin);
      });
    }
  });
}

MapAndRelu add_resized(const Conv2d& layer, Tensor sum, const Tensor& z) {
  const int64_t height = sum.size(2), width = sum.size(3), channels = sum.size(1);
  if (!layer.fusible() || sum.scalar_type() != z.scalar_type()) {
    sum = sum.add_(resize_bilinear(z, height, width));
    return {sum, at::relu(sum)};
  }
  sum = as_channels_last(sum);
  const Tensor from = as_channels_last(z), positive = empty_map(sum.sizes(), sum);
  const kernels::ResizeAxis rows(z.size(2), height), columns(z.size(3), width);
  with_values(from, [&](auto* map) {
    using T = std::remove_pointer_t<decltype(map)>;
    T *to = static_cast<T*>(sum.data_ptr()), *relu = static_cast<T*>(positive.data_ptr());
    for (int64_t n = 0; n < sum.size(0); ++n) {
      const kernels::Resize<T> resize{map + n * rows.from * columns.from * channels, rows, columns, channels};
      const int64_t at = n * height * width * channels;
      balanced_for(height, kRowGrain, [&](int64_t begin, int64_t end) {
        kernels::resize_add_rows(resize, begin, end, to + at, relu + at);
      });
    }
  });
  return {sum, positive};
}

void for_resized_bands(const ResizedMap& r, bool whole, int64_t band_rows, const UseBand& use) {
  const Tensor map = as_channels_last(r.map);
  const int64_t items = map.size(0), channels = map.size(1), values = map.size(2) * map.size(3) * channels;
  const kernels::ResizeAxis rows(map.size(2), r.height), columns(map.size(3), r.width);
  const int64_t at_once = whole ? items : 1;
  const int64_t step = whole ? r.height : band_rows > 0 ? band_rows : rows_of_band(r);
  Tensor buffer;
  for (int64_t image = 0; image < items; image += at_once)
    for (int64_t row = 0; row < r.height; row += step) {
      const int64_t count = std::min(step, r.height - row);
      if (!buffer.defined() || buffer.size(2) != count + 2)
        buffer = empty_map({at_once, channels, count + 2, r.width}, map);
      with_values(map, [&](auto* from) {
        using T = std::remove_pointer_t<decltype(from)>;
        for (int64_t n = 0; n < at_once; ++n) {
          const kernels::Resize<T> resize{
              from + (image + n) * values,  rows, columns, channels, floats_or_null(r.column_offsets),
              floats_or_null(r.row_offsets)};
          T* to = static_cast<T*>(buffer.data_ptr()) + n * (count + 2) * r.width * channels;
          fill_band(resize, row, count, to);
        }
      });
      use(image, row, buffer);
    }
}

Tensor resize_and_convolve(const Conv2d& conv, const Tensor& map, int64_t height, int64_t width) {
  if (!conv.fusible()) return conv(resize_bilinear(map, height, width));
  const Tensor out = empty_map({map.size(0), conv.outputs(), height, width}, map);
  for_resized_bands(
      {map, height, width, {}, {}}, false, 0, [&](int64_t image, int64_t row, const Tensor& band) {
        out.narrow(0, image, 1).narrow(2, row, band.size(2) - 2).copy_(conv.forward_rows(band, false));
      });
  return out;
}

}  // namespace da3
