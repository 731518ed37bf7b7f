// The steps after a convolution on the GPU: from sums in float32 to the stored channels of a pixel.
#pragma once

#include "conv.h"

namespace edgegrain {

// kCount neighbouring channels: 16 bytes where kCount is kWide<T>, or one.
template <class T, int kCount>
struct Run {
  static __device__ __forceinline__ void load(const T* from, float (&values)[kCount]) {
    if constexpr (kCount == 1) {
      values[0] = to_float(*from);
    } else {  // not through the read-only path: `y` may be another slice of the map that is read
      const uint4 read = *reinterpret_cast<const uint4*>(from);
      const std::uint32_t words[4] = {read.x, read.y, read.z, read.w};
      EDGEGRAIN_UNROLL
      for (int i = 0; i < kCount; ++i) values[i] = element<T>(words, i);
    }
  }

  // Factors, which are float32 for every T.
  static __device__ __forceinline__ void load_factors(const float* from, float (&values)[kCount]) {
    if constexpr (kCount == 1) {
      values[0] = *from;
    } else {
      EDGEGRAIN_UNROLL
      for (int i = 0; i < kCount; i += 4) {
        const float4 read = *reinterpret_cast<const float4*>(from + i);
        values[i] = read.x, values[i + 1] = read.y, values[i + 2] = read.z, values[i + 3] = read.w;
      }
    }
  }
};

// The channels from o on of output pixel (row, column) of picture b.
template <class T, int kCount>
__device__ __forceinline__ void finish_channels(const Conv<T>& conv, std::int32_t b, std::int32_t row,
                                                std::int32_t column, std::int32_t o, float (&values)[kCount]) {
  const std::int64_t in_picture = static_cast<std::int64_t>(row) * conv.out_width + column;
  const std::int64_t pixel = static_cast<std::int64_t>(b) * conv.out_height * conv.out_width + in_picture;
  const std::int64_t channel = static_cast<std::int64_t>(b) * conv.out_channels + o;
  float factors[kCount];
  if (conv.demodulation) {
    Run<T, kCount>::load_factors(conv.demodulation + channel, factors);
    EDGEGRAIN_UNROLL
    for (int i = 0; i < kCount; ++i) values[i] *= factors[i];
  }
  const float noise = conv.noise ? to_float(conv.noise[in_picture]) : 0.0f;
  EDGEGRAIN_UNROLL
  for (int i = 0; i < kCount; ++i) factors[i] = 0.0f;
  if (conv.bias) Run<T, kCount>::load_factors(conv.bias + o, factors);
  if (conv.residual_first) {
    EDGEGRAIN_UNROLL
    for (int i = 0; i < kCount; ++i) values[i] += factors[i];
    Run<T, kCount>::load(conv.residual + pixel * conv.residual_stride + o, factors);
  }
  EDGEGRAIN_UNROLL
  for (int i = 0; i < kCount; ++i) {
    values[i] = activate(values[i] + (noise + factors[i]), conv.slope, conv.gain, conv.clamp);
  }
  if (conv.residual && !conv.residual_first) {
    Run<T, kCount>::load(conv.residual + pixel * conv.residual_stride + o, factors);
    EDGEGRAIN_UNROLL
    for (int i = 0; i < kCount; ++i) values[i] = factors[i] + conv.scale * values[i];
  }
  if (conv.outer) {
    Run<T, kCount>::load(conv.outer + pixel * conv.outer_stride + o, factors);
    EDGEGRAIN_UNROLL
    for (int i = 0; i < kCount; ++i) values[i] = factors[i] + conv.outer_scale * values[i];
  }
  if (conv.y) store_floats(conv.y + pixel * conv.y_stride + o, values);
  if (conv.modulated) {
    Run<T, kCount>::load_factors(conv.style + channel, factors);
    EDGEGRAIN_UNROLL
    for (int i = 0; i < kCount; ++i) values[i] *= factors[i];
    store_floats(conv.modulated + pixel * conv.out_channels + o, values);
  }
}

// True if `finish_channels` may take kWide<T> channels at a time, from multiples of kWide<T> on.
template <class T>
bool is_wide_output(const Conv<T>& conv) {
  const auto whole = [](std::int64_t stride) { return stride % kWide<T> == 0; };
  return whole(conv.out_channels) && is_wide(conv.demodulation) && is_wide(conv.bias) && is_wide(conv.style) &&
         is_wide(conv.y) && (!conv.y || whole(conv.y_stride)) && is_wide(conv.modulated) && is_wide(conv.residual) &&
         (!conv.residual || whole(conv.residual_stride)) && is_wide(conv.outer) &&
         (!conv.outer || whole(conv.outer_stride));
}

}  // namespace edgegrain
