// A convolution of halves on tensor cores, as the product of two matrices: windows of x (rows) times filters (columns).
//
// A block computes kM windows of kN filters. Their inner dimension, kernel pixels times channels, is cut into slices of
// 32 elements (64 bytes). Copies of the next slices run while the warps multiply the current ones; what lies outside of
// x, of the filters, or of the inner dimension is zeros. Where a map has too few windows for all multiprocessors, the
// warps of a block share its inner dimension (kWarpsK) and add their sums at the end, always in the same order.
#pragma once

#include "conv_windows.h"
#include "ptx.h"

namespace edgegrain {

// kCopy: bytes of a copy. 16 if C and the stride of x are multiples of 8; 8 and 4 if they are multiples of 4 and 2.
// kBlocks: blocks that a multiprocessor shall hold, which bounds the registers.
template <int M, int N, int WarpsM, int WarpsN, int WarpsK, int Stages, int Copy, int Blocks>
struct Tile {
  static constexpr int kM = M, kN = N, kWarpsM = WarpsM, kWarpsN = WarpsN, kWarpsK = WarpsK, kStages = Stages;
  static constexpr int kCopy = Copy, kBlocks = Blocks;
  static constexpr int kThreads = 32 * WarpsM * WarpsN * WarpsK;
  static constexpr int kWarpM = M / WarpsM, kWarpN = N / WarpsN;        // windows and filters of a warp
  static constexpr int kFragmentsM = kWarpM / 16, kFragmentsN = kWarpN / 8;
  static constexpr int kSlice = 32, kRowBytes = 2 * kSlice;             // of the inner dimension
  static constexpr int kElements = Copy / 2, kPieces = kRowBytes / Copy;  // halves of a copy, copies of a slice's row
  static constexpr int kLoadRows = kThreads / (kPieces * WarpsK);       // rows that the threads load at once
  static constexpr int kLoadsM = M / kLoadRows, kLoadsN = (N + kLoadRows - 1) / kLoadRows;
  static constexpr int kSliceM = M * kRowBytes, kSliceN = N * kRowBytes;  // bytes
  static constexpr int kStage = WarpsK * (kSliceM + kSliceN);
  static constexpr int kSumRow = N + 8;  // floats; the distance keeps rows in different banks
  static constexpr int kPlaces = M * static_cast<int>(sizeof(int2));
  static constexpr int kSums = WarpsK * M * kSumRow * static_cast<int>(sizeof(float));
  // The sums replace the slices, of all rows of warps at once or of one after the other.
  static constexpr bool kAtOnce = kSums <= Stages * kStage;
  static constexpr int kBand = kAtOnce ? M : kWarpM;
  static constexpr int kShared = kPlaces + Stages * kStage;

  static_assert(kWarpM % 16 == 0 && kWarpN % 16 == 0, "warps multiply 16 x 16 at least");
  static_assert(M % kLoadRows == 0 && kLoadRows % 8 == 0, "all threads load, from rows of the same swizzle");
  static_assert(N % kLoadRows == 0 || N < kLoadRows, "a thread loads whole rows of filters");
  static_assert(kAtOnce || (WarpsK == 1 && kWarpM * kSumRow * 4 <= Stages * kStage), "the sums fit");
  static_assert(kShared <= 99 << 10, "devices of compute capability 8.6 and 8.9 give a block 99 KiB");
};

// Where a thread's copies of windows or filters go next in the inner dimension. kChannelsFirst: all kernel pixels of 32
// channels, then the next 32: neighbouring kernel pixels read mostly the same bytes of x, which L1 still holds. Else all
// channels of a kernel pixel first, without gaps, whatever their number.
template <bool kChannelsFirst>
struct InnerPosition {
  std::int32_t i = 0, j = 0, c;  // kernel pixel; channel

  __device__ __forceinline__ InnerPosition(const Conv<Half>& conv, std::int32_t slice, std::int32_t within) {
    if constexpr (kChannelsFirst) {
      c = within;
      step_pixels(conv, slice);
    } else {
      c = within + 32 * slice;
      settle(conv);
    }
  }

  __device__ __forceinline__ void advance(const Conv<Half>& conv, std::int32_t slices) {
    if constexpr (kChannelsFirst) {
      step_pixels(conv, slices);
    } else {
      c += 32 * slices;
      settle(conv);
    }
  }

  __device__ __forceinline__ bool inside(const Conv<Half>& conv) const {
    return kChannelsFirst ? c < conv.channels : i < conv.kernel_height;
  }

 private:
  __device__ __forceinline__ void step_pixels(const Conv<Half>& conv, std::int32_t pixels) {
    for (j += pixels; j >= conv.kernel_width;) {
      j -= conv.kernel_width;
      if (++i == conv.kernel_height) i = 0, c += 32;
    }
  }

  __device__ __forceinline__ void settle(const Conv<Half>& conv) {
    while (c >= conv.channels && i < conv.kernel_height) {
      c -= conv.channels;
      if (++j == conv.kernel_width) j = 0, ++i;
    }
  }
};

// The offset of 16-byte column `column` of row `row` in a slice. Columns are exchanged so that the eight rows that
// ldmatrix reads at once, and those that eight threads write, lie in different banks.
__device__ __forceinline__ std::int32_t swizzled(std::int32_t row, std::int32_t column) {
  return row * 64 + ((column ^ (row >> 1 & 3)) * 16);
}

// A thread's copies of one slice per step: a fixed piece of rows that are kLoadRows apart.
template <class T, bool kChannelsFirst>
struct Loader {
  InnerPosition<kChannelsFirst> position;
  std::int32_t origin[T::kLoadsM];   // the windows' first pixels in x; may lie outside
  std::uint32_t pixels[T::kLoadsM];  // bit t: kernel pixel t of the window lies in x
  std::int32_t filter;               // of the first row, in copies; rows are `filter_step` apart
  std::int32_t filter_step;
  std::int32_t last_row;             // rows below this one are filters
  std::int32_t to;                   // in a stage
  bool loads_filters;

  // `places` of the block's windows are in shared memory.
  __device__ __forceinline__ Loader(const Problem<Half>& problem, const unsigned char* places, std::int32_t picture,
                                    std::int32_t group, std::int32_t first_filter)
      : position(problem.conv, slice(), piece() * T::kElements) {
    const Conv<Half>& conv = problem.conv;
    const std::int32_t row = first_row();
    const std::int32_t top = (group >> 1) * conv.shift - conv.pad_top, left = (group & 1) * conv.shift - conv.pad_left;
    EDGEGRAIN_UNROLL
    for (int k = 0; k < T::kLoadsM; ++k) {
      const int2 place = ptx::load_shared<int2>(places + (row + k * T::kLoadRows) * sizeof(int2));
      const std::int32_t y = (place.y >> 16) * conv.stride + top, x = (place.y & 0xffff) * conv.stride + left;
      origin[k] = (place.x * conv.height + y) * conv.width + x;
      pixels[k] = 0;
      for (std::int32_t i = 0, t = 0; i < conv.kernel_height; ++i) {
        for (std::int32_t j = 0; j < conv.kernel_width; ++j, ++t) {
          const bool inside = y + i >= 0 && y + i < conv.height && x + j >= 0 && x + j < conv.width;
          pixels[k] |= static_cast<std::uint32_t>(inside && place.x >= 0) << t;
        }
      }
    }
    const std::int32_t inner = conv.kernel_height * conv.kernel_width * (conv.channels / T::kElements);
    filter = (group * problem.filters + first_filter + row) * inner +
             picture * static_cast<std::int32_t>(conv.weight_stride / T::kElements);
    filter_step = T::kLoadRows * inner;
    last_row = problem.filters - first_filter;
    to = slice() * T::kSliceM + swizzled(row, piece() * T::kCopy / 16) + piece() * T::kCopy % 16;
    loads_filters = T::kN % T::kLoadRows == 0 || row < T::kN;
  }

  static __device__ __forceinline__ std::int32_t column() { return threadIdx.x % (T::kPieces * T::kWarpsK); }
  static __device__ __forceinline__ std::int32_t piece() { return column() % T::kPieces; }
  static __device__ __forceinline__ std::int32_t slice() { return column() / T::kPieces; }
  static __device__ __forceinline__ std::int32_t first_row() { return threadIdx.x / (T::kPieces * T::kWarpsK); }

  // Starts the copies of a stage and advances.
  __device__ __forceinline__ void load(const Conv<Half>& conv, unsigned char* stage) {
    const bool inside = position.inside(conv);
    const std::int32_t pixel = position.i * conv.kernel_width + position.j;
    const bool second = conv.more && position.c >= conv.split;
    const std::int32_t step = static_cast<std::int32_t>(second ? conv.more_stride : conv.x_stride);
    const std::int32_t c = second ? position.c - conv.split : position.c;
    const Half* const x =
        (second ? conv.more : conv.x) + static_cast<std::int64_t>(position.i * conv.width + position.j) * step + c;
    const std::uint32_t bit = inside ? 1u << pixel : 0u;
    EDGEGRAIN_UNROLL
    for (int k = 0; k < T::kLoadsM; ++k) {
      const bool valid = pixels[k] & bit;
      const Half* from = x + static_cast<std::int64_t>(origin[k]) * step;
      ptx::copy_async<T::kCopy>(stage + to + k * T::kLoadRows * T::kRowBytes, from, valid);
    }
    if (loads_filters) {
      const std::int32_t at = filter + (pixel * conv.channels + position.c) / T::kElements;
      unsigned char* filters = stage + T::kWarpsK * T::kSliceM + to + slice() * (T::kSliceN - T::kSliceM);
      EDGEGRAIN_UNROLL
      for (int k = 0; k < T::kLoadsN; ++k) {
        const bool valid = inside && first_row() + k * T::kLoadRows < last_row;
        const Half* from = conv.weight + static_cast<std::int64_t>(at + k * filter_step) * T::kElements;
        if constexpr (T::kCopy == 16) {
          ptx::copy_async_once(filters + k * T::kLoadRows * T::kRowBytes, from, valid);
        } else {
          ptx::copy_async<T::kCopy>(filters + k * T::kLoadRows * T::kRowBytes, from, valid);
        }
      }
    }
    position.advance(conv, T::kWarpsK);
  }
};

// What a warp multiplies at once: 16 elements of the inner dimension.
template <class T>
struct Fragments {
  std::uint32_t windows[T::kFragmentsM][4], filters[T::kFragmentsN / 2][4];

  // windows_at, filters_at: this lane's row in the warp's first fragment of a stage.
  __device__ __forceinline__ void load(const unsigned char* windows_at, const unsigned char* filters_at) {
    EDGEGRAIN_UNROLL
    for (int i = 0; i < T::kFragmentsM; ++i) ptx::load_matrices(windows[i], windows_at + i * 16 * T::kRowBytes);
    EDGEGRAIN_UNROLL
    for (int i = 0; i < T::kFragmentsN / 2; ++i) ptx::load_matrices(filters[i], filters_at + i * 16 * T::kRowBytes);
  }

  __device__ __forceinline__ void multiply(float (&sums)[T::kFragmentsM][T::kFragmentsN][4]) const {
    EDGEGRAIN_UNROLL
    for (int i = 0; i < T::kFragmentsM; ++i) {
      EDGEGRAIN_UNROLL
      for (int j = 0; j < T::kFragmentsN; ++j) {
        ptx::multiply_add(sums[i][j], windows[i], filters[j / 2][j % 2 * 2], filters[j / 2][j % 2 * 2 + 1]);
      }
    }
  }
};

// The block's sums, through shared memory, to y: neighbouring threads finish neighbouring channels.
template <class T>
__device__ __forceinline__ void store_tile(const Problem<Half>& problem, const unsigned char* places,
                                           unsigned char* memory, std::int32_t group, std::int32_t first_filter,
                                           const float (&sums)[T::kFragmentsM][T::kFragmentsN][4]) {
  constexpr int kRun = kWide<Half>, kRuns = T::kN / kRun;
  const std::int32_t lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const std::int32_t warp_m = warp % T::kWarpsM, warp_n = warp / T::kWarpsM % T::kWarpsN;
  const std::int32_t warp_k = warp / (T::kWarpsM * T::kWarpsN);
  float* shared = reinterpret_cast<float*>(memory);
  for (int band = 0; band < T::kM / T::kBand; ++band) {
    if (T::kAtOnce || warp_m == band) {
      const std::int32_t first = warp_k * T::kM + (T::kAtOnce ? warp_m * T::kWarpM : 0) + lane / 4;
      EDGEGRAIN_UNROLL
      for (int i = 0; i < T::kFragmentsM; ++i) {
        EDGEGRAIN_UNROLL
        for (int j = 0; j < T::kFragmentsN; ++j) {
          float* to = shared + (first + i * 16) * T::kSumRow + warp_n * T::kWarpN + j * 8 + lane % 4 * 2;
          ptx::store_shared(to, make_float2(sums[i][j][0], sums[i][j][1]));
          ptx::store_shared(to + 8 * T::kSumRow, make_float2(sums[i][j][2], sums[i][j][3]));
        }
      }
    }
    __syncthreads();
    for (std::int32_t run = threadIdx.x; run < T::kBand * kRuns; run += T::kThreads) {
      const std::int32_t row = run / kRuns, filter = first_filter + run % kRuns * kRun;
      const int2 window = ptx::load_shared<int2>(places + (band * T::kBand + row) * sizeof(int2));
      if (window.x < 0 || filter >= problem.filters) continue;
      float values[kRun] = {};
      EDGEGRAIN_UNROLL
      for (int k = 0; k < T::kWarpsK; ++k) {
        EDGEGRAIN_UNROLL
        for (int i = 0; i < kRun; i += 4) {
          const float4 read =
              ptx::load_shared<float4>(shared + (k * T::kM + row) * T::kSumRow + run % kRuns * kRun + i);
          values[i] += read.x, values[i + 1] += read.y, values[i + 2] += read.z, values[i + 3] += read.w;
        }
      }
      finish_run(problem, window, group, filter, values);
    }
    if (band + 1 < T::kM / T::kBand) __syncthreads();
  }
}

template <class T, bool kChannelsFirst>
__global__ void __launch_bounds__(T::kThreads, T::kBlocks)
    convolve_on_tensor_cores(const __grid_constant__ Problem<Half> problem) {
  const Conv<Half>& conv = problem.conv;
  unsigned char* const places = ptx::shared_memory();
  unsigned char* const stages = places + T::kPlaces;
  // Blocks of the same windows follow one another: the windows stay in L2.
  const std::int32_t across = problem.groups * problem.filter_tiles;
  const std::int32_t tile = blockIdx.x / across, column = blockIdx.x % across;
  const std::int32_t group = column / problem.filter_tiles, first_filter = column % problem.filter_tiles * T::kN;
  for (std::int32_t row = threadIdx.x; row < T::kM; row += T::kThreads) {
    ptx::store_shared(places + row * sizeof(int2), window_of<T::kM>(problem, tile, row));
  }
  __syncthreads();
  Loader<T, kChannelsFirst> loader(problem, places, picture_of(problem, tile), group, first_filter);

  const std::int32_t inner = conv.kernel_height * conv.kernel_width * conv.channels;
  const std::int32_t steps = (inner + T::kSlice * T::kWarpsK - 1) / (T::kSlice * T::kWarpsK);
  EDGEGRAIN_UNROLL
  for (int stage = 0; stage + 1 < T::kStages; ++stage) {
    if (stage < steps) loader.load(conv, stages + stage * T::kStage);
    ptx::commit_copies();
  }

  const std::int32_t lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const std::int32_t warp_m = warp % T::kWarpsM, warp_n = warp / T::kWarpsM % T::kWarpsN;
  const std::int32_t warp_k = warp / (T::kWarpsM * T::kWarpsN);
  const std::int32_t windows_at =
      warp_k * T::kSliceM + swizzled(warp_m * T::kWarpM + lane % 16, lane / 16);
  const std::int32_t filters_at = T::kWarpsK * T::kSliceM + warp_k * T::kSliceN +
                                  swizzled(warp_n * T::kWarpN + lane % 8 + lane / 16 * 8, lane / 8 % 2);
  float sums[T::kFragmentsM][T::kFragmentsN][4] = {};
  Fragments<T> first, second;
  ptx::wait_copies<T::kStages - 2>();
  __syncthreads();
  first.load(stages + windows_at, stages + filters_at);
  std::int32_t current = 0, next = (T::kStages - 1) * T::kStage;  // stages as offsets: multiplied now, loaded next
  for (std::int32_t step = 0; step < steps; ++step) {
    // The second half of a slice is two columns away, which is one bit of the swizzled offset.
    second.load(stages + current + (windows_at ^ 32), stages + current + (filters_at ^ 32));
    if (step + T::kStages - 1 < steps) loader.load(conv, stages + next);
    ptx::commit_copies();
    first.multiply(sums);
    next = current;
    current = current + T::kStage == T::kStages * T::kStage ? 0 : current + T::kStage;
    ptx::wait_copies<T::kStages - 2>();
    __syncthreads();
    if (step + 1 < steps) first.load(stages + current + windows_at, stages + current + filters_at);
    second.multiply(sums);
  }
  ptx::wait_copies<0>();
  __syncthreads();
  store_tile<T>(problem, places, stages, group, first_filter, sums);
}

}  // namespace edgegrain
