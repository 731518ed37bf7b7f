"""Optional libraries of the commands: a missing one is an error that names the extra to install."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from codec_contract.errors import EdgegrainError


@contextmanager
def needs_extra(extra: str, purpose: str) -> Iterator[None]:
    """Turn a failed import into an error that begins with ``purpose`` and names the command that installs ``extra``.

    Raises:
        EdgegrainError: a module is missing.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        raise EdgegrainError(f"{purpose} {error.name}, which is not installed; install: "
                             f"pip install 'edgegrain[{extra}]'") from error
