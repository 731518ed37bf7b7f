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
FLAGS = ("-std=c++17", "-g1", "-Wall", "-Wextra", "-Werror", "-Wno-unknown-pragmas",
         f"-fsanitize={SANITIZERS}", "-fno-sanitize-recover=all", "-DEDGEGRAIN_EMULATION", f"-I{HERE}",
         f"-I{SOURCES}")
CONVOLUTIONS, ROUNDS = 4, 30  # more of them: the programs take the number as their argument
SECONDS = 600


def run(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=SECONDS)


def compile_all(sources: Sequence[Path], folder: Path, flags: Sequence[str] = FLAGS) -> list[str]:
    """The objects of the sources; those of CUDA with the emulation's headers."""

    def compile_one(source: Path) -> str:
        target = folder / f"{source.name}.o"
        # The kernels are not optimized: that would take longer than they run.
        own = ("-O0", "-include", "cuda_runtime.h", "-x", "c++") if source.suffix == ".cu" else ("-O1",)
        done = run(["g++", *flags, *own, "-c", str(source), "-o", str(target)])
        assert done.returncode == 0, done.stderr
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


@pytest.mark.parametrize(("kernels", "check", "cases"), [
    ("conv_cuda.cu", "check_convolutions", CONVOLUTIONS),
    ("launch.cu", "check_items", ROUNDS)])
def test_kernels_are_right(kernels: str, check: str, cases: int, device: tuple[Path, list[str]]) -> None:
    folder, objects = device
    program = str(folder / check)
    own = compile_all([SOURCES / kernels, HERE / f"{check}.cc"], folder)
    assert run(["g++", *FLAGS, *objects, *own, "-o", program]).returncode == 0
    done = run([program, str(cases)])
    assert done.returncode == 0, done.stdout + done.stderr
    found = re.search(r"are right, by (\d+) of (\d+) kernels", done.stdout)
    assert found and found[1] == found[2], done.stdout


FAULTS = {
    "a barrier is missing": (
        "ptx::wait_copies<T::kStages - 2>();\n    __syncthreads();", "ptx::wait_copies<T::kStages - 2>();",
        "has not arrived|without a barrier"),
    "copies are not waited for": (
        "ptx::wait_copies<T::kStages - 2>();", "ptx::wait_copies<T::kStages - 1>();", "has not arrived"),
    "the swizzle is wrong": ("(windows_at + current) ^ 32", "(windows_at + current) ^ 16", "WRONG"),
}


@pytest.fixture(scope="module")
def unsanitized(device: tuple[Path, list[str]]) -> list[str]:
    """The objects that do not change with a fault."""
    folder = device[0] / "unsanitized"
    folder.mkdir()
    sources = [HERE / "fiber.cc", HERE / "device.cc", HERE / "check_convolutions.cc"]
    return compile_all(sources, folder, unsanitized_flags(SOURCES))


def unsanitized_flags(sources: Path) -> tuple[str, ...]:
    return ("-std=c++17", "-Wno-unknown-pragmas", "-DEDGEGRAIN_EMULATION", f"-I{HERE}", f"-I{sources}")


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_are_found(fault: str, unsanitized: list[str], tmp_path: Path) -> None:
    sound, faulty, message = FAULTS[fault]
    shutil.copytree(SOURCES, tmp_path / "src")
    header = tmp_path / "src" / "conv_tensor.h"
    assert sound in header.read_text()
    header.write_text(header.read_text().replace(sound, faulty))
    kernels = compile_all([tmp_path / "src" / "conv_cuda.cu"], tmp_path, unsanitized_flags(tmp_path / "src"))
    program = str(tmp_path / "check")
    assert run(["g++", *unsanitized, *kernels, "-o", program]).returncode == 0
    done = run([program, "0"])
    assert done.returncode != 0
    assert re.search(message, done.stdout + done.stderr), done.stdout + done.stderr
