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

// The offset of 16-byte column `column` of row `row` in a slice. Columns are exchanged so that the eight rows that
// ldmatrix reads at once, and those that eight threads write, lie in different banks.
__device__ __forceinline__ std::int32_t swizzled(std::int32_t row, std::int32_t column) {
  return row * 64 + ((column ^ (row >> 1 & 3)) * 16);
}

// A thread's copies: in every step a fixed piece of a slice, of rows that are kLoadRows apart.
//
// kChannelsFirst: slices are all kernel pixels of 32 channels, then of the next 32, so that neighbouring kernel pixels,
// which read mostly the same bytes of x, find them in L1. Else all channels of a kernel pixel come first, without gaps,
// whatever their number.
//
// Positions are kept in bytes and advanced by additions; 64-bit addresses are made of them with one multiply-add each.
template <class T, bool kChannelsFirst>
struct Loader {
  static_assert(!kChannelsFirst || (T::kWarpsK == 1 && T::kCopy == 16), "one slice of 32 channels a step");

  std::int32_t i = 0, j = 0, c;         // kernel pixel; channel
  std::uint32_t bit = 1;                // of the kernel pixel in `pixels`; 0 beyond the inner dimension
  const unsigned char* map;             // x or `more`
  std::int32_t step;                    // of a pixel of it
  std::int32_t skip;                    // from a window's first pixel
  std::int32_t origin[T::kLoadsM];      // the windows' first pixels; they may lie outside
  std::uint32_t pixels[T::kLoadsM];     // bit t: kernel pixel t of the window lies in x
  const unsigned char* filter;          // the first row
  std::int32_t filter_skip, filter_end;  // in it
  std::int32_t filter_step;             // from one row to the next
  std::uint32_t filters;                // bit k: row k is a filter
  std::uint32_t to;                     // in the first stage

  // `places` of the block's windows are in shared memory, and so are `stages`.
  __device__ __forceinline__ Loader(const Problem<Half>& problem, const unsigned char* places, std::uint32_t stages,
                                    std::int32_t picture, std::int32_t group, std::int32_t first_filter) {
    const Conv<Half>& conv = problem.conv;
    const std::int32_t column = threadIdx.x % (T::kPieces * T::kWarpsK), row = threadIdx.x / (T::kPieces * T::kWarpsK);
    const std::int32_t piece = column % T::kPieces, slice = column / T::kPieces;
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
    const std::int32_t inner = conv.kernel_height * conv.kernel_width * conv.channels;
    const std::int64_t first_row = static_cast<std::int64_t>(group) * problem.filters + first_filter + row;
    filter = reinterpret_cast<const unsigned char*>(conv.weight + picture * conv.weight_stride + first_row * inner);
    filter_step = T::kLoadRows * inner * 2;
    filter_end = 2 * inner;
    filters = 0;
    EDGEGRAIN_UNROLL
    for (int k = 0; k < T::kLoadsN; ++k) {
      const bool valid = row + k * T::kLoadRows < T::kN && first_filter + row + k * T::kLoadRows < problem.filters;
      filters |= static_cast<std::uint32_t>(valid) << k;
    }
    c = slice * T::kSlice + piece * T::kElements;
    filter_skip = 2 * c;
    to = stages + slice * T::kSliceM + swizzled(row, piece * T::kCopy / 16) + piece * T::kCopy % 16;
    ptx::keep(to);
    if constexpr (!kChannelsFirst) settle(conv);
    find(conv);
  }

  // Starts the copies of a stage and advances.
  __device__ __forceinline__ void load(const Conv<Half>& conv, std::uint32_t stage) {
    const unsigned char* from = map + skip;
    ptx::keep(from);  // else it is taken apart again, and all multiplications have 64 bits
    EDGEGRAIN_UNROLL
    for (int k = 0; k < T::kLoadsM; ++k) {
      ptx::copy_async<T::kCopy>(to + stage + k * T::kLoadRows * T::kRowBytes,
                                from + static_cast<std::int64_t>(origin[k]) * step, pixels[k] & bit);
    }
    const std::uint32_t rows = kChannelsFirst || filter_skip < filter_end ? filters : 0u;
    const std::int32_t slice = threadIdx.x % (T::kPieces * T::kWarpsK) / T::kPieces;
    const std::uint32_t to_filters = to + stage + T::kWarpsK * T::kSliceM + slice * (T::kSliceN - T::kSliceM);
    const unsigned char* row = filter + filter_skip;
    ptx::keep(row);
    EDGEGRAIN_UNROLL
    for (int k = 0; k < T::kLoadsN; ++k) {
      if (T::kN % T::kLoadRows != 0 && threadIdx.x / (T::kPieces * T::kWarpsK) >= T::kN) break;
      const unsigned char* address = row + static_cast<std::int64_t>(filter_step) * k;
      if constexpr (T::kCopy == 16) {
        ptx::copy_async_once(to_filters + k * T::kLoadRows * T::kRowBytes, address, rows >> k & 1u);
      } else {
        ptx::copy_async<T::kCopy>(to_filters + k * T::kLoadRows * T::kRowBytes, address, rows >> k & 1u);
      }
    }
    advance(conv);
  }

 private:
  __device__ __forceinline__ void advance(const Conv<Half>& conv) {
    if constexpr (kChannelsFirst) {
      bit <<= 1;
      skip += step;
      filter_skip += 2 * conv.channels;
      if (++j == conv.kernel_width) {
        j = 0;
        skip += (conv.width - conv.kernel_width) * step;
        if (++i == conv.kernel_height) {
          i = 0, bit = 1, c += T::kSlice;
          filter_skip += 2 * T::kSlice - filter_end;
          find(conv);
        }
      }
    } else {
      c += T::kSlice * T::kWarpsK;
      filter_skip += 2 * T::kSlice * T::kWarpsK;
      settle(conv);
      find(conv);
    }
  }

  // From a channel beyond the last to one of a later kernel pixel.
  __device__ __forceinline__ void settle(const Conv<Half>& conv) {
    while (c >= conv.channels && bit) {
      c -= conv.channels;
      bit <<= 1;
      if (++j == conv.kernel_width) {
        j = 0;
        if (++i == conv.kernel_height) bit = 0;
      }
    }
  }

  // The map that has channel c, and the place of kernel pixel (i, j) in it.
  __device__ __forceinline__ void find(const Conv<Half>& conv) {
    const bool second = conv.more && c >= conv.split;
    map = reinterpret_cast<const unsigned char*>(second ? conv.more : conv.x);
    step = 2 * static_cast<std::int32_t>(second ? conv.more_stride : conv.x_stride);
    skip = (i * conv.width + j) * step + 2 * (second ? c - conv.split : c);
  }
};

// The operands of one step of a warp: 16 elements of the inner dimension.
template <class T>
struct Fragments {
  std::uint32_t windows[T::kFragmentsM][4], filters[T::kFragmentsN / 2][4];

  // windows_at, filters_at: this lane's row in the warp's first fragment of a stage, in shared memory.
  __device__ __forceinline__ void load(std::uint32_t windows_at, std::uint32_t filters_at) {
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
  const std::uint32_t shared = ptx::shared_address(stages);
  Loader<T, kChannelsFirst> loader(problem, places, shared, picture_of(problem, tile), group, first_filter);

  const std::int32_t inner = conv.kernel_height * conv.kernel_width * conv.channels;
  const std::int32_t steps = (inner + T::kSlice * T::kWarpsK - 1) / (T::kSlice * T::kWarpsK);
  EDGEGRAIN_UNROLL
  for (int stage = 0; stage + 1 < T::kStages; ++stage) {
    if (stage < steps) loader.load(conv, stage * T::kStage);
    ptx::commit_copies();
  }

  const std::int32_t lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const std::int32_t warp_m = warp % T::kWarpsM, warp_n = warp / T::kWarpsM % T::kWarpsN;
  const std::int32_t warp_k = warp / (T::kWarpsM * T::kWarpsN);
  std::uint32_t windows_at = shared + warp_k * T::kSliceM + swizzled(warp_m * T::kWarpM + lane % 16, lane / 16);
  std::uint32_t filters_at = shared + T::kWarpsK * T::kSliceM + warp_k * T::kSliceN +
                             swizzled(warp_n * T::kWarpN + lane % 8 + lane / 16 * 8, lane / 8 % 2);
  ptx::keep(windows_at);  // else they are computed again in every step
  ptx::keep(filters_at);
  float sums[T::kFragmentsM][T::kFragmentsN][4] = {};
  Fragments<T> first, second;
  ptx::wait_copies<T::kStages - 2>();
  __syncthreads();
  first.load(windows_at, filters_at);
  std::uint32_t current = 0, next = (T::kStages - 1) * T::kStage;  // stages as offsets: multiplied now, loaded next
  for (std::int32_t step = 0; step < steps; ++step) {
    // The second half of a slice is two columns away, which is one bit of the swizzled address.
    second.load((windows_at + current) ^ 32, (filters_at + current) ^ 32);
    if (step + T::kStages - 1 < steps) loader.load(conv, next);
    ptx::commit_copies();
    first.multiply(sums);
    next = current;
    current = current + T::kStage == T::kStages * T::kStage ? 0 : current + T::kStage;
    ptx::wait_copies<T::kStages - 2>();
    __syncthreads();
    if (step + 1 < steps) first.load(windows_at + current, filters_at + current);
    second.multiply(sums);
  }
  ptx::wait_copies<0>();
  __syncthreads();
  store_tile<T>(problem, places, stages, group, first_filter, sums);
}

}  // namespace edgegrain
