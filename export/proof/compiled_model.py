"""LiteRT's ``CompiledModel``, the interface of LiteRT 2 that the Android client uses, as runtimes of an encoder."""

from __future__ import annotations

import atexit
import math
import os
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from codec_contract.errors import ExportError
from codec_contract.native_output import captured_stderr
from export.proof.runtimes import THREADS, Runtime


def compiled_model_runtimes(path: Path) -> list[Runtime]:
    """``CompiledModel`` on the CPU with XNNPACK; LiteRT before 2.3 chooses the number of threads itself.

    Raises:
        ExportError: LiteRT is not installed, or it cannot load the file.
    """
    try:
        from ai_edge_litert.compiled_model import CompiledModel
    except ImportError as error:
        raise ExportError(f"checking TFLite needs LiteRT ({error}); pip install 'edgegrain[export]'") from error
    atexit.register(_end_quietly)
    name = f"LiteRT {version('ai-edge-litert')}, CompiledModel, XNNPACK"
    runtimes = []
    for label, options in _options(name):
        try:
            with captured_stderr():  # prints its accelerators
                model = CompiledModel.from_file(str(path), **options)
                runtimes.append(Runtime(label, _Encoder(model)))
                del model
        except RuntimeError as error:
            raise ExportError(f"LiteRT cannot load {path}: {error}") from error
    return runtimes


def _options(name: str) -> list[tuple[str, dict[str, Any]]]:
    """Name of each runtime, and the arguments of `CompiledModel.from_file` for it."""
    try:
        from ai_edge_litert.options import CpuOptions, Options
    except ImportError:
        return [(name, {})]
    return [(f"{name}, {threads} thread{'s' if threads > 1 else ''}",
             {"options": Options(cpu_options=CpuOptions(num_threads=threads))}) for threads in THREADS]


class _Encoder:
    """uint8 ``[1, S, S, 3]`` -> LR ``[1, h, w, 3]``, quiet at its end too, where LiteRT prints its accelerators."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self._inputs, self._outputs = model.create_input_buffers(0), model.create_output_buffers(0)
        self._size = model.get_output_buffer_requirements(0, 0)["buffer_size"]
        self._lr = math.isqrt(self._size // 3)
        self._inputs[0].write(np.zeros(model.get_input_buffer_requirements(0, 0)["buffer_size"], np.int8))
        model.run_by_index(0, self._inputs, self._outputs)  # the first run prints too

    def __call__(self, rgb: np.ndarray) -> np.ndarray:
        self._inputs[0].write(rgb.view(np.int8))  # LiteRT's name for bytes of either kind, as in Kotlin
        self._model.run_by_index(0, self._inputs, self._outputs)
        coded: np.ndarray = self._outputs[0].read(self._size, np.int8)[:3 * self._lr**2]  # a buffer may end in padding
        return coded.view(np.uint8).reshape(1, self._lr, self._lr, 3)

    def __del__(self) -> None:
        with captured_stderr():
            vars(self).clear()


def _end_quietly() -> None:
    """Drop the lines that LiteRT prints when its library is unloaded, after all of Python has ended."""
    sys.stderr.flush()
    with open(os.devnull, "w") as nothing:
        os.dup2(nothing.fileno(), 2)
