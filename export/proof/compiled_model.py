"""LiteRT's ``CompiledModel``, the interface of LiteRT 2 that the Android client uses, as runtimes of an encoder."""

from __future__ import annotations

import math
from collections.abc import Callable
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
    name = f"LiteRT {version('ai-edge-litert')}, CompiledModel, XNNPACK"
    runtimes = []
    for label, options in _options(name):
        try:
            with captured_stderr():  # prints its accelerators
                model = CompiledModel.from_file(str(path), **options)
                runtimes.append(Runtime(label, _encoder(model)))
        except RuntimeError as error:
            raise ExportError(f"LiteRT cannot load {path}: {error}") from error
    return runtimes


def _options(name: str) -> list[tuple[str, dict[str, Any]]]:
    """Names of runtimes, and what makes a model of them."""
    try:
        from ai_edge_litert.options import CpuOptions, Options
    except ImportError:
        return [(name, {})]
    return [(f"{name}, {threads} thread{'s' if threads > 1 else ''}",
             {"options": Options(cpu_options=CpuOptions(num_threads=threads))}) for threads in THREADS]


def _encoder(model: Any) -> Callable[[np.ndarray], np.ndarray]:
    inputs, outputs = model.create_input_buffers(0), model.create_output_buffers(0)
    size = model.get_output_buffer_requirements(0, 0)["buffer_size"]
    lr = math.isqrt(size // 3)

    def encode(rgb: np.ndarray) -> np.ndarray:
        inputs[0].write(rgb.view(np.int8))  # LiteRT's name for bytes of either kind, as in Kotlin
        model.run_by_index(0, inputs, outputs)
        coded: np.ndarray = outputs[0].read(size, np.int8)
        return coded.view(np.uint8)[:lr * lr * 3].reshape(1, lr, lr, 3)  # buffers may end in padding

    return encode
