// The inverse Haar transform, doubled, of bands that are multiplied by a style first.
#pragma once

#include "number.h"

namespace edgegrain {

// Bands [B, 4C, H, W], C channels of ll, b1 (between rows), b2 (between columns), b3 (between diagonals) one after
// another -> [B, C, 2H, 2W]. An item: N neighbouring positions, which become N cells of 2 x 2. N > 1 needs W to be a
// multiple of N and both tensors on multiples of 16 bytes.
template <class T, int N>
struct InverseHaar {
  const T* x;          // [B, 4C, H, W]
  const float* style;  // [B, 4C] or null
  T* y;                // [B, C, 2H, 2W]
  float scale;         // of all bands
  std::uint32_t channels, height, strips;  // C, H, W / N

  EDGEGRAIN_HD void operator()(std::uint32_t item) const {
    const std::uint32_t strip = item % strips, above = item / strips;
    const std::uint32_t row = above % height, rest = above / height;
    const std::uint32_t c = rest % channels, b = rest / channels;
    const std::int64_t width = static_cast<std::int64_t>(strips) * N, plane = width * height;
    const std::int64_t first = static_cast<std::int64_t>(b) * 4 * channels + c;  // of [B, 4C], the ll band
    const T* from = x + first * plane + row * width + static_cast<std::int64_t>(strip) * N;
    Vector<T, N> bands[4];
    float factors[4];
    EDGEGRAIN_UNROLL
    for (int band = 0; band < 4; ++band) {
      const std::int64_t skip = static_cast<std::int64_t>(band) * channels;
      bands[band] = Vector<T, N>::load(from + skip * plane);
      factors[band] = style ? style[first + skip] * scale : scale;
    }
    float upper[2 * N], lower[2 * N];
    EDGEGRAIN_UNROLL
    for (int i = 0; i < N; ++i) {
      const float ll = bands[0][i] * factors[0], b1 = bands[1][i] * factors[1];
      const float b2 = bands[2][i] * factors[2], b3 = bands[3][i] * factors[3];
      upper[2 * i] = (ll + b1) + (b2 + b3);
      upper[2 * i + 1] = (ll + b1) - (b2 + b3);
      lower[2 * i] = (ll - b1) + (b2 - b3);
      lower[2 * i + 1] = (ll - b1) - (b2 - b3);
    }
    T* to = y + ((static_cast<std::int64_t>(b) * channels + c) * 2 * height + 2 * row) * 2 * width +
            static_cast<std::int64_t>(strip) * 2 * N;
    write(to, upper);
    write(to + 2 * width, lower);
  }

  static EDGEGRAIN_HD void write(T* to, const float (&values)[2 * N]) {
    EDGEGRAIN_UNROLL
    for (int half = 0; half < 2; ++half) {
      float part[N];
      EDGEGRAIN_UNROLL
      for (int i = 0; i < N; ++i) part[i] = values[half * N + i];
      store_floats(to + half * N, part);
    }
  }
};

}  // namespace edgegrain
