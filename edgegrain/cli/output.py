"""Output of commands: progress and errors on stderr, results on stdout, as lines or as JSON; exit codes.

Exit codes: 0 done, 1 the command failed, 2 wrong usage, 130 interrupted. typer reports wrong usage itself,
`errors_to_exit_codes` the other errors, as one line on stderr.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import time
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

import typer

from codec_contract.errors import EdgegrainError, ExistsError
from edgegrain.cli.files import Plan

Item = TypeVar("Item")
Row = dict[str, Any]
FAILED, INTERRUPTED = 1, 130
SILENCE = 10.0
"""Seconds from one line of progress to the next on a stderr that is no terminal."""


@contextlib.contextmanager
def errors_to_exit_codes() -> Iterator[None]:
    """Turn an `EdgegrainError`, an ``OSError`` and Ctrl-C into a line on stderr and an exit code."""
    try:
        yield
    except (EdgegrainError, OSError) as error:
        if isinstance(error, OSError) and error.errno == errno.EPIPE:  # stdout was closed; typer exits quietly
            raise
        say(f"error: {message_of(error)}", err=True)
        raise typer.Exit(FAILED) from None
    except KeyboardInterrupt:
        say("interrupted; every file is either whole or not there", err=True)
        raise typer.Exit(INTERRUPTED) from None


def message_of(error: Exception) -> str:
    """The error's message as one line that names options, not arguments of functions."""
    text = printable(" ".join(str(error).split()))
    return text.replace("force=True", "--force") if isinstance(error, ExistsError) else text


def printable(text: str) -> str:
    """The text with escapes for what a terminal would obey; surrogates, of odd file names, the streams escape."""

    def shown(character: str) -> bool:
        return character.isprintable() or unicodedata.category(character) in ("Zs", "Cs")

    return "".join(each if shown(each) else each.encode("unicode_escape").decode() for each in text)


def say(*lines: str, err: bool = False) -> None:
    """Print lines; names in them may hold any characters (`printable`)."""
    for line in lines:
        typer.echo(printable(line), err=err)


def report(value: Any, *lines: str, as_json: bool, err: bool = False) -> None:
    """Print a result: plain data and paths as indented JSON, or lines."""
    if as_json:
        typer.echo(json.dumps(value, indent=2, default=os.fspath), err=err)
    else:
        say(*lines, err=err)


def is_first_process() -> bool:
    """True in the process that prints: the first of those that torchrun started, or the only one."""
    return os.environ.get("RANK", "0") == "0"


@contextlib.contextmanager
def progress_bar(text: str = "preparing", *, transient: bool = False) -> Iterator[Callable[..., None]]:
    """A bar on stderr, without a terminal a line every `SILENCE` seconds, of the first process: yields a function of
    the finished part, 0...1, and a line of text."""
    from rich.console import Console
    from rich.progress import Progress

    console, written, first = Console(stderr=True), time.monotonic(), is_first_process()

    def show(part: float, line: str | None = None) -> None:
        nonlocal written
        bar.update(task, completed=part, description=line)
        if first and bar.disable and time.monotonic() - written >= SILENCE:
            say(f"{line or text}: {part:.0%}", err=True)
            written = time.monotonic()

    with Progress(console=console, transient=transient, disable=not (first and console.is_terminal)) as bar:
        task = bar.add_task(text, total=1.0)
        yield show


def with_progress(items: Sequence[Item], text: str) -> Iterator[Item]:
    """Yield the items with a progress bar, if there are several."""
    if len(items) < 2:
        yield from items
        return
    with progress_bar(text, transient=True) as show:
        for index, item in enumerate(items):
            show(index / len(items), f"{text} {index + 1:,}/{len(items):,}")
            yield item


def run_all(
    plan: Plan[Item],
    work: Callable[[Item], Row],
    lines_of: Callable[[Row], Iterable[str]],
    *,
    text: str,
    as_json: bool,
    summary: Callable[[list[Row]], str] = lambda done: "",
) -> list[Row]:
    """Process every item and print the rows, as lines, with a summary of several, or as JSON; on stderr if a result
    goes to stdout. Items that fail, and folders that cannot be listed, do not stop the others; then the status is 1."""
    done: list[Row] = []
    failed: list[Row] = [{"file": error.filename, "error": message_of(error)} for error in plan.unlisted]
    for item in with_progress(plan.items, text):
        try:
            done.append(work(item))
        except (EdgegrainError, OSError) as error:
            failed.append({"file": getattr(item, "source", item), "error": message_of(error)})
    lines = [line for row in done for line in lines_of(row)]
    if len(done) > 1 and (last := summary(done)):
        lines.append(last)
    report({"done": done, "failed": failed}, *lines, as_json=as_json, err=plan.piped)
    for row in failed:
        name = printable(str(row["file"]))
        say(f"error: {row['error']}" if name in row["error"] else f"error: {name}: {row['error']}", err=True)
    if failed:
        if (count := len(done) + len(failed)) > 1:
            say(f"{len(failed):,} of {count:,} failed", err=True)
        raise typer.Exit(FAILED)
    return done


def times_less(ratio: float) -> str:
    """``403 times less than`` for a ratio of 403, ``2.0 times more than`` for one of 0.5."""
    factor = max(ratio, 1 / ratio)
    return f"{factor:,.{0 if factor >= 10 else 1}f} times {'less' if ratio >= 1 else 'more'} than"
