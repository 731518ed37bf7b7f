"""One error message for damaged weight files of the metrics."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from codec_contract.errors import ModelError


@contextlib.contextmanager
def readable(path: Path) -> Iterator[None]:
    """Report any error of the block, which reads ``path``, as a damaged file.

    Raises:
        ModelError: the block raised an error.
    """
    try:
        yield
    except Exception as error:  # safetensors, zipfile and ONNX Runtime have types of their own
        raise ModelError(f"{path} is damaged ({error}); fetch it again: edgegrain metrics fetch --force") from error
