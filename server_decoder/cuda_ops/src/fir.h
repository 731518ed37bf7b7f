// StyleGAN2's separable filter of four taps.
//
// y[o] = sum over k of taps[3 - k] * x[o + k - pad], in both directions; x is zero outside of the map.
#pragma once

#include "bias_act.h"

namespace edgegrain {

constexpr int kTaps = 4;

// The filter and the tail of a layer. An item: N channels of kColumns x kRows pixels; rows are filtered as they come,
// four of them are kept. As in all kernels of maps, N > 1 needs C to be a multiple of N, and all maps and factors on
// multiples of 16 bytes.
template <class T, int N>
struct FilteredBiasAct {
  static constexpr int kRows = 8, kColumns = 2, kWindow = kColumns + kTaps - 1;

  const T* x;  // [B, H, W, C]
  Tail<T> tail;
  float horizontal[kTaps], vertical[kTaps];  // reversed; the gain is in them
  std::int32_t height, width, out_height, out_width, pad_x, pad_y;
  std::uint32_t groups, strips, bands;  // C / N, ceil(out_width / kColumns), ceil(out_height / kRows)

  EDGEGRAIN_HD void operator()(std::uint32_t item) const {
    const std::uint32_t c = item % groups * N, above = item / groups, strip = above % strips, rest = above / strips;
    const std::uint32_t band = rest % bands, b = rest / bands;
    const std::int32_t column = static_cast<std::int32_t>(strip) * kColumns - pad_x;  // of x, the window's first
    const std::int32_t top = static_cast<std::int32_t>(band) * kRows - pad_y;
    const bool inside = column >= 0 && column + kWindow <= width && top >= 0 && top + kRows + kTaps - 1 <= height &&
                        (strip + 1) * kColumns <= static_cast<std::uint32_t>(out_width) &&
                        (band + 1) * kRows <= static_cast<std::uint32_t>(out_height);
    if (inside) {
      filter<true>(b, c, strip, band, column, top);
    } else {
      filter<false>(b, c, strip, band, column, top);
    }
  }

  // kInside: all pixels that are read and written exist.
  template <bool kInside>
  EDGEGRAIN_HD void filter(std::uint32_t b, std::uint32_t c, std::uint32_t strip, std::uint32_t band,
                           std::int32_t column, std::int32_t top) const {
    const std::uint32_t channels = groups * N;
    const Channels<N> factors(tail, b, c, channels);
    const std::int64_t first = (static_cast<std::int64_t>(b) * height + top) * width + column;
    std::int64_t from = first * channels + c;
    float filtered[kTaps][kColumns][N];  // rows, by their number modulo 4
    EDGEGRAIN_UNROLL
    for (int r = 0; r < kRows + kTaps - 1; ++r, from += static_cast<std::int64_t>(width) * channels) {
      if (kInside || (top + r >= 0 && top + r < height)) {
        Vector<T, N> window[kWindow] = {};
        EDGEGRAIN_UNROLL
        for (int i = 0; i < kWindow; ++i) {
          if (kInside || (column + i >= 0 && column + i < width)) {
            window[i] = Vector<T, N>::load(x + from + static_cast<std::int64_t>(i) * channels);
          }
        }
        EDGEGRAIN_UNROLL
        for (int k = 0; k < N; ++k) {
          float values[kWindow];
          EDGEGRAIN_UNROLL
          for (int i = 0; i < kWindow; ++i) values[i] = window[i][k];
          EDGEGRAIN_UNROLL
          for (int i = 0; i < kColumns; ++i) {
            float sum = horizontal[0] * values[i];
            EDGEGRAIN_UNROLL
            for (int t = 1; t < kTaps; ++t) sum += horizontal[t] * values[i + t];
            filtered[r % kTaps][i][k] = sum;
          }
        }
      } else {
        EDGEGRAIN_UNROLL
        for (int i = 0; i < kColumns; ++i) {
          EDGEGRAIN_UNROLL
          for (int k = 0; k < N; ++k) filtered[r % kTaps][i][k] = 0.0f;
        }
      }
      const std::int32_t out_row = static_cast<std::int32_t>(band) * kRows + r - (kTaps - 1);
      if (r < kTaps - 1 || (!kInside && out_row >= out_height)) continue;
      const std::int64_t at = static_cast<std::int64_t>(out_row) * out_width + strip * kColumns;
      const std::int64_t offset = (b * (static_cast<std::int64_t>(out_height) * out_width) + at) * channels + c;
      EDGEGRAIN_UNROLL
      for (int i = 0; i < kColumns; ++i) {
        if (!kInside && static_cast<std::int32_t>(strip) * kColumns + i >= out_width) continue;
        float values[N];
        EDGEGRAIN_UNROLL
        for (int k = 0; k < N; ++k) {
          float sum = vertical[0] * filtered[(r + 1) % kTaps][i][k];
          EDGEGRAIN_UNROLL
          for (int t = 1; t < kTaps; ++t) sum += vertical[t] * filtered[(r + 1 + t) % kTaps][i][k];
          values[k] = sum;
        }
        finish(tail, factors, at + i, offset + static_cast<std::int64_t>(i) * channels, values);
      }
    }
  }
};

// Of x with a zero after every pixel: from a picture's resolution to the next. An item: a value of the output.
struct UpFirDn {
  const float* x;  // [B, H, W, C]
  float* y;
  float horizontal[kTaps], vertical[kTaps];  // reversed; the gain is in them
  std::int32_t height, width, out_height, out_width, pad_x, pad_y;
  std::uint32_t channels;

  EDGEGRAIN_HD void operator()(std::uint32_t item) const {
    const std::uint32_t c = item % channels, pixel = item / channels;
    const std::int32_t out_column = static_cast<std::int32_t>(pixel % out_width);
    const std::int32_t out_row = static_cast<std::int32_t>(pixel / out_width % out_height);
    const float* from = x + pixel / out_width / out_height * (static_cast<std::int64_t>(height) * width * channels) + c;
    float value = 0.0f;
    EDGEGRAIN_UNROLL
    for (int j = 0; j < kTaps; ++j) {
      const std::int32_t v = out_row + j - pad_y;
      if (v < 0 || v % 2 || v / 2 >= height) continue;
      float across = 0.0f;
      EDGEGRAIN_UNROLL
      for (int k = 0; k < kTaps; ++k) {
        const std::int32_t u = out_column + k - pad_x;
        if (u < 0 || u % 2 || u / 2 >= width) continue;
        across += horizontal[k] * from[(static_cast<std::int64_t>(v / 2) * width + u / 2) * channels];
      }
      value += vertical[j] * across;
    }
    y[item] = value;
  }
};

}  // namespace edgegrain
