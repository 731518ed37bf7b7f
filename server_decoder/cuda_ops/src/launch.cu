#include "fir.h"
#include "haar.h"
#include "launch.h"
#include "launch_kernel.h"
#include "modulation.h"
#include "quantization.h"
#include "upsample.h"

namespace edgegrain {
namespace {

constexpr unsigned kThreads = 128, kBlocks = 3;  // of a multiprocessor at least, which leaves 168 registers

template <class Kernel>
__global__ void __launch_bounds__(kThreads, kBlocks)
    run(const __grid_constant__ Kernel kernel, const std::uint32_t items) {
  const std::uint64_t item = static_cast<std::uint64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (item < items) kernel(static_cast<std::uint32_t>(item));
}

}  // namespace

template <class Kernel>
const char* launch(const Kernel& kernel, std::uint32_t items, void* stream) {
  if (items == 0) return nullptr;
  const unsigned blocks = items / kThreads + (items % kThreads != 0);
  return start(run<Kernel>, blocks, kThreads, 0, stream, kernel, items);
}

#define EDGEGRAIN_LAUNCH(...) \
  template const char* launch<__VA_ARGS__>(const __VA_ARGS__&, std::uint32_t, void*);

// Kernels of any number of elements an item, N.
#define EDGEGRAIN_LAUNCH_N(T, N)          \
  EDGEGRAIN_LAUNCH(FilteredBiasAct<T, N>) \
  EDGEGRAIN_LAUNCH(InverseHaar<T, N>)     \
  EDGEGRAIN_LAUNCH(Upsample<T, false, N>) \
  EDGEGRAIN_LAUNCH(Upsample<T, true, N>)  \
  EDGEGRAIN_LAUNCH(Dequantize<T, N>)      \
  EDGEGRAIN_LAUNCH(Quantize<T, N>)

EDGEGRAIN_LAUNCH_N(float, kWide<float>)
EDGEGRAIN_LAUNCH_N(float, 1)
EDGEGRAIN_LAUNCH_N(Half, kWide<Half>)
EDGEGRAIN_LAUNCH_N(Half, 1)
EDGEGRAIN_LAUNCH(UpFirDn)
EDGEGRAIN_LAUNCH(ModulationFactors<1>)

}  // namespace edgegrain
