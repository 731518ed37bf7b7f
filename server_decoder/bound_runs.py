"""Runs sessions on fixed buffers: no allocation per picture, as replaying a CUDA graph requires."""

from __future__ import annotations

import ctypes
import functools
import logging
import math
import queue
import re
import sys
import weakref
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from codec_contract.errors import first_line
from server_decoder.providers import GPU, is_lack_of_memory

if TYPE_CHECKING:
    import onnxruntime

logger = logging.getLogger(__name__)

Array = npt.NDArray[Any]
STAGES = 2
"""Host buffers of a kept batch size: while one result is copied out of its buffer, the next run fills another."""
_NO_GRAPH = -1  # ONNX Runtime's number for a run that is neither captured nor replayed


@dataclass(frozen=True)
class _Stage:
    """The host's side of one run: arrays in page-locked memory."""

    inputs: Mapping[str, Array]
    output: Array


@dataclass(frozen=True)
class _Buffers:
    """One batch size's tensors on the device, and the stages that are free."""

    inputs: Mapping[str, onnxruntime.OrtValue]
    output: onnxruntime.OrtValue
    binding: onnxruntime.IOBinding
    options: onnxruntime.RunOptions
    stages: queue.SimpleQueue[_Stage] = field(default_factory=queue.SimpleQueue)

    @contextmanager
    def stage(self) -> Iterator[_Stage]:
        """A free stage; waits until there is one."""
        stage = self.stages.get()
        try:
            yield stage
        finally:
            self.stages.put(stage)


class BoundRuns:
    """Runs a session of one output through IO binding, one run at a time, from any number of threads.

    Kept batch sizes (`keep`) have their own input and output buffers on the device, `STAGES` page-locked buffers on the
    host and, if the session was created to capture ``graphs``, a CUDA graph each; other sizes get buffers for one run.
    All runs happen in one thread, because ONNX Runtime keeps CUDA graphs per thread; callers fill and empty the host's
    buffers in theirs.
    """

    def __init__(self, session: onnxruntime.InferenceSession, device: str, device_id: int = 0, *, graphs: bool = False
                 ) -> None:
        self._session = session
        self._place = device, device_id
        self._captures = self.graphs = graphs  # graphs: false from the first capture on that fails
        self._output = session.get_outputs()[0].name
        self._kept: dict[int, _Buffers] = {}
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="decoder")

    def keep(self, feeds: Mapping[str, Array]) -> None:
        """Run a batch and keep buffers for its size; a later batch of this size must have the same shapes.

        If its CUDA graph cannot be captured, which is logged, all sizes run without one from now on.
        """
        self._thread.submit(self._keep, feeds).result()

    def run(self, feeds: Mapping[str, Array]) -> Array:
        """Inputs by name, the batch first in each -> the output."""
        buffers = self._kept.get(_batch(feeds))
        if buffers is None or {name: tuple(value.shape()) for name, value in buffers.inputs.items()} != {
                name: values.shape for name, values in feeds.items()}:
            return self._thread.submit(GPU.work()(self._run_once), feeds).result()
        with buffers.stage() as stage:
            for name, values in feeds.items():
                np.copyto(stage.inputs[name], values)
            self._thread.submit(GPU.work()(self._replay), buffers, stage).result()
            return stage.output.copy()

    def _keep(self, feeds: Mapping[str, Array]) -> None:
        size = _batch(feeds)
        if size in self._kept:
            return
        with GPU.work():
            first = self._run_once(feeds)  # shows the output's shape, and lets cuDNN choose its algorithms
            buffers = self._buffers(feeds, first, size)
        with buffers.stage() as stage, GPU.capture() if self.graphs else GPU.work():
            for name, values in feeds.items():
                np.copyto(stage.inputs[name], values)
            try:
                self._replay(buffers, stage)  # captures the graph
            except Exception as error:  # ONNX Runtime's exceptions have no common class
                if not self.graphs or is_lack_of_memory(error):
                    raise
                logger.warning("this decoder runs without CUDA graphs: %s", first_line(error))
                self.graphs = False
                self._replay(buffers, stage)
        self._kept[size] = buffers

    def _buffers(self, feeds: Mapping[str, Array], output: Array, size: int) -> _Buffers:
        import onnxruntime

        inputs = {name: onnxruntime.OrtValue.ortvalue_from_numpy(values.copy(), *self._place)
                  for name, values in feeds.items()}  # a copy, as on the CPU it is the buffer itself
        result = onnxruntime.OrtValue.ortvalue_from_shape_and_type(output.shape, output.dtype, *self._place)
        binding = self._session.io_binding()
        for name, value in inputs.items():
            binding.bind_ortvalue_input(name, value)
        binding.bind_ortvalue_output(self._output, result)
        buffers = _Buffers(inputs, result, binding, self._options(size))
        for _ in range(STAGES):
            buffers.stages.put(_Stage({name: self._array_like(values) for name, values in feeds.items()},
                                      self._array_like(output)))
        return buffers

    def _array_like(self, values: Array) -> Array:
        empty = np.empty if self._place[0] == "cpu" else page_locked_empty
        return empty(values.shape, values.dtype)

    def _replay(self, buffers: _Buffers, stage: _Stage) -> None:
        import onnxruntime

        for name, values in stage.inputs.items():
            buffers.inputs[name].update_inplace(values)
        self._session.run_with_iobinding(buffers.binding, buffers.options if self.graphs else self._options(_NO_GRAPH))
        buffers.binding.synchronize_outputs()
        try:  # an OrtValue on the CPU shares the array's memory: this copies from the device into it
            onnxruntime.OrtValue.ortvalue_from_numpy(stage.output).update_inplace(buffers.output)
        except TypeError:  # older versions copy from arrays only
            np.copyto(stage.output, buffers.output.numpy())

    def _run_once(self, feeds: Mapping[str, Array]) -> Array:
        import onnxruntime

        binding = self._session.io_binding()
        inputs = [(name, onnxruntime.OrtValue.ortvalue_from_numpy(values, *self._place))
                  for name, values in feeds.items()]
        for name, value in inputs:
            binding.bind_ortvalue_input(name, value)
        binding.bind_output(self._output, *self._place)
        self._session.run_with_iobinding(binding, self._options(_NO_GRAPH))
        binding.synchronize_outputs()
        # A copy: on the CPU, ``numpy()`` may share memory of the session.
        return np.array(binding.get_outputs()[0].numpy())

    def _options(self, graph: int) -> onnxruntime.RunOptions:
        import onnxruntime

        options = onnxruntime.RunOptions()
        if self._captures:
            options.add_run_config_entry("gpu_graph_id", str(graph))
        return options


def _batch(feeds: Mapping[str, Array]) -> int:
    return len(next(iter(feeds.values())))


# Page-locked host memory for copies from and to a GPU. A copy between a GPU and ordinary memory passes through a buffer
# of the driver and stops the host meanwhile. ONNX Runtime's Python interface cannot allocate page-locked memory, so it
# is allocated with CUDA's run time here.
_PORTABLE = 1  # page-locked for all GPUs


def page_locked_empty(shape: tuple[int, ...], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    """An uninitialized array in page-locked memory, which is released with it; in ordinary memory where there is none.
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
