"""Encoders exported for phones, with a report of what every runtime of this machine computed."""

from __future__ import annotations

import os
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from codec_contract.errors import ExistsError, ExportError
from codec_contract.files import replace_folder
from edge_encoder import bounds
from edge_encoder import integer_network as integer
from edge_encoder.integer_network import INPUT, IntegerNetwork
from export.encoder.formats import export_encoder
from export.encoder.graph import (
    FORMATS,
    Add,
    Conv,
    EncoderGraph,
    LeakyRelu,
    Node,
    TfliteConverter,
    exact_graph,
    rounding_nodes,
)
from export.proof import proof_report as reports
from export.proof.comparison import Chunk, ProofJob, ProofRunner, compare, flip_report

EXACT_INPUTS = 200
QUICK_INPUTS = 20
CONTRAST_INPUTS = 100
FLOAT_INPUTS = 24
"""Fewer: GRAIN's float encoder takes twenty times as long as the exact one."""


@dataclass(frozen=True)
class ExportOptions:
    """Options of an encoder's export and comparison.

    Attributes:
        source: what the report calls the origin of the weights.
        inputs: number of inputs to compare on.
        formats: some of ``tflite``, ``coreml``, ``onnx``.
        tflite_converter: what writes ``encoder.tflite``.
        pictures: real ones to compare on.
        seed: of the generated inputs.
        force: replace files that exist.
        quick: said in the report.
        processes: that share the inputs; each takes about 1 GB.
        console: where progress is shown; None shows nothing.
    """

    source: str
    inputs: int
    formats: Sequence[str] = tuple(FORMATS)
    tflite_converter: TfliteConverter = TfliteConverter.direct
    pictures: Sequence[Path] = ()
    seed: int = 0
    force: bool = False
    quick: bool = False
    processes: int = 1
    console: Any = None

    def job(self, graph: EncoderGraph, artefacts: Mapping[str, Path], network: IntegerNetwork | None = None,
            inputs: int | None = None) -> ProofJob:
        """The comparison of an encoder's files; ``network`` of an exact one, ``inputs`` in place of the option's."""
        return ProofJob(graph, artefacts, inputs or self.inputs, network, self.pictures, self.seed)


def export_exact(network: IntegerNetwork, out_dir: Path, options: ExportOptions, *,
                 contrast: bool = True) -> reports.ProofReport:
    """Export an exact encoder, compare every runtime with the reference, write the reports.

    Differing bytes raise no error: the report states them, and `proof_report.require_exact` raises. The files appear
    together, when everything is done.
    """
    proof = bounds.prove(network)
    graph = exact_graph(network)
    with (_staged(out_dir, options) as staging, ExportProgress(options.console) as progress,
          ProofRunner(options.processes) as runner):
        artefacts = _export(graph, staging, options, progress)
        job, kinds = options.job(graph, artefacts, network), Counter[str]()
        rows = compare(_counted(runner.run(job), progress.count("comparing with the int64 reference", options.inputs),
                                kinds))
        if not rows or any(row["inputs"] != options.inputs for row in rows):
            ran = ", ".join("{name}: {inputs}".format_map(row) for row in rows) or "none ran"
            raise ExportError(f"not every runtime ran on all {options.inputs} inputs: {ran}")
        progress.step("measuring latency")
        latencies = runner.latencies(job)
        report = _report(graph, artefacts, options)
        report["encoder"]["digest"] = integer.integer_digest(network).hex()
        report["bound"] = reports.bound_section(proof)
        report["inputs"] = dict(kinds)
        report["runtimes"] = [row | ({"milliseconds": round(1000 * latencies[row["name"]], 3)}
                                     if row["name"] in latencies else {}) for row in rows]
        if contrast:
            report["float_contrast"] = _contrast(float_contrast(network, options.seed), options, progress, runner)
        reports.write_report(report, staging)
    return report


def export_float(graph: EncoderGraph, out_dir: Path, options: ExportOptions) -> reports.ProofReport:
    """Export a float encoder and write its reports, which state flips per million between runtimes."""
    with (_staged(out_dir, options) as staging, ExportProgress(options.console) as progress,
          ProofRunner(options.processes) as runner):
        artefacts = _export(graph, staging, options, progress)
        flips = flip_report(_counted(runner.run(options.job(graph, artefacts)),
                                     progress.count("comparing runtimes", options.inputs)))
        report = _report(graph, artefacts, options)
        report["flips"] = flips
        reports.write_report(report, staging)
    return report


def _export(graph: EncoderGraph, folder: Path, options: ExportOptions, progress: ExportProgress) -> dict[str, Path]:
    return export_encoder(graph, folder, options.formats, tflite_converter=options.tflite_converter,
                          progress=lambda name: progress.step(f"writing {name}"))


def _report(graph: EncoderGraph, artefacts: Mapping[str, Path], options: ExportOptions) -> reports.ProofReport:
    report = reports.new_report(graph, artefacts, source=options.source)
    if tflite := report["files"].get(FORMATS["tflite"]):
        tflite["converter"] = str(options.tflite_converter)
    return report | {"quick": options.quick}


def _contrast(graph: EncoderGraph, options: ExportOptions, progress: ExportProgress,
              runner: ProofRunner) -> dict[str, Any]:
    """The flip section of a float encoder whose files are not kept."""
    inputs = min(options.inputs, CONTRAST_INPUTS)
    with tempfile.TemporaryDirectory(prefix="edgegrain-float-") as folder:
        progress.step("exporting an ordinary float encoder for contrast")
        job = options.job(graph, export_encoder(graph, folder, options.formats), inputs=inputs)
        advance = progress.count("comparing runtimes of the float encoder", inputs)
        flips = flip_report(_counted(runner.run(job), advance))
    return {"architecture": graph.name, **flips}


@contextmanager
def _staged(out_dir: Path, options: ExportOptions) -> Iterator[Path]:
    """A folder whose files and packages move to ``out_dir`` at the end, unless an error or Ctrl-C ends it."""
    names = [*(FORMATS[kind] for kind in options.formats if kind in FORMATS), *reports.REPORTS]
    _refuse_existing(out_dir, names, options)
    out_dir.parent.mkdir(parents=True, exist_ok=True)
    place = out_dir if out_dir.is_dir() else out_dir.parent  # a folder that exists may be on another file system
    with tempfile.TemporaryDirectory(prefix=f".{out_dir.name}.", dir=place) as folder:
        yield Path(folder)
        _refuse_existing(out_dir, names, options)  # another export may have written there meanwhile
        out_dir.mkdir(exist_ok=True)
        for path in sorted(Path(folder).iterdir()):
            if path.is_dir():
                replace_folder(path, out_dir / path.name)
            else:
                os.replace(path, out_dir / path.name)


def _refuse_existing(out_dir: Path, names: Sequence[str], options: ExportOptions) -> None:
    if out_dir.exists() and not out_dir.is_dir():
        raise ExistsError(out_dir, "it is a file; name a folder")
    existing = [name for name in names if (out_dir / name).exists()]
    if existing and not options.force:
        raise ExistsError(out_dir / existing[0], "choose another folder (--out), or pass force (--force) to replace it")


def _counted(chunks: Iterable[Chunk], advance: Callable[[int], None], kinds: Counter[str] | None = None
             ) -> Iterator[Chunk]:
    for chunk in chunks:
        if kinds is not None:
            kinds.update(chunk.kinds)
        yield chunk
        advance(len(chunk.names))


LINE_EVERY = 15.0
"""Seconds between two lines of one step."""


class ExportProgress:
    """Shows the steps of an export; nothing without a console."""

    def __init__(self, console: Any) -> None:
        self._console = console
        self._bars: Any = None
        if console is not None and console.is_terminal:
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

            self._bars = Progress(TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
                                  TimeElapsedColumn(), console=console, transient=True)
        self._step, self._started, self._written = "", 0.0, 0.0
        self._task: Any = None

    def __enter__(self) -> ExportProgress:
        if self._bars:
            self._bars.start()
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if self._bars:
            self._bars.stop()
        elif kind is None:
            self._end_step()

    def step(self, text: str) -> None:
        """Begin a step, and end the one before."""
        self.count(text, None)

    def count(self, text: str, total: int | None) -> Callable[[int], None]:
        """Begin a step of ``total`` parts; the returned function is called with the number of parts that are done."""
        if self._bars:
            if self._task is not None:
                self._bars.remove_task(self._task)
            self._task = task = self._bars.add_task(text, total=total)
            return lambda done: self._bars.advance(task, done)
        self._end_step()
        self._step, self._started, self._written = text, time.monotonic(), time.monotonic()
        parts = 0

        def advance(done: int) -> None:
            nonlocal parts
            parts += done
            if time.monotonic() - self._written >= LINE_EVERY and parts != total:
                self._written = time.monotonic()
                self._line(f"{text}: {parts} of {total}")

        return advance

    def _end_step(self) -> None:
        if self._step:
            self._line(self._step)
        self._step = ""

    def _line(self, text: str) -> None:
        if self._console is not None:
            self._console.print(f"{text}, {time.monotonic() - self._started:.0f} s", highlight=False, soft_wrap=True)


def float_contrast(network: IntegerNetwork, seed: int = 0) -> EncoderGraph:
    """The same layers as ordinary floats: real weights, ReLU, no rounding before the LR.

    Weights are the integer encoder's, each scaled by a random factor in 0.9...1.1, so that activations have the
    size they have in the exact encoder, as training without quantization could have produced.
    """
    rng = np.random.default_rng(seed)
    nodes: list[Node] = []
    outputs = {INPUT: INPUT}
    for index, layer in enumerate(network.layers):
        weight = layer.exported_weight()
        bias = layer.bias * layer.scale()
        if (layer.weight != 1).any():  # the box mean stays a mean
            weight = weight * rng.uniform(0.9, 1.1, weight.shape)
            bias = bias * rng.uniform(0.9, 1.1, bias.shape)
        nodes.append(Conv(f"{layer.name}.conv", outputs[layer.input], weight.astype(np.float32),
                          bias.astype(np.float32), layer.stride, layer.padding, layer.groups))
        if layer.skip:
            nodes.append(Add(f"{layer.name}.add", nodes[-1].name, outputs[layer.skip]))
        if index < len(network.layers) - 1:
            nodes.append(LeakyRelu(layer.name, nodes[-1].name))
        outputs[layer.name] = nodes[-1].name
    nodes += rounding_nodes(nodes[-1].name)
    return EncoderGraph(f"float-{network.architecture}", network.hr, network.lr, tuple(nodes), exact=False)
