// The filters of fir.h for channels-last maps.
#pragma once

#include "bias_act_nhwc.h"
#include "fir.h"

namespace edgegrain {

// Without up- and downsampling. An item: N channels of kColumns x kRows pixels; rows are filtered as they come, four of
// them are kept.
template <class T, bool kTail, int N>
struct FirNhwc {
  static constexpr int kRows = 8, kColumns = 2, kWindow = kColumns + kTaps - 1;

  const T* x;    // [B, H, W, C]
  Tail<T> tail;  // without kTail: only tail.plain counts
  float horizontal[kTaps], vertical[kTaps];  // reversed; the gain is in them
  std::int32_t height, width, out_height, out_width, pad_x, pad_y;
  std::uint32_t groups, strips, bands;  // C / N, ceil(out_width / kColumns), ceil(out_height / kRows)

  EDGEGRAIN_HD void operator()(std::uint32_t item) const {
    const std::uint32_t c = item % groups * N, above = item / groups, strip = above % strips, rest = above / strips;
    const std::uint32_t band = rest % bands, b = rest / bands;
    const std::int32_t column = static_cast<std::int32_t>(strip) * kColumns - pad_x;  // of x, the window's first
    const std::int32_t top = static_cast<std::int32_t>(band) * kRows - pad_y;
    const std::int64_t channels = static_cast<std::int64_t>(groups) * N;
    const Channels<N> factors(tail, b, c, groups * N);
    bool inside[kWindow];
    EDGEGRAIN_UNROLL
    for (int i = 0; i < kWindow; ++i) inside[i] = column + i >= 0 && column + i < width;
    std::int64_t from = ((static_cast<std::int64_t>(b) * height + top) * width + column) * channels + c;
    float filtered[kTaps][kColumns][N];  // rows, by their number modulo 4
    EDGEGRAIN_UNROLL
    for (int r = 0; r < kRows + kTaps - 1; ++r, from += width * channels) {
      const std::int32_t row = top + r;
      if (row >= 0 && row < height) {
        Vector<T, N> window[kWindow] = {};
        EDGEGRAIN_UNROLL
        for (int i = 0; i < kWindow; ++i) {
          if (inside[i]) window[i] = Vector<T, N>::load(x + from + i * channels);
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
      if (r < kTaps - 1 || out_row >= out_height) continue;
      const std::int64_t at = static_cast<std::int64_t>(out_row) * out_width + strip * kColumns;
      const std::int64_t offset = (b * (static_cast<std::int64_t>(out_height) * out_width) + at) * channels + c;
      EDGEGRAIN_UNROLL
      for (int i = 0; i < kColumns; ++i) {
        if (static_cast<std::int32_t>(strip) * kColumns + i >= out_width) continue;
        float values[N];
        EDGEGRAIN_UNROLL
        for (int k = 0; k < N; ++k) {
          float sum = vertical[0] * filtered[(r + 1) % kTaps][i][k];
          EDGEGRAIN_UNROLL
          for (int t = 1; t < kTaps; ++t) sum += vertical[t] * filtered[(r + 1 + t) % kTaps][i][k];
          values[k] = sum;
        }
        if constexpr (kTail) {
          finish(tail, factors, b, at + i, offset + i * channels, values);
        } else {
          store_floats(tail.plain + offset + i * channels, values);
        }
      }
    }
  }
};

// Any of up, down 1 or 2. An item: N channels of a pixel of the output.
template <class T, int N>
struct UpFirDnNhwc {
  const T* x;  // [B, H, W, C]
  T* y;
  float horizontal[kTaps], vertical[kTaps];  // reversed; the gain is in them
  std::int32_t height, width, out_height, out_width, up, down, pad_x, pad_y;
  std::uint32_t groups;  // C / N

  EDGEGRAIN_HD void operator()(std::uint32_t item) const {
    const std::uint32_t c = item % groups * N, pixel = item / groups;
    const std::int32_t out_column = static_cast<std::int32_t>(pixel % out_width);
    const std::int32_t out_row = static_cast<std::int32_t>(pixel / out_width % out_height);
    const std::int64_t channels = static_cast<std::int64_t>(groups) * N;
    const T* from = x + pixel / out_width / out_height * (static_cast<std::int64_t>(height) * width * channels) + c;
    float values[N] = {};
    EDGEGRAIN_UNROLL
    for (int j = 0; j < kTaps; ++j) {
      const std::int32_t v = out_row * down + j - pad_y;
      if (v < 0 || v % up || v / up >= height) continue;
      float across[N] = {};
      EDGEGRAIN_UNROLL
      for (int k = 0; k < kTaps; ++k) {
        const std::int32_t u = out_column * down + k - pad_x;
        if (u < 0 || u % up || u / up >= width) continue;
        const auto read = Vector<T, N>::load(from + (static_cast<std::int64_t>(v / up) * width + u / up) * channels);
        EDGEGRAIN_UNROLL
        for (int i = 0; i < N; ++i) across[i] += horizontal[k] * read[i];
      }
      EDGEGRAIN_UNROLL
      for (int i = 0; i < N; ++i) values[i] += vertical[j] * across[i];
    }
    store_floats(y + pixel * channels + c, values);
  }
};

}  // namespace edgegrain
