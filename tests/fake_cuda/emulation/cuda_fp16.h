// The few half-precision intrinsics that the kernels use, on the host.
#pragma once

#include <cstdint>
#include <cstring>

struct __half {
  std::uint16_t bits;
};

inline __half __ushort_as_half(std::uint16_t bits) { return {bits}; }
inline std::uint16_t __half_as_ushort(__half value) { return value.bits; }

inline float __half2float(__half value) {
  _Float16 number;
  std::memcpy(&number, &value.bits, sizeof(number));
  return static_cast<float>(number);
}

inline __half __float2half_rn(float value) {
  const auto number = static_cast<_Float16>(value);
  __half result;
  std::memcpy(&result.bits, &number, sizeof(number));
  return result;
}
