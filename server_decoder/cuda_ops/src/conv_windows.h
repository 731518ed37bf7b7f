// A convolution as a matrix product, for the kernels that compute it in tiles: its rows are windows of x, its columns
// filters.
#pragma once

#include "conv_epilogue.h"

namespace edgegrain {

template <class T>
struct Problem {
  Conv<T> conv;
  std::int32_t groups;        // 4 where the phases have windows of their own, else 1
  std::int32_t filters;       // of a group: O, or 4 O where one window serves all phases
  std::int32_t filter_tiles;  // blocks across the filters of a group
  std::int32_t tile_width;    // a block's windows are so many columns of several rows; 0: windows in reading order
  std::int32_t tiles_x, tiles_y;
  bool wide;                  // is_wide_output
};

// Rows and columns of windows share a word in shared memory.
constexpr std::int32_t kLargestSide = 32000;

// Window `row` of the kM of a tile: its picture (-1 where there is none), and row * 2^16 + column.
template <int kM, class T>
__device__ __forceinline__ int2 window_of(const Problem<T>& problem, std::int32_t tile, std::int32_t row) {
  const Conv<T>& conv = problem.conv;
  std::int32_t b, n, m;
  if (problem.tile_width) {
    const std::int32_t above = tile / problem.tiles_x;
    b = above / problem.tiles_y;
    n = above % problem.tiles_y * (kM / problem.tile_width) + row / problem.tile_width;
    m = tile % problem.tiles_x * problem.tile_width + row % problem.tile_width;
    if (n >= conv.rows || m >= conv.columns) b = -1;
  } else {
    const std::int64_t window = static_cast<std::int64_t>(tile) * kM + row, above = window / conv.columns;
    b = static_cast<std::int32_t>(above / conv.rows);
    n = static_cast<std::int32_t>(above % conv.rows);
    m = static_cast<std::int32_t>(window % conv.columns);
    if (b >= conv.batch) b = -1;
  }
  return make_int2(b, n << 16 | m);
}

// The picture of all windows of a tile; 0 where filters are shared, and a tile may have windows of several pictures.
template <class T>
__device__ __forceinline__ std::int32_t picture_of(const Problem<T>& problem, std::int32_t tile) {
  return problem.conv.weight_stride ? tile / problem.tiles_x / problem.tiles_y : 0;
}

// The pixel of y that window (row, column) makes in phase 0...3. False where `crop` leaves it out.
template <class T>
__device__ __forceinline__ bool place(const Conv<T>& conv, std::int32_t phase, std::int32_t& row,
                                      std::int32_t& column) {
  if (conv.shuffle == 2) {
    row = 2 * row + (phase >> 1);
    column = 2 * column + (phase & 1);
  }
  return row < conv.out_height && column < conv.out_width;
}

// Sums of a window and of kCount filters from `filter` on; some may be beyond the group's last. The filters of a phase
// are a multiple of kWide<T> where the output is wide.
template <class T, int kCount>
__device__ __forceinline__ void finish_run(const Problem<T>& problem, int2 window, std::int32_t group,
                                           std::int32_t filter, float (&values)[kCount]) {
  const Conv<T>& conv = problem.conv;
  const bool phases = conv.shuffle == 2 && problem.groups == 1;
  if constexpr (kCount == kWide<T>) {
    if (problem.wide) {
      const std::int32_t phase = phases ? filter / conv.out_channels : group;
      std::int32_t row = window.y >> 16, column = window.y & 0xffff;
      if (filter < problem.filters && place(conv, phase, row, column)) {
        finish_channels(conv, window.x, row, column, phases ? filter % conv.out_channels : filter, values);
      }
      return;
    }
  }
#pragma unroll 1
  for (int i = 0; i < kCount && filter + i < problem.filters; ++i) {
    const std::int32_t phase = phases ? (filter + i) / conv.out_channels : group;
    const std::int32_t o = phases ? (filter + i) % conv.out_channels : filter + i;
    std::int32_t row = window.y >> 16, column = window.y & 0xffff;
    float value[1] = {values[0]};
    EDGEGRAIN_UNROLL
    for (int k = 0; k + 1 < kCount; ++k) values[k] = values[k + 1];  // constant indices keep them in registers
    if (place(conv, phase, row, column)) finish_channels(conv, window.x, row, column, o, value);
  }
}

}  // namespace edgegrain
