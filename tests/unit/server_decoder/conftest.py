"""The library of fused ops for the tests: what `make ops` built, else its CPU kernels, built here."""

import fcntl
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from server_decoder.cuda_ops import library
from tests.pretended_cuda import pretended_cuda

__all__ = ["ops_library", "pretended_cuda"]

SOURCES = Path(library.__file__).parent
BUILD_SECONDS = 240


@pytest.fixture(scope="session")
def ops_library(repository: Path) -> Path:
    """The library's path; the build is kept between runs in ``build/``."""
    changed = max(path.stat().st_mtime for path in [SOURCES / "CMakeLists.txt", *(SOURCES / "src").rglob("*")])
    built = [path for path in library.BUILT.glob("*edgegrain_ops.*") if path.stat().st_mtime >= changed]
    if built:
        return built[0]
    if shutil.which("cmake") is None:
        pytest.skip("the library of fused ops is not built ('make ops'), and there is no cmake to build it")
    folder = repository / "build" / "cuda_ops_tests"
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # tests run in several processes
        _build(folder)
    return next(folder.glob("*edgegrain_ops.*"))


def _build(folder: Path) -> None:
    # -O3 takes 40 seconds more to compile than it saves here, -O1 12.
    settings = ["-DEDGEGRAIN_CUDA=OFF", "-DCMAKE_CXX_FLAGS_RELEASE=-O0 -DNDEBUG"]
    configure = ["cmake", "-S", str(SOURCES), "-B", str(folder), *settings]
    headers = folder.parent / "fake_cuda" / "ops" / "headers" / "include" / "onnxruntime"  # another test fetches them
    known = {"ONNXRUNTIME_INCLUDE_DIR": str(headers)} if (headers / "onnxruntime_cxx_api.h").is_file() else {}
    for command in (configure, ["cmake", "--build", str(folder), "--parallel", "2"]):
        try:
            result = subprocess.run(
                command, capture_output=True, text=True, timeout=BUILD_SECONDS, env=known | os.environ
            )
        except subprocess.TimeoutExpired:
            pytest.skip(f"the library of fused ops could not be built in {BUILD_SECONDS} s; build it with 'make ops'")
        if result.returncode and command == configure:  # no compiler, or no headers and no network to fetch them
            pytest.skip(f"the library of fused ops cannot be built here: {_reason(result.stderr)}")
        if result.returncode:
            pytest.fail(f"the library of fused ops does not compile:\n{result.stdout[-4000:]}{result.stderr[-4000:]}")


def _reason(errors: str) -> str:
    lines = [line.strip() for line in errors.splitlines() if line.strip()]
    return next((line for line in lines if line.startswith("fetch_headers.sh")), " ".join(lines[:3]))
