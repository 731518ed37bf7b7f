// Conversion between levels 0...255 and values -1...1, as codec_contract/quantization.py has it.
#pragma once

#include <cmath>

#include "number.h"

namespace edgegrain {

// An item: N levels. N > 1 needs both arrays on multiples of 16 bytes.
template <class T, int N>
struct Dequantize {
  const std::uint8_t* levels;
  T* values;

  EDGEGRAIN_HD void operator()(std::uint32_t item) const {
    const std::int64_t at = static_cast<std::int64_t>(item) * N;
    float read[N];
#ifdef __CUDA_ARCH__
    if constexpr (N % 4 == 0) {
      EDGEGRAIN_UNROLL
      for (int i = 0; i < N; i += 4) {
        const std::uint32_t word = *reinterpret_cast<const std::uint32_t*>(levels + at + i);
        EDGEGRAIN_UNROLL
        for (int k = 0; k < 4; ++k) read[i + k] = value(word >> 8 * k & 255u);
      }
      store_floats(values + at, read);
      return;
    }
#endif
    for (int i = 0; i < N; ++i) read[i] = value(levels[at + i]);
    store_floats(values + at, read);
  }

  static EDGEGRAIN_HD float value(std::uint32_t level) { return static_cast<float>(level) / 127.5f - 1.0f; }
};

// An item: N values. Half a level rounds up, excess is clipped; NaN, which has no level, becomes 0.
template <class T, int N>
struct Quantize {
  const T* values;
  std::uint8_t* levels;

  EDGEGRAIN_HD void operator()(std::uint32_t item) const {
    const std::int64_t at = static_cast<std::int64_t>(item) * N;
    const auto read = Vector<T, N>::load(values + at);
#ifdef __CUDA_ARCH__
    if constexpr (N % 4 == 0) {
      EDGEGRAIN_UNROLL
      for (int i = 0; i < N; i += 4) {
        std::uint32_t word = 0;
        EDGEGRAIN_UNROLL
        for (int k = 0; k < 4; ++k) word |= level(read[i + k]) << 8 * k;
        *reinterpret_cast<std::uint32_t*>(levels + at + i) = word;
      }
      return;
    }
#endif
    for (int i = 0; i < N; ++i) levels[at + i] = static_cast<std::uint8_t>(level(read[i]));
  }

  // Every step is rounded to float32, as numpy does: a fused multiply-add would give other levels.
  static EDGEGRAIN_HD std::uint32_t level(float value) {
#ifdef __CUDA_ARCH__
    const float scaled = floorf(__fadd_rn(__fmul_rn(__fadd_rn(value, 1.0f), 127.5f), 0.5f));
#else
    const float scaled = floorf((value + 1.0f) * 127.5f + 0.5f);
#endif
    return scaled > 255.0f ? 255u : scaled > 0.0f ? static_cast<std::uint32_t>(scaled) : 0u;
  }
};

}  // namespace edgegrain
