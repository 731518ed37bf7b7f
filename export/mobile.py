"""``python -m export.mobile``, the same as ``edgegrain export encoder``: the encoder for phones, proven to compute the
same bytes everywhere."""

from __future__ import annotations

import enum
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

try:
    import typer
    from typer.core import TyperCommand
except ModuleNotFoundError as missing:
    if __name__ == "__main__":
        sys.exit(f"error: this command needs {missing.name}, which is not installed; install: "
                 "pip install 'edgegrain[export]'")
    raise

from codec_contract.bundle.find import DEFAULT_BUNDLE, find_bundle
from codec_contract.bundle.manifest import ENCODER_WEIGHTS, MANIFEST, load_manifest, verify_bundle
from codec_contract.errors import EdgegrainError, ExportError, needs_extra
from export import papers
from export.encoder.graph import FORMATS, EncoderGraph, TfliteConverter

if TYPE_CHECKING:
    from edge_encoder.integer_network import IntegerNetwork
    from export.proof.report import ProofReport

FAILED, INTERRUPTED = 1, 130
OFFICIAL_HR, OFFICIAL_LR = 1024, 16


class Architecture(enum.StrEnum):
    """Encoder to export."""

    exact = "exact"
    official_rrdb = "official-rrdb"


class ReportingCommand(TyperCommand):
    """Prints an error as one line on stderr and exits with status 1, after Ctrl-C with 130."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except (EdgegrainError, OSError) as error:
            typer.echo(f"error: {' '.join(str(error).split())}", err=True)
            raise typer.Exit(FAILED) from None
        except KeyboardInterrupt:
            typer.echo("interrupted; every file is either whole or not there", err=True)
            raise typer.Exit(INTERRUPTED) from None


app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command(cls=ReportingCommand)
def encoder(
    bundle: Annotated[str | None, typer.Option("--bundle", "-b", help="Name or folder of the bundle whose encoder is "
                                               f"exported [default: {DEFAULT_BUNDLE}].")] = None,
    formats: Annotated[str | None, typer.Option(help="Comma-separated: tflite, coreml, onnx [default: all; with "
                                                "--renew those that the bundle has].")] = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the encoders and reports.")] = Path("dist"),
    inputs: Annotated[int | None, typer.Option(min=1, help="Inputs compared per runtime [default: 200; 24 for float "
                                               "encoders].")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="20 inputs and no --contrast: under a minute instead "
                                        "of minutes.")] = False,
    tflite_converter: Annotated[TfliteConverter, typer.Option(
        help="Program that writes the TFLite file: edgegrain itself, or a converter that is installed. Their files "
             "compute the same bytes.")] = TfliteConverter.direct,
    data: Annotated[Path | None, typer.Option(help="Folder of real pictures to compare on [default: those that ship "
                                              "with edgegrain].", file_okay=False)] = None,
    seed: Annotated[int, typer.Option(help="Seed of the generated inputs and of random weights.")] = 0,
    contrast: Annotated[bool, typer.Option(help="Also measure an ordinary float encoder of the same shape.")] = True,
    force: Annotated[bool, typer.Option("--force", help="Replace files that exist.")] = False,
    renew: Annotated[bool, typer.Option("--renew", help="Then replace the bundle's own encoder files by these, if no "
                                        "byte differs; all its other files stay unchanged.")] = False,
    architecture: Annotated[Architecture, typer.Option(help="The bundle's exact encoder, or GRAIN's float encoder "
                                                       "(RRDB), which is not exact.")] = Architecture.exact,
    hr: Annotated[int | None, typer.Option(help=f"official-rrdb: side of the picture [default: {OFFICIAL_HR}].",
                                           min=2)] = None,
    lr: Annotated[int | None, typer.Option(help=f"official-rrdb: side of the LR [default: {OFFICIAL_LR}].",
                                           min=1)] = None,
    checkpoint: Annotated[Path | None, typer.Option(help="official-rrdb: its weights, .safetensors or .pt [default: "
                                                    "random weights].", dir_okay=False)] = None,
) -> None:
    """Write the encoder for phones and prove it: TFLite, Core ML and ONNX, byte for byte the same.

    Every file is run by every runtime this machine has and compared with the int64 reference on real pictures,
    noise, gradients, checkerboards, constants and pictures searched to sit on rounding boundaries. report.json and
    report.md next to the encoders state the results. The exit status is 1 if a single byte differs. Files appear when
    everything is done. The encoder of an IRN bundle or a converted GRAIN is a float network: its report counts the
    bytes that differ between runtimes instead.

    \b
    Examples:
      python -m export.mobile --out dist
      python -m export.mobile --out dist --quick
      python -m export.mobile --bundle my-bundle/ --formats tflite --inputs 400 --data photos/
      python -m export.mobile --bundle my-bundle/ --renew
      python -m export.mobile --architecture official-rrdb --hr 1024 --lr 16 --inputs 20 --out dist-rrdb
    """
    with needs_extra("export", "this command needs", ExportError):
        from rich.console import Console

        from export.bundle.writer import encoder_formats, renew_encoders, writable_bundle
        from export.encoder import parse_formats
        from export.proof.inputs import find_pictures
        from export.proof.prove import EXACT_INPUTS, FLOAT_INPUTS, QUICK_INPUTS, ExportOptions, export_proven
        from export.proof.report import require_exact

    if renew and architecture is not Architecture.exact:
        raise ExportError(f"--renew needs a bundle's exact encoder, not {architecture}")
    if renew and quick:
        raise ExportError("--renew needs the whole comparison, without --quick")
    chosen = parse_formats(formats) if formats is not None else tuple(FORMATS)
    folder: Path | None
    if architecture is Architecture.exact:
        _refuse({"--checkpoint": checkpoint, "--hr": hr, "--lr": lr},
                f"need --architecture {Architecture.official_rrdb}")
        name = bundle or DEFAULT_BUNDLE
        folder = writable_bundle(name).folder if renew else find_bundle(name)
        source, exact = f"bundle {folder.resolve().name}", _is_exact(folder)
        if renew:
            if not exact:
                raise ExportError(f"the encoder of {source} is a float one; --renew needs an exact one")
            held = encoder_formats(verify_bundle(folder))
            if missing := [kind for kind in chosen if formats is not None and kind not in held]:
                raise ExportError(f"{source} has no encoder as {', '.join(missing)} that could be renewed, only as "
                                  f"{', '.join(held)}")
            chosen = held if formats is None else chosen
    else:
        _refuse({"--bundle": bundle}, f"does not go with --architecture {architecture}")
        folder, exact = None, False
        source = checkpoint.name if checkpoint else f"random weights, seed {seed}"
    count = inputs or (QUICK_INPUTS if quick else EXACT_INPUTS if exact else FLOAT_INPUTS)
    options = ExportOptions(source, count, chosen, tflite_converter, find_pictures(data), seed, force, quick,
                            Console(stderr=True))
    network = _bundle_encoder(folder) if folder else papers.load("grain.rrdb_encoder:official_graph")(
        hr or OFFICIAL_HR, lr or OFFICIAL_LR, checkpoint, seed)
    report = export_proven(network, out, options, contrast=contrast and not quick)
    _print_summary(report, out)
    if exact:
        require_exact(report["runtimes"])
    if renew and folder is not None:
        manifest = renew_encoders(folder, [out / name for name in report["files"]])
        typer.echo(f"renewed {', '.join(report['files'])} of bundle {manifest.id} in {folder}")


def _refuse(options: dict[str, object], reason: str) -> None:
    given = [name for name, value in options.items() if value is not None]
    if given:
        raise ExportError(f"{', '.join(given)}: {reason}")


def _is_exact(folder: Path) -> bool:
    """True if the bundle's encoder is an integer network, not the float one of an IRN or a converted GRAIN."""
    return not any((folder / name).is_file() for name in papers.FLOAT_ENCODERS)


def _bundle_encoder(folder: Path) -> IntegerNetwork | EncoderGraph:
    """The integer network of a bundle, or its float encoder for pictures or tiles of its size."""
    from edge_encoder.integer_network import load_integer_network

    if not _is_exact(folder):
        manifest = load_manifest(folder)
        name = next(name for name in papers.FLOAT_ENCODERS if name in manifest.files)
        manifest.verify_file(name)
        graph: EncoderGraph = papers.load(papers.FLOAT_ENCODERS[name])(manifest.path(name), manifest.hr)
        return graph
    if (folder / MANIFEST).is_file():  # a bundle that is being built has none yet
        load_manifest(folder).verify_file(ENCODER_WEIGHTS)
    try:
        return load_integer_network(folder / ENCODER_WEIGHTS)
    except OSError as error:
        raise ExportError(f"the bundle {folder} has no readable {ENCODER_WEIGHTS}: {error}") from error


def _print_summary(report: ProofReport, out: Path) -> None:
    from export.proof.report import flip_sentence

    described = report["encoder"]
    typer.echo(f"{described['architecture']}: {described['parameters']:,} parameters, "
               f"{described['flops'] / 1e9:.2f} GFLOP")
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
            typer.echo(f"  {label}: {flip_sentence(report[key])}")
    typer.echo(f"wrote {out / 'report.md'}")


if __name__ == "__main__":
    app(prog_name="python -m export.mobile")
