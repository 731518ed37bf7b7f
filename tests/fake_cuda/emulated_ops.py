"""Builds the library of fused ops with the CUDA kernels' code compiled for the host: emulation/."""

import hashlib
import os
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.fake_cuda.device.build import Unavailable, libraries_in

EMULATION = Path(__file__).parent / "emulation"
EMULATED_DEVICE = ("fiber.cc", "device.cc")
OPTIMIZED = {"conv_cuda.cu", *EMULATED_DEVICE}
"""Sources that run for longer than it takes to optimize them."""
FLAGS = ("-std=c++17", "-fPIC", "-fvisibility=hidden", "-fno-math-errno", "-DEDGEGRAIN_CUDA=13000")
EMULATED = ("-DEDGEGRAIN_EMULATION", f"-I{EMULATION}", "-include", "cuda_runtime.h", "-x", "c++")
HEADER_SECONDS = 60


def build_ops(repository: Path, folder: Path, device: Path) -> Path:
    """The folder with the library, which is linked with a fake CUDA run time."""
    ops = repository / "server_decoder" / "cuda_ops"
    on_cpu = sorted((ops / "src").rglob("*.cc"))
    on_device = [*sorted((ops / "src").glob("*.cu")), *(EMULATION / name for name in EMULATED_DEVICE)]
    folder.mkdir(parents=True, exist_ok=True)
    headers = _headers(repository, folder, ops / "fetch_headers.sh")
    included = sorted(path for part in (ops / "src", EMULATION) for path in part.rglob("*") if path.is_file())
    state = hashlib.sha256(b"".join(path.read_bytes() for path in [*included, Path(__file__)])).hexdigest()
    objects = folder / state[:16]
    if not objects.is_dir():
        for old in folder.glob("?" * 16):
            shutil.rmtree(old)
        work = folder / "new"
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir()
        common = [*FLAGS, "-isystem", str(headers), f"-I{ops / 'src'}"]

        def compile_one(source: Path) -> None:
            own = ["-O1" if source.name in OPTIMIZED else "-O0", *(EMULATED if source in on_device else ())]
            _compile([*common, *own, "-c", str(source), "-o", str(work / f"{source.name}.o")])

        with ThreadPoolExecutor(os.cpu_count()) as compilers:
            list(compilers.map(compile_one, [*on_device, *on_cpu]))
        work.rename(objects)
    out = device / "ops"
    out.mkdir(exist_ok=True)
    # The emulation calls the run time by a weak name, for which no linker keeps a library on its own.
    runtime = ["-Wl,--no-as-needed", str(libraries_in(device)["libcudart"])]
    parts = [*map(str, sorted(objects.glob("*.o"))), *runtime, "-Wl,--no-undefined", f"-Wl,-rpath,{device}"]
    _compile(["-shared", "-o", str(out / "libedgegrain_ops.so"), *parts])
    return out


def _headers(repository: Path, folder: Path, fetch: Path) -> Path:
    """The folder of the headers: named by a variable, fetched by another build, or fetched here."""
    builds = [folder, *(repository / "build" / name for name in ("cuda_ops", "cuda_ops_tests"))]
    places = [build / "headers" / "include" / "onnxruntime" for build in builds]
    if named := os.environ.get("ONNXRUNTIME_INCLUDE_DIR"):
        places.insert(0, Path(named))
    for place in places:
        if (place / "onnxruntime_cxx_api.h").is_file():
            return place
    if shutil.which("apt-get") is None:
        raise Unavailable("the fused ops need ONNX Runtime's headers: set ONNXRUNTIME_INCLUDE_DIR")
    command = ["sh", str(fetch), str(folder / "headers")]
    try:
        fetched = subprocess.run(command, capture_output=True, text=True, timeout=HEADER_SECONDS)
    except subprocess.TimeoutExpired:
        raise Unavailable(f"ONNX Runtime's headers were not fetched in {HEADER_SECONDS} s") from None
    if fetched.returncode:
        lines = fetched.stderr.strip().splitlines() or ["no message"]
        raise Unavailable(f"ONNX Runtime's headers cannot be fetched: {lines[-1]}")
    return folder / "headers" / "include" / "onnxruntime"


def _compile(arguments: list[str]) -> None:
    done = subprocess.run(["g++", *arguments], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"the emulated ops do not compile:\n{done.stderr[-4000:]}")
