"""What a run of ``edgegrain batch`` does: which names it takes, and what each becomes."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from codec_contract.payload import MAGIC, PAYLOAD_SUFFIX
from edge_encoder.preprocessing import PICTURE_SUFFIXES
from edgegrain.service.batch.stores import Store, printable, suffix_of

Direction = Literal["compress", "restore"]

SAMPLE = 100
"""Files that are looked at to tell payloads from pictures."""
CHUNK = 1000
"""Names of which it is asked together whether they are done."""


@dataclass(frozen=True)
class BatchPlan:
    """Everything that the workers of a run need to know.

    Attributes:
        source: folder or URI that is read.
        target: folder or URI that is written.
        direction: ``"compress"`` or ``"restore"``.
        bundle: id of the bundle.
        folder: where the bundle lies.
        options: fields of `CompressOptions` or `RestoreOptions`.
        suffix: of the files that are written.
        device: where decoders run.
        threads: of a worker's networks on the CPU.
        batch_size: files that a worker gets at once.
        max_pixels: largest picture that is read or made.
        max_bytes: largest file that is read.
        force: also what is done already.
    """

    source: str
    target: str
    direction: Direction
    bundle: str
    folder: str
    options: Mapping[str, Any]
    suffix: str
    device: str = "cpu"
    threads: int = 1
    batch_size: int = 16
    max_pixels: int = 89_000_000
    max_bytes: int = 1 << 28
    force: bool = False

    def result(self, name: str) -> str:
        """The name of a file's result: no two names share one.

        ``a.jpg`` becomes ``a.jpg.grain``, since there may be an ``a.png``; ``a.grain`` becomes ``a.png``.
        """
        return (name.removesuffix(PAYLOAD_SUFFIX) if self.direction == "restore" else name) + self.suffix


@dataclass
class Tally:
    """What became of a number of files.

    Attributes:
        done: written by this run.
        skipped: whose results were there.
        failed: how many were not done.
        bytes_in: of the files read for those that are done.
        bytes_out: of the files written.
        failures: ``{"name", "error"}`` of those that failed.
        listed: how many there were, as the end of the list says; 0 before.
    """

    done: int = 0
    skipped: int = 0
    failed: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    failures: list[dict[str, str]] = field(default_factory=list)
    listed: int = 0

    def fail(self, name: str, error: Exception) -> None:
        """Note that a file was not done, and why."""
        self.failed += 1
        text = " ".join(str(error).split()) or type(error).__name__
        self.failures.append({"name": printable(name), "error": text})

    def add(self, part: Tally, *, keep: int) -> None:
        """Add a part's counts, and its failures while there are less than ``keep``."""
        self.done += part.done
        self.skipped += part.skipped
        self.failed += part.failed
        self.bytes_in += part.bytes_in
        self.bytes_out += part.bytes_out
        self.listed += part.listed
        self.failures += part.failures[:max(0, keep - len(self.failures))]


def candidates(names: Iterator[str], direction: Direction | None) -> Iterator[str]:
    """The names whose suffix says that they are pictures (compress), payloads (restore), or either (None)."""
    for name in names:
        suffix = suffix_of(name)
        if (direction != "restore" and suffix in PICTURE_SUFFIXES) or (
                direction != "compress" and suffix == PAYLOAD_SUFFIX):
            yield name


def find_direction(store: Store) -> Direction | None:
    """What the first files call for by their content: payloads are restored, all else compressed.

    Returns:
        None if there are files of both kinds, or none at all.
    """
    sample = list(itertools.islice(candidates(store.names(), None), SAMPLE))
    found: set[Direction] = set()
    for name in sample:
        try:
            is_payload = store.head(name, len(MAGIC)) == MAGIC
        except OSError:
            continue  # it will be reported when its turn comes
        damaged = not is_payload and suffix_of(name) == PAYLOAD_SUFFIX
        if not damaged:
            found.add("restore" if is_payload else "compress")
    if not found and sample:  # nothing but damaged payloads: let each be reported
        return "restore" if all(suffix_of(name) == PAYLOAD_SUFFIX for name in sample) else "compress"
    return found.pop() if len(found) == 1 else None


class Open(NamedTuple):
    """Names that are still to be worked on.

    Attributes:
        names: a batch of them, or none.
        skipped: how many were done already, since the one before.
        listed: in the last one of a list, how many names there were altogether; 0 before.
    """

    names: list[str]
    skipped: int
    listed: int


def open_batches(plan: BatchPlan, source: Store, target: Store) -> Iterator[Open]:
    """The names of a plan, bit by bit."""
    names = candidates(source.names(), plan.direction)
    waiting: list[str] = []
    skipped = listed = 0
    while chunk := list(itertools.islice(names, CHUNK)):
        listed += len(chunk)
        done = set() if plan.force else target.present([plan.result(name) for name in chunk])
        for name in chunk:
            if plan.result(name) in done:
                skipped += 1
            else:
                waiting.append(name)
            if len(waiting) == plan.batch_size:
                yield Open(waiting, skipped, 0)
                waiting, skipped = [], 0
        if skipped >= CHUNK:
            yield Open([], skipped, 0)
            skipped = 0
    yield Open(waiting, skipped, listed)
