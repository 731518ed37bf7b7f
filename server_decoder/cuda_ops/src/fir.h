// StyleGAN2's filters: every second pixel of nothing, a separable FIR of four taps, every second pixel kept.
//
// y[o] = sum over k of taps[3 - k] * up(x)[o * down + k - pad], in both directions; up(x) has up - 1 zeros after every
// pixel and zeros around it.
#pragma once

#include "bias_act.h"

namespace edgegrain {

constexpr int kTaps = 4;

// Without up- and downsampling, and with the tail of a layer where kTail is set. An item: N columns of kRows rows of one
// plane; rows are filtered as they come, four of them are kept. Where N elements have 16 bytes, rows are read as aligned
// vectors wherever they begin (the output of a transposed convolution is 2 W + 1 wide), and shifted into place.
template <class T, bool kTail, int N>
struct Fir {
  static constexpr int kRows = 8, kPerWord = 4 / static_cast<int>(sizeof(T));
  static constexpr int kReach = N == kWide<T> ? 3 * N : N + kTaps - 1;  // elements that read_row touches

  const T* x;  // [B, C, H, W]
  Tail<T> tail;  // without kTail: only tail.plain counts
  float horizontal[kTaps], vertical[kTaps];  // reversed; the gain is in them
  std::int32_t height, width, out_height, out_width, pad_x, pad_y;  // pad: on the left and above
  std::uint32_t channels, strips, bands;     // C, ceil(out_width / N), ceil(out_height / kRows)
  std::int64_t size;                         // elements of x
  bool wide_in, wide_out;  // x is aligned to 16 bytes; so are all rows of the outputs and of the noise

  EDGEGRAIN_HD void operator()(std::uint32_t item) const {
    const std::uint32_t strip = item % strips, rest = item / strips, band = rest % bands, plane = rest / bands;
    const std::int32_t column = static_cast<std::int32_t>(strip) * N - pad_x;  // of x, the window's first
    const std::int32_t top = static_cast<std::int32_t>(band) * kRows - pad_y;
    // A window whose rows can all be read in whole vectors without leaving the tensor.
    const std::int64_t first = row_start(plane, clamped(top)) + column;
    const std::int64_t last = row_start(plane, clamped(top + kRows + kTaps - 2)) + column;
    if (wide_in && wide_out && first >= 0 && last + kReach <= size) {
      filter_vectors(plane, column, top, strip, band);
    } else {
      filter_scalars(plane, strip, band);
    }
  }

  EDGEGRAIN_HD std::int32_t clamped(std::int32_t row) const {
    return row < 0 ? 0 : row >= height ? height - 1 : row;
  }

  EDGEGRAIN_HD std::int64_t row_start(std::uint32_t plane, std::int32_t row) const {
    return (static_cast<std::int64_t>(plane) * height + row) * width;
  }

  EDGEGRAIN_HD void filter_vectors(std::uint32_t plane, std::int32_t column, std::int32_t top, std::uint32_t strip,
                                   std::uint32_t band) const {
    const Channel channel(tail, plane / channels, plane % channels, channels);
    const bool inside = column >= 0 && column + N + kTaps - 1 <= width;
    float filtered[kTaps][N];  // rows, by their number modulo 4
    EDGEGRAIN_UNROLL
    for (int r = 0; r < kRows + kTaps - 1; ++r) {
      const std::int32_t row = top + r;
      float window[N + kTaps - 1];
      read_row(row_start(plane, clamped(row)) + column, window);
      const bool there = row >= 0 && row < height;
      if (!there || !inside) {
        EDGEGRAIN_UNROLL
        for (int i = 0; i < N + kTaps - 1; ++i) {
          if (!there || column + i < 0 || column + i >= width) window[i] = 0.0f;
        }
      }
      EDGEGRAIN_UNROLL
      for (int i = 0; i < N; ++i) {
        float sum = 0.0f;
        EDGEGRAIN_UNROLL
        for (int k = 0; k < kTaps; ++k) sum += horizontal[k] * window[i + k];
        filtered[r % kTaps][i] = sum;
      }
      const std::uint32_t out_row = band * kRows + r - (kTaps - 1);
      if (r >= kTaps - 1 && out_row < static_cast<std::uint32_t>(out_height)) {
        float values[N];
        EDGEGRAIN_UNROLL
        for (int i = 0; i < N; ++i) {
          float sum = 0.0f;
          EDGEGRAIN_UNROLL
          for (int k = 0; k < kTaps; ++k) sum += vertical[k] * filtered[(r + 1 + k) % kTaps][i];
          values[i] = sum;
        }
        write(plane, channel, static_cast<std::int64_t>(out_row) * out_width + static_cast<std::int64_t>(strip) * N,
              values);
      }
    }
  }

  // N + 3 elements of x from `start` on.
  EDGEGRAIN_HD void read_row(std::int64_t start, float (&window)[N + kTaps - 1]) const {
    if constexpr (N == kWide<T>) {
      read_vectors(start, window);
    } else {
      for (int i = 0; i < N + kTaps - 1; ++i) window[i] = to_float(x[start + i]);
    }
  }

  // The same in two or three aligned vectors, shifted by what `start` is beyond the first one's beginning.
  EDGEGRAIN_HD void read_vectors(std::int64_t start, float (&window)[N + kTaps - 1]) const {
    const int beyond = static_cast<int>(start & (N - 1));
    const T* from = x + (start - beyond);
    std::uint32_t words[12];
    const Words left = load_words(from), right = load_words(from + N);
    Words more = {};
    if (beyond + N + kTaps - 1 > 2 * N) more = load_words(from + 2 * N);
    EDGEGRAIN_UNROLL
    for (int i = 0; i < 4; ++i) {
      words[i] = left.words[i];
      words[4 + i] = right.words[i];
      words[8 + i] = more.words[i];
    }
    // Shifts by constant numbers of words, taken or not: indices known only at run time would put the array in memory.
    const int shift = beyond / kPerWord;
    EDGEGRAIN_UNROLL
    for (int i = 0; i < 10; ++i) words[i] = shift & 2 ? words[i + 2] : words[i];
    EDGEGRAIN_UNROLL
    for (int i = 0; i < 9; ++i) words[i] = shift & 1 ? words[i + 1] : words[i];
    if constexpr (kPerWord == 2) {
      EDGEGRAIN_UNROLL
      for (int i = 0; i < 8; ++i) words[i] = beyond & 1 ? words[i] >> 16 | words[i + 1] << 16 : words[i];
    }
    EDGEGRAIN_UNROLL
    for (int i = 0; i < N + kTaps - 1; ++i) window[i] = element<T>(words, i);
  }

  // The same, element by element with all bounds checked: at the tensor's ends, and where it is unaligned.
  EDGEGRAIN_HD void filter_scalars(std::uint32_t plane, std::uint32_t strip, std::uint32_t band) const {
    const Channel channel(tail, plane / channels, plane % channels, channels);
    for (int r = 0; r < kRows; ++r) {
      const std::int32_t out_row = static_cast<std::int32_t>(band) * kRows + r;
      for (int i = 0; i < N; ++i) {
        const std::int32_t out_column = static_cast<std::int32_t>(strip) * N + i;
        if (out_row >= out_height || out_column >= out_width) continue;
        float sum = 0.0f;
        for (int j = 0; j < kTaps; ++j) {
          const std::int32_t row = out_row + j - pad_y;
          if (row < 0 || row >= height) continue;
          float across = 0.0f;
          for (int k = 0; k < kTaps; ++k) {
            const std::int32_t column = out_column + k - pad_x;
            if (column >= 0 && column < width) across += horizontal[k] * to_float(x[row_start(plane, row) + column]);
          }
          sum += vertical[j] * across;
        }
        const float values[1] = {sum};
        write(plane, channel, static_cast<std::int64_t>(out_row) * out_width + out_column, values);
      }
    }
  }

  template <int M>
  EDGEGRAIN_HD void write(std::uint32_t plane, const Channel& channel, std::int64_t at,
                          const float (&values)[M]) const {
    const std::int64_t offset = static_cast<std::int64_t>(plane) * out_height * out_width + at;
    if constexpr (kTail) {
      float noise[M];
      load_noise(tail, plane / channels, at, noise);
      finish(tail, channel, offset, values, noise);
    } else {
      store_floats(tail.plain + offset, values);
    }
  }
};

// Any of up, down 1 or 2: the skips between pictures, which have three channels. An item: N neighbouring columns of a
// row of the output. N > 1 needs out_width to be a multiple of N and y to be aligned to 16 bytes.
template <class T, int N>
struct UpFirDn {
  const T* x;  // [B, C, H, W]
  T* y;
  float horizontal[kTaps], vertical[kTaps];  // reversed; the gain is in them
  std::int32_t height, width, out_height, up, down, pad_x, pad_y;
  std::uint32_t strips;  // out_width / N

  EDGEGRAIN_HD void operator()(std::uint32_t item) const {
    const std::uint32_t strip = item % strips, above = item / strips;
    const std::uint32_t row = above % static_cast<std::uint32_t>(out_height), plane = above / out_height;
    const T* from = x + static_cast<std::int64_t>(plane) * height * width;
    float values[N];
    EDGEGRAIN_UNROLL
    for (int i = 0; i < N; ++i) {
      const std::int32_t column = static_cast<std::int32_t>(strip) * N + i;
      float sum = 0.0f;
      EDGEGRAIN_UNROLL
      for (int j = 0; j < kTaps; ++j) {
        const std::int32_t v = static_cast<std::int32_t>(row) * down + j - pad_y;
        if (v < 0 || v % up || v / up >= height) continue;
        const T* line = from + static_cast<std::int64_t>(v / up) * width;
        float across = 0.0f;
        EDGEGRAIN_UNROLL
        for (int k = 0; k < kTaps; ++k) {
          const std::int32_t u = column * down + k - pad_x;
          if (u >= 0 && u % up == 0 && u / up < width) across += horizontal[k] * to_float(line[u / up]);
        }
        sum += vertical[j] * across;
      }
      values[i] = sum;
    }
    store_floats(y + (static_cast<std::int64_t>(plane) * out_height + row) * strips * N +
                     static_cast<std::int64_t>(strip) * N,
                 values);
  }
};

}  // namespace edgegrain
