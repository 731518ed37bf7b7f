"""The runtimes of this machine that can run an exported encoder, as functions from pictures to LRs.

A runtime is loaded from the artefact on disk, except torch, which has no file and runs the graph itself.
"""

from __future__ import annotations

import atexit
import itertools
import math
import os
import sys
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from codec_contract.errors import ExportError, needs_extra
from codec_contract.onnx_runtime import captured_stderr
from edge_encoder.integer_network import INPUT
from export.encoder.graph import OUTPUT, EncoderGraph
from export.proof.mil_interpreter import MilProgram

THREADS = (1, 2)
LARGE_BATCH = 16
"""From this batch size on torch without oneDNN uses NNPACK's Winograd kernels."""


@dataclass(frozen=True)
class Runtime:
    """``encode`` maps uint8 ``[N, hr, hr, 3]`` to uint8 ``[N, lr, lr, 3]`` for N = ``batch`` (or fewer, unless
    ``fixed_batch``)."""

    name: str
    encode: Callable[[np.ndarray], np.ndarray]
    batch: int = 1
    fixed_batch: bool = False
    slow: bool = False  # tens of times slower than the others, as reference kernels are


def load_runtimes(graph: EncoderGraph, artefacts: Mapping[str, Path]) -> list[Runtime]:
    """All runtimes that load ``artefacts`` (format -> path)."""
    batch = large_batch(graph)
    loaders: dict[str, Callable[[Path], Iterable[Runtime]]] = {
        "tflite": lambda path: tflite_runtimes(path) + compiled_model_runtimes(path),
        "coreml": coreml_runtimes,
        "onnx": lambda path: onnx_runtimes(path, batch),
    }
    return [runtime for kind, path in artefacts.items() for runtime in loaders[kind](path)]


def large_batch(graph: EncoderGraph) -> int:
    """`LARGE_BATCH`, or 1 for float encoders, which run at full resolution and need gigabytes."""
    return LARGE_BATCH if graph.exact else 1


def onnx_runtimes(path: Path, large_batch: int = LARGE_BATCH) -> list[Runtime]:
    """ONNX Runtime's CPU provider; one thread runs single pictures, two threads batches."""
    import onnxruntime

    runtimes = []
    levels = onnxruntime.GraphOptimizationLevel
    for label, level in (("all", levels.ORT_ENABLE_ALL), ("no", levels.ORT_DISABLE_ALL)):
        for threads in THREADS:
            options = onnxruntime.SessionOptions()
            options.graph_optimization_level = level
            options.intra_op_num_threads = threads
            options.add_session_config_entry("session.intra_op.allow_spinning", "0")
            options.log_severity_level = 3
            try:
                session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
            except Exception as error:  # the exception types are not public
                raise ExportError(f"ONNX Runtime cannot load {path}: {error}") from error
            batch = 1 if threads == 1 else large_batch
            name = f"ONNX Runtime {onnxruntime.__version__}, {label} optimizations, {_threads(threads)}, batch {batch}"
            runtimes.append(Runtime(name, partial(_run_session, session), batch))
    return runtimes


def tflite_runtimes(path: Path) -> list[Runtime]:
    """LiteRT with its XNNPACK delegate, with its own kernels, and with the reference kernels."""
    with needs_extra("export", "checking TFLite needs", ExportError):
        from ai_edge_litert.interpreter import Interpreter, OpResolverType
    kernels = {"XNNPACK": OpResolverType.AUTO, "without delegate": OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES}
    variants = [*itertools.product(THREADS, kernels.items())]
    variants.append((1, ("reference kernels", OpResolverType.BUILTIN_REF)))  # these know no threads
    runtimes = []
    for threads, (label, resolver) in variants:
        try:
            with captured_stderr():  # prints its delegate
                interpreter = Interpreter(str(path), num_threads=threads, experimental_op_resolver_type=resolver)
                interpreter.allocate_tensors()
                run = interpreter.get_signature_runner()
        except (RuntimeError, ValueError) as error:
            raise ExportError(f"LiteRT cannot load {path}: {error}") from error
        name, slow = f"LiteRT {version('ai-edge-litert')}, {label}, {_threads(threads)}", label == "reference kernels"
        runtimes.append(Runtime(name, partial(_run_signature, interpreter, run), slow=slow))
    return runtimes


def compiled_model_runtimes(path: Path) -> list[Runtime]:
    """``CompiledModel`` on the CPU with XNNPACK; LiteRT before 2.3 chooses the number of threads itself."""
    with needs_extra("export", "checking TFLite needs", ExportError):
        from ai_edge_litert.compiled_model import CompiledModel
    atexit.register(_end_quietly)
    name = f"LiteRT {version('ai-edge-litert')}, CompiledModel, XNNPACK"
    variants: list[tuple[str, dict[str, Any]]] = [(name, {})]
    with suppress(ImportError):
        from ai_edge_litert.options import CpuOptions, Options

        variants = [
            (f"{name}, {_threads(threads)}", {"options": Options(cpu_options=CpuOptions(num_threads=threads))})
            for threads in THREADS
        ]
    runtimes = []
    for label, options in variants:
        try:
            with captured_stderr():  # prints its accelerators
                runtimes.append(Runtime(label, _CompiledEncoder(CompiledModel.from_file(str(path), **options))))
        except RuntimeError as error:
            raise ExportError(f"LiteRT cannot load {path}: {error}") from error
    return runtimes


def coreml_runtimes(path: Path) -> list[Runtime]:
    """The numpy interpreter; on macOS also Core ML itself, on the CPU."""
    program = MilProgram(path)
    runtimes = [Runtime("Core ML program, numpy interpreter", program.predict)]
    if sys.platform == "darwin":
        runtimes.append(Runtime("Core ML, CPU only", _coreml_predictor(path)))
    return runtimes


def torch_runtimes(graph: EncoderGraph) -> list[Runtime]:
    """torch eager with oneDNN, and without it at a batch size where NNPACK is used."""
    with needs_extra("export", "checking against torch needs", ExportError):
        import torch

        from export.encoder.torch_graph import torch_encoder
    name, batch = f"torch {torch.__version__.split('+')[0]} eager, oneDNN", large_batch(graph)
    without = torch_encoder(graph, onednn=False)
    return [
        Runtime(f"{name}, batch 1", torch_encoder(graph, onednn=True)),
        Runtime(f"{name} off, batch {batch}", without, batch, fixed_batch=True),
    ]


def _run_session(session: Any, rgb: np.ndarray) -> np.ndarray:
    return session.run([OUTPUT], {INPUT: rgb})[0]


def _run_signature(interpreter: Any, run: Any, rgb: np.ndarray) -> np.ndarray:
    return run(**{INPUT: rgb})[OUTPUT].copy()  # the runner does not own the interpreter


def _coreml_predictor(path: Path) -> Callable[[np.ndarray], np.ndarray]:
    import coremltools
    from PIL import Image

    model = coremltools.models.MLModel(str(path), compute_units=coremltools.ComputeUnit.CPU_ONLY)

    def encode(rgb: np.ndarray) -> np.ndarray:
        lr = model.predict({INPUT: Image.fromarray(rgb[0])})[OUTPUT]
        return np.asarray(lr).transpose(0, 2, 3, 1).astype(np.uint8)

    return encode


def _threads(count: int) -> str:
    return "1 thread" if count == 1 else f"{count} threads"


class _CompiledEncoder:
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
        coded: np.ndarray = self._outputs[0].read(self._size, np.int8)[: 3 * self._lr**2]  # a buffer may end in padding
        return coded.view(np.uint8).reshape(1, self._lr, self._lr, 3)

    def __del__(self) -> None:
        with captured_stderr():
            vars(self).clear()


def _end_quietly() -> None:
    """Drop the lines that LiteRT prints when its library is unloaded, after all of Python has ended."""
    sys.stderr.flush()
    with open(os.devnull, "w") as nothing:
        os.dup2(nothing.fileno(), 2)
