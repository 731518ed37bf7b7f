// `launch` of the fused ops on the fake device: all items of a kernel, one after the other, when the stream comes to it.
#include "launch.h"

#include "fake_cuda.h"
#include "fir.h"
#include "haar.h"

namespace edgegrain {
namespace {

template <class Kernel>
struct Items {
  Kernel kernel;
  std::uint32_t items;

  static void run(const void* state) {
    const Items& launched = *static_cast<const Items*>(state);
    for (std::uint64_t item = 0; item < launched.items; ++item) launched.kernel(static_cast<std::uint32_t>(item));
  }
};

}  // namespace

template <class Kernel>
const char* launch(const Kernel& kernel, std::uint32_t items, void* stream) {
  const Items<Kernel> launched{kernel, items};
  return fake_cuda_enqueue(stream, "com.edgegrain", &Items<Kernel>::run, &launched, sizeof launched);
}

#define EDGEGRAIN_LAUNCH(...) template const char* launch<__VA_ARGS__>(const __VA_ARGS__&, std::uint32_t, void*);

#define EDGEGRAIN_LAUNCH_ALL(T)              \
  EDGEGRAIN_LAUNCH(DemodBiasAct<T, kWide<T>>) \
  EDGEGRAIN_LAUNCH(DemodBiasAct<T, 1>)        \
  EDGEGRAIN_LAUNCH(Fir<T, false, kWide<T>>)   \
  EDGEGRAIN_LAUNCH(Fir<T, true, kWide<T>>)    \
  EDGEGRAIN_LAUNCH(UpFirDn<T, kWide<T>>)      \
  EDGEGRAIN_LAUNCH(UpFirDn<T, 1>)             \
  EDGEGRAIN_LAUNCH(InverseHaar<T, kWide<T>>)  \
  EDGEGRAIN_LAUNCH(InverseHaar<T, 1>)

EDGEGRAIN_LAUNCH_ALL(float)
EDGEGRAIN_LAUNCH_ALL(Half)

}  // namespace edgegrain
