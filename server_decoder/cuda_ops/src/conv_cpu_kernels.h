// The kernels of conv_cpu.h, for the instruction set that the including file is compiled for.
//
// Included by one file per instruction set, which defines EDGEGRAIN_KERNELS and EDGEGRAIN_NAME (the table and its
// name), EDGEGRAIN_LANES (floats of a vector), EDGEGRAIN_VECTORS (vectors of a panel) and EDGEGRAIN_WINDOWS (windows
// whose sums fit into the registers).
// Everything here is static or always inlined: the linker must not merge code of one instruction set into another's.
#pragma once

#if defined(__GNUC__)
#define EDGEGRAIN_HD __attribute__((always_inline)) inline
#endif
#include "conv_cpu.h"
#if defined(__AVX2__)
#include <immintrin.h>
#endif

namespace edgegrain {
namespace {

constexpr int kLanes = EDGEGRAIN_LANES, kVectors = EDGEGRAIN_VECTORS, kPanel = kLanes * kVectors;
constexpr int kWindows = EDGEGRAIN_WINDOWS, kNarrowWindows = 4, kNarrowFilters = 4;

#if defined(__GNUC__)
typedef float Lanes __attribute__((vector_size(4 * kLanes)));
typedef std::int32_t Mask __attribute__((vector_size(4 * kLanes)));
#else
static_assert(kLanes == 1, "vectors are GCC's and Clang's");
using Lanes = float;
using Mask = bool;
#endif

EDGEGRAIN_HD Lanes all(float value) { return value - Lanes{}; }  // x - 0 is x, of x + 0 the sign may differ

EDGEGRAIN_HD Lanes load(const float* from) {
  Lanes lanes;
  memcpy(&lanes, from, sizeof(lanes));
  return lanes;
}

#if defined(__AVX2__) && !defined(__AVX512F__)
EDGEGRAIN_HD __m256i first_lanes(int count) {
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(count), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
#endif

// The first `count` lanes, zeros in the others; with kFull, all of them.
template <bool kFull, class T>
EDGEGRAIN_HD Lanes load_some(const T* from, int count) {
  if constexpr (kFull && sizeof(T) == 4) {
    return load(from);
  } else {
#if defined(__AVX512F__)
    if constexpr (sizeof(T) == 4) return reinterpret_cast<Lanes>(_mm512_maskz_loadu_ps((1u << count) - 1u, from));
#elif defined(__AVX2__)
    if constexpr (sizeof(T) == 4) return reinterpret_cast<Lanes>(_mm256_maskload_ps(from, first_lanes(count)));
#endif
    float values[kLanes] = {};
    for (int i = 0; i < kLanes && (kFull || i < count); ++i) values[i] = to_float(from[i]);
    return load(values);
  }
}

template <bool kFull, class T>
EDGEGRAIN_HD void store_some(T* to, Lanes lanes, int count) {
  if constexpr (kFull && sizeof(T) == 4) {
    memcpy(to, &lanes, sizeof(lanes));
  } else {
#if defined(__AVX512F__)
    if constexpr (sizeof(T) == 4) return _mm512_mask_storeu_ps(to, (1u << count) - 1u, reinterpret_cast<__m512>(lanes));
#elif defined(__AVX2__)
    if constexpr (sizeof(T) == 4) return _mm256_maskstore_ps(to, first_lanes(count), reinterpret_cast<__m256>(lanes));
#endif
    float values[kLanes];
    memcpy(values, &lanes, sizeof(lanes));
    for (int i = 0; i < kLanes && (kFull || i < count); ++i) to[i] = from_float<T>(values[i]);
  }
}

EDGEGRAIN_HD float sum(Lanes lanes) {
  float values[kLanes], total = 0.0f;
  memcpy(values, &lanes, sizeof(lanes));
  for (int i = 0; i < kLanes; ++i) total += values[i];
  return total;
}

// The steps after the sums of `count` channels (with kFull, of kLanes) of a picture.
template <class T, bool kFull>
struct Finish {
  const T *noise, *residual, *outer;
  T *y, *modulated;
  std::int64_t y_stride, residual_stride, outer_stride, modulated_stride;
  Lanes demodulation, bias, style, gain, negative_gain;
  float clamp, scale, outer_scale;
  bool residual_first;
  int count;

  EDGEGRAIN_HD Finish(const Conv<T>& conv, std::int32_t picture, std::int32_t channel, int count)
      : noise(conv.noise), y_stride(conv.y_stride), residual_stride(conv.residual_stride),
        outer_stride(conv.outer_stride), modulated_stride(conv.out_channels), demodulation(all(1.0f)), bias(Lanes{}),
        style(Lanes{}), gain(all(conv.gain)), negative_gain(all(conv.slope * conv.gain)), clamp(conv.clamp),
        scale(conv.scale), outer_scale(conv.outer_scale), residual_first(conv.residual_first), count(count) {
    const std::int64_t first = std::int64_t{picture} * conv.out_height * conv.out_width;
    residual = conv.residual ? conv.residual + first * residual_stride + channel : nullptr;
    outer = conv.outer ? conv.outer + first * outer_stride + channel : nullptr;
    y = conv.y ? conv.y + first * y_stride + channel : nullptr;
    modulated = conv.modulated ? conv.modulated + first * modulated_stride + channel : nullptr;
    const std::int64_t row = std::int64_t{picture} * conv.out_channels + channel;
    if (conv.demodulation) demodulation = load_some<kFull>(conv.demodulation + row, count);
    if (conv.bias) bias = load_some<kFull>(conv.bias + channel, count);
    if (conv.style) style = load_some<kFull>(conv.style + row, count);
  }

  // `pixel`: counted from the picture's first.
  EDGEGRAIN_HD void operator()(Lanes value, std::int64_t pixel) const {
    value = value * demodulation + (noise ? bias + to_float(noise[pixel]) : bias);
    if (residual_first) value = value + load_some<kFull>(residual + pixel * residual_stride, count);
    const Mask negative = value < Lanes{};
    value *= negative ? negative_gain : gain;
    if (clamp > 0.0f) {  // comparisons that are false for NaN, which stays
      value = value > clamp ? all(clamp) : value;
      value = value < -clamp ? all(-clamp) : value;
    }
    if (residual && !residual_first) {
      value = load_some<kFull>(residual + pixel * residual_stride, count) + scale * value;
    }
    if (outer) value = load_some<kFull>(outer + pixel * outer_stride, count) + outer_scale * value;
    if (y) store_some<kFull>(y + pixel * y_stride, value, count);
    if (modulated) store_some<kFull>(modulated + pixel * modulated_stride, value * style, count);
  }
};

// Calls run(Finish) for `count` channels, of which at most kLanes are taken.
template <class T, class Run>
EDGEGRAIN_HD void with_finish(const Conv<T>& conv, std::int32_t picture, std::int32_t channel, int count, Run run) {
  if (count >= kLanes) {
    run(Finish<T, true>(conv, picture, channel, kLanes));
  } else {
    run(Finish<T, false>(conv, picture, channel, count));
  }
}

// Asks the cache for `channels` values of each of `count` pixels. The processor does not foresee by itself that pixels
// are read side by side.
template <bool kWrite, class T>
EDGEGRAIN_HD void prefetch(const T* pixels, std::int64_t stride, int count, std::int32_t channels) {
#if defined(__GNUC__)
  constexpr int kLine = 64 / static_cast<int>(sizeof(T));
  for (int i = 0; i < count; ++i) {
    for (std::int32_t c = 0; c < channels; c += kLine) __builtin_prefetch(pixels + i * stride + c, kWrite);
  }
#else
  static_cast<void>(pixels), static_cast<void>(stride), static_cast<void>(count), static_cast<void>(channels);
#endif
}

// Some consecutive windows of a picture: pixels of x under every tap, [tap][window].
struct Windows {
  std::int32_t rows[kWindows], columns[kWindows];
  std::int64_t places[kWindows];  // of their pixels in y; -1 outside of it
  const float* pixels[kMaxTaps * kWindows];

  EDGEGRAIN_HD void locate(std::int32_t width, std::int64_t first, int count) {
    std::int32_t row = static_cast<std::int32_t>(first / width), column = static_cast<std::int32_t>(first % width);
    for (int w = 0; w < count; ++w) {
      rows[w] = row, columns[w] = column;
      if (++column == width) column = 0, ++row;
    }
  }

  // The pixels of y of phase (a, b).
  template <class T>
  EDGEGRAIN_HD void place(const Conv<T>& conv, std::int64_t first, int count, int a, int b) {
    for (int w = 0; w < count; ++w) {
      const std::int32_t row = 2 * rows[w] + a, column = 2 * columns[w] + b;
      if (conv.shuffle == 1) {
        places[w] = first + w;
      } else {
        const bool there = row < conv.out_height && column < conv.out_width;
        places[w] = there ? std::int64_t{row} * conv.out_width + column : -1;
      }
    }
  }

  // Of a map of the convolution's, whose pixels are `stride` apart; windows begin `down` and `right` of where they do.
  template <class T>
  EDGEGRAIN_HD void find_pixels(const ConvPiece<T>& piece, const float* map, std::int64_t stride, int count,
                                std::int32_t down = 0, std::int32_t right = 0) {
    const Conv<T>& conv = *piece.conv;
    const std::int64_t line = conv.width * stride;
    const float* picture = map + piece.picture * conv.height * line;
    const std::int32_t top = rows[0] * conv.stride - conv.pad_top + down;
    const std::int32_t left = columns[0] * conv.stride - conv.pad_left + right;
    if (rows[count - 1] == rows[0] && top >= 0 && left >= 0 && top + conv.kernel_height <= conv.height &&
        left + (count - 1) * conv.stride + conv.kernel_width <= conv.width) {  // most of them
      const float** to = pixels;
      for (std::int32_t i = 0; i < conv.kernel_height; ++i) {
        for (std::int32_t j = 0; j < conv.kernel_width; ++j) {
          const float* from = picture + ((top + i) * line + (left + j) * stride);
          for (int w = 0; w < count; ++w, from += conv.stride * stride) *to++ = from;
        }
      }
      return;
    }
    for (int w = 0; w < count; ++w) {
      const std::int32_t row = rows[w] * conv.stride - conv.pad_top + down;
      const std::int32_t column = columns[w] * conv.stride - conv.pad_left + right;
      const float** to = pixels + w;
      const bool inside = row >= 0 && column >= 0 && row + conv.kernel_height <= conv.height &&
                          column + conv.kernel_width <= conv.width;
      for (std::int32_t i = 0; i < conv.kernel_height; ++i) {
        const std::int64_t start = (row + i) * line + column * stride;
        for (std::int32_t j = 0; j < conv.kernel_width; ++j, to += count) {
          const bool there = inside || (row + i >= 0 && row + i < conv.height && column + j >= 0 &&
                                        column + j < conv.width);
          *to = there ? picture + (start + j * stride) : piece.zeros;
        }
      }
    }
  }
};

// Sums of W windows and the first V vectors of a panel; with `add`, to what `sums` holds. `skip`: filters after those
// of a tap, which belong to another map.
template <int W, int V>
void accumulate(const float* const* pixels, int taps, int channels, const float* filters, std::int64_t skip, bool add,
                Lanes (*sums)[kVectors]) {
  Lanes totals[W][V];
#pragma GCC unroll 16
  for (int w = 0; w < W; ++w) {
#pragma GCC unroll 16
    for (int v = 0; v < V; ++v) totals[w][v] = add ? sums[w][v] : Lanes{};
  }
  for (int tap = 0; tap < taps; ++tap, filters += skip) {
    const float* from[W];
#pragma GCC unroll 16
    for (int w = 0; w < W; ++w) from[w] = pixels[tap * W + w];
    for (int c = 0; c < channels; ++c, filters += kPanel) {
      Lanes weights[V];
#pragma GCC unroll 16
      for (int v = 0; v < V; ++v) weights[v] = load(filters + v * kLanes);
#pragma GCC unroll 16
      for (int w = 0; w < W; ++w) {
        const Lanes value = all(from[w][c]);
#pragma GCC unroll 16
        for (int v = 0; v < V; ++v) totals[w][v] += value * weights[v];
      }
    }
  }
#pragma GCC unroll 16
  for (int w = 0; w < W; ++w) {
#pragma GCC unroll 16
    for (int v = 0; v < V; ++v) sums[w][v] = totals[w][v];
  }
}

using Accumulate = void (*)(const float* const*, int, int, const float*, std::int64_t, bool, Lanes (*)[kVectors]);

// accumulate<windows, vectors>, of numbers known only at run time.
template <int W = kWindows, int V = kVectors>
Accumulate accumulate_for(int windows, int vectors) {
  if constexpr (V > 1) {
    if (vectors < V) return accumulate_for<W, V - 1>(windows, vectors);
  }
  if constexpr (W > 1) {
    if (windows < W) return accumulate_for<W - 1, V>(windows, vectors);
  }
  return accumulate<W, V>;
}

EDGEGRAIN_HD std::int64_t smaller(std::int64_t a, std::int64_t b) { return a < b ? a : b; }

// Windows of the next block, from `at` on: equal shares of what is left, so that none ends with a small rest. In wide
// maps a block ends with its row.
EDGEGRAIN_HD int share(std::int64_t at, std::int64_t last, std::int32_t columns) {
  std::int64_t left = last - at;
  if (columns >= 2 * kWindows) left = smaller(left, columns - at % columns);
  const std::int64_t blocks = (left + kWindows - 1) / kWindows;
  return static_cast<int>((left + blocks - 1) / blocks);
}

template <class T>
void run_dense(const ConvPiece<T>& piece) {
  const Conv<T> conv = *piece.conv;  // a copy: what is written to y cannot change it
  const int taps = conv.kernel_height * conv.kernel_width;
  const int panels = (conv.out_channels + kPanel - 1) / kPanel;  // of a phase
  const FloatMaps& maps = piece.maps;
  const std::int32_t split = maps.split, rest = conv.channels - split;
  Windows windows, more;  // more: the same in the second map
  Lanes sums[kWindows][kVectors];
  for (std::int64_t at = piece.first; at < piece.last;) {
    const int count = share(at, piece.last, conv.columns);
    windows.locate(conv.columns, at, count);
    if (maps.more) more.locate(conv.columns, at, count);
    int found = -1;  // the phase whose pixels are known
    for (std::int32_t panel = piece.first_panel; panel < piece.last_panel; ++panel) {
      const int phase = panel / panels, a = phase / 2, b = phase % 2;
      const std::int32_t channel = panel % panels * kPanel;
      if (found != phase) {
        if (found < 0 || conv.shift) {
          const int down = a * conv.shift, right = b * conv.shift;
          windows.find_pixels(piece, maps.x, maps.x_stride, count, down, right);
          if (maps.more) more.find_pixels(piece, maps.more, maps.more_stride, count, down, right);
        }
        windows.place(conv, at, count, a, b);
      }
      found = phase;
      const int channels = static_cast<int>(smaller(kPanel, conv.out_channels - channel));
      const int vectors = (channels + kLanes - 1) / kLanes;
      const float* filters = piece.filters + std::int64_t{panel} * taps * conv.channels * kPanel;
      if (taps == 1 && panel == piece.first_panel) {
        prefetch<false>(windows.pixels[count - 1] + maps.x_stride, maps.x_stride, count, split);
      }
      if (conv.y && conv.shuffle == 1) {
        const std::int64_t pixel = std::int64_t{piece.picture} * conv.out_height * conv.out_width + at;
        prefetch<true>(conv.y + pixel * conv.y_stride + channel, conv.y_stride, count, channels);
      }
      const Accumulate accumulate = accumulate_for(count, vectors);
      accumulate(windows.pixels, taps, split, filters, std::int64_t{rest} * kPanel, false, sums);
      if (maps.more) {
        filters += std::int64_t{split} * kPanel;
        accumulate(more.pixels, taps, rest, filters, std::int64_t{split} * kPanel, true, sums);
      }
      for (int v = 0; v < vectors; ++v) {
        with_finish(conv, piece.picture, channel + v * kLanes, channels - v * kLanes, [&](const auto& finish) {
          for (int w = 0; w < count; ++w) {
            if (windows.places[w] >= 0) finish(sums[w][v], windows.places[w]);
          }
        });
      }
    }
    at += count;
  }
}

// Sums of W windows and O filters, with vectors of a map's channels. `step`: from a tap's filters to the next one's.
template <int W, int O>
void accumulate_narrow(const float* const* pixels, int taps, int channels, const float* filters, std::int64_t step,
                       bool add, float (*sums)[kLanes]) {
  Lanes totals[W][O] = {};
  float rests[W][O] = {};
  const std::int64_t filter = taps * step;
  const int whole = channels / kLanes * kLanes;
  for (int tap = 0; tap < taps; ++tap) {
    const float* const row = filters + tap * step;
    const float* from[W];
#pragma GCC unroll 16
    for (int w = 0; w < W; ++w) from[w] = pixels[tap * W + w];
    for (int c = 0; c < whole; c += kLanes) {
      Lanes weights[O];
#pragma GCC unroll 16
      for (int o = 0; o < O; ++o) weights[o] = load(row + o * filter + c);
#pragma GCC unroll 16
      for (int w = 0; w < W; ++w) {
        const Lanes values = load(from[w] + c);
#pragma GCC unroll 16
        for (int o = 0; o < O; ++o) totals[w][o] += values * weights[o];
      }
    }
    for (int c = whole; c < channels; ++c) {
      for (int w = 0; w < W; ++w) {
        for (int o = 0; o < O; ++o) rests[w][o] += from[w][c] * row[o * filter + c];
      }
    }
  }
  for (int w = 0; w < W; ++w) {
    for (int o = 0; o < O; ++o) sums[w][o] = sum(totals[w][o]) + rests[w][o] + (add ? sums[w][o] : 0.0f);
  }
}

using AccumulateNarrow = void (*)(const float* const*, int, int, const float*, std::int64_t, bool, float (*)[kLanes]);

template <int W = kNarrowWindows, int O = kNarrowFilters>
AccumulateNarrow accumulate_narrow_for(int windows, int filters) {
  if constexpr (O > 1) {
    if (filters < O) return accumulate_narrow_for<W, O - 1>(windows, filters);
  }
  if constexpr (W > 1) {
    if (windows < W) return accumulate_narrow_for<W - 1, O>(windows, filters);
  }
  return accumulate_narrow<W, O>;
}

template <class T>
void run_narrow(const ConvPiece<T>& piece) {
  if constexpr (kLanes >= kNarrowFilters) {
    const Conv<T> conv = *piece.conv;  // a copy: what is written to y cannot change it
    Windows windows;
    const FloatMaps& maps = piece.maps;
    const int taps = conv.kernel_height * conv.kernel_width;
    float sums[kNarrowWindows][kLanes] = {};
    with_finish(conv, piece.picture, 0, conv.out_channels, [&](const auto& finish) {
      for (std::int64_t at = piece.first; at < piece.last;) {
        const int count = static_cast<int>(smaller(kNarrowWindows, piece.last - at));
        windows.locate(conv.columns, at, count);
        windows.find_pixels(piece, maps.x, maps.x_stride, count);
        const AccumulateNarrow accumulate = accumulate_narrow_for(count, conv.out_channels);
        accumulate(windows.pixels, taps, maps.split, piece.filters, conv.channels, false, sums);
        if (maps.more) {
          windows.find_pixels(piece, maps.more, maps.more_stride, count);
          accumulate(windows.pixels, taps, conv.channels - maps.split, piece.filters + maps.split, conv.channels, true,
                     sums);
        }
        for (int w = 0; w < count; ++w) finish(load(sums[w]), at + w);
        at += count;
      }
    });
  }
}

// Sums of W windows of a depthwise convolution, of kLanes channels.
template <int W, bool kFull>
EDGEGRAIN_HD void accumulate_depthwise(const float* const* pixels, int taps, std::int32_t channel, int channels,
                                       const float* filters, int rest, Lanes (&totals)[W]) {
#pragma GCC unroll 16
  for (int w = 0; w < W; ++w) totals[w] = Lanes{};
  for (int tap = 0; tap < taps; ++tap, filters += channels, pixels += W) {
    const Lanes weights = load_some<kFull>(filters + channel, rest);
#pragma GCC unroll 16
    for (int w = 0; w < W; ++w) totals[w] += weights * load_some<kFull>(pixels[w] + channel, rest);
  }
}

template <class T, int W>
EDGEGRAIN_HD void run_depthwise_windows(const ConvPiece<T>& piece, const Conv<T>& conv, Windows& windows,
                                        std::int64_t at) {
  const int taps = conv.kernel_height * conv.kernel_width;
  windows.locate(conv.columns, at, W);
  windows.find_pixels(piece, piece.maps.x, piece.maps.x_stride, W);
  // The last row of the next windows: the others were read for the windows above.
  prefetch<false>(windows.pixels[taps * W - 1] + piece.maps.x_stride, piece.maps.x_stride, W, conv.channels);
  for (std::int32_t channel = 0; channel < conv.channels; channel += kLanes) {
    const int rest = conv.channels - channel;
    with_finish(conv, piece.picture, channel, rest, [&](const auto& finish) {
      Lanes totals[W];
      if (rest >= kLanes) {
        accumulate_depthwise<W, true>(windows.pixels, taps, channel, conv.channels, piece.filters, rest, totals);
      } else {
        accumulate_depthwise<W, false>(windows.pixels, taps, channel, conv.channels, piece.filters, rest, totals);
      }
      for (int w = 0; w < W; ++w) finish(totals[w], at + w);
    });
  }
}

template <class T>
void run_depthwise(const ConvPiece<T>& piece) {
  constexpr int kTogether = kWindows < 8 ? kWindows : 8;
  const Conv<T> conv = *piece.conv;
  Windows windows;
  std::int64_t at = piece.first;
  for (; at + kTogether <= piece.last; at += kTogether) run_depthwise_windows<T, kTogether>(piece, conv, windows, at);
  for (; at < piece.last; ++at) run_depthwise_windows<T, 1>(piece, conv, windows, at);
}

}  // namespace
}  // namespace edgegrain

#include "conv_cpu_winograd.h"

namespace edgegrain {

extern const ConvKernels EDGEGRAIN_KERNELS;
const ConvKernels EDGEGRAIN_KERNELS = {
    EDGEGRAIN_NAME,
    kLanes,
    kPanel,
    {run_dense<float>, run_narrow<float>, run_depthwise<float>, run_winograd<float>},
    {run_dense<Half>, run_narrow<Half>, run_depthwise<Half>, run_winograd<Half>},
};

}  // namespace edgegrain
