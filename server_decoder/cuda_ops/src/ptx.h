// The instructions of the GPU that C++ has no name for, one function each, and accesses to shared memory.
//
// The tests run the kernels on the host: tests/fake_cuda/emulation defines the same functions there, with the rules of
// the hardware (what a warp exchanges, when an asynchronous copy has arrived, who may read what others wrote).
#pragma once

#include <cuda_runtime.h>

#include "number.h"

#ifdef EDGEGRAIN_EMULATION
#include "emulated_ptx.h"
#else

namespace edgegrain::ptx {

// The block's dynamic shared memory, aligned to 128 bytes.
__device__ __forceinline__ unsigned char* shared_memory() {
  extern __shared__ __align__(128) unsigned char memory[];
  return memory;
}

// Makes the compiler keep a value that it could compute again from others.
template <class Value>
__device__ __forceinline__ void keep(Value& value) {
  if constexpr (sizeof(Value) == 8) {
    asm volatile("" : "+l"(value));
  } else {
    asm volatile("" : "+r"(value));
  }
}

// An address in shared memory, as the instructions below take it.
__device__ __forceinline__ std::uint32_t shared_address(const void* shared) {
  return static_cast<std::uint32_t>(__cvta_generic_to_shared(shared));
}

// A value of up to 16 bytes in shared memory, aligned to its size.
template <class Value>
__device__ __forceinline__ Value load_shared(const void* shared) {
  return *static_cast<const Value*>(shared);
}

template <class Value>
__device__ __forceinline__ void store_shared(void* shared, const Value& value) {
  *static_cast<Value*>(shared) = value;
}

// Starts a copy of kBytes (4, 8 or 16) from global to shared memory, through L1; writes zeros and reads nothing unless
// `valid`.
template <int kBytes>
__device__ __forceinline__ void copy_async(std::uint32_t shared, const void* global, bool valid) {
  asm volatile("cp.async.ca.shared.global [%0], [%1], %2, %3;\n" ::"r"(shared), "l"(global),
               "n"(kBytes), "r"(valid ? kBytes : 0)
               : "memory");
}

// The same past L1, for what a block reads once.
__device__ __forceinline__ void copy_async_once(std::uint32_t shared, const void* global, bool valid) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;\n" ::"r"(shared), "l"(global),
               "r"(valid ? 16 : 0)
               : "memory");
}

// Ends a group of this thread's copies.
__device__ __forceinline__ void commit_copies() { asm volatile("cp.async.commit_group;\n" ::: "memory"); }

// Waits until at most kPending groups of this thread's copies are under way. Other threads see them after a barrier.
template <int kPending>
__device__ __forceinline__ void wait_copies() {
  asm volatile("cp.async.wait_group %0;\n" ::"n"(kPending) : "memory");
}

// Four 8 x 8 matrices of halves: lane l gives the address of row l % 8 of matrix l / 8, 16 bytes, and receives elements
// 2 * (l % 4) and the next of row l / 4 of every matrix.
__device__ __forceinline__ void load_matrices(std::uint32_t (&to)[4], std::uint32_t row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];\n"
               : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
               : "r"(row)
               : "memory");
}

// sums (16 x 8, float32) += a (16 x 16, halves) * b (16 x 8, halves), spread over the warp as PTX describes.
__device__ __forceinline__ void multiply_add(float (&sums)[4], const std::uint32_t (&a)[4], std::uint32_t b0,
                                             std::uint32_t b1) {
  asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
               "{%0, %1, %2, %3};\n"
               : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

// Within -limit...limit; NaN stays.
__device__ __forceinline__ float clamped(float value, float limit) {
  asm("min.NaN.f32 %0, %0, %1;\n" : "+f"(value) : "f"(limit));
  asm("max.NaN.f32 %0, %0, %1;\n" : "+f"(value) : "f"(-limit));
  return value;
}

}  // namespace edgegrain::ptx

#endif
