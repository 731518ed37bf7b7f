"""``edgegrain export``: the encoder for phones; everything is ``python -m export.mobile``'s."""

from __future__ import annotations

import typer

from codec_contract.errors import ExportError

PASS_ON = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}


def export(context: typer.Context) -> None:
    """Export the encoder for phones, proven exact.

    \b
    Examples:
      edgegrain export --out dist
      edgegrain export --formats tflite --bundle faces
      edgegrain export --help
    """
    try:
        from export.mobile import app
    except ModuleNotFoundError as error:
        raise ExportError(
            f"exporting needs {error.name}, which is not installed; install: pip install 'edgegrain[export]'"
        ) from error
    app(args=list(context.args), prog_name="edgegrain export")
