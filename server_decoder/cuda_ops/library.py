"""The built library of the domain ``com.edgegrain``: finding it, checking it, registering it with a session."""

from __future__ import annotations

import ctypes
import importlib.util
import mmap
from pathlib import Path
from typing import TYPE_CHECKING

from codec_contract.errors import DeviceError
from server_decoder.providers import beyond_driver, compute_capability, release

if TYPE_CHECKING:
    import onnxruntime

DOMAIN = "com.edgegrain"
PACKAGE = "edgegrain_cuda_ops"
"""The package that ``pip install ./server_decoder/cuda_ops`` installs; it holds the library alone."""
BUILT = Path(__file__).parent / "lib"
"""The output folder of ``make ops``."""
_HINT = (
    "build it with 'make ops' in a checkout, or install it from there with "
    "'pip install ./server_decoder/cuda_ops' (docs/cuda_ops.md); or use a decoder exported with --ops plain"
)


def contains(model: bytes | str | Path, text: bytes) -> bool:
    """True if ``text`` is in an ONNX file, given as bytes or path; False if the file cannot be read."""
    if isinstance(model, bytes):
        return text in model
    try:
        with open(model, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            return content.find(text) >= 0
    except (OSError, ValueError):  # absent, or empty
        return False


def find_library(path: Path | None = None) -> Path:
    """The library: ``path`` if given, else what ``make ops`` built, else what pip installed."""
    if path is not None:
        if not path.is_file():
            raise DeviceError(f"there is no library of {DOMAIN} at {path}; {_HINT}")
        return path
    folders = [BUILT]
    if (package := importlib.util.find_spec(PACKAGE)) is not None:
        folders += map(Path, package.submodule_search_locations or ())
    for folder in folders:
        if found := sorted(folder.glob("*edgegrain_ops.*")):  # libedgegrain_ops.so, edgegrain_ops.dll
            return found[0]
    raise DeviceError(f"this graph needs the library of the ops {DOMAIN}, which is not built; {_HINT}")


def has_cuda_kernels(path: Path) -> bool:
    """True if a library was built with CUDA kernels; needs no GPU."""
    return cuda_version(path) > 0


def cuda_version(path: Path) -> int:
    """The version of CUDA that a library's kernels were built with, as 13000 for 13.0; 0 if it has none."""
    try:
        return int(ctypes.CDLL(str(path.resolve())).edgegrain_cuda_version())
    except (OSError, AttributeError) as error:
        raise DeviceError(f"{path} cannot be used as the library of {DOMAIN}: {error}; {_HINT}") from error


def require_cuda_kernels(library: Path, device_id: int = 0) -> None:
    """Check that a library has CUDA kernels and that the driver and the GPU, if there are any, run them."""
    if not has_cuda_kernels(library):
        raise DeviceError(
            f"{library} was built without nvcc and has no kernels for device 'cuda'; build it again with "
            "'make ops' where CUDA's compiler is installed"
        )
    # Without these checks the first launch would fail, after minutes of loading.
    if reason := beyond_driver(cuda_version(library)):
        raise DeviceError(f"{library} {reason}; update NVIDIA's driver, or build the library with an older CUDA")
    if (capability := compute_capability(device_id)) is not None and capability < (8, 0):
        raise DeviceError(
            f"fused ops need a GPU of compute capability 8.0 or higher, GPU {device_id} has "
            f"{capability[0]}.{capability[1]}; use a decoder exported with --ops plain"
        )


def register_library(
    options: onnxruntime.SessionOptions, device: str = "cpu", path: Path | None = None, device_id: int = 0
) -> Path:
    """Let sessions with these options, changed in place, run graphs with ops of ``com.edgegrain``; returns the path.

    On ``"cuda"`` the library must have CUDA kernels: without them ONNX Runtime would run the ops on the CPU and copy
    their tensors there and back.
    """
    import onnxruntime

    # Its older releases (1.23 does) crash on a node without an optional input whose output shape is inferred.
    if release(onnxruntime.__version__) < (1, 30):
        raise DeviceError(
            f"fused ops need ONNX Runtime 1.30 or newer, this is {onnxruntime.__version__}; update it, or use a "
            "decoder exported with --ops plain"
        )
    library = find_library(path)
    if device == "cuda":
        require_cuda_kernels(library, device_id)
    else:
        has_cuda_kernels(library)  # refuses other libraries
    try:
        options.register_custom_ops_library(str(library.resolve()))
    except Exception as error:  # ONNX Runtime has no common class for its errors
        raise DeviceError(f"ONNX Runtime refuses {library}: {error}; {_HINT}") from error
    return library
