// libcudnn: descriptors can be made, queries have an answer, and convolutions do nothing.
#include <cstdint>
#include <cstdlib>
#include <cstring>

#define FAKE_CUDA_API extern "C" __attribute__((visibility("default")))

namespace {

int make(void** handle) {
  *handle = std::calloc(1, 256);
  return 0;
}

}  // namespace

FAKE_CUDA_API std::size_t cudnnGetVersion() { return 91300; }
FAKE_CUDA_API std::size_t cudnnGetCudartVersion() { return FAKE_CUDA_VERSION; }
FAKE_CUDA_API std::size_t cudnnGetMaxDeviceVersion() { return 1200; }
FAKE_CUDA_API const char* cudnnGetErrorString(int status) { return status ? "error" : "CUDNN_STATUS_SUCCESS"; }

FAKE_CUDA_API void cudnnGetLastErrorString(char* message, std::size_t size) {
  if (size) *message = '\0';
}

#define FAKE_CUDNN_MAKE(function) \
  FAKE_CUDA_API int function(void** handle) { return make(handle); }

FAKE_CUDNN_MAKE(cudnnCreate)
FAKE_CUDNN_MAKE(cudnnCreateActivationDescriptor)
FAKE_CUDNN_MAKE(cudnnCreateConvolutionDescriptor)
FAKE_CUDNN_MAKE(cudnnCreateDropoutDescriptor)
FAKE_CUDNN_MAKE(cudnnCreateFilterDescriptor)
FAKE_CUDNN_MAKE(cudnnCreateLRNDescriptor)
FAKE_CUDNN_MAKE(cudnnCreatePoolingDescriptor)
FAKE_CUDNN_MAKE(cudnnCreateRNNDataDescriptor)
FAKE_CUDNN_MAKE(cudnnCreateRNNDescriptor)
FAKE_CUDNN_MAKE(cudnnCreateReduceTensorDescriptor)
FAKE_CUDNN_MAKE(cudnnCreateTensorDescriptor)

FAKE_CUDA_API int cudnnGetConvolutionForwardWorkspaceSize(void*, void*, void*, void*, void*, int, std::size_t* bytes) {
  *bytes = 0;
  return 0;
}

FAKE_CUDA_API int cudnnGetReductionWorkspaceSize(void*, void*, void*, void*, std::size_t* bytes) {
  *bytes = 0;
  return 0;
}

FAKE_CUDA_API int cudnnGetReductionIndicesSize(void*, void*, void*, void*, std::size_t* bytes) {
  *bytes = 0;
  return 0;
}

constexpr std::size_t kAlgorithmPerformance = 48;  // bytes of cudnnConvolutionFwdAlgoPerf_t; zeros are algorithm 0

FAKE_CUDA_API int cudnnFindConvolutionForwardAlgorithmEx(void*, void*, const void*, void*, const void*, void*, void*,
                                                         void*, int, int* found, void* performance, void*,
                                                         std::size_t) {
  std::memset(performance, 0, kAlgorithmPerformance);
  *found = 1;
  return 0;
}

FAKE_CUDA_API int cudnnGetConvolutionForwardAlgorithm_v7(void*, void*, void*, void*, void*, int, int* found,
                                                         void* performance) {
  std::memset(performance, 0, kAlgorithmPerformance);
  *found = 1;
  return 0;
}

// The graph API: every descriptor is accepted, every heuristic finds one engine without workspace.

FAKE_CUDA_API int cudnnBackendCreateDescriptor(int, void** descriptor) { return make(descriptor); }

FAKE_CUDA_API int cudnnBackendDestroyDescriptor(void* descriptor) {
  std::free(descriptor);
  return 0;
}

FAKE_CUDA_API int cudnnBackendGetAttribute(void*, int, int type, std::int64_t requested, std::int64_t* found,
                                           void* values) {
  enum { kInt64 = 3, kDescriptor = 15 };  // cudnnBackendAttributeType_t
  const bool wanted = values && requested > 0;
  if (type == kInt64 && wanted) std::memset(values, 0, sizeof(std::int64_t));
  if (type != kInt64 && type != kDescriptor && wanted) std::memset(values, 0, sizeof(std::int32_t));
  if (found) *found = type == kInt64 || type == kDescriptor;
  return 0;
}
