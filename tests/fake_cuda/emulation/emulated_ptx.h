// ptx.h on the host, with the rules of the hardware.
#pragma once

#include <cmath>
#include <cstring>

#include "cuda_fp16.h"
#include "device.h"

namespace edgegrain::ptx {

inline unsigned char* shared_memory() { return emulation::shared_memory(); }

template <class Value>
inline void keep(Value&) {}

// Offsets in the block's shared memory, from an arbitrary multiple of 128 on.
constexpr std::uint32_t kSharedBase = 1024;

inline std::uint32_t shared_address(const void* shared) {
  return kSharedBase + static_cast<std::uint32_t>(static_cast<const unsigned char*>(shared) - shared_memory());
}

inline unsigned char* at_shared(std::uint32_t address) { return shared_memory() + (address - kSharedBase); }

template <class Value>
inline Value load_shared(const void* shared) {
  emulation::check_alignment(shared, sizeof(Value), "read of shared memory");
  emulation::read_shared(emulation::thread_number(), shared, sizeof(Value));
  Value value;
  std::memcpy(&value, shared, sizeof(value));
  return value;
}

template <class Value>
inline void store_shared(void* shared, const Value& value) {
  emulation::check_alignment(shared, sizeof(Value), "write to shared memory");
  emulation::write_shared(shared, sizeof(Value));
  std::memcpy(shared, &value, sizeof(value));
}

template <int kBytes>
inline void copy_async(std::uint32_t shared, const void* global, bool valid) {
  static_assert(kBytes == 4 || kBytes == 8 || kBytes == 16, "sizes of cp.async");
  emulation::check_alignment(at_shared(shared), kBytes, "asynchronous copy to shared memory");
  emulation::check_alignment(global, kBytes, "asynchronous copy from global memory");
  emulation::start_copy(at_shared(shared), global, kBytes, valid);
}

inline void copy_async_once(std::uint32_t shared, const void* global, bool valid) {
  copy_async<16>(shared, global, valid);
}

inline void commit_copies() { emulation::end_copies(); }

template <int kPending>
inline void wait_copies() {
  emulation::wait_for_copies(kPending);
}

inline void load_matrices(std::uint32_t (&to)[4], std::uint32_t row) {
  struct Lane {
    std::uint32_t* to;
    const unsigned char* row;
  } lane{to, at_shared(row)};
  emulation::check_alignment(lane.row, 16, "ldmatrix");
  emulation::with_warp("ldmatrix", &lane, [](void* const (&brought)[32], std::uint32_t first_thread) {
    const auto of = [&brought](int lane) { return static_cast<const Lane*>(brought[lane]); };
    for (int lane = 0; lane < 32; ++lane) emulation::read_shared(first_thread + lane, of(lane)->row, 16);
    for (int lane = 0; lane < 32; ++lane) {
      for (int matrix = 0; matrix < 4; ++matrix) {
        std::memcpy(&of(lane)->to[matrix], of(matrix * 8 + lane / 4)->row + lane % 4 * 4, 4);
      }
    }
  });
}

// Products of halves are exact; the sum of 16 of them is rounded once, to float32.
inline void multiply_add(float (&sums)[4], const std::uint32_t (&a)[4], std::uint32_t b0, std::uint32_t b1) {
  struct Lane {
    float* sums;
    std::uint32_t a[4], b[2];
  } lane{sums, {a[0], a[1], a[2], a[3]}, {b0, b1}};
  emulation::with_warp("mma", &lane, [](void* const (&brought)[32], std::uint32_t) {
    const auto half = [](std::uint32_t word, int which) {
      return __half2float(__ushort_as_half(static_cast<std::uint16_t>(word >> 16 * which)));
    };
    float rows[16][16], columns[8][16];  // of a and of b
    for (int lane = 0; lane < 32; ++lane) {
      const auto& from = *static_cast<const Lane*>(brought[lane]);
      const int group = lane / 4, within = lane % 4 * 2;
      for (int which = 0; which < 2; ++which) {
        rows[group][within + which] = half(from.a[0], which);
        rows[group + 8][within + which] = half(from.a[1], which);
        rows[group][within + 8 + which] = half(from.a[2], which);
        rows[group + 8][within + 8 + which] = half(from.a[3], which);
        columns[group][within + which] = half(from.b[0], which);
        columns[group][within + 8 + which] = half(from.b[1], which);
      }
    }
    for (int lane = 0; lane < 32; ++lane) {
      float* const to = static_cast<const Lane*>(brought[lane])->sums;
      for (int i = 0; i < 4; ++i) {
        const float* row = rows[lane / 4 + i / 2 * 8];
        const float* column = columns[lane % 4 * 2 + i % 2];
        double sum = to[i];
        for (int k = 0; k < 16; ++k) sum += static_cast<double>(row[k]) * column[k];
        to[i] = static_cast<float>(sum);
      }
    }
  });
}

inline float clamped(float value, float limit) {  // NaN stays
  if (value > limit) return limit;
  return value < -limit ? -limit : value;
}

}  // namespace edgegrain::ptx
