"""``edgegrain device-report``: prove and measure the encoder on this computer."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgegrain.cli.options import BundleOption, ForceOption, JsonOption
from edgegrain.cli.output import print_json


def device_report(
    out: Annotated[Path, typer.Argument(metavar="[OUT]", help="File to write.")] = Path("device-report.json"),
    bundle: BundleOption = "faces",
    device: Annotated[str, typer.Option("--device", help="Name of this computer [default: its processor].")] = "",
    runs: Annotated[int, typer.Option("--runs", min=1, help="Pictures to encode per runtime.")] = 50,
    force: ForceOption = False,
    json_output: JsonOption = False,
) -> None:
    """Prove exact encoding on this computer, and measure it.

    Runs the golden vectors of a bundle on every installed runtime (ONNX Runtime, LiteRT, on macOS Core ML) and writes
    device-report.json. Exit code 1 if a runtime computes other bytes. docs/devices.md lists the reports so far.

    \b
    Examples:
      edgegrain device-report
      edgegrain device-report mine.json --device "Raspberry Pi 5"
    """
    import json

    from codec_contract.bundle.manifest import verify_bundle
    from codec_contract.bundle.paths import find_bundle
    from codec_contract.errors import ExistsError
    from codec_contract.files import write_atomically
    from export.proof.device_report import installed_runtimes, measure, this_device

    if out.exists() and not force:
        raise ExistsError(out)
    manifest = verify_bundle(find_bundle(bundle))  # the runtimes load its files by their paths
    reports = [measure(runtime, manifest, device or this_device(), runs)
               for runtime in installed_runtimes(manifest.folder)]
    write_atomically(out, (json.dumps(reports, indent=1) + "\n").encode(), force=force)
    if json_output:
        print_json(reports)
    else:
        for report in reports:
            threads = f", threads: {report['threads']}" if report["threads"] else ""
            state = f"differs in {', '.join(report['failed'])}" if report["failed"] else "exact"
            typer.echo(f"{report['runtime']}{threads}: {state}, {report['encode_ms']['median']:.1f} ms")
        typer.echo(f"written to {out}")
    if any(report["failed"] for report in reports):
        raise typer.Exit(1)
