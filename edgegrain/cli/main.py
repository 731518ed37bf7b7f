"""Entry point of ``edgegrain``: says what to install where the command line's libraries are missing."""

from __future__ import annotations

import sys
from collections.abc import Sequence

LIBRARIES = ("typer", "rich")


def app(arguments: Sequence[str] | None = None) -> None:
    """Run the command line on ``arguments``, by default the process's own; leaves by ``SystemExit``."""
    try:
        from edgegrain.cli.app import application
    except ModuleNotFoundError as error:
        if error.name not in LIBRARIES:
            raise
        print(f"edgegrain: the command line needs {' and '.join(LIBRARIES)}, {error.name} is missing; "
              "install them with: pip install 'edgegrain[cli]'", file=sys.stderr)
        sys.exit(1)
    application(args=None if arguments is None else list(arguments), prog_name="edgegrain")


if __name__ == "__main__":
    app()
