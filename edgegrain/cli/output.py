"""Output of commands: progress and errors on stderr, results on stdout, as lines or as JSON; exit codes.

Exit codes: 0 done, 1 the command failed, 2 wrong usage, 130 interrupted; ``publish run --if-better`` adds 3. typer
reports wrong usage itself, `errors_to_exit_codes` the other errors, as one line on stderr.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import typer

from codec_contract.errors import EdgegrainError, ExistsError

Item = TypeVar("Item")
Row = dict[str, Any]
FAILED, INTERRUPTED = 1, 130


@contextlib.contextmanager
def errors_to_exit_codes() -> Iterator[None]:
    """Turn an `EdgegrainError`, an ``OSError`` and Ctrl-C into a line on stderr and an exit code."""
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


def print_json(value: Any, *, err: bool = False) -> None:
    """Print plain data as indented JSON, on stderr if ``err``; paths become text."""
    typer.echo(json.dumps(value, indent=2, default=_plain), err=err)


def with_progress(items: Sequence[Item], text: str) -> Iterator[Item]:
    """Yield the items with a progress bar on stderr, if there are several and stderr is a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=len(items) < 2 or not console.is_terminal) as bars:
        yield from bars.track(items, description=text)


def is_first_process() -> bool:
    """True in the process that prints: the first of those that torchrun started, or the only one."""
    return os.environ.get("RANK", "0") == "0"


@contextlib.contextmanager
def progress_bar() -> Iterator[Callable[[float, str], None]]:
    """A bar on stderr, in the first process only; yields a function of the finished part, 0...1, and a line of text."""
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), disable=not is_first_process()) as bar:
        task = bar.add_task("preparing", total=1.0)
        yield lambda part, line: bar.update(task, completed=part, description=line)


def run_all(
    items: Sequence[Item], work: Callable[[Item], Row], *, text: str, name: Callable[[Item], Path]
) -> tuple[list[Row], list[Row]]:
    """Process every item; an item that fails does not stop the others.

    Returns:
        The rows of the items that succeeded, and ``{"file", "error"}`` of those that failed.
    """
    done, failed = [], []
    for item in with_progress(items, text):
        try:
            done.append(work(item))
        except (EdgegrainError, OSError) as error:
            failed.append({"file": name(item), "error": message_of(error)})
    return done, failed


def finish(
    done: list[Row], failed: list[Row], line: Callable[[Row], str], *, json_output: bool, summary: str = "",
    err: bool = False
) -> None:
    """Print the results of `run_all`, on stderr if ``err``, and exit with status 1 if an item failed."""
    if json_output:
        print_json({"done": done, "failed": failed}, err=err)
    else:
        for row in done:
            typer.echo(line(row), err=err)
        if summary and len(done) > 1:
            typer.echo(summary, err=err)
    for row in failed:
        named = str(row["file"]) in row["error"]
        typer.echo(f"error: {row['error']}" if named else f"error: {row['file']}: {row['error']}", err=True)
    if failed:
        if (count := len(done) + len(failed)) > 1:
            typer.echo(f"{len(failed):,} of {count:,} failed", err=True)
        raise typer.Exit(1)


def _plain(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"cannot print {type(value).__name__} as JSON")


def times_less(ratio: float) -> str:
    """``403 times less than`` for a ratio of 403; a payload can have more bytes than a small picture's file.

    A ratio of 0, of a file whose size is not known, gives ``not comparable with``.
    """
    if not ratio:
        return "not comparable with"
    factor = max(ratio, 1 / ratio)
    return f"{factor:,.{0 if factor >= 10 else 1}f} times {'less' if ratio >= 1 else 'more'} than"
