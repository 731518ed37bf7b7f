// Depthwise convolutions on the GPU: one filter per channel. They are bound by memory.
#pragma once

#include "conv_epilogue.h"
#include "ptx.h"

namespace edgegrain {

// 3 x 3 with stride 1. A thread computes kWide<T> channels of kRows pixels of a column: every row of x is read for
// three rows of y, and neighbouring threads read neighbouring channels. Needs 16-byte alignment of x, weight and
// is_wide_output.
template <class T>
struct Depthwise3x3 {
  static constexpr int kRows = 8, kThreads = 128, kSide = 3, kTaps = kSide * kSide;

  Conv<T> conv;
  std::int32_t runs, bands;  // C / kWide<T>, ceil(rows / kRows)

  __device__ __forceinline__ void operator()(std::uint32_t item) const {
    constexpr int kRun = kWide<T>;
    const std::uint32_t left = item / runs, above = left / conv.columns;
    const std::int32_t o = item % runs * kRun, m = left % conv.columns;
    const std::int32_t n = above % bands * kRows, b = above / bands;
    std::uint32_t weights[kTaps * 4];  // kRun channels of kTaps elements, as they lie in memory
    EDGEGRAIN_UNROLL
    for (int k = 0; k < kTaps; ++k) {
      const Words read = load_words(conv.weight + static_cast<std::int64_t>(o) * kTaps + k * kRun);
      EDGEGRAIN_UNROLL
      for (int i = 0; i < 4; ++i) weights[4 * k + i] = read.words[i];
    }
    float sums[kRows][kRun] = {};
    EDGEGRAIN_UNROLL
    for (int j = 0; j < kSide; ++j) {
      const std::int32_t column = m - conv.pad_left + j;
      if (column < 0 || column >= conv.width) continue;
      float factors[kSide][kRun];
      EDGEGRAIN_UNROLL
      for (int i = 0; i < kSide; ++i) {
        EDGEGRAIN_UNROLL
        for (int k = 0; k < kRun; ++k) factors[i][k] = element<T>(weights, k * kTaps + i * kSide + j);
      }
      const std::int32_t top = n - conv.pad_top;
      const T* from = conv.x + ((static_cast<std::int64_t>(b) * conv.height + top) * conv.width + column) *
                                   conv.x_stride + o;
      const std::int64_t row_step = conv.width * conv.x_stride;
      EDGEGRAIN_UNROLL
      for (int r = 0; r < kRows + kSide - 1; ++r, from += row_step) {
        if (top + r < 0 || top + r >= conv.height) continue;
        float pixel[kRun];
        Run<T, kRun>::load(from, pixel);
        EDGEGRAIN_UNROLL
        for (int i = 0; i < kSide; ++i) {
          if (r - i < 0 || r - i >= kRows) continue;
          EDGEGRAIN_UNROLL
          for (int k = 0; k < kRun; ++k) sums[r - i][k] += pixel[k] * factors[i][k];
        }
      }
    }
    EDGEGRAIN_UNROLL
    for (int r = 0; r < kRows; ++r) {
      if (n + r < conv.rows) finish_channels(conv, b, n + r, m, o, sums[r]);
    }
  }
};

// Any kernel, stride and number of channels; a thread computes one channel of a pixel.
template <class T>
struct DepthwiseAny {
  static constexpr int kThreads = 256;

  Conv<T> conv;

  __device__ __forceinline__ void operator()(std::uint32_t item) const {
    const std::uint32_t left = item / conv.out_channels, above = left / conv.columns;
    const std::int32_t o = item % conv.out_channels, m = left % conv.columns, n = above % conv.rows;
    const std::int32_t b = above / conv.rows;
    const T* weight = conv.weight + static_cast<std::int64_t>(o) * conv.kernel_height * conv.kernel_width;
    float sum[1] = {};
    for (std::int32_t i = 0; i < conv.kernel_height; ++i) {
      const std::int32_t row = n * conv.stride - conv.pad_top + i;
      if (row < 0 || row >= conv.height) continue;
      for (std::int32_t j = 0; j < conv.kernel_width; ++j) {
        const std::int32_t column = m * conv.stride - conv.pad_left + j;
        if (column < 0 || column >= conv.width) continue;
        const std::int64_t pixel = (static_cast<std::int64_t>(b) * conv.height + row) * conv.width + column;
        sum[0] += to_float(conv.x[pixel * conv.x_stride + o]) * to_float(weight[i * conv.kernel_width + j]);
      }
    }
    finish_channels(conv, b, n, m, o, sum);
  }
};

template <class Kernel>
__global__ void __launch_bounds__(Kernel::kThreads)
    convolve_depthwise(const __grid_constant__ Kernel kernel, const std::uint32_t items) {
  const std::uint32_t item = blockIdx.x * Kernel::kThreads + threadIdx.x;
  if (item < items) kernel(item);
}

}  // namespace edgegrain
