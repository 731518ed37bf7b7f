"""Exit codes: 0 done, 1 the command failed, 2 wrong usage, 130 interrupted; ``publish run --if-better`` adds 3.

typer reports wrong usage itself; this file reports the other errors, as one line on stderr.
"""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator

import typer

from codec_contract.errors import EdgegrainError, ExistsError

FAILED, INTERRUPTED = 1, 130


@contextlib.contextmanager
def errors_to_exit_codes() -> Iterator[None]:
    """Turn an `EdgegrainError`, an ``OSError`` and Ctrl-C into a line on stderr and an exit code.

    Raises:
        typer.Exit: with the exit code.
    """
    try:
        yield
    except (EdgegrainError, OSError) as error:
        if isinstance(error, OSError) and error.errno == errno.EPIPE:  # stdout was closed; typer exits quietly
            raise
        typer.echo(f"error: {message_of(error)}", err=True)
        raise typer.Exit(FAILED) from None
    except KeyboardInterrupt:
        typer.echo("interrupted; every file is either whole or not there", err=True)
        raise typer.Exit(INTERRUPTED) from None


def message_of(error: Exception) -> str:
    """The error's message as one line that names options, not arguments of functions."""
    # A service's text may contain control characters, which a terminal would obey. Surrogates, of file names that are
    # not UTF-8, are escaped by stderr.
    shown = (character if character.isprintable() or "\ud800" <= character <= "\udfff" else " "
             for character in str(error))
    text = " ".join("".join(shown).split())
    return text.replace("force=True", "--force") if isinstance(error, ExistsError) else text
