// Twice the height and the width, of channels-last maps.
#pragma once

#include "number.h"

namespace edgegrain {

// [B, H, W, C] -> [B, 2H, 2W, C]: pixels repeated, or between half-pixel centres with the edges repeated outwards. An
// item: N channels of a pixel of x, which becomes a cell of 2 x 2.
template <class T, bool kBilinear, int N>
struct Upsample {
  const T* x;
  T* y;
  std::int32_t height, width;
  std::uint32_t groups;  // C / N

  EDGEGRAIN_HD void operator()(std::uint32_t item) const {
    const std::uint32_t c = item % groups * N, pixel = item / groups;
    const std::int32_t column = static_cast<std::int32_t>(pixel % width);
    const std::int32_t row = static_cast<std::int32_t>(pixel / width % height);
    const std::uint32_t b = pixel / width / height;
    const std::int64_t channels = static_cast<std::int64_t>(groups) * N;
    const std::int64_t line = static_cast<std::int64_t>(width) * channels;
    const T* const picture = x + b * (height * line) + c;
    float cell[2][2][N];
    if constexpr (kBilinear) {
      float across[3][2][N];
      EDGEGRAIN_UNROLL
      for (int i = 0; i < 3; ++i) {
        const T* const from = picture + inside(row + i - 1, height) * line;
        const auto left = Vector<T, N>::load(from + inside(column - 1, width) * channels);
        const auto middle = Vector<T, N>::load(from + column * channels);
        const auto right = Vector<T, N>::load(from + inside(column + 1, width) * channels);
        EDGEGRAIN_UNROLL
        for (int k = 0; k < N; ++k) {
          across[i][0][k] = 0.75f * middle[k] + 0.25f * left[k];
          across[i][1][k] = 0.75f * middle[k] + 0.25f * right[k];
        }
      }
      EDGEGRAIN_UNROLL
      for (int j = 0; j < 2; ++j) {
        EDGEGRAIN_UNROLL
        for (int k = 0; k < N; ++k) {
          cell[0][j][k] = 0.75f * across[1][j][k] + 0.25f * across[0][j][k];
          cell[1][j][k] = 0.75f * across[1][j][k] + 0.25f * across[2][j][k];
        }
      }
    } else {
      const auto read = Vector<T, N>::load(picture + row * line + column * channels);
      EDGEGRAIN_UNROLL
      for (int k = 0; k < N; ++k) cell[0][0][k] = cell[0][1][k] = cell[1][0][k] = cell[1][1][k] = read[k];
    }
    EDGEGRAIN_UNROLL
    for (int i = 0; i < 2; ++i) {
      T* const to = y + ((b * static_cast<std::int64_t>(height) + row) * 2 + i) * 2 * line + 2 * column * channels + c;
      store_floats(to, cell[i][0]);
      store_floats(to + channels, cell[i][1]);
    }
  }

  static EDGEGRAIN_HD std::int32_t inside(std::int32_t at, std::int32_t size) {
    return at < 0 ? 0 : at >= size ? size - 1 : at;
  }
};

}  // namespace edgegrain
