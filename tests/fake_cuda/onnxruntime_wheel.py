"""The wheel of onnxruntime-gpu: downloaded with pip, and only the parts unpacked that a CUDA session needs."""

from __future__ import annotations

import fnmatch
import re
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

PARTS = ("onnxruntime/__init__.py", "onnxruntime/capi/*.py", "onnxruntime/capi/onnxruntime_pybind11_state*.so",
         "onnxruntime/capi/libonnxruntime_providers_cuda.so", "onnxruntime/capi/libonnxruntime_providers_shared.so",
         "*.dist-info/METADATA")
PROVIDER = Path("onnxruntime/capi/libonnxruntime_providers_cuda.so")


class Unavailable(Exception):
    """Something that the fake CUDA needs cannot be had here; the message says what."""


def pinned_version(repository: Path) -> str:
    """The version that the project's container installs."""
    found = re.search(r"^ARG ONNXRUNTIME_GPU=(\S+)", (repository / "containers" / "Dockerfile.cuda").read_text(), re.M)
    if found is None:
        raise LookupError("containers/Dockerfile.cuda names no version of onnxruntime-gpu")
    return found[1]


def unpack_wheel(version: str, site: Path, seconds: float) -> None:
    """Download the wheel of a version for this Python, and unpack it into a folder for ``PYTHONPATH``."""
    if (site / PROVIDER).is_file():
        return
    with tempfile.TemporaryDirectory(dir=site.parent, prefix="wheel-") as folder:
        command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "--quiet", "--no-deps",
                   "--only-binary=:all:", "--dest", folder, f"onnxruntime-gpu=={version}"]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=seconds)
        except subprocess.TimeoutExpired:
            raise Unavailable(f"onnxruntime-gpu {version} was not downloaded in {seconds:.0f} s") from None
        wheel = next(Path(folder).glob("*.whl"), None)
        if done.returncode or wheel is None:
            reasons = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or ["no wheel"]
            raise Unavailable(f"onnxruntime-gpu {version} cannot be downloaded: {reasons[-1]}")
        with zipfile.ZipFile(wheel) as archive:
            names = [name for name in archive.namelist() if any(fnmatch.fnmatch(name, part) for part in PARTS)]
            archive.extractall(Path(folder) / "site", names)
        (Path(folder) / "site").rename(site)
