// The steps after a modulated convolution: demodulation, noise, bias, leaky ReLU, and the next layer's style.
//
//   y = clamp(gain * leaky(x * demodulation[b, c] + noise[h, w] + bias[c])) * style[b, c]
//
// Kernels are plain objects whose call does one item of work, on the host as on the device: what the tests run on the CPU
// is, but for the launch, what the GPU runs.
#pragma once

#include "number.h"
#ifdef __CUDACC__
#include "ptx.h"
#endif

namespace edgegrain {

// Factors and bias are float32 for every T.
template <class T>
struct Tail {
  const float* demodulation;  // [B, C]
  const T* noise;             // [H, W]
  const float* bias;          // [C]
  const float* style;         // [B, C]
  T* y;                       // [B, H, W, C]
  float slope, gain, clamp;   // clamp: 0 for none
};

EDGEGRAIN_HD float activate(float value, float slope, float gain, float clamp) {
  value *= value < 0.0f ? slope * gain : gain;
#ifdef __CUDA_ARCH__
  return clamp > 0.0f ? ptx::clamped(value, clamp) : value;
#else
  if (clamp > 0.0f) {  // comparisons that are false for NaN, which stays
    value = value > clamp ? clamp : value;
    value = value < -clamp ? -clamp : value;
  }
  return value;
#endif
}

// N factors of consecutive channels, ones where there are none. On the device they are read 16 bytes at a time, where
// N > 1.
template <int N>
EDGEGRAIN_HD void load_factors(const float* from, float (&factors)[N]) {
  if (!from) {
    EDGEGRAIN_UNROLL
    for (int i = 0; i < N; ++i) factors[i] = 1.0f;
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
    load_factors(tail.demodulation + row, demodulation);
    load_factors(tail.bias + c, bias);
    load_factors(tail.style + row, style);
#ifdef __CUDA_ARCH__  // as `activate_scaled` wants them
    EDGEGRAIN_UNROLL
    for (int i = 0; i < N; ++i) demodulation[i] *= tail.gain, bias[i] *= tail.gain;
#endif
  }
};

// The GPU's way of computing the same of N values: the gain is multiplied into the factors, which are few, and a
// maximum replaces a comparison and a selection.
template <class T, int N>
EDGEGRAIN_HD void activate_scaled(const Tail<T>& tail, float (&scaled)[N]) {
#ifdef __CUDA_ARCH__
  if (tail.slope <= 1.0f && tail.gain >= 0.0f) {
    EDGEGRAIN_UNROLL
    for (int i = 0; i < N; ++i) scaled[i] = fmaxf(scaled[i], scaled[i] * tail.slope);
  } else {
    EDGEGRAIN_UNROLL
    for (int i = 0; i < N; ++i) {
      if (tail.gain < 0.0f ? scaled[i] > 0.0f : scaled[i] < 0.0f) scaled[i] *= tail.slope;
    }
  }
  if (tail.clamp > 0.0f) {
    EDGEGRAIN_UNROLL
    for (int i = 0; i < N; ++i) scaled[i] = ptx::clamped(scaled[i], tail.clamp);
  }
#endif
}

// N channels of a pixel, at `offset` in the output; `at` is the pixel's place in its picture.
template <class T, int N>
EDGEGRAIN_HD void finish(const Tail<T>& tail, const Channels<N>& channels, std::int64_t at, std::int64_t offset,
                         const float (&x)[N]) {
  const float noise = to_float(tail.noise[at]);
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
  EDGEGRAIN_UNROLL
  for (int i = 0; i < N; ++i) values[i] *= channels.style[i];
  store_floats(tail.y + offset, values);
}

}  // namespace edgegrain
