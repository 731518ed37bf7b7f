"""Exit codes of all commands: 0 done, 1 the command failed, 2 wrong usage, 130 interrupted.

Wrong usage is reported by typer itself; the rest here, as one line on stderr.
"""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator

import typer

from codec_contract.errors import EdgegrainError

FAILED, INTERRUPTED = 1, 130


@contextlib.contextmanager
def errors_to_exit_codes() -> Iterator[None]:
    """Turn an `EdgegrainError`, an ``OSError`` and Ctrl-C into a line on stderr and an exit code.

    Raises:
        typer.Exit: with the exit code.
    """
    try:
        yield
    except EdgegrainError as error:
        message = str(error)
    except OSError as error:
        if error.errno == errno.EPIPE:  # the reader of stdout has closed it; typer exits quietly
            raise
        message = str(error)
    except KeyboardInterrupt:
        typer.echo("interrupted; every file is either whole or not there", err=True)
        raise typer.Exit(INTERRUPTED) from None
    else:
        return
    typer.echo(f"error: {' '.join(message.split())}", err=True)
    raise typer.Exit(FAILED)
