"""Optional libraries of the extra ``export``."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from codec_contract.errors import ExportError


@contextmanager
def needs_export_libraries() -> Iterator[None]:
    """Turn the import of a missing library into an error that says what to install.

    Raises:
        ExportError: a module is missing.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        raise ExportError(f"this command needs {error.name}, which is not installed; install: "
                          "pip install 'edgegrain[export]'") from error
