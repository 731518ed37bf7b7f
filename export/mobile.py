"""``python -m export.mobile``, the same as ``edgegrain export encoder``: the encoder for phones, proven to compute the
same bytes everywhere."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from codec_contract.bundle.find import DEFAULT_BUNDLE, find_bundle
from codec_contract.bundle.manifest import ENCODER_WEIGHTS, load_manifest
from codec_contract.errors import EdgegrainError, ExportError, needs_extra
from edge_encoder.integer_network import IntegerNetwork, load_integer_network
from export import papers
from export.encoder.graph import FORMATS, EncoderGraph, TfliteConverter

if TYPE_CHECKING:
    from export.proof.report import ProofReport


class ReportingCommand(TyperCommand):
    """Prints an error as one line on stderr and exits with status 1, after Ctrl-C with 130."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except (EdgegrainError, OSError) as error:
            typer.echo(f"error: {' '.join(str(error).split())}", err=True)
            raise typer.Exit(1) from None
        except KeyboardInterrupt:
            typer.echo("interrupted; every file is either whole or not there", err=True)
            raise typer.Exit(130) from None


app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command(cls=ReportingCommand)
def encoder(
    bundle: Annotated[
        str, typer.Option("--bundle", "-b", help="Name or folder of the bundle whose encoder is exported.")
    ] = DEFAULT_BUNDLE,
    formats: Annotated[str, typer.Option(help="Comma-separated.")] = ",".join(FORMATS),
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the encoders and the report.")] = Path("dist"),
    inputs: Annotated[
        int | None, typer.Option(min=1, help="Inputs compared per runtime [default: 200; 24 for float encoders].")
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="20 inputs: under a minute instead of minutes.")] = False,
    tflite_converter: Annotated[
        TfliteConverter,
        typer.Option(
            help="Program that writes the TFLite file: edgegrain itself, or a converter that is installed. Their files "
            "compute the same bytes."
        ),
    ] = TfliteConverter.direct,
    data: Annotated[
        Path | None,
        typer.Option(
            help="Folder of real pictures to compare on [default: those that ship with edgegrain].", file_okay=False
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace files that exist.")] = False,
) -> None:
    """Write the encoder for phones and prove it: TFLite, Core ML and ONNX, byte for byte the same.

    Every file is run by every runtime this machine has and compared with the int64 reference on real pictures,
    noise, gradients, checkerboards, constants and pictures searched to sit on rounding boundaries. report.json
    next to the encoders states the results. The exit status is 1 if a single byte differs. Files appear when everything
    is done. The encoder of an IRN bundle or a converted GRAIN is a float network: its runtimes are compared with torch,
    and bytes that differ are counted only.

    \b
    Examples:
      python -m export.mobile --out dist
      python -m export.mobile --out dist --quick
      python -m export.mobile --bundle my-bundle/ --formats tflite --inputs 400 --data photos/
    """
    with needs_extra("export", "this command needs", ExportError):
        from export.encoder import parse_formats
        from export.proof.inputs import find_pictures
        from export.proof.prove import export_proven
        from export.proof.report import require_exact

        chosen, folder = parse_formats(formats), find_bundle(bundle)
        network = _bundle_encoder(folder)
    # GRAIN's float encoder takes twenty times as long as the exact one.
    count = inputs or (20 if quick else 200 if isinstance(network, IntegerNetwork) else 24)
    report = export_proven(
        network,
        out,
        source=f"bundle {folder.resolve().name}",
        inputs=count,
        formats=chosen,
        force=force,
        tflite_converter=tflite_converter,
        pictures=find_pictures(data),
        say=partial(typer.echo, err=True),
    )
    _print_summary(report, out)
    if isinstance(network, IntegerNetwork):
        require_exact(report["runtimes"])


def _bundle_encoder(folder: Path) -> IntegerNetwork | EncoderGraph:
    """The integer network of a bundle, or the float encoder of an IRN or a converted GRAIN for pictures of its size."""
    manifest = load_manifest(folder)
    name = next((name for name in papers.FLOAT_ENCODERS if name in manifest.files), ENCODER_WEIGHTS)
    manifest.verify_file(name)
    if name == ENCODER_WEIGHTS:
        return load_integer_network(manifest.path(name))
    return papers.load(papers.FLOAT_ENCODERS[name])(manifest.path(name), manifest.hr)


def _print_summary(report: ProofReport, out: Path) -> None:
    coder = report["encoder"]
    typer.echo(f"{coder['architecture']}: {coder['parameters']:,} parameters, {coder['flops'] / 1e9:.2f} GFLOP")
    for name, entry in report["files"].items():
        typer.echo(f"  {name:<18} {entry['bytes']:>12,} bytes")
    if "bound" in report:
        bound = report["bound"]
        typer.echo(f"  accumulators below 2^{bound['worst_log2']:.2f} (limit 2^{bound['limit_log2']})")
    for row in report["runtimes"]:
        typer.echo(
            f"  {row['name']:<64} {row['inputs']} inputs, {row['bytes_compared']:,} LR bytes: "
            f"{row['differing_bytes']} differing bytes"
        )
    typer.echo(f"wrote {out / 'report.json'}")


if __name__ == "__main__":
    app(prog_name="python -m export.mobile")
