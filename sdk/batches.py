"""Batches of any length: their groups, the strength of each item, and the position of an item in error messages."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar, cast

from codec_contract.errors import EdgegrainError, ImageError
from sdk.inputs import RestoreSource

BATCH = 8
"""Pictures per run of a network; bounds the memory of a batch of any length."""

Item = TypeVar("Item")


def batches(items: Iterable[Item]) -> Iterable[tuple[int, list[Item]]]:
    """(position of the first, up to `BATCH` items), until there are no more."""
    iterator = iter(items)
    for first in itertools.count(0, BATCH):
        batch = list(itertools.islice(iterator, BATCH))
        if not batch:
            return
        yield first, batch


def with_strengths(
    payloads: Iterable[RestoreSource], strength: float | Sequence[float | None] | None
) -> Iterable[tuple[RestoreSource, float | None]]:
    """Every payload with its strength; `ImageError` if the number of strengths is not that of the payloads."""
    if not isinstance(strength, Iterable) or getattr(strength, "ndim", 1) == 0:  # 0-d arrays do not iterate
        return zip(payloads, itertools.repeat(cast("float | None", strength)), strict=False)
    payloads, strengths = list(payloads), list(strength)
    if len(payloads) != len(strengths):
        raise ImageError(f"expected one strength, or {len(payloads)} for as many payloads; got {len(strengths)}")
    return zip(payloads, strengths, strict=True)


@contextmanager
def position_in_batch(kind: str, index: int) -> Iterator[None]:
    """Prefix the message of an `EdgegrainError` with the position in a batch, keeping its class."""
    try:
        yield
    except EdgegrainError as error:
        raise type(error)(f"{kind} {index}: {error}") from error
