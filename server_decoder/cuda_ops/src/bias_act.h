// The steps after a modulated convolution: demodulation, noise, bias, leaky ReLU, and the next layer's style.
//
//   v = clamp(gain * leaky(x * demodulation[b, c] + noise[b, h, w] + bias[c]))
//   y = v, and modulated = v * style[b, c]
//
// Every kernel here is a plain object whose call does one item of work, on the host as on the device: what the tests run
// on the CPU is, but for the launch, what the GPU runs.
#pragma once

#include "number.h"
#ifdef __CUDACC__
#include "ptx.h"
#endif

namespace edgegrain {

// Null pointers leave their step out. Factors and bias are float32 for every T.
template <class T>
struct Tail {
  const float* demodulation;  // [B, C]
  const T* noise;             // [1 or B, 1, H, W]
  const float* bias;          // [C]
  const float* style;         // [B, C]
  T* plain;                   // [B, C, H, W]
  T* modulated;               // [B, C, H, W]; with a style only
  std::int64_t noise_stride;  // from one picture's noise to the next: H * W, or 0 where they share it
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

// The factors of channel c of picture b.
struct Channel {
  float demodulation, bias, style;

  template <class T>
  EDGEGRAIN_HD Channel(const Tail<T>& tail, std::uint32_t b, std::uint32_t c, std::uint32_t channels) {
    const std::int64_t row = static_cast<std::int64_t>(b) * channels + c;
    demodulation = tail.demodulation ? tail.demodulation[row] : 1.0f;
    bias = tail.bias ? tail.bias[c] : 0.0f;
    style = tail.style ? tail.style[row] : 1.0f;
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

// N values of a channel, at `offset` in the output.
template <class T, int N>
EDGEGRAIN_HD void finish(const Tail<T>& tail, const Channel& channel, std::int64_t offset, const float (&x)[N],
                         const float (&noise)[N]) {
  float values[N];
#ifdef __CUDA_ARCH__
  const float demodulation = channel.demodulation * tail.gain, bias = channel.bias * tail.gain;
  EDGEGRAIN_UNROLL
  for (int i = 0; i < N; ++i) values[i] = x[i] * demodulation + (noise[i] * tail.gain + bias);
  activate_scaled(tail, values);
#else
  for (int i = 0; i < N; ++i) {
    values[i] = activate(x[i] * channel.demodulation + (noise[i] + channel.bias), tail.slope, tail.gain, tail.clamp);
  }
#endif
  if (tail.plain) store_floats(tail.plain + offset, values);
  if (tail.modulated) {
    EDGEGRAIN_UNROLL
    for (int i = 0; i < N; ++i) values[i] *= channel.style;
    store_floats(tail.modulated + offset, values);
  }
}

// N values of picture b's noise from position `at` of the plane on; zeros where there is none.
template <class T, int N>
EDGEGRAIN_HD void load_noise(const Tail<T>& tail, std::uint32_t b, std::int64_t at, float (&noise)[N]) {
  if (tail.noise) {
    const auto read = Vector<T, N>::load(tail.noise + b * tail.noise_stride + at);
    EDGEGRAIN_UNROLL
    for (int i = 0; i < N; ++i) noise[i] = read[i];
  } else {
    EDGEGRAIN_UNROLL
    for (int i = 0; i < N; ++i) noise[i] = 0.0f;
  }
}

// An item: N neighbouring pixels of kChannels channels, which share one read of the noise. N > 1 needs H * W to be a
// multiple of N and all tensors on multiples of 16 bytes.
template <class T, int N>
struct DemodBiasAct {
  static constexpr std::uint32_t kChannels = 4;

  const T* x;  // [B, C, H, W]
  Tail<T> tail;
  std::uint32_t channels, groups, strips;  // C, ceil(C / kChannels), H * W / N
  std::int64_t plane;                      // H * W

  EDGEGRAIN_HD void operator()(std::uint32_t item) const {
    const std::uint32_t strip = item % strips, rest = item / strips;
    const std::uint32_t first = rest % groups * kChannels, b = rest / groups;
    const std::int64_t at = static_cast<std::int64_t>(strip) * N;
    const std::int64_t offset = (static_cast<std::int64_t>(b) * channels + first) * plane + at;
    Vector<T, N> inputs[kChannels];  // all reads before the first write: they are under way together
    EDGEGRAIN_UNROLL
    for (std::uint32_t i = 0; i < kChannels; ++i) {
      if (first + i < channels) inputs[i] = Vector<T, N>::load(x + offset + i * plane);
    }
    float noise[N];
    load_noise(tail, b, at, noise);
    EDGEGRAIN_UNROLL
    for (std::uint32_t i = 0; i < kChannels; ++i) {
      if (first + i < channels) {
        float values[N];
        EDGEGRAIN_UNROLL
        for (int k = 0; k < N; ++k) values[k] = inputs[i][k];
        finish(tail, Channel(tail, b, first + i, channels), offset + i * plane, values, noise);
      }
    }
  }
};

}  // namespace edgegrain
