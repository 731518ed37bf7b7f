// Starts a __global__ function; for files that nvcc compiles.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>

namespace edgegrain {

inline const char* text_of(cudaError_t error) { return error == cudaSuccess ? nullptr : cudaGetErrorString(error); }

// Null, or why `function` could not be put on the stream. `shared`: bytes of dynamic shared memory of a block.
template <class... Parameters, class... Arguments>
const char* start(void (*function)(Parameters...), unsigned blocks, unsigned threads, std::size_t shared, void* stream,
                  const Arguments&... arguments) {
  constexpr std::size_t kWithoutAsking = 48 << 10;
  if (shared > kWithoutAsking) {
    const auto error = cudaFuncSetAttribute(function, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                            static_cast<int>(shared));
    if (error != cudaSuccess) {
      cudaGetLastError();  // the next launch shall not report it
      return cudaGetErrorString(error);
    }
  }
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(blocks);
  config.blockDim = dim3(threads);
  config.dynamicSmemBytes = shared;
  config.stream = static_cast<cudaStream_t>(stream);
  const cudaError_t error = cudaLaunchKernelEx(&config, function, arguments...);
  if (error != cudaSuccess) cudaGetLastError();
  return text_of(error);
}

}  // namespace edgegrain
