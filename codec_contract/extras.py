"""Optional libraries: a missing one is an error that names the extra to install."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from codec_contract.errors import EdgegrainError


@contextmanager
def needs_extra(extra: str, purpose: str, error: type[EdgegrainError] = EdgegrainError) -> Iterator[None]:
    """Turn a failed import into an ``error`` that names the command that installs ``extra``.

    Args:
        extra: one or several, separated by commas.
        purpose: beginning of the message, such as "training needs"; the name of the missing module follows.
        error: the class to raise.

    Raises:
        EdgegrainError: a module is missing.
    """
    try:
        yield
    except ModuleNotFoundError as missing:
        raise error(f"{purpose} {missing.name}, which is not installed; install: "
                    f"pip install 'edgegrain[{extra}]'") from missing
