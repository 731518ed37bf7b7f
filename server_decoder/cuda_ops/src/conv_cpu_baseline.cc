// Instructions that every CPU of the architecture has: on x86-64 SSE2 with 16 registers, on ARM NEON with 32.
#define EDGEGRAIN_KERNELS kBaselineKernels
#define EDGEGRAIN_NAME "baseline"
#if !defined(__GNUC__)
#define EDGEGRAIN_LANES 1
#define EDGEGRAIN_VECTORS 4
#define EDGEGRAIN_WINDOWS 4
#elif defined(__aarch64__)
#define EDGEGRAIN_LANES 4
#define EDGEGRAIN_VECTORS 4
#define EDGEGRAIN_WINDOWS 6
#else
#define EDGEGRAIN_LANES 4
#define EDGEGRAIN_VECTORS 2
#define EDGEGRAIN_WINDOWS 5
#endif
#include "conv_cpu_kernels.h"
