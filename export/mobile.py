"""``python -m export.mobile``: the encoder for phones, proven to compute the same bytes everywhere."""

from __future__ import annotations

import enum
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from codec_contract.bundle.manifest import load_manifest, verify_bundle
from codec_contract.bundle.paths import DEFAULT_BUNDLE, find_bundle
from codec_contract.errors import EdgegrainError, ExportError
from edge_encoder import bounds
from edge_encoder import integer_network as integer
from edge_encoder.integer_network import IntegerNetwork
from export.bundle.writer import renew_encoders
from export.encoder.formats import export_encoder
from export.encoder.graph import EncoderGraph, exact_graph
from export.proof import proof_report as reports
from export.proof.float_contrast import float_contrast
from export.proof.proof_inputs import CheckInput, find_pictures, make_inputs
from export.proof.runtimes import FORMATS, Runtime, load_runtimes
from export.proof.verify import count_flips, median_latency, verify

EXACT_INPUTS = 200
CONTRAST_INPUTS = 100
OFFICIAL_INPUTS = 24
"""The official encoder costs twenty times the exact one's time."""
REPORTS = ("report.json", "report.md")
IRN_WEIGHTS = "irn.safetensors"
"""In bundles of IRN's, whose encoder is a float network."""


class Architecture(enum.StrEnum):
    """What to export."""

    exact = "exact"
    official_rrdb = "official-rrdb"


def export_exact(network: IntegerNetwork, out_dir: Path, *, source: str, formats: Sequence[str] = tuple(FORMATS),
                 inputs: int = EXACT_INPUTS, pictures: Sequence[Path] = (), seed: int = 0, force: bool = False,
                 contrast: bool = True, console: Any = None) -> reports.Report:
    """Export an exact encoder, compare every runtime with the reference, write the reports.

    Differences do not raise: they stand in the report, which is written in any case.
    """
    proof = bounds.prove(network)
    graph = exact_graph(network)
    with _Progress(console) as progress:
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
                 inputs: int = OFFICIAL_INPUTS, pictures: Sequence[Path] = (), seed: int = 0, force: bool = False,
                 console: Any = None) -> reports.Report:
    """Export a float encoder; its report states flips per million between runtimes."""
    with _Progress(console) as progress:
        artefacts = export_encoder(graph, out_dir, formats, force, progress.step)
        flips = count_flips(graph, artefacts, make_inputs(graph.hr, inputs, pictures=pictures, seed=seed),
                            progress=progress.count("comparing runtimes", inputs))
        report = reports.new_report(graph, artefacts, source=source, operations=_operations(artefacts))
        report["flips"] = reports.flip_section(flips)
    reports.write_report(report, out_dir, force=force)
    return report


def _flips(graph: EncoderGraph, formats: Sequence[str], inputs: int, pictures: Sequence[Path], seed: int,
           progress: _Progress) -> dict[str, Any]:
    """The flip section of a graph whose files are thrown away."""
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


class _Progress:
    """A rich progress display, or silence without a console."""

    def __init__(self, console: Any) -> None:
        self._bars: Any = None
        if console is not None:
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

            self._bars = Progress(TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
                                  TimeElapsedColumn(), console=console, transient=True)
        self._task: Any = None

    def __enter__(self) -> _Progress:
        if self._bars:
            self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bars:
            self._bars.stop()

    def step(self, text: str) -> None:
        self.count(text, None)

    def count(self, text: str, total: int | None) -> Callable[[int], None]:
        """Begin a bar; the result advances it."""
        if not self._bars:
            return lambda _: None
        if self._task is not None:
            self._bars.remove_task(self._task)
        self._task = task = self._bars.add_task(text, total=total)
        return lambda done: self._bars.advance(task, done)


app = typer.Typer(add_completion=False, rich_markup_mode="markdown")


@app.command()
def main(
    bundle: Annotated[str, typer.Option("--bundle", "-b", help="Name or folder of the bundle whose encoder is "
                                        "exported.")] = DEFAULT_BUNDLE,
    formats: Annotated[str, typer.Option(help="Comma-separated: tflite, coreml, onnx.")] = ",".join(FORMATS),
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the encoders and reports.")] = Path("dist"),
    inputs: Annotated[int | None, typer.Option(min=1, help=f"Inputs compared per runtime [default: {EXACT_INPUTS}; "
                                               f"{OFFICIAL_INPUTS} for official-rrdb].")] = None,
    pictures: Annotated[Path | None, typer.Option(help="Folder of real pictures to compare on [default: those that "
                                                  "ship with edgegrain].", file_okay=False)] = None,
    seed: Annotated[int, typer.Option(help="Seed of the generated inputs and of random weights.")] = 0,
    contrast: Annotated[bool, typer.Option(help="Also measure an ordinary float encoder of the same shape.")] = True,
    force: Annotated[bool, typer.Option("--force", help="Replace files that exist.")] = False,
    renew: Annotated[bool, typer.Option("--renew", help="Then replace the bundle's own encoder files by these, if no "
                                        "byte differs; all its other files stay as they are.")] = False,
    architecture: Annotated[Architecture, typer.Option(help="The bundle's exact encoder, or GRAIN's float encoder "
                                                       "(RRDB), which is not exact.")] = Architecture.exact,
    hr: Annotated[int, typer.Option(help="official-rrdb: side of the picture.", min=2)] = 1024,
    lr: Annotated[int, typer.Option(help="official-rrdb: side of the LR.", min=1)] = 16,
    weights: Annotated[Path | None, typer.Option(help="official-rrdb: checkpoint (.safetensors or .pt) [default: "
                                                 "random weights].", dir_okay=False)] = None,
) -> None:
    """Write the encoder for phones and prove it: TFLite, Core ML and ONNX, byte for byte the same.

    Every file is run by every runtime this machine has and compared with the int64 reference on real pictures,
    noise, gradients, checkerboards, constants and pictures searched to sit on rounding boundaries. What came out
    stands in `report.json` and `report.md` beside the encoders. The exit status is 1 if a single byte differs. The
    encoder of an IRN bundle is a float network: its report counts the bytes that flip instead.

    **Examples**

    `python -m export.mobile --out dist` — the default bundle, all formats, 200 inputs a runtime

    `python -m export.mobile --bundle my-bundle/ --formats tflite --inputs 400 --pictures photos/`

    `python -m export.mobile --bundle my-bundle/ --renew` — what newer exporters write, into the bundle itself: same
    integers, same LR of every picture

    `python -m export.mobile --architecture official-rrdb --hr 1024 --lr 16 --inputs 20 --out dist-rrdb` — a float
    encoder; the report states how many bytes flip between runtimes
    """
    from rich.console import Console

    chosen = tuple(part.strip() for part in formats.split(",") if part.strip())
    options: dict[str, Any] = {"formats": chosen, "seed": seed, "force": force, "console": Console(stderr=True)}
    try:
        _refuse_existing(out, chosen, force)
        if renew and architecture is not Architecture.exact:
            raise ExportError(f"--renew needs a bundle's exact encoder, not {architecture}")
        options["pictures"] = find_pictures(pictures)
        if architecture is Architecture.exact:
            folder = find_bundle(bundle)
            if (folder / IRN_WEIGHTS).is_file():
                if renew:
                    raise ExportError(f"the encoder of bundle {folder.name} is a float one; --renew needs an exact one")
                report = export_float(_irn_graph(folder), out, source=f"bundle {folder.name}",
                                      inputs=inputs or OFFICIAL_INPUTS, **options)
            else:
                if renew:
                    verify_bundle(folder)
                network = _load_network(folder)
                report = export_exact(network, out, source=f"bundle {folder.name}", inputs=inputs or EXACT_INPUTS,
                                      contrast=contrast, **options)
        else:
            graph, source = _official_graph(hr, lr, weights, seed)
            report = export_float(graph, out, source=source, inputs=inputs or OFFICIAL_INPUTS, **options)
        _print_summary(report, out)
        if any(row["differing_bytes"] or not row["bytes_compared"] for row in report.get("runtimes", [])):
            typer.echo("error: an export does not compute the integer network's bytes; do not ship it", err=True)
            raise typer.Exit(1)
        if renew:
            manifest = renew_encoders(folder, [out / name for name in report["files"]])
            typer.echo(f"renewed {', '.join(report['files'])} of bundle {manifest.id} in {folder}")
    except (EdgegrainError, FileExistsError) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from error


def _refuse_existing(out: Path, formats: Sequence[str], force: bool) -> None:
    names = [*(FORMATS[kind] for kind in formats if kind in FORMATS), *REPORTS]
    existing = [name for name in names if (out / name).exists()]
    if existing and not force:
        raise FileExistsError(f"{out} already holds {', '.join(existing)}; choose another --out or pass --force")


def _load_network(folder: Path) -> IntegerNetwork:
    try:
        return integer.load(folder / "encoder.safetensors")
    except OSError as error:
        raise ExportError(f"the bundle {folder} has no readable encoder.safetensors: {error}") from error


def _irn_graph(folder: Path) -> EncoderGraph:
    """The encoder of a bundle of IRN's: its own weights, for its own tiles."""
    from export.encoder.irn_graph import irn_graph
    from server_decoder.irn.weights import load_irn

    return irn_graph(load_irn(folder / IRN_WEIGHTS), load_manifest(folder).hr)


def _official_graph(hr: int, lr: int, weights: Path | None, seed: int) -> tuple[EncoderGraph, str]:
    from export.encoder.rrdb_graph import random_rrdb_encoder, rrdb_graph

    if weights is None:
        return rrdb_graph(random_rrdb_encoder(hr, lr, seed), hr), f"random weights, seed {seed}"
    from server_decoder.grain.rrdb_encoder import load_rrdb_encoder

    encoder = load_rrdb_encoder(weights)
    if lr << encoder.config.scale != hr:
        raise ExportError(f"{weights} has {encoder.config.scale} halvings: it turns {hr} into "
                          f"{hr >> encoder.config.scale}, not {lr}")
    return rrdb_graph(encoder, hr), weights.name


def _print_summary(report: reports.Report, out: Path) -> None:
    encoder = report["encoder"]
    typer.echo(f"{encoder['architecture']}: {encoder['parameters']:,} parameters, {encoder['flops'] / 1e9:.2f} GFLOP")
    for name, entry in report["files"].items():
        typer.echo(f"  {name:<18} {entry['bytes']:>12,} bytes")
    if "bound" in report:
        bound = report["bound"]
        typer.echo(f"  accumulators below 2^{bound['worst_log2']:.2f} (limit 2^{bound['limit_log2']})")
    for row in report.get("runtimes", []):
        typer.echo(f"  {row['name']:<64} {row['inputs']} inputs, {row['bytes_compared']:,} LR bytes: "
                   f"{row['differing_bytes']} differing bytes")
    for key, label in (("float_contrast", "an ordinary float encoder"), ("flips", "this float encoder")):
        if key in report:
            typer.echo(f"  {label}: {reports.flip_sentence(report[key])}")
    typer.echo(f"wrote {out / 'report.md'}")


if __name__ == "__main__":
    app(prog_name="python -m export.mobile")
