// Random convolutions through the emulated kernels against float64.
//   check_convolutions [CASES] [SEED]
#include <chrono>
#include <sstream>

#include "conv.h"
#include "device.h"
#include "random_tensor.h"

namespace check {
namespace {

using edgegrain::Conv;

// Of conv_cuda.cu: 8 tiles for channels of 8, 6 of them in two orders, 3 tiles for copies of 8 and of 4 bytes, two SIMT
// tiles and two depthwise kernels for two types.
constexpr std::size_t kKernels = 8 + 6 + 3 * 2 + 2 * 2 + 2 * 2;
constexpr float kUntouched = 12345.0f;

template <class T>
struct Case {
  Conv<T> conv{};
  Optional<T> x, more, weight, noise, residual, outer, y, modulated;
  Optional<float> demodulation, bias, style;
  std::string description;
};

// A map of `pixels` pixels with `channels` of `stride` elements each: what is in between belongs to others.
template <class T>
Optional<T> map(std::int64_t pixels, std::int64_t channels, std::int64_t stride) {
  return filled<T>(static_cast<std::size_t>(pixels ? (pixels - 1) * stride + channels : 0));
}

std::int64_t wider(std::int64_t channels) {
  if (chance(60)) return channels;
  return chance(70) ? channels + 8 * draw(1, 4) : channels + draw(1, 5);
}

// Sizes for which conv_cuda.cu takes a certain kernel on a device with one multiprocessor.
struct Sizes {
  int height, width, channels, out_channels, side;
  bool depthwise;
};

constexpr Sizes kEveryHalfKernel[] = {
    {16, 16, 64, 128, 3, false}, {16, 16, 40, 128, 3, false}, {16, 16, 32, 64, 3, false}, {16, 16, 64, 64, 1, false},
    {16, 16, 32, 32, 3, false},  {16, 16, 72, 32, 1, false},  {8, 16, 32, 32, 3, false},  {8, 16, 24, 32, 3, false},
    {8, 8, 32, 64, 3, false},    {8, 8, 64, 64, 1, false},    {16, 16, 64, 3, 3, false},  {16, 16, 24, 16, 3, false},
    {4, 8, 64, 32, 3, false},    {4, 4, 128, 32, 3, false},   {8, 16, 12, 64, 3, false},  {8, 16, 20, 32, 3, false},
    {8, 16, 4, 16, 3, false},    {8, 16, 6, 64, 3, false},    {8, 16, 2, 32, 3, false},   {8, 16, 10, 8, 3, false},
    {9, 9, 3, 64, 3, false},     {9, 9, 3, 3, 3, false},      {17, 9, 24, 24, 3, true},   {7, 9, 5, 5, 3, true}};
constexpr Sizes kEveryFloatKernel[] = {
    {9, 9, 24, 64, 3, false}, {9, 9, 24, 3, 3, false}, {17, 9, 24, 24, 3, true}, {7, 9, 5, 5, 3, true}};

template <class T>
Case<T> draw_case(const Sizes* sizes = nullptr) {
  Case<T> c;
  Conv<T>& v = c.conv;
  v.depthwise = chance(12);
  const bool large = chance(15);
  v.batch = draw(1, 3);
  v.height = large ? draw(15, 34) : draw(1, 12), v.width = large ? draw(15, 34) : draw(1, 12);
  v.channels = chance(60) ? one_of({8, 16, 24, 32, 64, 72, 96, 128}) : one_of({1, 2, 3, 4, 6, 12, 20, 36});
  v.out_channels = chance(60) ? one_of({8, 16, 32, 40, 64, 96, 128, 136}) : one_of({1, 3, 5, 12, 17, 36});
  if (chance(8)) v.channels = one_of({256, 512});
  if (v.depthwise) v.out_channels = v.channels;
  static constexpr int kSides[][2] = {{1, 1}, {3, 3}, {3, 3}, {2, 2}, {1, 3}, {4, 4}, {5, 5}, {7, 1}, {6, 6}};
  const auto& side = kSides[draw(0, 8)];
  v.kernel_height = side[0], v.kernel_width = side[1];
  if (sizes) {
    v.batch = 1, v.height = sizes->height, v.width = sizes->width, v.depthwise = sizes->depthwise;
    v.channels = sizes->channels, v.out_channels = sizes->out_channels;
    v.kernel_height = v.kernel_width = sizes->side;
  }
  v.shuffle = !sizes && !v.depthwise && chance(25) ? 2 : 1;
  v.shift = v.shuffle == 2 && chance(50);
  v.stride = !sizes && chance(20) ? 2 : 1;
  const auto windows = [&](int size, int kernel, std::int32_t& before) {
    before = sizes ? kernel / 2 : draw(0, 2);
    const int after = sizes ? before : draw(0, 2) + std::max(0, kernel + v.shift * v.stride - size - before);
    return (size + before + after - kernel) / v.stride + 1 - v.shift;
  };
  v.rows = windows(v.height, v.kernel_height, v.pad_top), v.columns = windows(v.width, v.kernel_width, v.pad_left);
  const int crop = v.shuffle == 2 && chance(40);
  v.out_height = v.shuffle * v.rows - crop, v.out_width = v.shuffle * v.columns - crop;

  const std::int64_t in = static_cast<std::int64_t>(v.batch) * v.height * v.width;
  const std::int64_t plane = static_cast<std::int64_t>(v.out_height) * v.out_width, out = v.batch * plane;
  const std::int64_t taps = v.kernel_height * v.kernel_width, o = v.out_channels;
  const std::int64_t inner = taps * (v.depthwise ? 1 : v.channels);
  v.split = v.channels;
  if (!sizes && !v.depthwise && v.channels > 1 && chance(25)) {
    v.split = v.channels > 8 && chance(70) ? 8 * draw(1, (v.channels - 1) / 8) : draw(1, v.channels - 1);
    v.more_stride = wider(v.channels - v.split);
    c.more = map<T>(in, v.channels - v.split, v.more_stride), v.more = c.more->data();
  }
  const auto stride = [sizes](std::int64_t channels) { return sizes ? channels : wider(channels); };
  v.x_stride = stride(v.split), v.y_stride = stride(o), v.residual_stride = stride(o), v.outer_stride = stride(o);
  c.x = map<T>(in, v.split, v.x_stride), v.x = c.x->data();
  const std::int64_t filters = v.shuffle * v.shuffle * o * inner;
  if (!sizes && !v.depthwise && chance(20)) v.weight_stride = filters;
  const int unaligned = !sizes && chance(5);
  c.weight = filled<T>(v.weight_stride ? v.batch * filters : filters, 1.0 / std::sqrt(inner), unaligned);
  v.weight = c.weight->data();
  if (chance(40)) c.demodulation = filled<float>(v.batch * o), v.demodulation = c.demodulation->data();
  if (chance(40)) c.noise = filled<T>(plane), v.noise = c.noise->data();
  if (chance(60)) c.bias = filled<float>(o), v.bias = c.bias->data();
  if (chance(40)) c.residual = map<T>(out, o, v.residual_stride), v.residual = c.residual->data();
  v.residual_first = c.residual && chance(30);
  if (chance(25)) c.outer = map<T>(out, o, v.outer_stride), v.outer = c.outer->data();
  const bool styled = chance(40);
  if (styled) {
    c.style = filled<float>(v.batch * o), v.style = c.style->data();
    c.modulated = filled<T>(out * o), c.modulated->fill_with(NAN), v.modulated = c.modulated->data();
  }
  if (!styled || chance(60)) {
    c.y = map<T>(out, o, v.y_stride), c.y->fill_with(kUntouched), v.y = c.y->data();
  }
  v.slope = chance(30) ? 1.0f : chance(50) ? 0.0f : 0.2f, v.gain = chance(50) ? 1.0f : 1.41421356f;
  v.clamp = chance(30) ? 1.0f : 0.0f, v.scale = 0.2f, v.outer_scale = chance(50) ? 1.0f : 0.2f;
  std::ostringstream text;
  text << (sizeof(T) == 2 ? "half" : "float") << " [" << v.batch << ", " << v.height << ", " << v.width << ", "
       << v.split << " + " << v.channels - v.split << "] * [" << (v.weight_stride ? v.batch : 1) << ", " << o << ", "
       << v.kernel_height << ", " << v.kernel_width << "] pads " << v.pad_top
       << ", " << v.pad_left << " stride " << v.stride << " shuffle " << v.shuffle << " shift " << v.shift << " crop "
       << crop << " depthwise " << v.depthwise << " -> [" << v.out_height << ", " << v.out_width << "], pixels of "
       << v.x_stride << ", " << v.y_stride << ", " << v.residual_stride << ", " << v.outer_stride << ", "
       << v.more_stride << "; residual first " << v.residual_first << "; "
       << emulation::multiprocessors() << " multiprocessors";
  c.description = text.str();
  return c;
}

template <class T>
void check_pixel(const Case<T>& c, int b, int row, int column) {
  const Conv<T>& v = c.conv;
  const int a = v.shuffle == 2 ? row % 2 : 0, bb = v.shuffle == 2 ? column % 2 : 0;
  const int top = row / v.shuffle * v.stride - v.pad_top + a * v.shift;
  const int left = column / v.shuffle * v.stride - v.pad_left + bb * v.shift;
  const std::int64_t in_picture = static_cast<std::int64_t>(row) * v.out_width + column;
  const std::int64_t pixel = static_cast<std::int64_t>(b) * v.out_height * v.out_width + in_picture;
  for (int o = 0; o < v.out_channels; ++o) {
    double value = 0.0, size = 0.0;
    const std::int64_t filter = (2 * a + bb) * v.out_channels + o, channels = v.depthwise ? 1 : v.channels;
    for (int i = 0; i < v.kernel_height; ++i) {
      for (int j = 0; j < v.kernel_width; ++j) {
        const int y = top + i, x = left + j;
        if (y < 0 || y >= v.height || x < 0 || x >= v.width) continue;
        const std::int64_t from = (static_cast<std::int64_t>(b) * v.height + y) * v.width + x;
        const std::int64_t weight =
            b * v.weight_stride + ((filter * v.kernel_height + i) * v.kernel_width + j) * channels;
        for (int k = 0; k < channels; ++k) {
          const int channel = v.depthwise ? o : k;
          const double read = channel < v.split ? (*c.x)[from * v.x_stride + channel]
                                                : (*c.more)[from * v.more_stride + channel - v.split];
          const double product = read * (*c.weight)[weight + k];
          value += product, size += std::fabs(product);
        }
      }
    }
    const std::int64_t factor = static_cast<std::int64_t>(b) * v.out_channels + o;
    if (c.demodulation) {
      const double demodulation = (*c.demodulation)[factor];
      value *= demodulation, size *= std::fabs(demodulation);
    }
    if (c.noise) value += (*c.noise)[in_picture], size += 1;
    if (c.bias) value += (*c.bias)[o], size += 1;
    if (v.residual_first) value += (*c.residual)[pixel * v.residual_stride + o], size += 1;
    value *= (value < 0 ? static_cast<double>(v.slope) : 1.0) * v.gain;
    if (v.clamp > 0) value = std::fmin(std::fmax(value, -v.clamp), v.clamp);
    if (c.residual && !v.residual_first) {
      value = (*c.residual)[pixel * v.residual_stride + o] + static_cast<double>(v.scale) * value;
    }
    if (c.outer) value = (*c.outer)[pixel * v.outer_stride + o] + static_cast<double>(v.outer_scale) * value;
    size += 2;
    if (c.y) compare<T>((*c.y)[pixel * v.y_stride + o], value, size, c.description);
    if (c.modulated) {
      const double style = (*c.style)[factor];
      compare<T>((*c.modulated)[pixel * v.out_channels + o], value * style, size * (1 + std::fabs(style)),
                 c.description);
    }
  }
  if (c.y) {  // the elements between this pixel's channels and the next one's belong to others
    const std::size_t next = std::min<std::size_t>((pixel + 1) * v.y_stride, c.y->size());
    for (std::size_t i = pixel * v.y_stride + v.out_channels; i < next; ++i) {
      if ((*c.y)[i] != (*c.y)[0] && (*c.y)[i] != edgegrain::to_float(edgegrain::from_float<T>(kUntouched))) {
        std::printf("WRONG: wrote beyond the channels: %s\n", c.description.c_str());
        std::exit(1);
      }
    }
  }
}

template <class T>
void check_case(const Sizes* sizes = nullptr) {
  static constexpr int kProcessors[] = {1, 4, 30, 132};
  emulation::set_multiprocessors(sizes ? 1 : one_of(kProcessors));
  const Case<T> c = draw_case<T>(sizes);
  if (c.conv.rows <= 0 || c.conv.columns <= 0 || c.conv.out_height <= 0 || c.conv.out_width <= 0) return;
  if (const char* error = edgegrain::launch_convolution(c.conv, nullptr, nullptr)) {
    std::printf("WRONG: %s: %s\n", error, c.description.c_str());
    std::exit(1);
  }
  for (int b = 0; b < c.conv.batch; ++b) {
    for (int row = 0; row < c.conv.out_height; ++row) {
      for (int column = 0; column < c.conv.out_width; ++column) check_pixel(c, b, row, column);
    }
  }
}

}  // namespace
}  // namespace check

int main(int count, char** arguments) {
  const int cases = count > 1 ? std::atoi(arguments[1]) : 200;
  check::random_source().seed(count > 2 ? std::atoi(arguments[2]) : 1);
  const auto begin = std::chrono::steady_clock::now();
  for (const check::Sizes& sizes : check::kEveryHalfKernel) check::check_case<check::Half>(&sizes);
  for (const check::Sizes& sizes : check::kEveryFloatKernel) check::check_case<float>(&sizes);
  for (int i = 0; i < cases; ++i) {
    if (check::chance(80)) {
      check::check_case<check::Half>();
    } else {
      check::check_case<float>();
    }
  }
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  std::printf("%d convolutions are right, by %zu of %zu kernels, in %.1f s\n", cases, emulation::launched_kernels(),
              check::kKernels, seconds);
  return emulation::launched_kernels() == check::kKernels ? 0 : 1;
}
