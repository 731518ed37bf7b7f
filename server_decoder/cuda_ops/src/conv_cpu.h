// The convolution of conv.h on the CPU, in plain loops: what the CUDA kernels are compared with.
#pragma once

#include "conv.h"

namespace edgegrain {

// An item is a window; it makes all channels of its pixels.
template <class T>
struct ConvOnCpu {
  Conv<T> conv;

  std::int64_t items() const { return std::int64_t{conv.batch} * conv.rows * conv.columns; }

  void operator()(std::uint32_t item) const {
    const std::int32_t m = item % conv.columns, n = item / conv.columns % conv.rows, b = item / conv.columns / conv.rows;
    const std::int64_t depth = conv.depthwise ? 1 : conv.channels;
    const T* filter = conv.weight + b * conv.weight_stride;
    for (std::int32_t phase = 0; phase < conv.shuffle * conv.shuffle; ++phase) {
      const std::int32_t down = phase / conv.shuffle, right = phase % conv.shuffle;
      const std::int32_t row = conv.shuffle * n + down, column = conv.shuffle * m + right;
      for (std::int32_t o = 0; o < conv.out_channels; ++o, filter += conv.kernel_height * conv.kernel_width * depth) {
        if (row >= conv.out_height || column >= conv.out_width) continue;  // crop
        float sum = 0.0f;
        for (std::int32_t i = 0; i < conv.kernel_height; ++i) {
          const std::int32_t y = n * conv.stride - conv.pad_top + conv.shift * down + i;
          if (y < 0 || y >= conv.height) continue;
          for (std::int32_t j = 0; j < conv.kernel_width; ++j) {
            const std::int32_t x = m * conv.stride - conv.pad_left + conv.shift * right + j;
            if (x < 0 || x >= conv.width) continue;
            const std::int64_t pixel = (std::int64_t{b} * conv.height + y) * conv.width + x;
            sum += product(pixel, filter + (i * conv.kernel_width + j) * depth, o);
          }
        }
        finish(b, row, column, o, sum);
      }
    }
  }

 private:
  // Of a pixel of x and a tap of a filter.
  float product(std::int64_t pixel, const T* tap, std::int32_t o) const {
    const T* const x = conv.x + pixel * conv.x_stride;
    if (conv.depthwise) return to_float(x[o]) * to_float(*tap);
    float sum = 0.0f;
    for (std::int32_t c = 0; c < conv.split; ++c) sum += to_float(x[c]) * to_float(tap[c]);
    if (!conv.more) return sum;
    const T* const more = conv.more + pixel * conv.more_stride - conv.split;
    for (std::int32_t c = conv.split; c < conv.channels; ++c) sum += to_float(more[c]) * to_float(tap[c]);
    return sum;
  }

  // The steps after the sum of channel o of a pixel of y.
  void finish(std::int32_t b, std::int32_t row, std::int32_t column, std::int32_t o, float value) const {
    const std::int64_t in_picture = std::int64_t{row} * conv.out_width + column;
    const std::int64_t pixel = std::int64_t{b} * conv.out_height * conv.out_width + in_picture;
    const std::int64_t channel = std::int64_t{b} * conv.out_channels + o;
    const float residual = conv.residual ? to_float(conv.residual[pixel * conv.residual_stride + o]) : 0.0f;
    if (conv.demodulation) value *= conv.demodulation[channel];
    if (conv.noise) value += to_float(conv.noise[in_picture]);
    if (conv.bias) value += conv.bias[o];
    if (conv.residual_first) value += residual;
    value = activate(value, conv.slope, conv.gain, conv.clamp);
    if (conv.residual && !conv.residual_first) value = residual + conv.scale * value;
    if (conv.outer) value = to_float(conv.outer[pixel * conv.outer_stride + o]) + conv.outer_scale * value;
    if (conv.y) conv.y[pixel * conv.y_stride + o] = from_float<T>(value);
    if (conv.modulated) conv.modulated[pixel * conv.out_channels + o] = from_float<T>(value * conv.style[channel]);
  }
};

}  // namespace edgegrain
