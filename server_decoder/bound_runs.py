"""Runs sessions on fixed buffers: no allocation per picture, as replaying a CUDA graph requires."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from codec_contract.errors import first_line
from server_decoder.providers import GPU, is_lack_of_memory

if TYPE_CHECKING:
    import onnxruntime

logger = logging.getLogger(__name__)

Array = npt.NDArray[Any]
_NO_GRAPH = -1  # ONNX Runtime's number for a run that is neither captured nor replayed


@dataclass(frozen=True)
class _Buffers:
    """One batch size's tensors on the device."""

    inputs: Mapping[str, onnxruntime.OrtValue]
    output: onnxruntime.OrtValue
    binding: onnxruntime.IOBinding
    options: onnxruntime.RunOptions


class BoundRuns:
    """Runs a session of one output through IO binding, one run at a time, from any number of threads.

    Kept batch sizes (`keep`) have their own input and output buffers on the device and, if the session was created to
    capture ``graphs``, a CUDA graph each; other sizes get buffers for one run. All runs happen in one thread, because
    ONNX Runtime keeps CUDA graphs per thread.
    """

    def __init__(
        self, session: onnxruntime.InferenceSession, device: str, device_id: int = 0, *, graphs: bool = False
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
        return self._thread.submit(self._run, feeds).result()

    def _run(self, feeds: Mapping[str, Array]) -> Array:
        buffers, shapes = self._kept.get(_batch(feeds)), {name: values.shape for name, values in feeds.items()}
        with GPU:
            if buffers and {name: tuple(value.shape()) for name, value in buffers.inputs.items()} == shapes:
                return self._replay(buffers, feeds)
            return self._run_once(feeds)

    def _keep(self, feeds: Mapping[str, Array]) -> None:
        size = _batch(feeds)
        if size in self._kept:
            return
        with GPU:
            first = self._run_once(feeds)  # shows the output's shape, and lets cuDNN choose its algorithms
            buffers = self._buffers(feeds, first)
            try:
                self._replay(buffers, feeds)  # captures the graph
            except Exception as error:  # ONNX Runtime's exceptions have no common class
                if not self.graphs or is_lack_of_memory(error):
                    raise
                logger.warning("this decoder runs without CUDA graphs: %s", first_line(error))
                self.graphs = False
                self._replay(buffers, feeds)
        self._kept[size] = buffers

    def _bound_inputs(self, feeds: Mapping[str, Array]) -> tuple[dict[str, onnxruntime.OrtValue], Any]:
        """Values on the device, and a binding of them."""
        from onnxruntime import OrtValue

        binding = self._session.io_binding()
        inputs = {name: OrtValue.ortvalue_from_numpy(values, *self._place) for name, values in feeds.items()}
        for name, value in inputs.items():
            binding.bind_ortvalue_input(name, value)
        return inputs, binding

    def _buffers(self, feeds: Mapping[str, Array], output: Array) -> _Buffers:
        from onnxruntime import OrtValue

        # Copies, as on the CPU they are the buffers themselves.
        inputs, binding = self._bound_inputs({name: values.copy() for name, values in feeds.items()})
        result = OrtValue.ortvalue_from_shape_and_type(output.shape, output.dtype, *self._place)
        binding.bind_ortvalue_output(self._output, result)
        return _Buffers(inputs, result, binding, self._options(_batch(feeds)))

    def _replay(self, buffers: _Buffers, feeds: Mapping[str, Array]) -> Array:
        for name, values in feeds.items():
            buffers.inputs[name].update_inplace(values)
        self._session.run_with_iobinding(buffers.binding, buffers.options if self.graphs else self._options(_NO_GRAPH))
        buffers.binding.synchronize_outputs()
        # A copy: on the CPU, ``numpy()`` may share memory of the session.
        return np.array(buffers.output.numpy())

    def _run_once(self, feeds: Mapping[str, Array]) -> Array:
        inputs, binding = self._bound_inputs(feeds)
        binding.bind_output(self._output, *self._place)
        self._session.run_with_iobinding(binding, self._options(_NO_GRAPH))
        binding.synchronize_outputs()
        return np.array(binding.get_outputs()[0].numpy())

    def _options(self, graph: int) -> onnxruntime.RunOptions:
        import onnxruntime

        options = onnxruntime.RunOptions()
        if self._captures:
            options.add_run_config_entry("gpu_graph_id", str(graph))
        return options


def _batch(feeds: Mapping[str, Array]) -> int:
    return len(next(iter(feeds.values())))
