// StyleGAN2's filters: every second pixel of nothing, a separable FIR of four taps, every second pixel kept.
//
// y[o] = sum over k of taps[3 - k] * up(x)[o * down + k - pad], in both directions; up(x) has up - 1 zeros after every
// pixel and zeros around it.
#pragma once

#include "bias_act.h"

namespace edgegrain {

constexpr int kTaps = 4;

// Without up- and downsampling, and with the tail of a layer where kTail is set. An item: N columns of kRows rows of
// one plane; rows are filtered as they come, four of them are kept. Where N elements have 16 bytes, rows are read as
// aligned pairs of words wherever they begin (the output of a transposed convolution is 2 W + 1 wide), and shifted into
// place.
template <class T, bool kTail, int N>
struct Fir {
  static constexpr int kRows = 8, kPerWord = 4 / static_cast<int>(sizeof(T));
  static constexpr int kReach = N == kWide<T> ? 8 * kPerWord : N + kTaps - 1;  // elements that read_row touches

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
    const bool small = static_cast<std::uint64_t>(out_height) * out_width <= 0xffffffffu;  // a plane
    if (wide_in && wide_out && small && first >= 0 && last + kReach <= size) {
      if (column >= 0 && column + N + kTaps - 1 <= width && top >= 0 && top + kRows + kTaps - 1 <= height &&
          (band + 1) * kRows <= static_cast<std::uint32_t>(out_height)) {
        filter_vectors<true>(plane, column, top, strip, band);
      } else {
        filter_vectors<false>(plane, column, top, strip, band);
      }
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

  // kInside: all elements that are read and written exist.
  template <bool kInside>
  EDGEGRAIN_HD void filter_vectors(std::uint32_t plane, std::int32_t column, std::int32_t top, std::uint32_t strip,
                                   std::uint32_t band) const {
    const std::uint32_t b = plane / channels;
    const Channel channel(tail, b, plane % channels, channels);
    const Border border(column, width);
    const std::int64_t start = row_start(plane, 0) + column;
    const Tail<T> own = tail_from(b, plane, strip * N);
    float filtered[kTaps][N];  // rows, by their number modulo 4
    EDGEGRAIN_UNROLL
    for (int r = 0; r < kRows + kTaps - 1; ++r) {
      const std::int32_t row = top + r;
      if (kInside || (row >= 0 && row < height)) {
        float window[N + kTaps - 1];
        read_row<kInside>(start + static_cast<std::int64_t>(row) * width, border, window);
        EDGEGRAIN_UNROLL
        for (int i = 0; i < N; ++i) {
          float sum = horizontal[0] * window[i];
          EDGEGRAIN_UNROLL
          for (int k = 1; k < kTaps; ++k) sum += horizontal[k] * window[i + k];
          filtered[r % kTaps][i] = sum;
        }
      } else {
        EDGEGRAIN_UNROLL
        for (int i = 0; i < N; ++i) filtered[r % kTaps][i] = 0.0f;
      }
      const std::uint32_t out_row = band * kRows + r - (kTaps - 1);
      if (r >= kTaps - 1 && (kInside || out_row < static_cast<std::uint32_t>(out_height))) {
        float values[N];
        EDGEGRAIN_UNROLL
        for (int i = 0; i < N; ++i) {
          float sum = vertical[0] * filtered[(r + 1) % kTaps][i];
          EDGEGRAIN_UNROLL
          for (int k = 1; k < kTaps; ++k) sum += vertical[k] * filtered[(r + 1 + k) % kTaps][i];
          values[i] = sum;
        }
        write(own, channel, out_row * out_width, values);
      }
    }
  }

  // The tail with pointers to column `column` of a plane's first row: what follows fits into 32 bits.
  EDGEGRAIN_HD Tail<T> tail_from(std::uint32_t b, std::uint32_t plane, std::uint32_t column) const {
    Tail<T> own = tail;
    const std::int64_t skip = static_cast<std::int64_t>(plane) * out_height * out_width + column;
    if (own.plain) own.plain += skip;
    if (own.modulated) own.modulated += skip;
    if (own.noise) own.noise += b * own.noise_stride + column;
    return own;
  }

  // The elements of a window that lie in their row.
  struct Border {
    std::int32_t column, width;
    std::uint32_t masks[(N + kTaps) / kPerWord];  // of words, where rows are read as words

    EDGEGRAIN_HD Border(std::int32_t column, std::int32_t width)
        : column(column), width(width) {
      if constexpr (N == kWide<T>) {
        EDGEGRAIN_UNROLL
        for (int i = 0; i < N + kTaps; ++i) {
          const std::uint32_t bits = kPerWord == 1 ? ~0u : 0xffffu << 16 * (i % kPerWord);
          masks[i / kPerWord] = (i % kPerWord ? masks[i / kPerWord] : 0u) | (has(i) ? bits : 0u);
        }
      }
    }

    EDGEGRAIN_HD bool has(int i) const { return column + i >= 0 && column + i < width; }
  };

  // N + 3 elements of x from `start` on; zeros where they are not in the row.
  template <bool kInside>
  EDGEGRAIN_HD void read_row(std::int64_t start, const Border& border, float (&window)[N + kTaps - 1]) const {
    if constexpr (N == kWide<T>) {
      std::uint32_t words[8];
      read_words(start, words);
      if constexpr (!kInside) {
        EDGEGRAIN_UNROLL
        for (int i = 0; i < (N + kTaps) / kPerWord; ++i) words[i] &= border.masks[i];
      }
      EDGEGRAIN_UNROLL
      for (int i = 0; i < N + kTaps - 1; ++i) window[i] = element<T>(words, i);
    } else {
      for (int i = 0; i < N + kTaps - 1; ++i) window[i] = to_float(x[start + i]);
      if constexpr (!kInside) {
        for (int i = 0; i < N + kTaps - 1; ++i) {
          if (!border.has(i)) window[i] = 0.0f;
        }
      }
    }
  }

  // Sixteen halves, or eight floats, from `start` on, of which the first N + 3 count: pairs of words from the aligned
  // one before it, shifted by what `start` is beyond that. Indices known only at run time would put the words in memory.
  EDGEGRAIN_HD void read_words(std::int64_t start, std::uint32_t (&words)[8]) const {
    const std::int64_t first = start & ~static_cast<std::int64_t>(2 * kPerWord - 1);
    EDGEGRAIN_UNROLL
    for (int i = 0; i < 4; ++i) {
      const WordPair read = load_pair(x + first + i * 2 * kPerWord);
      words[2 * i] = read.words[0], words[2 * i + 1] = read.words[1];
    }
    const bool second = start & kPerWord;
    EDGEGRAIN_UNROLL
    for (int i = 0; i < 7; ++i) words[i] = second ? words[i + 1] : words[i];
    if constexpr (kPerWord == 2) {
      const std::uint32_t bits = static_cast<std::uint32_t>(start & 1) * 16;
      EDGEGRAIN_UNROLL
      for (int i = 0; i < 6; ++i) words[i] = shift_right(words[i], words[i + 1], bits);
    }
  }

  // The same, element by element with all bounds checked: at the tensor's ends, and where it is unaligned.
  EDGEGRAIN_HD void filter_scalars(std::uint32_t plane, std::uint32_t strip, std::uint32_t band) const {
    const std::uint32_t b = plane / channels;
    const Channel channel(tail, b, plane % channels, channels);
    const Tail<T> own = tail_from(b, plane, 0);
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
        write(own, channel, static_cast<std::int64_t>(out_row) * out_width + out_column, values);
      }
    }
  }

  template <class Offset, int M>
  EDGEGRAIN_HD void write(const Tail<T>& own, const Channel& channel, Offset at,
                          const float (&values)[M]) const {
    if constexpr (kTail) {
      float noise[M];
      load_noise(own, 0, at, noise);
      finish(own, channel, at, values, noise);
    } else {
      store_floats(own.plain + at, values);
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
