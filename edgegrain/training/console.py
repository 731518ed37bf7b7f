"""What the training commands show on the terminal: a progress bar on long work, errors as one line."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from codec_contract.errors import EdgegrainError


@contextlib.contextmanager
def progress_bar() -> Iterator[Callable[[float, str], None]]:
    """A bar on stderr, the first process's; what it gives takes the finished part (0...1) and a line about it."""
    bar = Progress(TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn(),
                   console=Console(stderr=True), disable=os.environ.get("RANK", "0") != "0")  # torchrun's
    with bar:
        task = bar.add_task("preparing", total=1.0)
        yield lambda part, line: bar.update(task, completed=part, description=line)


@contextlib.contextmanager
def errors_on_one_line() -> Iterator[None]:
    """Our errors, and files that are in the way, end the command with a line on stderr and exit status 1."""
    try:
        yield
    except (EdgegrainError, FileExistsError) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from None
