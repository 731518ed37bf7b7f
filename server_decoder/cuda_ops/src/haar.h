// The inverse Haar transform, doubled, of bands that are multiplied by a style first.
#pragma once

#include "bias_act.h"

namespace edgegrain {

// Bands [B, H, W, 4C], C channels of ll, b1 (between rows), b2 (between columns), b3 (between diagonals) one after
// another -> [B, 2H, 2W, C]. An item: N channels of a position, which become a cell of 2 x 2.
template <class T, int N>
struct InverseHaar {
  const T* x;          // [B, H, W, 4C]
  const float* style;  // [B, 4C] or null
  T* y;                // [B, 2H, 2W, C]
  float scale;         // of all bands
  std::uint32_t groups, height, width;  // C / N, H, W

  EDGEGRAIN_HD void operator()(std::uint32_t item) const {
    const std::uint32_t c = item % groups * N, pixel = item / groups;
    const std::uint32_t column = pixel % width, row = pixel / width % height, b = pixel / width / height;
    const std::int64_t channels = static_cast<std::int64_t>(groups) * N;
    float bands[4][N];
    EDGEGRAIN_UNROLL
    for (int band = 0; band < 4; ++band) {
      const auto read = Vector<T, N>::load(x + (static_cast<std::int64_t>(pixel) * 4 + band) * channels + c);
      float factors[N];
      load_factors(style ? style + (static_cast<std::int64_t>(b) * 4 + band) * channels + c : nullptr, factors);
      EDGEGRAIN_UNROLL
      for (int i = 0; i < N; ++i) bands[band][i] = read[i] * (factors[i] * scale);
    }
    float cell[4][N];
    EDGEGRAIN_UNROLL
    for (int i = 0; i < N; ++i) {
      const float ll = bands[0][i], b1 = bands[1][i], b2 = bands[2][i], b3 = bands[3][i];
      cell[0][i] = (ll + b1) + (b2 + b3);
      cell[1][i] = (ll + b1) - (b2 + b3);
      cell[2][i] = (ll - b1) + (b2 - b3);
      cell[3][i] = (ll - b1) - (b2 - b3);
    }
    T* const to = y + (((static_cast<std::int64_t>(b) * height + row) * 2 * width + column) * 2) * channels + c;
    const std::int64_t line = static_cast<std::int64_t>(width) * 2 * channels;
    store_floats(to, cell[0]);
    store_floats(to + channels, cell[1]);
    store_floats(to + line, cell[2]);
    store_floats(to + line + channels, cell[3]);
  }
};

}  // namespace edgegrain
