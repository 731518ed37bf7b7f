"""The device code of the CUDA kernels on the host, with sanitizers, against float64."""

from __future__ import annotations

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
FLAGS = ("-std=c++17", "-g1", "-Wall", "-Wextra", "-Werror", "-Wno-unknown-pragmas", "-DEDGEGRAIN_EMULATION",
         f"-I{HERE}", f"-I{SOURCES}")


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


@pytest.fixture(scope="module")
def device(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """A folder and the objects of the emulated device in it."""
    if shutil.which("g++") is None:
        pytest.skip("no g++ to compile the kernels with")
    folder = tmp_path_factory.mktemp("emulation")
    return folder, compile_all([HERE / "fiber.cc", HERE / "device.cc"], folder)


@pytest.mark.parametrize(("kernels", "check", "cases"), [  # the programs take a larger number as well
    ("conv_cuda.cu", "check_convolutions", 4), ("launch.cu", "check_items", 30)])
def test_kernels_are_right(kernels: str, check: str, cases: int, device: tuple[Path, list[str]]) -> None:
    folder, objects = device
    program = str(folder / check)
    own = compile_all([SOURCES / kernels, HERE / f"{check}.cc"], folder)
    run("g++", *SANITIZED, *own, *objects, "-o", program)
    output = run(program, str(cases))
    found = re.search(r"are right, by (\d+) of (\d+) kernels", output)
    assert found and found[1] == found[2], output
