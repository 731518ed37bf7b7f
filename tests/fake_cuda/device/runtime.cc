// libcudart: the device's properties, errors, and kernels, which are counted and not run.
// FAKE_CUDA_VERSION is the version of the run time, such as 13000; the layout of some structures depends on it.
#include <cstdlib>
#include <cstring>

#include "device.h"
#include "driver_version.h"

namespace fake_cuda {
namespace {

constexpr int kMajor = 9, kMinor = 0, kMultiprocessors = 132, kWarp = 32, kThreadsPerBlock = 1024;
constexpr int kSharedPerBlock = 48 << 10, kMaximalSharedPerBlock = 227 << 10, kRegisters = 65536;
constexpr std::size_t kTotalMemory = std::size_t{16} << 30;

struct Dimensions {  // dim3
  unsigned x, y, z;
};

thread_local int last_error = kSuccess;
bool idle = std::getenv("FAKE_CUDA_IDLE") != nullptr;

std::map<const void*, std::string>& kernel_names() {
  static auto& names = *new std::map<const void*, std::string>;  // filled while libraries are loaded
  return names;
}

int launch(const void* kernel, Dimensions grid, Dimensions block, std::size_t shared, Stream* stream) {
  const std::lock_guard lock(mutex());
  const auto found = kernel_names().find(kernel);
  const std::string name = found == kernel_names().end() ? "unnamed kernel" : found->second;
  const std::uint64_t threads = std::uint64_t{block.x} * block.y * block.z;
  if (!grid.x || !grid.y || !grid.z || grid.x > 2147483647u || grid.y > 65535 || grid.z > 65535 || !threads ||
      threads > kThreadsPerBlock || shared > kMaximalSharedPerBlock) {
    return finish(kInvalidConfiguration, "launch of " + name);
  }
  ++journal().calls[name];
  journal().kernels_in_graphs += is_capturing(stream);
  return finish(kSuccess, name);
}

}  // namespace

int finish(Status status, const std::string& what, bool expected) {
  if (status == kSuccess) return status;
  const std::lock_guard lock(mutex());
  last_error = status;
  if (!expected) journal().violations.push_back(what + " (" + std::to_string(status) + ")");
  return status;
}

}  // namespace fake_cuda

using namespace fake_cuda;

FAKE_CUDA_API const char* fake_cuda_enqueue(void* stream, const char* name, void (*run)(const void*),
                                            const void* state, std::size_t bytes) {
  const std::lock_guard lock(mutex());
  auto* const on = static_cast<Stream*>(stream);
  ++journal().calls[name];
  journal().kernels_in_graphs += is_capturing(on);
  if (idle) return nullptr;
  const auto* const first = static_cast<const char*>(state);
  // operator new aligns a vector's bytes for any state without over-aligned members.
  enqueue(on, [run, copied = std::vector<char>(first, first + bytes)] { run(copied.data()); });
  return nullptr;
}

FAKE_CUDA_API void fake_cuda_idle(int wanted) { idle = wanted; }

FAKE_CUDA_API int cudaGetDeviceCount(int* count) {
  *count = 1;
  return kSuccess;
}

FAKE_CUDA_API int cudaGetDevice(int* device) {
  *device = 0;
  return kSuccess;
}

FAKE_CUDA_API int cudaSetDevice(int device) { return finish(device ? kInvalidDevice : kSuccess, "cudaSetDevice"); }

FAKE_CUDA_API int cudaDriverGetVersion(int* version) {
  *version = driver_version();
  return kSuccess;
}

FAKE_CUDA_API int cudaRuntimeGetVersion(int* version) {
  *version = FAKE_CUDA_VERSION;
  return kSuccess;
}

#if FAKE_CUDA_VERSION >= 13000
FAKE_CUDA_API int cudaGetDeviceProperties(char* properties, int) {
  constexpr std::size_t kSize = 1008;
  enum { kMultiprocessorsAt = 384, kL2At = 596, kThreadsAt = 604, kSharedAt = 624, kOptInAt = 672, kBlocksAt = 688 };
#else
FAKE_CUDA_API int cudaGetDeviceProperties_v2(char* properties, int) {
  constexpr std::size_t kSize = 1032;
  enum { kMultiprocessorsAt = 388, kL2At = 616, kThreadsAt = 624, kSharedAt = 640, kOptInAt = 696, kBlocksAt = 712 };
#endif
  const auto put = [properties](std::size_t at, auto value) { std::memcpy(properties + at, &value, sizeof value); };
  std::memset(properties, 0, kSize);
  std::strcpy(properties, "Fake CUDA device");
  put(288, kTotalMemory);
  put(296, static_cast<std::size_t>(kSharedPerBlock));
  put(304, kRegisters);
  put(308, kWarp);
  put(320, kThreadsPerBlock);
  put(324, kThreadsPerBlock), put(328, kThreadsPerBlock), put(332, 64);  // largest block
  put(336, 2147483647), put(340, 65535), put(344, 65535);                // largest grid
  put(360, kMajor), put(364, kMinor);
  put(kMultiprocessorsAt, kMultiprocessors);
  put(kL2At, 50 << 20);
  put(kThreadsAt, 2048);
  put(kSharedAt, std::size_t{228} << 10);
  put(kOptInAt, static_cast<std::size_t>(kMaximalSharedPerBlock));
  put(kBlocksAt, 32);
  return kSuccess;
}

FAKE_CUDA_API int cudaDeviceGetAttribute(int* value, int attribute, int) {
  static const std::map<int, int> values = {  // numbers of cudaDeviceAttr
      {1, kThreadsPerBlock}, {8, kSharedPerBlock}, {10, kWarp}, {12, kRegisters}, {16, kMultiprocessors}, {39, 2048},
      {75, kMajor}, {76, kMinor}, {81, 228 << 10}, {97, kMaximalSharedPerBlock}};
  const auto found = values.find(attribute);
  *value = found == values.end() ? 1 : found->second;
  return kSuccess;
}

FAKE_CUDA_API const char* cudaGetErrorString(int status) {
  switch (status) {
    case kSuccess: return "no error";
    case kOutOfMemory: return "out of memory";
    case kInvalidConfiguration: return "invalid configuration argument";
    case kCaptureUnsupported: return "operation not permitted when stream is capturing";
    case kCaptureInvalidated: return "operation failed due to a previous error during capture";
    default: return "error of the fake device";
  }
}

FAKE_CUDA_API const char* cudaGetErrorName(int status) { return status ? "cudaErrorFake" : "cudaSuccess"; }

FAKE_CUDA_API int cudaGetLastError() {
  const int error = last_error;
  last_error = kSuccess;
  return error;
}

FAKE_CUDA_API int cudaPeekAtLastError() { return last_error; }

FAKE_CUDA_API int cudaFuncGetAttributes(char* attributes, const void*) {
  enum { kSize = 144, kThreadsAt = 24, kRegistersAt = 28, kBinaryVersionAt = 36 };  // in cudaFuncAttributes
  const auto put = [attributes](std::size_t at, int value) { std::memcpy(attributes + at, &value, sizeof value); };
  std::memset(attributes, 0, kSize);
  put(kThreadsAt, kThreadsPerBlock), put(kRegistersAt, 32), put(kBinaryVersionAt, 10 * kMajor + kMinor);
  return kSuccess;
}

FAKE_CUDA_API int cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int* blocks, const void*, int, std::size_t,
                                                                         unsigned) {
  *blocks = 2;
  return kSuccess;
}

FAKE_CUDA_API int cudaLaunchKernel(const void* kernel, Dimensions grid, Dimensions block, void**, std::size_t shared,
                                   Stream* stream) {
  return launch(kernel, grid, block, shared, stream);
}

FAKE_CUDA_API int __cudaLaunchKernel(const void* kernel, Dimensions grid, Dimensions block, void**, std::size_t shared,
                                     Stream* stream) {
  return launch(kernel, grid, block, shared, stream);
}

FAKE_CUDA_API int cudaLaunchCooperativeKernel(const void* kernel, Dimensions grid, Dimensions block, void**,
                                              std::size_t shared, Stream* stream) {
  return launch(kernel, grid, block, shared, stream);
}

FAKE_CUDA_API int cudaLaunchKernelExC(const void* configuration, const void* kernel, void**) {
  struct { Dimensions grid, block; std::size_t shared; Stream* stream; } found;  // as cudaLaunchConfig_t begins
  std::memcpy(&found, configuration, sizeof found);
  return launch(kernel, found.grid, found.block, found.shared, found.stream);
}

FAKE_CUDA_API int cudaMemPoolCreate(void** pool, const void*) {
  static char one;
  *pool = &one;
  return kSuccess;
}

FAKE_CUDA_API int cudaLibraryLoadData(void** library, const void*, ...) {
  static char one;
  *library = &one;
  return kSuccess;
}

FAKE_CUDA_API int cudaLibraryGetKernel(const void** kernel, void*, const char* name) {
  const std::lock_guard lock(mutex());
  *kernel = new char;
  kernel_names()[*kernel] = name;
  return kSuccess;
}

FAKE_CUDA_API int cudaGetDriverEntryPointByVersion(const char*, void** function, unsigned, unsigned long long,
                                                   int* result) {
  enum { kSymbolNotFound = 1 };
  *function = nullptr;
  if (result) *result = kSymbolNotFound;
  return kSuccess;
}

// Called by code that nvcc generates.

FAKE_CUDA_API void** __cudaRegisterFatBinary(void*) {
  static void* handle;
  return &handle;
}

FAKE_CUDA_API void __cudaRegisterFunction(void**, const char* kernel, char*, const char* name, int, void*, void*, void*,
                                          void*, int*) {
  const std::lock_guard lock(mutex());
  kernel_names()[kernel] = name;
}

FAKE_CUDA_API int __cudaGetKernel(const void** kernel, const void* function) {
  *kernel = function;
  return kSuccess;
}

namespace {
struct Configuration {
  Dimensions grid, block;
  std::size_t shared;
  void* stream;
};
thread_local Configuration pushed;
}  // namespace

FAKE_CUDA_API unsigned __cudaPushCallConfiguration(Dimensions grid, Dimensions block, std::size_t shared, void* stream) {
  pushed = {grid, block, shared, stream};
  return kSuccess;
}

FAKE_CUDA_API int __cudaPopCallConfiguration(Dimensions* grid, Dimensions* block, std::size_t* shared, void** stream) {
  *grid = pushed.grid, *block = pushed.block, *shared = pushed.shared, *stream = pushed.stream;
  return kSuccess;
}
