// The tail of bias_act.h for channels-last maps.
#pragma once

#include "bias_act.h"

namespace edgegrain {

// N factors of consecutive channels. On the device they are read 16 bytes at a time, where N > 1.
template <int N>
EDGEGRAIN_HD void load_factors(const float* from, float (&factors)[N], float absent) {
  if (!from) {
    EDGEGRAIN_UNROLL
    for (int i = 0; i < N; ++i) factors[i] = absent;
    return;
  }
#ifdef __CUDA_ARCH__
  if constexpr (N % 4 == 0) {
    EDGEGRAIN_UNROLL
    for (int i = 0; i < N; i += 4) {
      const Words words = load_words(from + i);
      EDGEGRAIN_UNROLL
      for (int k = 0; k < 4; ++k) factors[i + k] = bit_cast<float>(words.words[k]);
    }
    return;
  }
#endif
  EDGEGRAIN_UNROLL
  for (int i = 0; i < N; ++i) factors[i] = from[i];
}

// The factors of N channels of picture b, from c on.
template <int N>
struct Channels {
  float demodulation[N], bias[N], style[N];

  template <class T>
  EDGEGRAIN_HD Channels(const Tail<T>& tail, std::uint32_t b, std::uint32_t c, std::uint32_t channels) {
    const std::int64_t row = static_cast<std::int64_t>(b) * channels + c;
    load_factors(tail.demodulation ? tail.demodulation + row : nullptr, demodulation, 1.0f);
    load_factors(tail.bias ? tail.bias + c : nullptr, bias, 0.0f);
    load_factors(tail.style ? tail.style + row : nullptr, style, 1.0f);
#ifdef __CUDA_ARCH__  // as `activate_scaled` wants them
    EDGEGRAIN_UNROLL
    for (int i = 0; i < N; ++i) demodulation[i] *= tail.gain, bias[i] *= tail.gain;
#endif
  }
};

// N channels of a pixel, at `offset` in the output; `at` is the pixel's place in its picture.
template <class T, int N>
EDGEGRAIN_HD void finish(const Tail<T>& tail, const Channels<N>& channels, std::uint32_t b, std::int64_t at,
                         std::int64_t offset, const float (&x)[N]) {
  const float noise = tail.noise ? to_float(tail.noise[b * tail.noise_stride + at]) : 0.0f;
  float values[N];
#ifdef __CUDA_ARCH__
  EDGEGRAIN_UNROLL
  for (int i = 0; i < N; ++i) values[i] = x[i] * channels.demodulation[i] + (noise * tail.gain + channels.bias[i]);
  activate_scaled(tail, values);
#else
  for (int i = 0; i < N; ++i) {
    values[i] = activate(x[i] * channels.demodulation[i] + (noise + channels.bias[i]), tail.slope, tail.gain,
                         tail.clamp);
  }
#endif
  if (tail.plain) store_floats(tail.plain + offset, values);
  if (tail.modulated) {
    EDGEGRAIN_UNROLL
    for (int i = 0; i < N; ++i) values[i] *= channels.style[i];
    store_floats(tail.modulated + offset, values);
  }
}

// An item: N channels of kPixels neighbouring pixels, which share their factors. As in all kernels of channels-last
// maps, N > 1 needs C to be a multiple of N, and all maps and factors on multiples of 16 bytes.
template <class T, int N>
struct DemodBiasActNhwc {
  static constexpr std::uint32_t kPixels = 4;

  const T* x;  // [B, H, W, C]
  Tail<T> tail;
  std::uint32_t groups, strips;  // C / N, ceil(H * W / kPixels)
  std::int64_t plane;            // H * W

  EDGEGRAIN_HD void operator()(std::uint32_t item) const {
    const std::uint32_t c = item % groups * N, rest = item / groups, b = rest / strips;
    const std::int64_t at = static_cast<std::int64_t>(rest % strips) * kPixels;
    const std::int64_t channels = static_cast<std::int64_t>(groups) * N, offset = (b * plane + at) * channels + c;
    Vector<T, N> inputs[kPixels];
    EDGEGRAIN_UNROLL
    for (std::uint32_t i = 0; i < kPixels; ++i) {
      if (at + i < plane) inputs[i] = Vector<T, N>::load(x + offset + i * channels);
    }
    const Channels<N> factors(tail, b, c, groups * N);
    EDGEGRAIN_UNROLL
    for (std::uint32_t i = 0; i < kPixels; ++i) {
      if (at + i < plane) {
        float values[N];
        EDGEGRAIN_UNROLL
        for (int k = 0; k < N; ++k) values[k] = inputs[i][k];
        finish(tail, factors, b, at + i, offset + i * channels, values);
      }
    }
  }
};

}  // namespace edgegrain
