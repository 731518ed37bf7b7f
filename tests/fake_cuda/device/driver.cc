// libcuda: what programs ask of the driver to see whether there is one.
#include <cstring>

#include "driver_version.h"

#define FAKE_CUDA_API extern "C" __attribute__((visibility("default")))

FAKE_CUDA_API int cuInit(unsigned) { return 0; }

FAKE_CUDA_API int cuDriverGetVersion(int* version) {
  *version = driver_version();
  return 0;
}

FAKE_CUDA_API int cuDeviceGetCount(int* count) {
  *count = 1;
  return 0;
}

FAKE_CUDA_API int cuDeviceGet(int* device, int number) {
  *device = number;
  return 0;
}

// CUdevice_attribute 75 and 76 are the compute capability, here 9.0.
FAKE_CUDA_API int cuDeviceGetAttribute(int* value, int attribute, int) {
  *value = attribute == 75 ? 9 : 0;
  return 0;
}

FAKE_CUDA_API int cuDeviceGetName(char* name, int size, int) {
  std::strncpy(name, "Fake CUDA device", static_cast<std::size_t>(size));
  return 0;
}
