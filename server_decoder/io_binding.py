"""Runs sessions on fixed buffers: no allocation per picture, as replaying a CUDA graph requires."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import onnxruntime

Array = npt.NDArray[np.float32]
_NO_GRAPH = -1  # ONNX Runtime's number for a run that is neither captured nor replayed


@dataclass(frozen=True)
class _Buffers:
    """One batch size's tensors on the device."""

    inputs: Mapping[str, onnxruntime.OrtValue]
    output: onnxruntime.OrtValue
    binding: onnxruntime.IOBinding
    options: onnxruntime.RunOptions

    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {name: tuple(value.shape()) for name, value in self.inputs.items()}


class BoundRuns:
    """Runs a session of one output through IO binding, one run at a time, from any number of threads.

    Kept batch sizes (`keep`) have their own input and output buffers and, if the session captures, a CUDA graph each;
    other sizes get buffers for one run. All runs happen in one thread, because ONNX Runtime keeps CUDA graphs per
    thread.
    """

    def __init__(self, session: onnxruntime.InferenceSession, device: str, device_id: int = 0, *, graphs: bool = False
                 ) -> None:
        """Take a session.

        Args:
            session: of one output.
            device: ``"cuda"``, or ``"cpu"``.
            device_id: number of the device.
            graphs: true if the session was created to capture CUDA graphs.
        """
        self._session = session
        self._place = device, device_id
        self._graphs = graphs
        self._output = session.get_outputs()[0].name
        self._kept: dict[int, _Buffers] = {}
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="decoder")

    @property
    def kept(self) -> tuple[int, ...]:
        """The batch sizes with buffers of their own, ascending."""
        return tuple(sorted(self._kept))

    def keep(self, feeds: Mapping[str, Array]) -> Array:
        """Run a batch and keep buffers for its size; a later batch of this size must have the same shapes."""
        return self._thread.submit(self._keep, feeds).result()

    def run(self, feeds: Mapping[str, Array]) -> Array:
        """Inputs by name, the batch first in each -> the output."""
        return self._thread.submit(self._run, feeds).result()

    def _keep(self, feeds: Mapping[str, Array]) -> Array:
        size = _batch(feeds)
        if size not in self._kept:
            first = self._run_once(feeds)  # shows the output's shape, and lets cuDNN choose its algorithms
            self._kept[size] = self._buffers(feeds, first.shape, size)
        return self._replay(self._kept[size], feeds)

    def _run(self, feeds: Mapping[str, Array]) -> Array:
        buffers = self._kept.get(_batch(feeds))
        if buffers and buffers.shapes() == {name: values.shape for name, values in feeds.items()}:
            return self._replay(buffers, feeds)
        return self._run_once(feeds)

    def _buffers(self, feeds: Mapping[str, Array], output: tuple[int, ...], size: int) -> _Buffers:
        import onnxruntime

        inputs = {name: onnxruntime.OrtValue.ortvalue_from_numpy(values, *self._place)
                  for name, values in feeds.items()}
        result = onnxruntime.OrtValue.ortvalue_from_shape_and_type(output, np.float32, *self._place)
        binding = self._session.io_binding()
        for name, value in inputs.items():
            binding.bind_ortvalue_input(name, value)
        binding.bind_ortvalue_output(self._output, result)
        return _Buffers(inputs, result, binding, self._options(size))

    def _replay(self, buffers: _Buffers, feeds: Mapping[str, Array]) -> Array:
        for name, values in feeds.items():
            buffers.inputs[name].update_inplace(values)
        self._session.run_with_iobinding(buffers.binding, buffers.options)
        buffers.binding.synchronize_outputs()
        return _copied(buffers.output)

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
        return _copied(binding.get_outputs()[0])

    def _options(self, graph: int) -> onnxruntime.RunOptions:
        import onnxruntime

        options = onnxruntime.RunOptions()
        if self._graphs:
            options.add_run_config_entry("gpu_graph_id", str(graph))
        return options


def _batch(feeds: Mapping[str, Array]) -> int:
    return len(next(iter(feeds.values())))


def _copied(value: Any) -> Array:
    """A copy of the result: on the CPU, ``numpy()`` may share the buffer that the next run writes."""
    return np.array(value.numpy(), dtype=np.float32)
