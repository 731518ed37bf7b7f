// Numbers and 128-bit vectors that the host and the device share.
#pragma once

#include <cstdint>
#include <cstring>

#ifdef __CUDACC__
#include <cuda_fp16.h>
#define EDGEGRAIN_HD __host__ __device__ __forceinline__
#define EDGEGRAIN_UNROLL _Pragma("unroll")
#else
#define EDGEGRAIN_HD inline
#define EDGEGRAIN_UNROLL
#endif

namespace edgegrain {

// IEEE binary16 as stored in memory. All arithmetic is done in float.
struct Half {
  std::uint16_t bits;
};

template <class To, class From>
EDGEGRAIN_HD To bit_cast(From from) {
  static_assert(sizeof(To) == sizeof(From), "bit_cast keeps the size");
  To to;
  memcpy(&to, &from, sizeof(To));
  return to;
}

EDGEGRAIN_HD float to_float(float value) { return value; }

EDGEGRAIN_HD float to_float(Half value) {
#ifdef __CUDA_ARCH__
  return __half2float(__ushort_as_half(value.bits));
#else
  const std::uint32_t sign = (value.bits & 0x8000u) << 16, rest = value.bits & 0x7fffu;
  std::uint32_t bits;
  if (rest >= 0x7c00u) {  // infinity, NaN
    bits = 0x7f800000u | (rest & 0x3ffu) << 13;
  } else if (rest >= 0x400u) {
    bits = (rest << 13) + ((127u - 15u) << 23);
  } else {  // subnormal: a multiple of 2^-24
    bits = bit_cast<std::uint32_t>(static_cast<float>(rest) * 5.9604644775390625e-8f);
  }
  return bit_cast<float>(bits | sign);
#endif
}

// To the nearest, ties to even, as IEEE 754 has it; what is too large becomes infinite.
template <class T>
EDGEGRAIN_HD T from_float(float value);

template <>
EDGEGRAIN_HD float from_float<float>(float value) {
  return value;
}

template <>
EDGEGRAIN_HD Half from_float<Half>(float value) {
#ifdef __CUDA_ARCH__
  return Half{__half_as_ushort(__float2half_rn(value))};
#else
  const std::uint32_t whole = bit_cast<std::uint32_t>(value), sign = whole & 0x80000000u;
  std::uint32_t bits = whole ^ sign;
  if (bits >= 0x47800000u) {  // 2^16 and more
    bits = bits > 0x7f800000u ? 0x7e00u : 0x7c00u;
  } else if (bits < 0x38800000u) {  // below 2^-14: adding 1/2 shifts and rounds to multiples of 2^-24
    bits = bit_cast<std::uint32_t>(bit_cast<float>(bits) + 0.5f) - 0x3f000000u;
  } else {
    const std::uint32_t odd = bits >> 13 & 1u;
    bits = (bits - ((127u - 15u) << 23) + 0xfffu + odd) >> 13;
  }
  return Half{static_cast<std::uint16_t>(bits | sign >> 16)};
#endif
}

// Elements of 16 bytes: 4 floats or 8 halves.
template <class T>
constexpr int kWide = 16 / static_cast<int>(sizeof(T));

// 16 bytes, aligned to 16, read or written at once.
struct alignas(16) Words {
  std::uint32_t words[4];
};

// Through the read-only path: no op lets an output share its memory with an input, so reads may overtake writes.
EDGEGRAIN_HD Words load_words(const void* from) {
#ifdef __CUDA_ARCH__
  const uint4 read = __ldg(static_cast<const uint4*>(from));
  return Words{{read.x, read.y, read.z, read.w}};
#else
  Words words;
  std::memcpy(&words, from, sizeof(words));
  return words;
#endif
}

EDGEGRAIN_HD void store_words(void* to, const Words& words) {
#ifdef __CUDA_ARCH__
  // The intrinsic stays one instruction; a plain write is split where it stands behind a condition.
  __stwb(static_cast<uint4*>(to), make_uint4(words.words[0], words.words[1], words.words[2], words.words[3]));
#else
  std::memcpy(to, &words, sizeof(words));
#endif
}

// Element i of consecutive words.
template <class T>
EDGEGRAIN_HD float element(const std::uint32_t* words, int i) {
  if constexpr (sizeof(T) == 4) {
    return bit_cast<float>(words[i]);
  } else {
    return to_float(Half{static_cast<std::uint16_t>(words[i / 2] >> 16 * (i % 2))});
  }
}

// N consecutive elements as they lie in memory. On the device: 16 bytes on a multiple of 16, or one element anywhere. On
// the host any number; the compiler makes its own vectors of a loop over them.
template <class T, int N>
struct Vector {
#ifdef __CUDA_ARCH__
  static_assert(N * sizeof(T) == 16, "a vector has 16 bytes");
  Words words;

  static EDGEGRAIN_HD Vector load(const T* from) { return {load_words(from)}; }
  EDGEGRAIN_HD float operator[](int i) const { return element<T>(words.words, i); }
#else
  T values[N];

  static EDGEGRAIN_HD Vector load(const T* from) {
    Vector vector;
    std::memcpy(vector.values, from, sizeof(vector.values));
    return vector;
  }
  EDGEGRAIN_HD float operator[](int i) const { return to_float(values[i]); }
#endif
};

template <class T>
struct Vector<T, 1> {
  T value;

  static EDGEGRAIN_HD Vector load(const T* from) { return {*from}; }
  EDGEGRAIN_HD float operator[](int) const { return to_float(value); }
};

template <class T, int N>
EDGEGRAIN_HD void store_floats(T* to, const float (&values)[N]) {
#ifdef __CUDA_ARCH__
  if constexpr (N == 1) {
    *to = from_float<T>(values[0]);
  } else {
    static_assert(N * sizeof(T) == 16, "a vector has 16 bytes");
    Words packed;
    EDGEGRAIN_UNROLL
    for (int i = 0; i < 4; ++i) {
      if constexpr (sizeof(T) == 4) {
        packed.words[i] = bit_cast<std::uint32_t>(values[i]);
      } else {
        packed.words[i] = from_float<Half>(values[2 * i]).bits |
                          static_cast<std::uint32_t>(from_float<Half>(values[2 * i + 1]).bits) << 16;
      }
    }
    store_words(to, packed);
  }
#else
  for (int i = 0; i < N; ++i) to[i] = from_float<T>(values[i]);
#endif
}

inline bool is_wide(const void* address) { return reinterpret_cast<std::uintptr_t>(address) % 16 == 0; }

}  // namespace edgegrain
