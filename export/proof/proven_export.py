"""Encoders exported for phones, with a report of what every runtime of this machine computed."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edge_encoder import bounds
from edge_encoder import integer_network as integer
from edge_encoder.integer_network import IntegerNetwork
from export.encoder.formats import export_encoder
from export.encoder.graph import FORMATS, EncoderGraph, exact_graph
from export.proof import proof_report as reports
from export.proof.float_contrast import float_contrast
from export.proof.proof_inputs import CheckInput, make_inputs
from export.proof.runtimes import Runtime, load_runtimes
from export.proof.verify import count_flips, median_latency, verify

EXACT_INPUTS = 200
CONTRAST_INPUTS = 100
FLOAT_INPUTS = 24
"""Fewer: GRAIN's float encoder takes twenty times as long as the exact one."""


def export_exact(network: IntegerNetwork, out_dir: Path, *, source: str, formats: Sequence[str] = tuple(FORMATS),
                 inputs: int = EXACT_INPUTS, pictures: Sequence[Path] = (), seed: int = 0, force: bool = False,
                 contrast: bool = True, console: Any = None) -> reports.Report:
    """Export an exact encoder, compare every runtime with the reference, write the reports.

    Differing bytes raise no error: the report, which is always written, states them.
    """
    proof = bounds.prove(network)
    graph = exact_graph(network)
    with ExportProgress(console) as progress:
        artefacts = export_encoder(graph, out_dir, formats, force, progress.step)
        progress.step("loading runtimes")
        runtimes = load_runtimes(graph, artefacts)
        kinds: Counter[str] = Counter()
        checks = _counted(make_inputs(network.hr, inputs, network=network, pictures=pictures, seed=seed), kinds)
        results = verify(network, artefacts, checks, runtimes=runtimes,
                         progress=progress.count("comparing with the int64 reference", inputs))
        progress.step("measuring latency")
        latencies = _latencies(runtimes, network.hr)
        report = reports.new_report(graph, artefacts, source=source, operations=_operations(artefacts))
        report["encoder"]["digest"] = integer.digest(network).hex()
        report["bound"] = reports.bound_section(proof)
        report["inputs"] = dict(kinds)
        report["runtimes"] = reports.runtime_rows(results, latencies)
        if contrast:
            progress.step("exporting an ordinary float encoder for contrast")
            report["float_contrast"] = _flips(float_contrast(network, seed), formats, min(inputs, CONTRAST_INPUTS),
                                              pictures, seed, progress)
    reports.write_report(report, out_dir, force=force)
    return report


def export_float(graph: EncoderGraph, out_dir: Path, *, source: str, formats: Sequence[str] = tuple(FORMATS),
                 inputs: int = FLOAT_INPUTS, pictures: Sequence[Path] = (), seed: int = 0, force: bool = False,
                 console: Any = None) -> reports.Report:
    """Export a float encoder; its report states flips per million between runtimes."""
    with ExportProgress(console) as progress:
        artefacts = export_encoder(graph, out_dir, formats, force, progress.step)
        flips = count_flips(graph, artefacts, make_inputs(graph.hr, inputs, pictures=pictures, seed=seed),
                            progress=progress.count("comparing runtimes", inputs))
        report = reports.new_report(graph, artefacts, source=source, operations=_operations(artefacts))
        report["flips"] = reports.flip_section(flips)
    reports.write_report(report, out_dir, force=force)
    return report


def _flips(graph: EncoderGraph, formats: Sequence[str], inputs: int, pictures: Sequence[Path], seed: int,
           progress: ExportProgress) -> dict[str, Any]:
    """The flip section of a graph whose files are not kept."""
    with tempfile.TemporaryDirectory(prefix="edgegrain-float-") as folder:
        artefacts = export_encoder(graph, folder, formats)
        flips = count_flips(graph, artefacts, make_inputs(graph.hr, inputs, pictures=pictures, seed=seed),
                            progress=progress.count("comparing runtimes of the float encoder", inputs))
    return {"architecture": graph.name, **reports.flip_section(flips)}


def _latencies(runtimes: Sequence[Runtime], hr: int) -> dict[str, float]:
    picture = np.random.default_rng(0).integers(0, 256, (hr, hr, 3), dtype=np.uint8)
    return {runtime.name: median_latency(runtime, picture) for runtime in runtimes
            if not runtime.slow and not runtime.fixed_batch and runtime.batch == 1}


def _operations(artefacts: Mapping[str, Path]) -> dict[str, Counter[str]]:
    return {kind: reports.OPERATIONS[kind](path) for kind, path in artefacts.items()}


def _counted(inputs: Iterator[CheckInput], kinds: Counter[str]) -> Iterator[CheckInput]:
    for item in inputs:
        kinds[item.kind] += 1
        yield item


class ExportProgress:
    """A rich progress display; nothing is shown without a console."""

    def __init__(self, console: Any) -> None:
        self._bars: Any = None
        if console is not None:
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

            self._bars = Progress(TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
                                  TimeElapsedColumn(), console=console, transient=True)
        self._task: Any = None

    def __enter__(self) -> ExportProgress:
        if self._bars:
            self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bars:
            self._bars.stop()

    def step(self, text: str) -> None:
        self.count(text, None)

    def count(self, text: str, total: int | None) -> Callable[[int], None]:
        """Start a bar; the returned function advances it."""
        if not self._bars:
            return lambda _: None
        if self._task is not None:
            self._bars.remove_task(self._task)
        self._task = task = self._bars.add_task(text, total=total)
        return lambda done: self._bars.advance(task, done)
