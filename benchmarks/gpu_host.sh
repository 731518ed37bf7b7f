#!/bin/sh
# Run all checks and benchmarks that need a GPU, in under eight minutes, on an offline CUDA host with python3, torch and
# numpy.
#   benchmarks/gpu_host.sh [OUT]
#       ->   OUT/{cuda_ops,pictures,replays-*,decoder-1024,decoder-1024-batches,decoder-256}.json
#
# Before, on a machine with nvcc, onnx and torch:
#   make ops
#   python benchmarks/speed/pack.py gpu_host_pack --python 3.12 --architecture 90    # of the host
# The last one also packs ONNX Runtime for CUDA into the folders gpu_host_onnxruntime_0, _1 and so on, of some 15 MiB.
# The host needs the checkout without zoo/ and bundles/, and these folders.
# Copy all into one folder on the host, then run this script there; it unpacks ONNX Runtime into gpu_host_site, unless
# it is installed in the folder ONNXRUNTIME_SITE. Afterwards, in the checkout:
#   cp OUT/*.json results/performance/ && python benchmarks/speed/performance_page.py
#
# PACK, PAPER, BUNDLE: another pack, and decoders in it; MINUTES: another time limit.
# SMALL=1: small tensors and batches. SKIP="pictures replays": steps to leave out.
# Two ways to test the script itself, without meaningful figures:
#   DEVICE=cpu benchmarks/gpu_host.sh                         # the same steps on the CPU
#   FAKE_TORCH=1 FAKE_CUDA_IDLE=1 SMALL=1 SKIP="cuda_ops pictures replays" \
#     python -m tests.fake_cuda.run benchmarks/gpu_host.sh
# The second runs on the fake CUDA device of the tests, where nothing is computed (tests/fake_cuda/README.md).
set -eu

out=${1:-gpu_host_out}
pack=${PACK:-gpu_host_pack}
device=${DEVICE:-cuda}
paper=${PAPER:-grain-1024-lr16-paper}
bundle=${BUNDLE:-grain-256-lr16}
minutes=${MINUTES:-8}
small=${SMALL:-}
if [ "$device" = cpu ]; then small=1; fi
skip=" ${SKIP:-} "
began=$(date +%s)

cd "$(dirname "$0")/.."
mkdir -p "$out"
case $pack in /*) ;; *) pack=$PWD/$pack ;; esac
status=0

# ONNX Runtime's parts, joined and unpacked once.
if [ -z "${ONNXRUNTIME_SITE:-}" ] && [ -d gpu_host_onnxruntime_0 ]; then
  ONNXRUNTIME_SITE=$PWD/gpu_host_site
  if [ ! -d "$ONNXRUNTIME_SITE" ]; then
    rm -rf "$ONNXRUNTIME_SITE.part"
    mkdir "$ONNXRUNTIME_SITE.part"
    cat gpu_host_onnxruntime_*/onnxruntime.tar.xz.* >"$ONNXRUNTIME_SITE.part/onnxruntime.tar.xz"
    python3 -m tarfile -e "$ONNXRUNTIME_SITE.part/onnxruntime.tar.xz" "$ONNXRUNTIME_SITE.part"
    rm "$ONNXRUNTIME_SITE.part/onnxruntime.tar.xz"
    mv "$ONNXRUNTIME_SITE.part" "$ONNXRUNTIME_SITE"
  fi
fi
PYTHONPATH=${ONNXRUNTIME_SITE:+$ONNXRUNTIME_SITE:}$PWD:$pack/site${PYTHONPATH:+:$PYTHONPATH}
export PYTHONPATH

# Seconds until $1 percent of the time have passed, at least one.
until_share() {
  left=$((minutes * 60 * $1 / 100 - ($(date +%s) - began)))
  if [ "$left" -gt 1 ]; then echo "$left"; else echo 1; fi
}

# Run a step: print its output, and save the last line as JSON.
step() {
  name=$1
  shift
  case $skip in *" ${name%%-*} "* | *" $name "*) echo "== $name: skipped, as SKIP says"; return ;; esac
  echo "== $name, $(($(date +%s) - began)) s"
  if "$@" >"$out/$name.log" 2>&1; then
    tail -n 1 "$out/$name.log" >"$out/$name.json"
    sed '$d' "$out/$name.log"
  else
    cat "$out/$name.log"
    echo "FAILED: $name" >&2
    tail -n 1 "$out/$name.log" | grep '^{' >"$out/$name.json" || rm -f "$out/$name.json"
    status=1
  fi
}

DEVICE=$device python3 - <<'PYTHON'
import os
import sys

import torch  # loads the CUDA libraries

from server_decoder.cuda_ops.library import find_library, has_cuda_kernels
from server_decoder.providers import preload_cuda

import onnxruntime

preload_cuda()
library = find_library()
print(f"torch {torch.__version__}, onnxruntime {onnxruntime.__version__}, {onnxruntime.get_available_providers()}")
print(f"{torch.cuda.get_device_name() if torch.cuda.is_available() else 'no GPU'}; {library}")
if os.environ["DEVICE"] == "cuda" and not (
        torch.cuda.is_available() and has_cuda_kernels(library)
        and "CUDAExecutionProvider" in onnxruntime.get_available_providers()):
    sys.exit("needs a GPU, ONNX Runtime with CUDA, and a library that was built with nvcc")
PYTHON

# Sizes for a GPU are too large for a test of the script.
side=1024 many=16
if [ -n "$small" ]; then side=64 many=2; fi

# Every op against float64 on random inputs, and its share of the copy rate; tensors of a gigabyte, so that a run takes
# much longer than its launch.
step cuda_ops timeout "$(until_share 30)" python3 benchmarks/speed/cuda_ops.py --device "$device" --side "$side" \
  --batch "$many" --read "$pack/cuda_ops.npz" --json

# Pictures against the CPU's, also from graphs that are replayed after another batch size: of the default bundle as it
# is shipped, then of every form of a small decoder, whose forms have the same weights, and of the packed bundle.
if [ -f "$pack/decoder.onnx" ]; then
  step pictures timeout "$(until_share 40)" python3 benchmarks/speed/replays.py --decoder "$pack/decoder.onnx" \
    --device "$device" --json
else
  echo "== pictures: skipped, $pack has no decoder.onnx"
fi
for name in grain-smoke "$bundle"; do
  step "replays-$name" timeout "$(until_share 50)" python3 benchmarks/speed/replays.py --packed "$pack/$name" \
    --device "$device" --json
done

# The paper's decoder: each variant in its own process, none started after the time limit.
step decoder-1024 python3 benchmarks/speed/decoder.py --packed "$pack/$paper" --device "$device" --batches 1 \
  --seconds 3 --limit 80 --budget "$(until_share 55)" --json
step decoder-1024-batches python3 benchmarks/speed/decoder.py --packed "$pack/$paper" --device "$device" \
  --batches "4,$many" --variants ort-fused-half,session,torch-eager-half --seconds 3 --limit 60 \
  --budget "$(until_share 72)" --json

# The size of the bundles, and the gain of batches.
step decoder-256 python3 benchmarks/speed/decoder.py --packed "$pack/$bundle" --device "$device" --batches "1,$many" \
  --variants ort-fused-half,session,torch-eager-half,ort-plain,torch-eager --seconds 2 --limit 40 \
  --budget "$(until_share 90)" --json

python3 - "$out" <<'PYTHON'
import json
import sys
from pathlib import Path


def report(name):
    path = Path(sys.argv[1]) / f"{name}.json"
    return json.loads(path.read_text()) if path.is_file() else {}


def bar(text, value, reached):
    print(f"{'met' if value is not None and reached(value) else 'MISSED':6}  {text}: {value}")


paper = report("decoder-1024")
times = {row["variant"]: row.get("ms") for row in paper.get("runs", ())}
bar("GRAIN 1024 float16, ms at batch 1 (at most 15)", times.get("ort-fused-half"), lambda value: value <= 15)
bar("times torch eager float16 (at least 3)", paper.get("half_ort_vs_torch_eager"), lambda value: value >= 3)
ops = [row["of_copy_rate"] for row in report("cuda_ops").get("ops", ())]
bar("fused ops' smallest share of the copy rate (at least 0.7)", min(ops, default=None), lambda value: value >= 0.7)
PYTHON
echo "$(($(date +%s) - began)) s"
exit "$status"
