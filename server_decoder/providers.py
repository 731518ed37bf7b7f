"""ONNX Runtime's execution providers: choice by device, configuration, error messages."""

from __future__ import annotations

import ctypes
import functools
import io
import re
import sys
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from codec_contract.errors import BundleError, DeviceError, DeviceMemoryError, first_line
from codec_contract.onnx_runtime import refuse_external_weights, set_threads

if TYPE_CHECKING:
    import onnxruntime

Device = Literal["cpu", "cuda"]

PROVIDERS: dict[str, str] = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
"""Device -> ONNX Runtime's execution provider."""

_DRIVER = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
_preloading, _registering = threading.Lock(), threading.Lock()  # both change state of the process
_OUT_OF_MEMORY = re.compile(
    "failed to allocate|out of memory|bad[ _]alloc|available memory of|cuda failure 2:|cu(dnn|blas)_status_alloc_failed"
)


@dataclass(frozen=True)
class CudaOptions:
    """Options of device ``"cuda"``.

    Attributes:
        device_id: number of the GPU.
        graphs: replay every batch size that was warmed up as one CUDA graph: one launch instead of hundreds. A model
            that cannot be captured runs without graphs, and a warning says why.
        prefer_nhwc: keep activations channels-last for the convolutions of graphs that are channels-first. ONNX
            Runtime puts transposes around them; ``benchmarks/speed/decoder.py`` measures which way is faster.
    """

    device_id: int = 0
    graphs: bool = True
    prefer_nhwc: bool = False

    def provider_options(self, memory_limit: int | None) -> dict[str, str]:
        """ONNX Runtime's options of the CUDA provider, all set explicitly: its defaults change between versions."""
        options = {
            "device_id": str(self.device_id),
            "arena_extend_strategy": "kSameAsRequested",
            "cudnn_conv_algo_search": "HEURISTIC",
            "cudnn_conv_use_max_workspace": "1",
            "do_copy_in_default_stream": "1",
            "enable_cuda_graph": str(int(self.graphs)),
            "prefer_nhwc": str(int(self.prefer_nhwc)),
            "use_tf32": "0",
        }
        return options | ({"gpu_mem_limit": str(memory_limit)} if memory_limit is not None else {})


def can_replay_graphs(version: str) -> bool:
    """True if this version of ONNX Runtime replays CUDA graphs with the right pictures."""
    # Before, graphs captured copies from host memory (of Concat and Split) that a run of another batch size overwrites
    # (microsoft/onnxruntime, pull request 32121).
    return release(version) >= (1, 30)


def release(version: str) -> tuple[int, int]:
    """Major and minor number of a version of ONNX Runtime or CUDA; (0, 0) if it has another form."""
    found = re.match(r"(\d+)\.(\d+)", version)
    return (int(found[1]), int(found[2])) if found else (0, 0)


def require_provider(device: str) -> str:
    """ONNX Runtime's execution provider for a device; it is installed, but was not started yet."""
    import onnxruntime

    if device not in PROVIDERS:
        raise DeviceError(f"unknown device {device!r}, expected one of {', '.join(PROVIDERS)}")
    provider, available = PROVIDERS[device], onnxruntime.get_available_providers()
    if provider not in available:
        raise DeviceError(
            f"device {device!r} needs {provider}, this ONNX Runtime has only {', '.join(available)}; "
            "install edgegrain[gpu] (onnxruntime-gpu instead of onnxruntime, never both)"
        )
    return provider


def preload_cuda() -> None:
    """Load CUDA's and cuDNN's libraries from pip's packages (torch's, or those of ``nvidia``), once in a process."""
    with _preloading:
        _preload()


@functools.cache
def _preload() -> None:
    import onnxruntime

    with redirect_stdout(io.StringIO()):  # it prints missing libraries; the system may have them
        onnxruntime.preload_dlls()


def cuda_failure() -> str | None:
    """The reason why ONNX Runtime's CUDA provider cannot start, found by loading its libraries; None if all load."""
    import onnxruntime

    preload_cuda()
    if driver_version() == 0:
        return "NVIDIA's driver is missing"
    name = "onnxruntime_providers_{}.dll" if sys.platform == "win32" else "libonnxruntime_providers_{}.so"
    for part in ("shared", "cuda"):
        try:
            ctypes.CDLL(str(Path(onnxruntime.__file__).parent / "capi" / name.format(part)), ctypes.RTLD_GLOBAL)
        except OSError as error:  # names the first library that is missing
            return first_line(error)
    major, minor = release(getattr(onnxruntime, "cuda_version", "") or "")
    reason = beyond_driver(1000 * major + 10 * minor)
    return None if reason is None else f"ONNX Runtime {reason}"


def driver_version() -> int:
    """The newest CUDA that the driver runs, as 13000 for 13.0; 0 if there is no driver, or it does not say."""
    version = ctypes.c_int(0)
    try:
        ctypes.CDLL(_DRIVER).cuDriverGetVersion(ctypes.byref(version))
    except (OSError, AttributeError):
        return 0
    return version.value


def compute_capability(device_id: int = 0) -> tuple[int, int] | None:
    """Compute capability of a GPU, as (9, 0); None if there is no such GPU, or the driver does not say."""
    device, major, minor = ctypes.c_int(0), ctypes.c_int(0), ctypes.c_int(0)
    try:
        driver = ctypes.CDLL(_DRIVER)
        failed = driver.cuInit(0) or driver.cuDeviceGet(ctypes.byref(device), device_id)
        for number, value in (75, major), (76, minor):  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_...
            failed = failed or driver.cuDeviceGetAttribute(ctypes.byref(value), number, device)
    except (OSError, AttributeError):
        return None
    return None if failed else (major.value, minor.value)


def beyond_driver(built: int) -> str | None:
    """The reason why the driver cannot run code that was built with this CUDA, 13000 for 13.0; None if it can, or if
    the driver is unknown."""
    driver = driver_version()
    # Compiled code runs on older drivers of the same major version ("minor version compatibility"); PTX does not.
    if driver == 0 or built // 1000 <= driver // 1000:
        return None
    needed, newest = (f"{version // 1000}.{version % 1000 // 10}" for version in (built, driver))
    return f"was built with CUDA {needed}, and the driver runs CUDA up to {newest}"


def session_options(device: str, threads: int | None, *, in_memory: bool = True) -> onnxruntime.SessionOptions:
    """The options of all sessions; models ``in_memory``, given as bytes, have to hold their weights."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    # Failures raise exceptions. On CUDA, warnings (2) name convolutions without a fast algorithm and nodes that run on
    # the CPU; ONNX Runtime's Python interface cannot pass them on, so it writes them to stderr.
    options.log_severity_level = 4 if device == "cpu" else 2
    # One more block of memory for each batch size would double the memory. On a CPU it gains no time, and replayed CUDA
    # graphs allocate nothing.
    options.enable_mem_pattern = False
    if in_memory:
        refuse_external_weights(options)
    # Else the decoder's threads spin, waiting for its next run, while those of the enlarger compute.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    if not has_dot_products():  # exact sums of int8 on x86, in twice the time
        options.add_session_config_entry("session.x64quantprecision", "1")
    set_threads(options, threads)
    return options


def can_run_int8() -> bool:
    """True if ONNX Runtime reads weights of a file in memory, as versions from 1.24 on do."""
    import onnxruntime

    return hasattr(onnxruntime.SessionOptions, "add_external_initializers_from_files_in_memory")


@functools.cache
def has_dot_products() -> bool:
    """True if the CPU is known to multiply bytes in dot products, with sums that do not overflow; Linux tells."""
    try:
        return re.search(r"\b(avx512_vnni|avx_vnni|asimddp)\b", Path("/proc/cpuinfo").read_text()) is not None
    except OSError:
        return False


GPU = threading.Lock()
"""Held by all work on GPUs of this process: ONNX Runtime captures CUDA graphs in the global mode
(``cudaStreamCaptureModeGlobal``), in which memory that any thread allocates meanwhile ends the capture."""


def outside_captures(device: str) -> AbstractContextManager[Any]:
    """Work of a session on a device, which on ``"cuda"`` does not run during a capture."""
    return GPU if device == "cuda" else nullcontext()


@contextmanager
def limited_arena(options: onnxruntime.SessionOptions, limit: int | None) -> Iterator[None]:
    """Give the session on the CPU that the block creates an arena of its own of at most ``limit`` bytes, if given."""
    import onnxruntime

    if limit is None:
        yield
        return
    arena, default = onnxruntime.OrtAllocatorType.ORT_ARENA_ALLOCATOR, onnxruntime.OrtMemType.DEFAULT
    place = onnxruntime.OrtMemoryInfo("Cpu", arena, 0, default)
    growth = onnxruntime.OrtArenaCfg({"max_mem": limit, "arena_extend_strategy": 1})  # 1: by the requested size
    options.add_session_config_entry("session.use_env_allocators", "1")
    with _registering:  # an allocator serves the sessions that are created until the next one is registered
        onnxruntime.create_and_register_allocator(place, growth)
        yield


def create_session(
    source: bytes | str,
    options: onnxruntime.SessionOptions,
    device: str,
    network: str,
    cuda: CudaOptions,
    memory_limit: int | None = None,
) -> onnxruntime.InferenceSession:
    """A session of a ``network``, such as ``"decoder"``, on a device's provider, which is installed; no fall-back."""
    import onnxruntime

    provider = PROVIDERS[device]
    chain: list[str | tuple[str, dict[str, str]]] = [provider]
    if device == "cuda":
        preload_cuda()
        # Shape arithmetic has kernels on the CPU only.
        chain = [(provider, cuda.provider_options(memory_limit)), PROVIDERS["cpu"]]
    try:
        with outside_captures(device):
            session = onnxruntime.InferenceSession(source, options, providers=chain, enable_fallback=0)
    except Exception as error:  # ONNX Runtime has no common class for errors of a damaged model
        if is_lack_of_memory(error):
            raise device_failure(error, device, f"loading the {network}") from error
        if device == "cuda" and "cud" in str(error).lower():  # CUDA or cuDNN
            raise not_active(provider, [], first_line(error)) from error
        raise BundleError(f"the {network} cannot be loaded: {first_line(error)}") from error
    session.disable_fallback()
    if provider not in session.get_providers():
        raise not_active(provider, session.get_providers())
    return session


def device_failure(error: Exception, device: str, work: str) -> DeviceError:
    """A `DeviceError` for an exception of ONNX Runtime or numpy during a device's work, a noun phrase."""
    text = first_line(error)
    if is_lack_of_memory(error):
        return DeviceMemoryError(
            f"{work} needs more memory than {device} has left ({text}); take smaller batches, or raise a limit"
        )
    return DeviceError(f"{work} failed on {device}: {text}")


def is_lack_of_memory(error: Exception) -> bool:
    """True if ONNX Runtime or numpy failed because a device has too little memory left."""
    return isinstance(error, MemoryError) or _OUT_OF_MEMORY.search(str(error).lower()) is not None


def not_active(provider: str, active: list[str], reason: str = "") -> DeviceError:
    """The error for CUDA's provider that is installed but did not start; names what is missing."""
    # ONNX Runtime's reason often names no library; so the provider's libraries are loaded to find the missing one.
    reason = "; ".join(filter(None, [cuda_failure(), reason])) or "ONNX Runtime gives no reason"
    return DeviceError(
        f"device 'cuda' was asked for, but {provider} did not start ({reason}); active: "
        f"{', '.join(active) or 'nothing'}. Its CUDA or cuDNN libraries or the driver are missing or too old; "
        "install edgegrain[gpu] and run 'edgegrain doctor'"
    )
