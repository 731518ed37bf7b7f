"""Builds the library of fused ops with the CUDA kernels' code compiled for the host."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

from tests.fake_cuda.device.build import SOURCES as DEVICE
from tests.fake_cuda.device.build import libraries_in
from tests.fake_cuda.onnxruntime_wheel import Unavailable

LIBRARY = "libedgegrain_ops.so"
HEADER = "onnxruntime_cxx_api.h"
FLAGS = ("-std=c++17", "-O2", "-fPIC", "-fvisibility=hidden", "-fno-math-errno", "-DEDGEGRAIN_CUDA")
HEADER_SECONDS = 60


def build_ops(repository: Path, folder: Path, device: Path) -> Path:
    """The folder with the library, which is linked with a fake CUDA run time.

    Raises:
        Unavailable: the headers of ONNX Runtime cannot be had.
    """
    ops = repository / "server_decoder" / "cuda_ops"
    sources = [ops / "src" / "ops.cc", DEVICE / "launch_items.cc"]
    included = [*(ops / "src").iterdir(), *DEVICE.iterdir()]
    folder.mkdir(parents=True, exist_ok=True)
    headers = _headers(repository, folder, ops / "fetch_headers.sh")
    state = hashlib.sha256(b"".join(path.read_bytes() for path in sorted(included) if path.is_file())).hexdigest()
    objects = [folder / f"{source.stem}.{state[:12]}.o" for source in sources]
    include = [f"-I{ops / 'src'}", f"-I{DEVICE}"]
    for source, target in zip(sources, objects, strict=True):
        if not target.is_file():
            _compile([*FLAGS, "-isystem", str(headers), *include, "-c", str(source), "-o", f"{target}.part"])
            Path(f"{target}.part").rename(target)
    out = device / "ops"
    out.mkdir(exist_ok=True)
    _compile(["-shared", "-o", str(out / LIBRARY), *map(str, objects), str(libraries_in(device)["libcudart"]),
              "-Wl,--no-undefined", f"-Wl,-rpath,{device}"])
    return out


def _headers(repository: Path, folder: Path, fetch: Path) -> Path:
    """The folder of the headers: named by a variable, fetched by another build, or fetched here."""
    places = [folder / "headers" / "include" / "onnxruntime",
              *(repository / "build" / build / "headers" / "include" / "onnxruntime"
                for build in ("cuda_ops", "cuda_ops_tests"))]
    if named := os.environ.get("ONNXRUNTIME_INCLUDE_DIR"):
        places.insert(0, Path(named))
    for place in places:
        if (place / HEADER).is_file():
            return place
    if shutil.which("apt-get") is None:
        raise Unavailable("the fused ops need ONNX Runtime's headers: set ONNXRUNTIME_INCLUDE_DIR")
    try:
        fetched = subprocess.run(["sh", str(fetch), str(folder / "headers")], capture_output=True, text=True,
                                 timeout=HEADER_SECONDS)
    except subprocess.TimeoutExpired:
        raise Unavailable(f"ONNX Runtime's headers were not fetched in {HEADER_SECONDS} s") from None
    if fetched.returncode:
        lines = fetched.stderr.strip().splitlines() or ["no message"]
        raise Unavailable(f"ONNX Runtime's headers cannot be fetched: {lines[-1]}")
    return places[0]


def _compile(arguments: list[str]) -> None:
    done = subprocess.run(["g++", *arguments], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"the emulated ops do not compile:\n{done.stderr[-4000:]}")
