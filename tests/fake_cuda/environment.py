"""A process environment in which ONNX Runtime's CUDA provider starts on the fake device."""

import fcntl
import fnmatch
import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.fake_cuda.device.build import SOURCES, Unavailable, build_libraries, libraries_in
from tests.fake_cuda.emulated_ops import build_ops

REPOSITORY = Path(__file__).resolve().parents[2]
LIBRARIES = ("onnxruntime_pybind11_state*", "libonnxruntime_providers_cuda", "libonnxruntime_providers_shared")
PARTS = ["onnxruntime/__init__.py", "onnxruntime/capi/*.py", "*.dist-info/METADATA"]
PARTS += [f"onnxruntime/capi/{name}.so" for name in LIBRARIES]
PROVIDER = Path("onnxruntime/capi/libonnxruntime_providers_cuda.so")
DOWNLOAD_SECONDS = 90
VERSION = "ORT_GPU"
"""Environment variable: another version of onnxruntime-gpu than the pinned one."""
RUNTIME = "FAKE_CUDA_RUNTIME"
"""Environment variable of processes on the fake device: the path of its libcudart."""
TORCH = "FAKE_TORCH"
"""Environment variable: if it is set, torch believes in the fake device, and computes on the CPU."""
OPS = "FAKE_CUDA_OPS"
"""Environment variable of processes on the fake device: the folder of the op library with emulated CUDA kernels."""


@dataclass(frozen=True)
class FakeCuda:
    """The folders of ONNX Runtime, the fake CUDA libraries, and the op library, or the reason why there is none."""

    version: str
    site: Path
    libraries: Path
    ops: Path | None
    no_ops: str = ""

    def environment(self) -> dict[str, str]:
        """The variables of a process on the fake device."""
        torch = [Path(__file__).parent / "torch_on_cpu"] if os.environ.get(TORCH) else []
        found = {name: value for name, value in os.environ.items() if name != "PYTEST_XDIST_WORKER"}
        found["PYTHONPATH"] = os.pathsep.join(map(str, [self.site, REPOSITORY, *torch]))
        found["LD_LIBRARY_PATH"] = str(self.libraries)
        found["ONNXRUNTIME_SITE"] = str(self.site)  # for benchmarks/gpu_host.sh
        found[RUNTIME] = str(libraries_in(self.libraries)["libcudart"])
        return found | ({OPS: str(self.ops)} if self.ops else {})

    def run(self, command: Sequence[str], seconds: float) -> subprocess.CompletedProcess[str]:
        """Run a command on the fake device, in the repository."""
        environment = self.environment()
        return subprocess.run(command, capture_output=True, text=True, timeout=seconds, env=environment, cwd=REPOSITORY)


def prepare() -> FakeCuda:
    """Build what is not in ``build/fake_cuda`` yet; `Unavailable` where something is missing that cannot be had."""
    version = os.environ.get(VERSION) or _pinned_version()
    if sys.platform != "linux" or platform.machine() != "x86_64":
        raise Unavailable("the fake CUDA is for Linux on x86-64")
    if missing := [tool for tool in ("g++", "nm", "readelf") if shutil.which(tool) is None]:
        raise Unavailable(f"the fake CUDA is built with {', '.join(missing)}, which is not installed")
    folder = REPOSITORY / "build" / "fake_cuda"
    own = folder / version
    own.mkdir(parents=True, exist_ok=True)
    with open(folder / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # tests run in several processes
        _unpack_wheel(version, own / "site")
        stamp, state = own / "device" / "stamp", _hash_of(SOURCES)
        if not stamp.is_file() or stamp.read_text() != state:
            shutil.rmtree(own / "device", ignore_errors=True)
            build_libraries(own / "site" / PROVIDER, own / "device")
            stamp.write_text(state)
        try:
            ops, reason = build_ops(REPOSITORY, folder / "ops", own / "device"), ""
        except Unavailable as error:
            ops, reason = None, str(error)
    return FakeCuda(version, own / "site", own / "device", ops, reason)


def _hash_of(folder: Path) -> str:
    files = sorted(path for path in folder.iterdir() if path.is_file())
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()


def _pinned_version() -> str:
    """The version that the project's container installs."""
    found = re.search(r"^ARG ONNXRUNTIME_GPU=(\S+)", (REPOSITORY / "containers" / "Dockerfile.cuda").read_text(), re.M)
    if found is None:
        raise LookupError("containers/Dockerfile.cuda names no version of onnxruntime-gpu")
    return found[1]


def _unpack_wheel(version: str, site: Path) -> None:
    """Download the wheel of a version for this Python, and unpack it into a folder for ``PYTHONPATH``."""
    if (site / PROVIDER).is_file():
        return
    with tempfile.TemporaryDirectory(dir=site.parent, prefix="wheel-") as folder:
        command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "--quiet", "--no-deps"]
        command += ["--only-binary=:all:", "--dest", folder, f"onnxruntime-gpu=={version}"]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=DOWNLOAD_SECONDS)
        except subprocess.TimeoutExpired:
            raise Unavailable(f"onnxruntime-gpu {version} was not downloaded in {DOWNLOAD_SECONDS} s") from None
        wheel = next(Path(folder).glob("*.whl"), None)
        if done.returncode or wheel is None:
            reasons = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or ["no wheel"]
            raise Unavailable(f"onnxruntime-gpu {version} cannot be downloaded: {reasons[-1]}")
        with zipfile.ZipFile(wheel) as archive:
            names = [name for name in archive.namelist() if any(fnmatch.fnmatch(name, part) for part in PARTS)]
            archive.extractall(Path(folder) / "site", names)
        (Path(folder) / "site").rename(site)
