// A convolution without tensor cores: float32, and channels that no copy of 4 bytes can move.
#pragma once

#include "conv_windows.h"
#include "ptx.h"

namespace edgegrain {

// A block of kThreads computes kM windows of kN filters, a thread kThreadM x kThreadN of them. Slices of kK elements of
// the inner dimension go through registers to shared memory, as float32; while one is multiplied, the next is read.
template <int M, int N, int ThreadM, int ThreadN>
struct SimtTile {
  static constexpr int kM = M, kN = N, kThreadM = ThreadM, kThreadN = ThreadN, kK = 16;
  static constexpr int kThreads = M / ThreadM * (N / ThreadN);
  static constexpr int kLoadRows = kThreads / kK, kLoadsM = M / kLoadRows, kLoadsN = (N + kLoadRows - 1) / kLoadRows;
  static constexpr int kRowM = M + 4, kRowN = N + 4;  // floats; the distance spreads columns over the banks
  static constexpr int kPlaces = M * static_cast<int>(sizeof(int2));
  static constexpr int kStage = kK * (kRowM + kRowN);  // floats
  static constexpr int kShared = kPlaces + 2 * kStage * static_cast<int>(sizeof(float));

  static_assert(M % kLoadRows == 0 && (N % kLoadRows == 0 || N < kLoadRows), "threads load whole rows");
  static_assert(ThreadM == 4 && (ThreadN == 2 || ThreadN == 4), "a thread reads its windows and filters at once");
};

template <class T, class S>
__global__ void __launch_bounds__(S::kThreads, 2) convolve_simt(const __grid_constant__ Problem<T> problem) {
  const Conv<T>& conv = problem.conv;
  unsigned char* const places = ptx::shared_memory();
  float* const stages = reinterpret_cast<float*>(places + S::kPlaces);
  const std::int32_t across = problem.groups * problem.filter_tiles;
  const std::int32_t tile = blockIdx.x / across, block_column = blockIdx.x % across;
  const std::int32_t group = block_column / problem.filter_tiles;
  const std::int32_t first_filter = block_column % problem.filter_tiles * S::kN;
  for (std::int32_t row = threadIdx.x; row < S::kM; row += S::kThreads) {
    ptx::store_shared(places + row * sizeof(int2), window_of<S::kM>(problem, tile, row));
  }
  __syncthreads();

  const std::int32_t picture = picture_of(problem, tile);
  const std::int32_t taps = conv.kernel_height * conv.kernel_width, inner = taps * conv.channels;
  const std::int32_t steps = (inner + S::kK - 1) / S::kK;
  const std::int32_t top = (group >> 1) * conv.shift - conv.pad_top, left = (group & 1) * conv.shift - conv.pad_left;
  const std::int32_t load_row = threadIdx.x / S::kK, load_k = threadIdx.x % S::kK;
  std::int32_t i = 0, j = 0, c = load_k;  // where this thread reads next: kernel pixel and channel
  float windows[S::kLoadsM], filters[S::kLoadsN];
  const auto read = [&] {
    while (c >= conv.channels && i < conv.kernel_height) {
      c -= conv.channels;
      if (++j == conv.kernel_width) j = 0, ++i;
    }
    const bool inside = i < conv.kernel_height;
    EDGEGRAIN_UNROLL
    for (int k = 0; k < S::kLoadsM; ++k) {
      const int2 place = ptx::load_shared<int2>(places + (load_row + k * S::kLoadRows) * sizeof(int2));
      const std::int32_t y = (place.y >> 16) * conv.stride + top + i, x = (place.y & 0xffff) * conv.stride + left + j;
      windows[k] = 0.0f;
      if (inside && place.x >= 0 && y >= 0 && y < conv.height && x >= 0 && x < conv.width) {
        const std::int64_t pixel = (static_cast<std::int64_t>(place.x) * conv.height + y) * conv.width + x;
        const bool second = c >= conv.split;
        windows[k] = to_float(*(second ? conv.more + (pixel * conv.more_stride + c - conv.split)
                                       : conv.x + (pixel * conv.x_stride + c)));
      }
    }
    EDGEGRAIN_UNROLL
    for (int k = 0; k < S::kLoadsN; ++k) {
      const std::int32_t row = load_row + k * S::kLoadRows, filter = first_filter + row;
      filters[k] = 0.0f;
      if (inside && row < S::kN && filter < problem.filters) {
        const std::int64_t at = static_cast<std::int64_t>(group) * problem.filters + filter;
        const std::int64_t place = picture * conv.weight_stride + at * inner;
        filters[k] = to_float(conv.weight[place + (i * conv.kernel_width + j) * conv.channels + c]);
      }
    }
    c += S::kK;
  };
  const auto write = [&](float* stage) {
    EDGEGRAIN_UNROLL
    for (int k = 0; k < S::kLoadsM; ++k) {
      ptx::store_shared(stage + load_k * S::kRowM + load_row + k * S::kLoadRows, windows[k]);
    }
    EDGEGRAIN_UNROLL
    for (int k = 0; k < S::kLoadsN; ++k) {
      const std::int32_t row = load_row + k * S::kLoadRows;
      if (row < S::kN) ptx::store_shared(stage + S::kK * S::kRowM + load_k * S::kRowN + row, filters[k]);
    }
  };

  constexpr int kAcross = S::kN / S::kThreadN;
  const std::int32_t thread_n = threadIdx.x % kAcross * S::kThreadN, thread_m = threadIdx.x / kAcross * S::kThreadM;
  float sums[S::kThreadM][S::kThreadN] = {};
  read();
  for (std::int32_t step = 0; step < steps; ++step) {
    float* const stage = stages + step % 2 * S::kStage;
    write(stage);
    __syncthreads();  // the other stage is written after it, by when all have multiplied it
    if (step + 1 < steps) read();
    EDGEGRAIN_UNROLL
    for (int k = 0; k < S::kK; ++k) {
      const float4 a = ptx::load_shared<float4>(stage + k * S::kRowM + thread_m);
      const float* const row = stage + S::kK * S::kRowM + k * S::kRowN + thread_n;
      float b[S::kThreadN];
      if constexpr (S::kThreadN == 4) {
        const float4 four = ptx::load_shared<float4>(row);
        b[0] = four.x, b[1] = four.y, b[2] = four.z, b[3] = four.w;
      } else {
        const float2 two = ptx::load_shared<float2>(row);
        b[0] = two.x, b[1] = two.y;
      }
      EDGEGRAIN_UNROLL
      for (int n = 0; n < S::kThreadN; ++n) {
        sums[0][n] += a.x * b[n], sums[1][n] += a.y * b[n], sums[2][n] += a.z * b[n], sums[3][n] += a.w * b[n];
      }
    }
  }
  EDGEGRAIN_UNROLL
  for (int m = 0; m < S::kThreadM; ++m) {
    const int2 window = ptx::load_shared<int2>(places + (thread_m + m) * sizeof(int2));
    if (window.x >= 0) finish_run(problem, window, group, first_filter + thread_n, sums[m]);
  }
}

}  // namespace edgegrain
