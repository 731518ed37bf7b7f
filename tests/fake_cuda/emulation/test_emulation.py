"""The device code of the CUDA kernels on the host, with sanitizers, against float64."""

import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

HERE = Path(__file__).parent
SOURCES = HERE.parents[2] / "server_decoder" / "cuda_ops" / "src"
# Addresses, and the checks of -fsanitize=undefined for alignment, bounds and arithmetic: all of them double the compile
# time.
SANITIZERS = "address,alignment,bounds,return,shift,signed-integer-overflow,float-cast-overflow,integer-divide-by-zero"
SANITIZED = (f"-fsanitize={SANITIZERS}", "-fno-sanitize-recover=all")
WARNINGS = ("-Wall", "-Wextra", "-Werror", "-Wno-unknown-pragmas")
FLAGS = ("-std=c++17", "-g1", *WARNINGS, "-DEDGEGRAIN_EMULATION", f"-I{HERE}", f"-I{SOURCES}")


def run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def compile_all(sources: Sequence[Path], folder: Path) -> list[str]:
    """The objects of the sources; those of CUDA with the emulation's headers."""

    def compile_one(source: Path) -> str:
        target = folder / f"{source.name}.o"
        # The kernels are not optimized: that would take longer than they run. The checks, which only compare, are not
        # sanitized.
        own = ("-O0", "-include", "cuda_runtime.h", "-x", "c++") if source.suffix == ".cu" else ("-O1",)
        own = own if source.name.startswith("check_") else (*SANITIZED, *own)
        run("g++", *FLAGS, *own, "-c", str(source), "-o", str(target))
        return str(target)

    with ThreadPoolExecutor(os.cpu_count()) as compilers:
        return list(compilers.map(compile_one, sources))


def test_every_convolution_kernel_is_right(tmp_path: Path) -> None:
    if shutil.which("g++") is None:
        pytest.skip("no g++ to compile the kernels with")
    sources = [SOURCES / "conv_cuda.cu", *(HERE / f"{name}.cc" for name in ("check_convolutions", "fiber", "device"))]
    program = str(tmp_path / "check_convolutions")
    run("g++", *SANITIZED, *compile_all(sources, tmp_path), "-o", program)
    output = run(program, "4")  # and as many random ones as are wanted
    found = re.search(r"are right, by (\d+) of (\d+) kernels", output)
    assert found and found[1] == found[2], output
