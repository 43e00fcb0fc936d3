// SPDX-License-Identifier: MIT
//
// The kernels for CUDA, run on the CPU, against their definition in double precision.
#include <doctest/doctest.h>

#include <algorithm>
#include <limits>
#include <random>

#include "cuda_emulation.h"

using namespace da3;
using namespace da3::cuda;
using da3::test::start_emulated;

namespace {

constexpr Element kAll[] = {Element::float32, Element::bfloat16, Element::float16};
constexpr double kEps = 1e-6;
constexpr float kNan = std::numeric_limits<float>::quiet_NaN(), kInf = std::numeric_limits<float>::infinity();

// Values of one type, as the kernels find them in memory.
class Values {
 public:
  Values(Element element, size_t count, double fill = 0)
      : element_(element), count_(count), bytes_(count * 4 + 16) {
    for (size_t i = 0; i < count; ++i) set(i, float(fill));
  }
  static Values random(Element element, size_t count, unsigned seed, double mean = 0, double spread = 1) {
    Values out(element, count);
    std::mt19937 engine(seed);
    std::uniform_real_distribution<float> draw(float(mean - spread), float(mean + spread));
    for (size_t i = 0; i < count; ++i) out.set(i, draw(engine));
    return out;
  }
  void* data() { return bytes_.data(); }
  const float* floats() const { return reinterpret_cast<const float*>(bytes_.data()); }
  size_t size() const { return count_; }
  double operator[](size_t i) const {
    if (element_ == Element::float32) return read<float>(i);
    if (element_ == Element::float16) return half_to_float(read<unsigned short>(i));
    return std::bit_cast<float>(unsigned(read<unsigned short>(i)) << 16);
  }
  void set(size_t i, float v) {
    if (element_ == Element::float32)
      write(i, v);
    else
      write(i, element_ == Element::float16 ? float_to_half(v)
                                            : (unsigned short)(std::bit_cast<unsigned>(v) >> 16));
  }

 private:
  template <typename T>
  T read(size_t i) const {
    T out;
    std::copy_n(bytes_.data() + i * sizeof(T), sizeof(T), reinterpret_cast<unsigned char*>(&out));
    return out;
  }
  template <typename T>
  void write(size_t i, T v) {
    std::copy_n(reinterpret_cast<unsigned char*>(&v), sizeof(T), bytes_.data() + i * sizeof(T));
  }
  Element element_;
  size_t count_;
  std::vector<unsigned char> bytes_;
};

// Half a step of the type, relative, and what float arithmetic adds.
bool near(double got, double exact, Element element) {
  const double step = element == Element::float32 ? 0 : element == Element::float16 ? 0x1p-11 : 0x1p-8;
  return std::fabs(got - exact) <= step * std::fabs(exact) + 4e-6 * (1 + std::fabs(exact));
}

// A made-up job: inputs, and outputs with a row of guards behind them.
struct Rows {
  Element element;
  size_t rows, width;
  bool adds, scales, norms, keeps_sum = true;
  Values x, add, scale, weight, bias, sum, normed;

  Rows(Element e, size_t r, size_t w, bool a, bool s, bool n)
      : element(e),
        rows(r),
        width(w),
        adds(a),
        scales(s),
        norms(n),
        x(Values::random(Element::float32, r * w, 1, 1, 3)),
        add(Values::random(e, r * w, 2, 0.5, 2)),
        scale(Values::random(Element::float32, w, 3)),
        weight(Values::random(Element::float32, w, 4, 1)),
        bias(Values::random(Element::float32, w, 5)),
        sum(Element::float32, (r + 1) * w, -7),
        normed(e, (r + 1) * w, -7) {}

  void run() {
    AddNormArguments a{};
    a.x = x.floats();
    a.width = int(width);
    a.eps = float(kEps);
    if (adds) a.add = add.data();
    if (scales) a.scale = scale.floats();
    if (keeps_sum) a.sum = static_cast<float*>(sum.data());
    if (norms) a.normed = normed.data();
    a.weight = weight.floats();
    a.bias = bias.floats();
    start_emulated(Kernel::add_norm, element, grid_of_rows(int64_t(rows), int64_t(width)), &a);
  }

  double exact_sum(size_t r, size_t c) const {
    const size_t i = r * width + c;
    return x[i] + (adds ? add[i] * (scales ? scale[c] : 1.0) : 0.0);
  }
  std::vector<double> exact_norm(size_t r) const {
    std::vector<double> out(width);
    double mean = 0, variance = 0;
    for (size_t c = 0; c < width; ++c) mean += (out[c] = exact_sum(r, c)) / double(width);
    for (const double v : out) variance += (v - mean) * (v - mean) / double(width);
    for (size_t c = 0; c < width; ++c)
      out[c] = (out[c] - mean) / std::sqrt(variance + kEps) * weight[c] + bias[c];
    return out;
  }

  // Also that nothing else was written.
  size_t wrong() const {
    size_t out = 0;
    for (size_t r = 0; r <= rows; ++r) {
      const std::vector<double> norm = r < rows ? exact_norm(r) : std::vector<double>();
      for (size_t c = 0; c < width; ++c) {
        const size_t i = r * width + c;
        out += keeps_sum && r < rows ? !near(sum[i], exact_sum(r, c), Element::float32) : sum[i] != -7;
        out += norms && r < rows ? !near(normed[i], norm[c], element) : normed[i] != -7;
      }
    }
    return out;
  }
};

}  // namespace

TEST_SUITE("cuda: sums and norms") {
  TEST_CASE("their definition, in every type") {
    for (const Element element : kAll)
      for (const size_t width : {64, 384, 1024, 1536}) {
        CAPTURE(int(element));
        CAPTURE(width);
        Rows rows(element, 2, width, true, true, true);
        rows.run();
        CHECK(rows.wrong() == 0);
      }
  }

  TEST_CASE("with and without what is added, its scale, the norm and the sum") {
    for (const Element element : {Element::float32, Element::bfloat16})
      for (const int form : {0, 1, 2, 3, 4, 5}) {
        CAPTURE(form);
        Rows rows(element, 3, 384, form != 0, form == 1 || form == 2, form != 2 && form != 4);
        rows.keeps_sum = form != 0 && form != 5;
        rows.run();
        CHECK(rows.wrong() == 0);
      }
  }

  TEST_CASE("the smallest width, the greatest, and those that leave threads without work") {
    for (const size_t width : {4, 100, 132, 1028, 2052, 4096}) {
      CAPTURE(width);
      Rows rows(Element::bfloat16, 2, width, true, true, true);
      rows.run();
      CHECK(rows.wrong() == 0);
    }
  }

  TEST_CASE("whole warps hold every row, and no thread has more than it can keep") {
    for (int64_t width = 4; width <= kMaxWidth; width += 4) {
      const Grid grid = grid_of_rows(7, width);
      REQUIRE(grid.blocks == 7);
      REQUIRE((grid.threads > 0 && grid.threads % kWarp == 0 && grid.threads <= kThreads));
      REQUIRE(int64_t(grid.threads) * 4 * kQuads >= width);
    }
    CHECK(grid_of_rows(1, 384).threads == 96);
    CHECK(grid_of_rows(1, 1024).threads == 256);
    CHECK(grid_of_rows(1, 1536).threads == 192);
  }

  TEST_CASE("what is not a number, or not finite, spoils its row and no other") {
    for (const float bad : {kNan, kInf, -kInf})
      for (const bool in_x : {true, false}) {
        Rows rows(Element::bfloat16, 3, 64, true, true, true);
        (in_x ? rows.x : rows.add).set(64 + 5, bad);
        rows.run();
        for (size_t i = 0; i < 3 * 64; ++i) CHECK(std::isnan(rows.normed[i]) == (i / 64 == 1));
        for (size_t i = 0; i < 3 * 64; ++i) CHECK(std::isfinite(rows.sum[i]) == (i != 64 + 5));
        CHECK(rows.wrong() == 64 + 1);  // nothing equals it
      }
  }

  TEST_CASE("equal values have no variance: the bias is left") {
    Rows rows(Element::float32, 2, 384, false, false, true);
    rows.keeps_sum = false;
    for (size_t i = 0; i < 2 * 384; ++i) rows.x.set(i, i < 384 ? 0.0f : 3.0f);
    rows.run();
    for (size_t i = 0; i < 2 * 384; ++i) CHECK(std::fabs(rows.normed[i] - rows.bias[i % 384]) < 1e-6);
  }

  TEST_CASE("a mean far from zero, and great and small values") {
    Rows far(Element::float32, 2, 1024, false, false, true);
    far.x = Values::random(Element::float32, 2 * 1024, 8, 1e4, 1);
    far.run();
    for (size_t r = 0; r < 2; ++r) {
      const std::vector<double> exact = far.exact_norm(r);
      for (size_t c = 0; c < 1024; ++c) CHECK(std::fabs(far.normed[r * 1024 + c] - exact[c]) < 1e-2);
    }
    for (const double spread : {1e-12, 1e15}) {
      Rows rows(Element::float32, 2, 64, false, false, true);
      rows.keeps_sum = false;
      rows.x = Values::random(Element::float32, 2 * 64, 9, 0, spread);
      rows.run();
      CHECK(rows.wrong() == 0);
    }
  }

  TEST_CASE("float16: beyond its range is infinite, not another number") {
    Rows rows(Element::float16, 1, 64, false, false, true);
    rows.keeps_sum = false;
    rows.weight.set(3, 1e9f);
    rows.run();
    CHECK(std::isinf(rows.normed[3]));
    CHECK(std::isfinite(rows.normed[4]));
  }
}

namespace {

// What e4m3 with these bits is, by the definition of the format; 0x7f and 0xff are not numbers.
double from_e4m3(unsigned bits) {
  const int exponent = int(bits >> 3 & 15), fraction = int(bits & 7);
  const double size = exponent ? std::ldexp(8 + fraction, exponent - 10) : std::ldexp(fraction, -9);
  return (bits & 0x7f) == 0x7f ? kNan : bits & 0x80 ? -size : size;
}

// Rows in 8 bits, with guards behind them.
struct EightBits {
  Element element;
  size_t rows, width;
  Values x;
  std::vector<unsigned char> bits;
  std::vector<float> scale;

  EightBits(Element e, size_t r, size_t w, double spread = 1)
      : element(e), rows(r), width(w), x(Values::random(e, r * w, 21, 0, spread)) {}

  void run() {
    bits.assign((rows + 1) * width, 0x55);
    scale.assign(rows + 1, -7);
    QuantiseArguments a{};
    a.x = x.data();
    a.to = bits.data();
    a.scale = scale.data();
    a.width = int(width);
    start_emulated(Kernel::quantise, element, grid_of_rows(int64_t(rows), int64_t(width)), &a);
    CHECK(scale[rows] == -7);
    CHECK(std::count(bits.begin() + std::ptrdiff_t(rows * width), bits.end(), 0x55) == std::ptrdiff_t(width));
  }

  // Values that are not the nearest there is, for their row's scale.
  size_t wrong() const {
    size_t out = 0;
    for (size_t r = 0; r < rows; ++r) {
      double largest = 0;
      for (size_t c = 0; c < width; ++c) largest = std::max(largest, std::fabs(x[r * width + c]));
      out += std::fabs(scale[r] - largest / 448) > 1e-6 * largest / 448;
      for (size_t c = 0; c < width; ++c) {
        const double wish = x[r * width + c] / scale[r];
        double nearest = INFINITY;
        for (unsigned code = 0; code < 256; ++code)
          if ((code & 0x7f) != 0x7f) nearest = std::min(nearest, std::fabs(from_e4m3(code) - wish));
        out += !(std::fabs(from_e4m3(bits[r * width + c]) - wish) <= nearest + 1e-6 * std::fabs(wish));
      }
    }
    return out;
  }
};

}  // namespace

TEST_SUITE("cuda: rows in 8 bits") {
  TEST_CASE("each value is the nearest, in every type and for widths that leave threads without work") {
    for (const Element element : kAll)
      for (const size_t width : {4, 64, 132, 1028, 4096}) {
        CAPTURE(int(element));
        CAPTURE(width);
        EightBits rows(element, 3, width, 5);
        for (size_t c = 0; c < width; ++c) rows.x.set(width + c, float(rows.x[width + c] / 512));
        rows.run();
        CHECK(rows.wrong() == 0);
      }
  }

  TEST_CASE("what 8 bits hold is held exactly, and what lies between goes to the even one") {
    EightBits exact(Element::float32, 1, 256);
    for (unsigned code = 0; code < 256; ++code)
      exact.x.set(code, (code & 0x7f) == 0x7f ? 0.0f : float(from_e4m3(code)));
    exact.run();
    CHECK(exact.scale[0] == 1);
    for (unsigned code = 0; code < 256; ++code)
      if ((code & 0x7f) != 0x7f) CHECK(exact.bits[code] == code);
    EightBits between(Element::float32, 1, 128);
    for (unsigned code = 0; code < 126; ++code)
      between.x.set(code, float((from_e4m3(code) + from_e4m3(code + 1)) / 2));
    between.x.set(126, 448);
    between.x.set(127, -448);
    between.run();
    CHECK(between.scale[0] == 1);
    for (unsigned code = 0; code < 126; ++code) CHECK(between.bits[code] == code + code % 2);
    CHECK(between.bits[126] == 0x7e);
    CHECK(between.bits[127] == 0xfe);
  }

  TEST_CASE("a row of zeros, and of values too small for a scale, is zeros") {
    for (const float value : {0.0f, -0.0f, 1e-40f}) {
      EightBits rows(Element::float32, 1, 64);
      for (size_t c = 0; c < 64; ++c) rows.x.set(c, value);
      rows.run();
      CHECK(rows.scale[0] == 1);
      CHECK(std::all_of(rows.bits.begin(), rows.bits.begin() + 64, [](int b) { return (b & 0x7f) == 0; }));
    }
  }

  TEST_CASE("what is not finite makes the scale of its row not a number, and of no other") {
    for (const Element element : kAll)
      for (const float bad : {kNan, -kNan, kInf, -kInf}) {
        EightBits rows(element, 3, 132);
        rows.x.set(132 + 131, bad);
        rows.run();
        for (size_t r = 0; r < 3; ++r) CHECK(std::isnan(rows.scale[r]) == (r == 1));
        for (size_t c = 0; c < 132; ++c) CHECK(rows.bits[132 + c] == 0);
        CHECK(rows.wrong() > 0);
      }
  }

  TEST_CASE("the greatest values of a type keep their place") {
    for (const Element element : kAll) {
      EightBits rows(element, 1, 64);
      const float most = element == Element::float16 ? 65504.0f : 3.38e38f;
      for (size_t c = 0; c < 64; ++c) rows.x.set(c, c % 2 ? most : -most);
      rows.run();
      for (size_t c = 0; c < 64; ++c) CHECK(rows.bits[c] == (c % 2 ? 0x7e : 0xfe));
    }
  }
}

TEST_SUITE("cuda: types of 16 bits") {
  TEST_CASE("bfloat16 is rounded to nearest even, and not a number stays so") {
    const std::pair<unsigned, unsigned> cases[] = {
        {0x3f800000, 0x3f80}, {0x3f808000, 0x3f80}, {0x3f808001, 0x3f81}, {0x3f818000, 0x3f82},
        {0x3f817fff, 0x3f81}, {0x7f7fffff, 0x7f80}, {0x7f800000, 0x7f80}, {0xff800000, 0xff80},
        {0x80000000, 0x8000}, {0x7f800001, 0x7fc0}, {0xffffffff, 0x7fc0}, {0x00000001, 0x0000}};
    for (const auto& [from, to] : cases) {
      CAPTURE(from);
      Bfloat16 got;
      narrow(std::bit_cast<float>(from), got);
      CHECK(got.bits == to);
    }
  }

  TEST_CASE("float16 as the tests hold it is the IEEE format") {
    const std::pair<float, unsigned> cases[] = {{1.0f, 0x3c00},     {-2.0f, 0xc000},    {65504.0f, 0x7bff},
                                                {65519.0f, 0x7bff}, {65520.0f, 0x7c00}, {0x1p-14f, 0x0400},
                                                {0x1p-24f, 0x0001}, {0x1p-25f, 0x0000}, {0x1.8p-24f, 0x0002},
                                                {0.1f, 0x2e66},     {2049.0f, 0x6800},  {2051.0f, 0x6802}};
    for (const auto& [value, bits] : cases) {
      CAPTURE(value);
      CHECK(float_to_half(value) == bits);
    }
    for (unsigned bits = 0; bits < 0x7c00; ++bits)
      REQUIRE(float_to_half(half_to_float((unsigned short)bits)) == bits);
    CHECK(std::isnan(half_to_float(float_to_half(kNan))));
  }
}

namespace {

struct Heads {
  Element element;
  size_t batch, tokens, heads, positions = 5;
  bool norms = true, turns = true;
  size_t token_stride, batch_stride;
  Values from, weight, bias, cosine, sine, to;

  // `gap`: values between tokens, and again between items.
  Heads(Element e, size_t b, size_t t, size_t h, size_t gap = 0)
      : element(e),
        batch(b),
        tokens(t),
        heads(h),
        token_stride(h * 64 + gap),
        batch_stride(t * token_stride + gap),
        from(Values::random(e, b * batch_stride, 11, 1, 3)),
        weight(Values::random(Element::float32, 64, 12, 1)),
        bias(Values::random(Element::float32, 64, 13)),
        cosine(Element::float32, positions * 64),
        sine(Element::float32, positions * 64),
        to(e, b * t * h * 64 + 64, -7) {
    // Two angles a position, one for each half; channels k and k + 16 of a half turn alike.
    for (size_t p = 0; p < positions; ++p)
      for (size_t c = 0; c < 64; ++c) {
        const double angle = double(p * (c < 32 ? 3 : 7)) / double(1 + c % 16);
        cosine.set(p * 64 + c, float(std::cos(angle)));
        sine.set(p * 64 + c, float(std::sin(angle)));
      }
  }

  void run() {
    NormRopeArguments a{};
    a.from = from.data();
    a.to = to.data();
    a.batch_stride = (long long)batch_stride;
    a.token_stride = (long long)token_stride;
    a.count = unsigned(batch * tokens * heads);
    a.heads = unsigned(heads);
    a.tokens = unsigned(tokens);
    a.positions = unsigned(positions);
    a.eps = float(kEps);
    if (norms) a.weight = weight.floats(), a.bias = bias.floats();
    if (turns) a.cosine = cosine.floats(), a.sine = sine.floats();
    start_emulated(Kernel::norm_rope, element, grid_of_heads(a.count), &a);
  }

  std::vector<double> exact(size_t b, size_t h, size_t t) const {
    std::vector<double> v(64);
    for (size_t c = 0; c < 64; ++c) v[c] = from[b * batch_stride + t * token_stride + h * 64 + c];
    if (norms) {
      double mean = 0, variance = 0;
      for (const double one : v) mean += one / 64;
      for (const double one : v) variance += (one - mean) * (one - mean) / 64;
      for (size_t c = 0; c < 64; ++c) v[c] = (v[c] - mean) / std::sqrt(variance + kEps) * weight[c] + bias[c];
    }
    if (!turns) return v;
    std::vector<double> out = v;
    for (const size_t half : {0, 32})
      for (size_t k = half; k < half + 16; ++k) {
        const double cos = cosine[t % positions * 64 + k], sin = sine[t % positions * 64 + k];
        out[k] = v[k] * cos - v[k + 16] * sin;
        out[k + 16] = v[k + 16] * cos + v[k] * sin;
      }
    return out;
  }

  size_t place(size_t b, size_t h, size_t t) const { return ((b * heads + h) * tokens + t) * 64; }

  size_t wrong() const {
    size_t out = 0;
    for (size_t b = 0; b < batch; ++b)
      for (size_t h = 0; h < heads; ++h)
        for (size_t t = 0; t < tokens; ++t) {
          const std::vector<double> v = exact(b, h, t);
          for (size_t c = 0; c < 64; ++c) out += !near(to[place(b, h, t) + c], v[c], element);
        }
    for (size_t i = to.size() - 64; i < to.size(); ++i) out += to[i] != -7;
    return out;
  }
};

}  // namespace

TEST_SUITE("cuda: queries and keys") {
  TEST_CASE("their definition, in every type") {
    for (const Element element : kAll) {
      CAPTURE(int(element));
      Heads some(element, 2, 5, 6);
      some.run();
      CHECK(some.wrong() == 0);
    }
  }

  TEST_CASE("with and without norm and rotation, for one head and for many") {
    for (const Element element : {Element::float32, Element::bfloat16})
      for (const size_t heads : {1, 3, 16})
        for (const int form : {0, 1, 2, 3}) {
          CAPTURE(heads);
          CAPTURE(form);
          Heads some(element, 1, 5, heads);
          some.norms = form & 1;
          some.turns = form & 2;
          some.run();
          CHECK(some.wrong() == 0);
        }
  }

  TEST_CASE("more tokens than positions, and fewer") {
    for (const size_t tokens : {1, 4, 11}) {
      CAPTURE(tokens);
      Heads some(Element::float32, 2, tokens, 2);
      some.run();
      CHECK(some.wrong() == 0);
    }
  }

  TEST_CASE("tokens and items with something between them") {
    Heads some(Element::bfloat16, 2, 5, 3, 3 * 64 + 4), same(Element::bfloat16, 2, 5, 3, 3 * 64 + 4);
    some.run();
    CHECK(some.wrong() == 0);
    for (size_t i = 0; i < some.from.size(); ++i) REQUIRE(some.from[i] == same.from[i]);
  }

  TEST_CASE("fewer heads than a block has place for: nothing is written behind the last") {
    for (const size_t heads : {1, 2, 15, 16, 17}) {
      CAPTURE(heads);
      Heads some(Element::float32, 1, 1, heads);
      some.run();
      CHECK(some.wrong() == 0);
    }
  }

  TEST_CASE("what is not a number, or not finite, stays in its head") {
    for (const float bad : {kNan, kInf}) {
      Heads some(Element::bfloat16, 1, 3, 3);
      some.from.set(1 * some.token_stride + 1 * 64 + 20, bad);
      some.run();
      CHECK(some.wrong() == 64);
      for (size_t c = 0; c < 64; ++c) CHECK(std::isnan(some.to[some.place(0, 1, 1) + c]));
    }
  }

  TEST_CASE("without a norm only the partner of what is not a number is touched") {
    Heads some(Element::float32, 1, 2, 1);
    some.norms = false;
    some.from.set(some.token_stride + 40, kNan);
    some.run();
    for (size_t c = 0; c < 64; ++c)
      CHECK(std::isnan(some.to[some.place(0, 0, 1) + c]) == (c == 40 || c == 56));
    CHECK(some.wrong() == 2);
  }
}
