#!/bin/sh
# The GPU's checks and figures of the fused ops on a bare, offline CUDA host that has python3 with torch and numpy.
#   benchmarks/gpu_host.sh [OUT]   ->   OUT/cuda_ops.json (default: gpu_host_out)
#
# Beforehand, where there are nvcc and onnx: make ops && python benchmarks/cuda_ops.py --write benchmarks/models.npz
# ONNX Runtime for CUDA: installed, or unpacked into a folder that ONNXRUNTIME_SITE names.
set -eu

out=${1:-gpu_host_out}
cd "$(dirname "$0")/.."
mkdir -p "$out"
PYTHONPATH=${ONNXRUNTIME_SITE:+$ONNXRUNTIME_SITE:}$PWD
export PYTHONPATH
python3 - <<'PYTHON'
import sys

import torch  # brings CUDA's libraries
import onnxruntime

from server_decoder.cuda_ops.library import find_library, has_cuda_kernels

onnxruntime.preload_dlls()
library = find_library()
print(f"torch {torch.__version__}, onnxruntime {onnxruntime.__version__}, {onnxruntime.get_available_providers()}")
print(f"{torch.cuda.get_device_name() if torch.cuda.is_available() else 'no GPU'}; {library}")
if not (torch.cuda.is_available() and has_cuda_kernels(library)
        and "CUDAExecutionProvider" in onnxruntime.get_available_providers()):
    sys.exit("needs a GPU, ONNX Runtime with CUDA, and a library that was built with nvcc")
PYTHON
# Tensors of a gigabyte, so that a run takes far longer than its launch.
timeout 240 python3 benchmarks/cuda_ops.py --device cuda --batch 16 --read benchmarks/models.npz --json >"$out/cuda_ops.log" || {
  cat "$out/cuda_ops.log"
  echo "the fused ops failed on this GPU" >&2
  exit 1
}
cat "$out/cuda_ops.log"
tail -n 1 "$out/cuda_ops.log" >"$out/cuda_ops.json"
