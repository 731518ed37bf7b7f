"""Page-locked host memory for copies from and to a GPU.

A copy between a GPU and ordinary memory passes through a buffer of the driver and stops the host meanwhile. ONNX
Runtime's Python interface cannot allocate page-locked memory, so it is allocated with CUDA's run time here.
"""

from __future__ import annotations

import ctypes
import functools
import logging
import math
import re
import sys
import weakref
from typing import Any

import numpy as np
import numpy.typing as npt

logger = logging.getLogger(__name__)

_PORTABLE = 1  # page-locked for all GPUs


def empty(shape: tuple[int, ...], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    """An uninitialized array in page-locked memory, which is released with it; in ordinary memory where there is none.

    Call it in a thread that has the GPU in use as its current device.
    """
    runtime = _runtime()
    size = math.prod(shape) * np.dtype(dtype).itemsize
    pointer = ctypes.c_void_p()
    if runtime is None or not size:
        return np.empty(shape, dtype)
    if runtime.cudaHostAlloc(ctypes.byref(pointer), ctypes.c_size_t(size), _PORTABLE):
        runtime.cudaGetLastError()  # resets it: ONNX Runtime would report it as the failure of a later kernel
        return np.empty(shape, dtype)
    block = (ctypes.c_ubyte * size).from_address(pointer.value or 0)
    # Not at exit: the driver may be gone by then, and releases the memory of a process anyway.
    weakref.finalize(block, runtime.cudaFreeHost, pointer).atexit = False
    return np.frombuffer(memoryview(block), np.dtype(dtype)).reshape(shape)


@functools.cache
def _runtime() -> Any:
    """The library of CUDA's run time that ONNX Runtime uses; None if it is not found, which is logged once."""
    import onnxruntime

    found = re.match(r"\d+", getattr(onnxruntime, "cuda_version", "") or "")
    if found is None:  # a build without CUDA
        return None
    name = f"cudart64_{found[0]}.dll" if sys.platform == "win32" else f"libcudart.so.{found[0]}"
    try:
        library = ctypes.CDLL(name)
        _ = library.cudaHostAlloc, library.cudaFreeHost, library.cudaGetLastError
    except (OSError, AttributeError) as error:
        logger.warning("pictures are copied from the GPU to pageable memory, which is slower: %s", error)
        return None
    return library
