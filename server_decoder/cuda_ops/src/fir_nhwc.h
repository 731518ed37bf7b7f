// The filters of fir.h for channels-last maps.
#pragma once

#include "bias_act_nhwc.h"
#include "fir.h"

namespace edgegrain {

// Without up- and downsampling. An item: N channels of kColumns x kRows pixels; rows are filtered as they come, four of
// them are kept.
template <class T, bool kTail, int N>
struct FirNhwc {
  static constexpr int kRows = 8, kColumns = 2;

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
    float filtered[kTaps][kColumns][N];  // rows, by their number modulo 4
    EDGEGRAIN_UNROLL
    for (int r = 0; r < kRows + kTaps - 1; ++r) {
      const std::int32_t row = top + r;
      float window[kColumns + kTaps - 1][N];
      EDGEGRAIN_UNROLL
      for (int i = 0; i < kColumns + kTaps - 1; ++i) {
        if (row >= 0 && row < height && column + i >= 0 && column + i < width) {
          const std::int64_t pixel = (static_cast<std::int64_t>(b) * height + row) * width + (column + i);
          const auto read = Vector<T, N>::load(x + pixel * channels + c);
          EDGEGRAIN_UNROLL
          for (int k = 0; k < N; ++k) window[i][k] = read[k];
        } else {
          EDGEGRAIN_UNROLL
          for (int k = 0; k < N; ++k) window[i][k] = 0.0f;
        }
      }
      EDGEGRAIN_UNROLL
      for (int i = 0; i < kColumns; ++i) {
        EDGEGRAIN_UNROLL
        for (int k = 0; k < N; ++k) {
          float sum = 0.0f;
          EDGEGRAIN_UNROLL
          for (int t = 0; t < kTaps; ++t) sum += horizontal[t] * window[i + t][k];
          filtered[r % kTaps][i][k] = sum;
        }
      }
      const std::int32_t out_row = static_cast<std::int32_t>(band) * kRows + r - (kTaps - 1);
      if (r < kTaps - 1 || out_row >= out_height) continue;
      EDGEGRAIN_UNROLL
      for (int i = 0; i < kColumns; ++i) {
        const std::int32_t out_column = static_cast<std::int32_t>(strip) * kColumns + i;
        if (out_column >= out_width) continue;
        float values[N];
        EDGEGRAIN_UNROLL
        for (int k = 0; k < N; ++k) {
          float sum = 0.0f;
          EDGEGRAIN_UNROLL
          for (int t = 0; t < kTaps; ++t) sum += vertical[t] * filtered[(r + 1 + t) % kTaps][i][k];
          values[k] = sum;
        }
        const std::int64_t at = static_cast<std::int64_t>(out_row) * out_width + out_column;
        const std::int64_t offset = (b * (static_cast<std::int64_t>(out_height) * out_width) + at) * channels + c;
        if constexpr (kTail) {
          finish(tail, factors, b, at, offset, values);
        } else {
          store_floats(tail.plain + offset, values);
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
