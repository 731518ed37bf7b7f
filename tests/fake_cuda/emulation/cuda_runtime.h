// The part of CUDA's run time that the kernels use, for a compiler without CUDA: `__global__` functions become ordinary
// functions, and a launch runs them on the host (device.h). As nvcc does with the real one, include it before all else.
#pragma once

#define __CUDACC__ 1
#define __CUDA_ARCH__ 800

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <tuple>
#include <type_traits>

#include "device.h"

#define __host__
#define __device__
#define __global__
#define __grid_constant__
#define __forceinline__ inline __attribute__((always_inline))  // never merged with a copy compiled for the CPU
#define __launch_bounds__(...)

struct dim3 {
  unsigned x, y, z;
  constexpr dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};

struct alignas(8) int2 { int x, y; };
struct int3 { int x, y, z; };
struct alignas(16) uint4 { unsigned x, y, z, w; };
struct alignas(8) float2 { float x, y; };
struct alignas(16) float4 { float x, y, z, w; };
inline int2 make_int2(int x, int y) { return {x, y}; }
inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return {x, y, z, w}; }
inline float2 make_float2(float x, float y) { return {x, y}; }
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }

namespace emulation {

template <std::uint32_t (*kValue)()>
struct Dimension {
  struct {
    operator unsigned() const { return kValue(); }
  } x;
};

}  // namespace emulation

inline const emulation::Dimension<emulation::thread_number> threadIdx{};
inline const emulation::Dimension<emulation::block_number> blockIdx{};
inline const emulation::Dimension<emulation::thread_count> blockDim{};
inline const emulation::Dimension<emulation::block_count> gridDim{};

inline void __syncthreads() { ::emulation::wait_for_block(); }

template <class Value>
Value __ldg(const Value* from) {
  ::emulation::check_alignment(from, sizeof(Value), "read");
  return *from;
}

template <class Value>
void __stwb(Value* to, Value value) {
  ::emulation::check_alignment(to, sizeof(Value), "write");
  *to = value;
}

inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fmul_rn(float a, float b) { return a * b; }

// ------------------------------------------------------------------------------------------------ the run time

enum cudaError_t { cudaSuccess = 0, cudaErrorInvalidValue = 1, cudaErrorInvalidConfiguration = 9 };
enum cudaFuncAttribute { cudaFuncAttributeMaxDynamicSharedMemorySize = 8 };
enum cudaDeviceAttr { cudaDevAttrMultiProcessorCount = 16 };
using cudaStream_t = void*;

struct cudaLaunchConfig_t {
  dim3 gridDim, blockDim;
  std::size_t dynamicSmemBytes;
  cudaStream_t stream;
  void* attrs;
  unsigned numAttrs;
};

// The queue of the fake CUDA run time (tests/fake_cuda/device), where that is linked in.
extern "C" __attribute__((weak)) const char* fake_cuda_enqueue(void* stream, const char* name,
                                                               void (*run)(const void* state), const void* state,
                                                               std::size_t bytes);

namespace emulation {

inline cudaError_t& last_error() {
  static thread_local cudaError_t error = cudaSuccess;
  return error;
}

template <class... Parameters>
struct Launch {
  void (*function)(Parameters...);
  Grid grid;
  std::tuple<std::decay_t<Parameters>...> parameters;

  static void run(const void* state) {
    // Copied as bytes by the queue: parameters are plain data.
    const auto& launch = *static_cast<const Launch*>(state);
    run_grid(launch.grid, [&launch] { std::apply(launch.function, launch.parameters); });
  }
};

}  // namespace emulation

template <class... Parameters, class... Arguments>
cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t* config, void (*function)(Parameters...),
                               const Arguments&... arguments) {
  static_assert((std::is_trivially_copyable_v<std::decay_t<Parameters>> && ...), "parameters are plain data");
  static_assert((0 + ... + sizeof(std::decay_t<Parameters>)) <= 4096, "parameters have at most 4 KiB");
  using Launch = emulation::Launch<Parameters...>;
  const emulation::Grid grid{config->gridDim.x, config->blockDim.x, config->dynamicSmemBytes};
  const bool flat = config->gridDim.y == 1 && config->gridDim.z == 1 && config->blockDim.y == 1 &&
                    config->blockDim.z == 1;
  if (!flat || !emulation::can_launch(reinterpret_cast<const void*>(function), grid)) {
    return emulation::last_error() = cudaErrorInvalidConfiguration;
  }
  const Launch launch{function, grid, {arguments...}};
  if (!fake_cuda_enqueue) {
    Launch::run(&launch);
  } else if (fake_cuda_enqueue(config->stream, "edgegrain", Launch::run, &launch, sizeof(launch))) {
    return emulation::last_error() = cudaErrorInvalidValue;
  }
  return cudaSuccess;
}

template <class... Parameters>
cudaError_t cudaFuncSetAttribute(void (*function)(Parameters...), cudaFuncAttribute, int value) {
  const bool allowed = emulation::allow_shared_memory(reinterpret_cast<const void*>(function), value);
  return allowed ? cudaSuccess : emulation::last_error() = cudaErrorInvalidValue;
}

inline cudaError_t cudaGetLastError() {
  const cudaError_t error = emulation::last_error();
  emulation::last_error() = cudaSuccess;
  return error;
}

inline const char* cudaGetErrorString(cudaError_t error) {
  return error == cudaErrorInvalidConfiguration ? "invalid configuration argument" : "invalid argument";
}

inline cudaError_t cudaGetDevice(int* device) { return *device = 0, cudaSuccess; }

inline cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr, int) {
  *value = emulation::multiprocessors();
  return cudaSuccess;
}
