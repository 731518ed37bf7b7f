"""Count the instructions of the CUDA kernels: the main loops of convolutions, and filters per output.

    python benchmarks/speed/kernel_instructions.py [--architecture 90] [--before REVISION] [--tools DIR]

Compiles with nvcc and disassembles; needs no GPU. Counts are of instructions in the code: of a loop that includes what
it does not do in every pass, so they are upper limits of what is executed.
`--before` takes revisions whose filters have no path of their own for the middle of a map.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
SOURCES = Path("server_decoder/cuda_ops/src")
TOOLS = Path("/usr/local/cuda/bin")

# Of a quarter of a multiprocessor: cycles of an m16n8k16 product with float32 sums, from the peak rates of NVIDIA's
# data sheets (A100: 312 TFLOP/s, H100: 989). Of a multiprocessor: bytes of shared memory in a cycle.
HMMA_CYCLES = {80: 8, 90: 4}
SHARED_BYTES = 128

# A thread of a layer's filter that multiplies by the next style, in the middle of a map.
PROBE = """
#include "fir.h"
#if __has_include("fir_nhwc.h")
#include "fir_nhwc.h"
#endif
using namespace edgegrain;
template <class K> __device__ K usual(const K& kernel) {
  K own = kernel;
  own.tail.slope = 0.2f, own.tail.gain = 1.41421356f, own.tail.clamp = 256.0f, own.tail.plain = nullptr;
  return own;
}
template <class T> __global__ void nchw(const __grid_constant__ Fir<T, true, kWide<T>> kernel) {
  const auto k = usual(kernel);
  const std::uint32_t item = blockIdx.x * 128u + threadIdx.x, strip = item % k.strips, rest = item / k.strips;
  const std::uint32_t band = rest % k.bands, plane = rest / k.bands;
  const std::int32_t column = strip * kWide<T> - k.pad_x, top = band * k.kRows - k.pad_y;
  __builtin_assume(column >= 0);
  __builtin_assume(column + kWide<T> + 3 <= k.width);
#ifdef OLD
  k.filter_vectors(plane, column, top, strip, band);
#else
  k.template filter_vectors<true>(plane, column, top, strip, band);
#endif
}
template __global__ void nchw<float>(const __grid_constant__ Fir<float, true, 4>);
template __global__ void nchw<Half>(const __grid_constant__ Fir<Half, true, 8>);
#if __has_include("fir_nhwc.h")
template <class T> __global__ void nhwc(const __grid_constant__ FirNhwc<T, true, kWide<T>> kernel) {
  const auto k = usual(kernel);
  const std::uint32_t item = blockIdx.x * 128u + threadIdx.x, c = item % k.groups * kWide<T>, above = item / k.groups;
  const std::uint32_t strip = above % k.strips, rest = above / k.strips, band = rest % k.bands, b = rest / k.bands;
  const std::int32_t column = strip * k.kColumns - k.pad_x, top = band * k.kRows - k.pad_y;
#ifdef OLD
  k(item);
#else
  k.template filter<true>(b, c, strip, band, column, top);
#endif
}
template __global__ void nhwc<float>(const __grid_constant__ FirNhwc<float, true, 4>);
template __global__ void nhwc<Half>(const __grid_constant__ FirNhwc<Half, true, 8>);
#endif
"""
# Outputs of a thread: rows, columns, elements of 16 bytes.
PROBES = {"nchw<float>": ("NCHW, float32", 8 * 4), "nchw<edgegrain::Half>": ("NCHW, float16", 8 * 8),
          "nhwc<float>": ("NHWC, float32", 8 * 2 * 4), "nhwc<edgegrain::Half>": ("NHWC, float16", 8 * 2 * 8)}


@dataclass(frozen=True)
class Kernel:
    """Instructions by name, branches with their target's position, and what ptxas reports."""

    instructions: tuple[tuple[str, int | None], ...]
    registers: int
    spilled: int

    def main_loop(self) -> Counter[str]:
        """The instructions of the longest loop with tensor-core products."""
        loops = [self.instructions[target:end + 1] for end, (_, target) in enumerate(self.instructions)
                 if target is not None and target <= end]
        names = max(([name for name, _ in loop] for loop in loops if any("HMMA" in name for name, _ in loop)), key=len)
        return Counter(name.split(".")[0] for name in names)


def compiled(source: Path, include: Path, tools: tuple[str, str], architecture: int,
             *options: str) -> dict[str, Kernel]:
    """The kernels of a file by their C++ names."""
    nvcc, disassembler = tools
    with tempfile.TemporaryDirectory() as folder:
        cubin = Path(folder) / "kernels.cubin"
        report = _output([nvcc, "-std=c++17", "-O3", f"-arch=sm_{architecture}", f"-I{include}", *options,
                          "-Xptxas", "-v", "-cubin", "-o", str(cubin), str(source)])
        listing = _output([disassembler, "-c", str(cubin)])
    used = re.findall(r"Compiling entry function '(\S+)'.*?(\d+) bytes spill stores.*?Used (\d+) registers", report,
                      re.DOTALL)
    code: dict[str, list[tuple[str, str | None]]] = {}
    labels: dict[str, int] = {}
    current = None
    for line in listing.splitlines():
        if section := re.match(r"\s*\.section\s+\.text\.(\S+?),", line):
            current = code.setdefault(section[1], [])
        elif current is None:
            continue
        elif label := re.match(r"(\.L_\S+):", line):
            labels[label[1]] = len(current)
        elif found := re.match(r"\s+/\*[0-9a-f]+\*/\s+(?:@!?U?P\w+\s+)?(\S+)(.*);", line):
            target = re.search(r"`\((\.L_\S+)\)", found[2])
            if found[1] != "NOP":
                current.append((found[1], target[1] if target and found[1].startswith("BRA") else None))
    names = _output(["c++filt", *(name for name, _, _ in used)]).splitlines()
    return {plain: Kernel(tuple((name, labels.get(target) if target else None) for name, target in code[symbol]),
                          int(registers), int(spilled))
            for plain, (symbol, spilled, registers) in zip(names, used, strict=True)}


def convolutions(kernels: dict[str, Kernel], architecture: int) -> list[str]:
    """A row per tile of the tensor-core kernel for channels of 32, or of 8 where there is none."""
    rows = ["| tile (windows x filters, warps) | registers | shared memory | HMMA | ldmatrix | cp.async | others "
            "| limit by issue | limit by shared memory |", "|---|---|---|---|---|---|---|---|---|"]
    for name, kernel in kernels.items():
        tile = re.search(r"Tile<(\d+), (\d+), (\d+), (\d+), (\d+), (\d+), 16, \d+>, (true|false)", name)
        if not tile:
            continue
        m, n, warps_m, warps_n, warps_k, stages = map(int, tile.groups()[:6])
        if tile[7] == "false" and any(f"Tile<{m}, {n}, " in other and "16, " in other and ">, true" in other
                                      for other in kernels):
            continue
        loop = kernel.main_loop()
        hmma, ldsm, copies = loop["HMMA"], loop["LDSM"], loop["LDGSTS"]
        warps = warps_m * warps_n * warps_k
        stage = warps_k * (m + n) * 64
        product = hmma * HMMA_CYCLES[architecture]
        moved = (warps * ldsm * 512 + stage) / SHARED_BYTES
        rows.append(
            f"| {m} x {n}, {warps_m} x {warps_n}{f' x {warps_k}' if warps_k > 1 else ''} | {kernel.registers} "
            f"| {(stages * stage + 8 * m) / 1024:.0f} KiB | {hmma} | {ldsm} | {copies} "
            f"| {loop.total() - hmma - ldsm - copies} | {min(1, product / loop.total()):.0%} "
            f"| {min(1, product * warps / 4 / moved):.0%} |")
    return rows


def filters(tools: tuple[str, str], architecture: int, before: str | None) -> list[str]:
    """A row per layout and type: instructions of an output, of the working tree and of a revision."""
    with tempfile.TemporaryDirectory() as folder:
        probe = Path(folder) / "probe.cu"
        probe.write_text(PROBE)
        columns = [compiled(probe, ROOT / SOURCES, tools, architecture)]
        if before:
            archive = subprocess.run(["git", "-C", str(ROOT), "archive", before, str(SOURCES)], check=True,
                                     capture_output=True).stdout
            subprocess.run(["tar", "-x", "-C", folder], input=archive, check=True)
            columns.insert(0, compiled(probe, Path(folder) / SOURCES, tools, architecture, "-DOLD"))
    rows = [f"| filter with tail | {f'{before} | ' if before else ''}now |", "|---|" + "---|" * len(columns)]
    for key, (title, outputs) in PROBES.items():
        found = [next((kernel for name, kernel in column.items() if key in name), None) for column in columns]
        cells = ["–" if kernel is None else f"{len(kernel.instructions) / outputs:.1f}" for kernel in found]
        rows.append(f"| {title} | {' | '.join(cells)} |")
    return rows


def main() -> int:
    """Print both tables; returns the exit code: 1 if a kernel spills registers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--architecture", type=int, choices=HMMA_CYCLES, default=90)
    parser.add_argument("--before", help="revision to compare filters with")
    parser.add_argument("--tools", type=Path, default=TOOLS, help=f"folder with nvdisasm (default {TOOLS}, then PATH)")
    options = parser.parse_args()
    search = os.pathsep.join([str(options.tools), os.environ.get("PATH", "")])
    nvcc, disassembler = (shutil.which(name, path=search) for name in ("nvcc", "nvdisasm"))
    if not nvcc or not disassembler:
        raise SystemExit("nvcc and nvdisasm are needed; both are in the CUDA toolkit")
    tools = (nvcc, disassembler)
    version = re.search(r"V([\d.]+)", _output([nvcc, "--version"]))
    print(f"nvcc {version[1] if version else '?'}, sm_{options.architecture}\n")
    kernels = compiled(ROOT / SOURCES / "conv_cuda.cu", ROOT / SOURCES, tools, options.architecture)
    print("\n".join(convolutions(kernels, options.architecture)))
    print("\n" + "\n".join(filters(tools, options.architecture, options.before)))
    spilling = [name for name, kernel in kernels.items() if kernel.spilled]
    for name in spilling:
        print(f"spills registers: {name}")
    return int(bool(spilling))


def _output(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{command[0]} failed:\n{done.stderr}")
    return done.stdout + done.stderr


if __name__ == "__main__":
    sys.exit(main())
