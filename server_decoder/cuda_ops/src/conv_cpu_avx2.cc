// 16 registers: 6 windows x 2 vectors of sums, 2 vectors of filters, one value of x.
#define EDGEGRAIN_KERNELS kAvx2Kernels
#define EDGEGRAIN_NAME "avx2"
#define EDGEGRAIN_LANES 8
#define EDGEGRAIN_VECTORS 2
#define EDGEGRAIN_WINDOWS 6
#include "conv_cpu_kernels.h"
