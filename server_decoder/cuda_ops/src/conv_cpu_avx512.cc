// 32 registers: 14 windows x 2 vectors of sums, 2 vectors of filters, one value of x.
#define EDGEGRAIN_KERNELS kAvx512Kernels
#define EDGEGRAIN_NAME "avx512"
#define EDGEGRAIN_LANES 16
#define EDGEGRAIN_VECTORS 2
#define EDGEGRAIN_WINDOWS 14
#include "conv_cpu_kernels.h"
