// The factors of a modulated convolution, from its style.
#pragma once

#include <cmath>

#include "number.h"

namespace edgegrain {

//   peak = normalize ? max |style| : 1
//   factors = style / peak
//   gain = (demodulate ? 1 / sqrt(style^2 . squares + epsilon) : 1) * (normalize ? peak * norm : 1)
//
// An item: N gains, or N factors. The GPU takes N = 1, where threads side by side read squares side by side.
template <int N>
struct ModulationFactors {
  static constexpr int kTogether = 16 / N;  // rows of squares that are read at the same time

  const float* style;    // [B, C]
  const float* squares;  // [C, O]; with demodulate
  const float* norm;     // [O] or null
  float* factors;        // [B, C] or null
  float* gain;           // [B, O] or null
  std::uint32_t channels, outputs;        // C, O
  std::uint32_t gain_items, style_items;  // of a picture: ceil(O / N), ceil(C / N)
  bool demodulate, normalize;
  float epsilon;

  EDGEGRAIN_HD void operator()(std::uint32_t item) const {
    const std::uint32_t b = item / (gain_items + style_items), at = item % (gain_items + style_items);
    const float* const own = style + static_cast<std::int64_t>(b) * channels;
    const float divisor = normalize ? peak(own) : 1.0f;
    if (at < gain_items) {
      if (gain) write_gains(own, divisor, gain + static_cast<std::int64_t>(b) * outputs, at * N);
    } else if (factors) {
      float* const to = factors + static_cast<std::int64_t>(b) * channels;
      const std::uint32_t first = (at - gain_items) * N;
      for (std::uint32_t c = first; c < first + N && c < channels; ++c) to[c] = own[c] / divisor;
    }
  }

  EDGEGRAIN_HD void write_gains(const float* own, float divisor, float* to, std::uint32_t first) const {
    float values[N];
    EDGEGRAIN_UNROLL
    for (int i = 0; i < N; ++i) values[i] = 1.0f;
    if (demodulate) {
      if (first + N <= outputs) {
        variances(own, first, values);
      } else {
        for (std::uint32_t i = 0; i < outputs - first; ++i) {
          values[i] = 0.0f;
          for (std::uint32_t c = 0; c < channels; ++c) values[i] += own[c] * own[c] * square(c, first + i);
        }
      }
      EDGEGRAIN_UNROLL
      for (int i = 0; i < N; ++i) values[i] = 1.0f / sqrtf(values[i] + epsilon);
    }
    for (std::uint32_t i = 0; i < N && first + i < outputs; ++i) {
      to[first + i] = normalize ? values[i] * divisor * (norm ? norm[first + i] : 1.0f) : values[i];
    }
  }

  EDGEGRAIN_HD void variances(const float* own, std::uint32_t first, float (&values)[N]) const {
    float sums[kTogether][N] = {};
    std::uint32_t c = 0;
    for (; c + kTogether <= channels; c += kTogether) {
      EDGEGRAIN_UNROLL
      for (int k = 0; k < kTogether; ++k) {
        const float power = own[c + k] * own[c + k];
        EDGEGRAIN_UNROLL
        for (int i = 0; i < N; ++i) sums[k][i] += power * square(c + k, first + i);
      }
    }
    EDGEGRAIN_UNROLL
    for (int i = 0; i < N; ++i) {
      values[i] = 0.0f;
      for (std::uint32_t k = c; k < channels; ++k) values[i] += own[k] * own[k] * square(k, first + i);
      EDGEGRAIN_UNROLL
      for (int k = 0; k < kTogether; ++k) values[i] += sums[k][i];
    }
  }

  EDGEGRAIN_HD float square(std::uint32_t c, std::uint32_t output) const {
    return squares[static_cast<std::int64_t>(c) * outputs + output];
  }

  EDGEGRAIN_HD float peak(const float* own) const {
    float largest = 1.17549435e-38f;  // the smallest normal number: a style of zeros stays one
    for (std::uint32_t c = 0; c < channels; ++c) {
      const float size = fabsf(own[c]);
      largest = size > largest || size != size ? size : largest;  // NaN stays visible
    }
    return largest;
  }
};

}  // namespace edgegrain
