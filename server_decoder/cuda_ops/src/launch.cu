#include <cuda_runtime.h>

#include "bias_act_nhwc.h"
#include "copy_channels.h"
#include "fir.h"
#include "fir_nhwc.h"
#include "haar.h"
#include "haar_nhwc.h"
#include "launch.h"
#include "modulation.h"
#include "quantization.h"
#include "upsample.h"

namespace edgegrain {
namespace {

constexpr unsigned kThreads = 256;

template <class Kernel>
__global__ void __launch_bounds__(kThreads) run(const __grid_constant__ Kernel kernel, const std::uint32_t items) {
  const std::uint64_t stride = static_cast<std::uint64_t>(gridDim.x) * kThreads;
  for (std::uint64_t item = static_cast<std::uint64_t>(blockIdx.x) * kThreads + threadIdx.x; item < items;
       item += stride) {
    kernel(static_cast<std::uint32_t>(item));
  }
}

}  // namespace

template <class Kernel>
const char* launch(const Kernel& kernel, std::uint32_t items, void* stream) {
  if (items == 0) return nullptr;
  const unsigned blocks = items / kThreads + (items % kThreads != 0);
  run<<<blocks, kThreads, 0, static_cast<cudaStream_t>(stream)>>>(kernel, items);
  const cudaError_t error = cudaGetLastError();
  return error == cudaSuccess ? nullptr : cudaGetErrorString(error);
}

#define EDGEGRAIN_LAUNCH(...) \
  template const char* launch<__VA_ARGS__>(const __VA_ARGS__&, std::uint32_t, void*);

#define EDGEGRAIN_LAUNCH_ALL(T)              \
  EDGEGRAIN_LAUNCH(DemodBiasAct<T, kWide<T>>) \
  EDGEGRAIN_LAUNCH(DemodBiasAct<T, 1>)        \
  EDGEGRAIN_LAUNCH(Fir<T, false, kWide<T>>)   \
  EDGEGRAIN_LAUNCH(Fir<T, true, kWide<T>>)    \
  EDGEGRAIN_LAUNCH(UpFirDn<T, kWide<T>>)      \
  EDGEGRAIN_LAUNCH(UpFirDn<T, 1>)             \
  EDGEGRAIN_LAUNCH(InverseHaar<T, kWide<T>>)  \
  EDGEGRAIN_LAUNCH(InverseHaar<T, 1>)

// Channels-last maps: N channels of a pixel.
#define EDGEGRAIN_LAUNCH_NHWC(T, N)            \
  EDGEGRAIN_LAUNCH(DemodBiasActNhwc<T, N>)     \
  EDGEGRAIN_LAUNCH(FirNhwc<T, false, N>)       \
  EDGEGRAIN_LAUNCH(FirNhwc<T, true, N>)        \
  EDGEGRAIN_LAUNCH(UpFirDnNhwc<T, N>)          \
  EDGEGRAIN_LAUNCH(InverseHaarNhwc<T, N>)      \
  EDGEGRAIN_LAUNCH(Upsample<T, false, N>)      \
  EDGEGRAIN_LAUNCH(Upsample<T, true, N>)       \
  EDGEGRAIN_LAUNCH(CopyChannels<T, N>)         \
  EDGEGRAIN_LAUNCH(Dequantize<T, N>)           \
  EDGEGRAIN_LAUNCH(Quantize<T, N>)

EDGEGRAIN_LAUNCH_ALL(float)
EDGEGRAIN_LAUNCH_ALL(Half)
EDGEGRAIN_LAUNCH_NHWC(float, kWide<float>)
EDGEGRAIN_LAUNCH_NHWC(float, 1)
EDGEGRAIN_LAUNCH_NHWC(Half, kWide<Half>)
EDGEGRAIN_LAUNCH_NHWC(Half, 1)
EDGEGRAIN_LAUNCH(ModulationFactors<1>)

}  // namespace edgegrain
