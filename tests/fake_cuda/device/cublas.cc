// libcublas and libcublasLt: handles can be made, and matrix products do nothing.
#include <cstdlib>
#include <cstring>

#define FAKE_CUDA_API extern "C" __attribute__((visibility("default")))

#define FAKE_CUBLAS_MAKE(function)              \
  FAKE_CUDA_API int function(void** handle) {   \
    *handle = std::calloc(1, 256);              \
    return 0;                                   \
  }

#ifdef FAKE_CUBLAS_LT
FAKE_CUBLAS_MAKE(cublasLtCreate)
FAKE_CUBLAS_MAKE(cublasLtMatmulDescCreate)
FAKE_CUBLAS_MAKE(cublasLtMatmulPreferenceCreate)
FAKE_CUBLAS_MAKE(cublasLtMatrixLayoutCreate)
FAKE_CUBLAS_MAKE(cublasLtMatrixTransformDescCreate)

FAKE_CUDA_API int cublasLtMatmulAlgoGetHeuristic(void*, void*, void*, void*, void*, void*, void*, int, void* result,
                                                 int* found) {
  constexpr std::size_t kResult = 96;  // bytes of cublasLtMatmulHeuristicResult_t
  std::memset(result, 0, kResult);
  *found = 1;
  return 0;
}
#else
FAKE_CUBLAS_MAKE(cublasCreate_v2)

FAKE_CUDA_API int cublasGetMathMode(void*, int* mode) {
  *mode = 0;
  return 0;
}

FAKE_CUDA_API const char* cublasGetStatusName(int status) { return status ? "error" : "CUBLAS_STATUS_SUCCESS"; }
FAKE_CUDA_API const char* cublasGetStatusString(int status) { return status ? "error" : "success"; }
#endif
