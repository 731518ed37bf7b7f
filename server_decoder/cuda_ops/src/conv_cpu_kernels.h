// The kernels of conv_cpu.h, for the instruction set that the including file is compiled for.
//
// Included by one file per instruction set, which defines EDGEGRAIN_KERNELS (name of the table), EDGEGRAIN_LANES (floats
// of a vector), EDGEGRAIN_VECTORS (vectors of a panel) and EDGEGRAIN_WINDOWS (windows whose sums fit into the registers).
// Everything here is static or always inlined: the linker must not merge code of one instruction set into another's.
#pragma once

#if defined(__GNUC__)
#define EDGEGRAIN_HD __attribute__((always_inline)) inline
#endif
#include "conv_cpu.h"

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

// The first `count` lanes, zeros in the others.
template <class T>
EDGEGRAIN_HD Lanes load_some(const T* from, int count) {
  if constexpr (sizeof(T) == 4) {
    if (count >= kLanes) return load(from);
  }
  float values[kLanes] = {};
  for (int i = 0; i < kLanes && i < count; ++i) values[i] = to_float(from[i]);
  return load(values);
}

template <class T>
EDGEGRAIN_HD void store_some(T* to, Lanes lanes, int count) {
  if constexpr (sizeof(T) == 4) {
    if (count >= kLanes) {
      memcpy(to, &lanes, sizeof(lanes));
      return;
    }
  }
  float values[kLanes];
  memcpy(values, &lanes, sizeof(lanes));
  for (int i = 0; i < kLanes && i < count; ++i) to[i] = from_float<T>(values[i]);
}

EDGEGRAIN_HD float sum(Lanes lanes) {
  float values[kLanes], total = 0.0f;
  memcpy(values, &lanes, sizeof(lanes));
  for (int i = 0; i < kLanes; ++i) total += values[i];
  return total;
}

// `activate` of bias_act.h.
EDGEGRAIN_HD Lanes activate_lanes(Lanes value, float slope, float gain, float clamp) {
  const Mask negative = value < Lanes{};
  value *= negative ? all(slope * gain) : all(gain);
  if (clamp > 0.0f) {
    value = value > clamp ? all(clamp) : value;
    value = value < -clamp ? all(-clamp) : value;
  }
  return value;
}

// The factors of some channels of a picture.
struct LaneFactors {
  Lanes demodulation, bias, style;

  template <class T>
  EDGEGRAIN_HD LaneFactors(const Conv<T>& conv, std::int32_t picture, std::int32_t channel, int count) {
    demodulation = conv.demodulation
                       ? load_some(conv.demodulation + picture * conv.demodulation_stride + channel, count)
                       : all(1.0f);
    bias = conv.bias ? load_some(conv.bias + channel, count) : Lanes{};
    style = conv.style ? load_some(conv.style + std::int64_t{picture} * conv.out_channels + channel, count) : Lanes{};
  }
};

// What follows the sums of `count` channels from `channel` on; `pixel` counts through all pictures, `at` in this one.
template <class T>
EDGEGRAIN_HD void finish_lanes(const Conv<T>& conv, const LaneFactors& factors, Lanes value, std::int32_t picture,
                               std::int64_t at, std::int32_t channel, int count) {
  const std::int64_t pixel = std::int64_t{picture} * conv.out_height * conv.out_width + at;
  const float noise = conv.noise ? to_float(conv.noise[picture * conv.noise_stride + at]) : 0.0f;
  value = activate_lanes(value * factors.demodulation + (noise + factors.bias), conv.slope, conv.gain, conv.clamp);
  if (conv.residual) {
    value = load_some(conv.residual + pixel * conv.residual_stride + channel, count) + conv.scale * value;
  }
  if (conv.outer) value = load_some(conv.outer + pixel * conv.outer_stride + channel, count) + conv.outer_scale * value;
  if (conv.y) store_some(conv.y + pixel * conv.y_stride + channel, value, count);
  if (conv.modulated) store_some(conv.modulated + pixel * conv.out_channels + channel, value * factors.style, count);
}

// Some consecutive windows of a picture: pixels of x under every tap, [tap][window].
struct Windows {
  std::int32_t rows[kWindows], columns[kWindows];
  const float* pixels[kMaxTaps * kWindows];

  EDGEGRAIN_HD void locate(std::int32_t width, std::int64_t first, int count) {
    std::int32_t row = static_cast<std::int32_t>(first / width), column = static_cast<std::int32_t>(first % width);
    for (int w = 0; w < count; ++w) {
      rows[w] = row, columns[w] = column;
      if (++column == width) column = 0, ++row;
    }
  }

  template <class T>
  EDGEGRAIN_HD void find_pixels(const ConvPiece<T>& piece, int count, std::int32_t down, std::int32_t right) {
    const Conv<T>& conv = *piece.conv;
    const std::int64_t line = conv.width * piece.x_stride;
    const float* picture = piece.x + piece.picture * conv.height * line;
    for (int w = 0; w < count; ++w) {
      const std::int32_t row = rows[w] * conv.stride - conv.pad_top + down;
      const std::int32_t column = columns[w] * conv.stride - conv.pad_left + right;
      const float** to = pixels + w;
      const bool inside = row >= 0 && column >= 0 && row + conv.kernel_height <= conv.height &&
                          column + conv.kernel_width <= conv.width;
      for (std::int32_t i = 0; i < conv.kernel_height; ++i) {
        const std::int64_t start = (row + i) * line + column * piece.x_stride;
        for (std::int32_t j = 0; j < conv.kernel_width; ++j, to += count) {
          const bool there = inside || (row + i >= 0 && row + i < conv.height && column + j >= 0 &&
                                        column + j < conv.width);
          *to = there ? picture + (start + j * piece.x_stride) : piece.zeros;
        }
      }
    }
  }
};

// Sums of W windows and the first V vectors of a panel.
template <int W, int V>
void accumulate(const float* const* pixels, int taps, int channels, const float* filters, Lanes (*sums)[kVectors]) {
  Lanes totals[W][V];
#pragma GCC unroll 16
  for (int w = 0; w < W; ++w) {
#pragma GCC unroll 16
    for (int v = 0; v < V; ++v) totals[w][v] = Lanes{};
  }
  for (int tap = 0; tap < taps; ++tap) {
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

using Accumulate = void (*)(const float* const*, int, int, const float*, Lanes (*)[kVectors]);

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

// Windows of the next block: equal shares of what is left, so that none ends with a small rest.
EDGEGRAIN_HD int share(std::int64_t left, int most) {
  const std::int64_t blocks = (left + most - 1) / most;
  return static_cast<int>((left + blocks - 1) / blocks);
}

template <class T>
void run_dense(const ConvPiece<T>& piece) {
  const Conv<T>& conv = *piece.conv;
  const int taps = conv.kernel_height * conv.kernel_width;
  const int panels = (conv.out_channels + kPanel - 1) / kPanel;  // of a phase
  Windows windows;
  Lanes sums[kWindows][kVectors];
  for (std::int64_t at = piece.first; at < piece.last;) {
    const int count = share(piece.last - at, kWindows);
    windows.locate(conv.columns, at, count);
    int found = -1;  // the phase whose pixels are known
    for (std::int32_t panel = piece.first_panel; panel < piece.last_panel; ++panel) {
      const int phase = panel / panels, a = phase / 2, b = phase % 2;
      const std::int32_t channel = panel % panels * kPanel;
      if (found < 0 || (found != phase && conv.shift)) windows.find_pixels(piece, count, a * conv.shift, b * conv.shift);
      found = phase;
      const int channels = static_cast<int>(smaller(kPanel, conv.out_channels - channel));
      const int vectors = (channels + kLanes - 1) / kLanes;
      const float* filters = piece.filters + std::int64_t{panel} * taps * conv.channels * kPanel;
      accumulate_for(count, vectors)(windows.pixels, taps, conv.channels, filters, sums);
      for (int v = 0; v < vectors; ++v) {
        const int first = channel + v * kLanes, rest = channels - v * kLanes;
        const LaneFactors factors(conv, piece.picture, first, rest);
        for (int w = 0; w < count; ++w) {
          std::int64_t pixel = at + w;
          if (conv.shuffle == 2) {
            const std::int32_t row = 2 * windows.rows[w] + a, column = 2 * windows.columns[w] + b;
            if (row >= conv.out_height || column >= conv.out_width) continue;
            pixel = std::int64_t{row} * conv.out_width + column;
          }
          finish_lanes(conv, factors, sums[w][v], piece.picture, pixel, first, rest);
        }
      }
    }
    at += count;
  }
}

// Sums of W windows and O filters, with vectors of x's channels.
template <int W, int O>
void accumulate_narrow(const float* const* pixels, int taps, int channels, const float* filters, float (*sums)[kLanes]) {
  Lanes totals[W][O] = {};
  float rests[W][O] = {};
  const std::int64_t filter = std::int64_t{taps} * channels;
  const int whole = channels / kLanes * kLanes;
  for (int tap = 0; tap < taps; ++tap) {
    const float* const row = filters + std::int64_t{tap} * channels;
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
    for (int o = 0; o < O; ++o) sums[w][o] = sum(totals[w][o]) + rests[w][o];
  }
}

using AccumulateNarrow = void (*)(const float* const*, int, int, const float*, float (*)[kLanes]);

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
    const Conv<T>& conv = *piece.conv;
    Windows windows;
    float sums[kNarrowWindows][kLanes] = {};
    const LaneFactors factors(conv, piece.picture, 0, conv.out_channels);
    for (std::int64_t at = piece.first; at < piece.last;) {
      const int count = static_cast<int>(smaller(kNarrowWindows, piece.last - at));
      windows.locate(conv.columns, at, count);
      windows.find_pixels(piece, count, 0, 0);
      accumulate_narrow_for(count, conv.out_channels)(windows.pixels, conv.kernel_height * conv.kernel_width,
                                                      conv.channels, piece.filters, sums);
      for (int w = 0; w < count; ++w) {
        finish_lanes(conv, factors, load(sums[w]), piece.picture, at + w, 0, conv.out_channels);
      }
      at += count;
    }
  }
}

template <class T>
void run_depthwise(const ConvPiece<T>& piece) {
  constexpr int kTogether = 4;
  const Conv<T>& conv = *piece.conv;
  const int taps = conv.kernel_height * conv.kernel_width;
  Windows windows;
  for (std::int64_t at = piece.first; at < piece.last;) {
    const int count = static_cast<int>(smaller(kTogether, piece.last - at));
    windows.locate(conv.columns, at, count);
    windows.find_pixels(piece, count, 0, 0);
    for (std::int32_t channel = 0; channel < conv.channels; channel += kLanes) {
      const int rest = conv.channels - channel;
      Lanes totals[kTogether] = {};
      for (int tap = 0; tap < taps; ++tap) {
        const Lanes weights = load_some(piece.filters + std::int64_t{tap} * conv.channels + channel, rest);
        const float* const* from = windows.pixels + tap * count;
        if (count == kTogether) {
#pragma GCC unroll 4
          for (int w = 0; w < kTogether; ++w) totals[w] += weights * load_some(from[w] + channel, rest);
        } else {
          for (int w = 0; w < count; ++w) totals[w] += weights * load_some(from[w] + channel, rest);
        }
      }
      const LaneFactors factors(conv, piece.picture, channel, rest);
      for (int w = 0; w < count; ++w) finish_lanes(conv, factors, totals[w], piece.picture, at + w, channel, rest);
    }
    at += count;
  }
}

}  // namespace

extern const ConvKernels EDGEGRAIN_KERNELS;
const ConvKernels EDGEGRAIN_KERNELS = {
    EDGEGRAIN_NAME,
    kLanes,
    kPanel,
    {run_dense<float>, run_narrow<float>, run_depthwise<float>},
    {run_dense<Half>, run_narrow<Half>, run_depthwise<Half>},
};

}  // namespace edgegrain
