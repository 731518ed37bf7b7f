// A map into a slice of a wider one.
#pragma once

#include "number.h"

namespace edgegrain {

// An item: N channels of a pixel.
template <class T, int N>
struct CopyChannels {
  const T* x;  // [pixels, C]
  T* y;        // [pixels, stride]
  std::uint32_t groups;  // C / N
  std::int64_t stride;

  EDGEGRAIN_HD void operator()(std::uint32_t item) const {
    const std::uint32_t c = item % groups * N, pixel = item / groups;
    const auto read = Vector<T, N>::load(x + static_cast<std::int64_t>(item) * N);
    float values[N];
    EDGEGRAIN_UNROLL
    for (int i = 0; i < N; ++i) values[i] = read[i];
    store_floats(y + pixel * stride + c, values);
  }
};

}  // namespace edgegrain
