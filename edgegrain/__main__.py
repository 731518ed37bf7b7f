"""Entry point of ``edgegrain`` and ``python -m edgegrain``, which reports missing libraries of the command line."""

from __future__ import annotations

import io
import sys
from collections.abc import Sequence

LIBRARIES = ("typer", "rich")


def app(arguments: Sequence[str] | None = None) -> None:
    """Run the command line on ``arguments``, by default those of the process; ends with ``SystemExit``."""
    try:
        from edgegrain.cli.app import application
    except ModuleNotFoundError as error:
        if error.name not in LIBRARIES:
            raise
        advice = f"{error.name} is missing; install: pip install 'edgegrain[cli]'"
        sys.exit(f"edgegrain: the command line needs {' and '.join(LIBRARIES)}, and {advice}")
    except KeyboardInterrupt:  # later ones: edgegrain.cli.output
        sys.exit(130)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # as stderr: names of files may not be valid UTF-8
    application(args=None if arguments is None else list(arguments), prog_name="edgegrain")


if __name__ == "__main__":
    app()
