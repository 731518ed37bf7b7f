"""`BatchPlan`: the names that a run of ``edgegrain batch`` processes, and the names of their results."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from codec_contract.files import printable_name
from codec_contract.fit import MAX_PIXELS
from codec_contract.payload import MAGIC, PAYLOAD_SUFFIX
from edge_encoder.preprocessing import PICTURE_SUFFIXES
from edgegrain.service.batch.store import Store, suffix_of
from edgegrain.service.batcher import Verb

SAMPLE = 100
"""Files that are read to distinguish payloads from pictures."""
CHUNK = 1000
"""Names whose results are looked up together."""


@dataclass(frozen=True)
class BatchPlan:
    """Parameters of a run, for all its workers.

    Attributes:
        source: folder or URI that is read.
        target: folder or URI that is written.
        verb: ``"compress"`` or ``"restore"``.
        bundle: id of the bundle.
        folder: folder of the bundle.
        fallbacks: folders of the bundles that ``options`` name as fallbacks.
        options: fields of `CompressOptions` or `RestoreOptions`.
        suffix: suffix of the results.
        device: device of the decoders.
        threads: threads of a worker's networks on the CPU.
        batch_size: files per batch of a worker.
        max_pixels: largest picture that is compressed, or restored.
        max_bytes: largest file that is read.
        force: process also files that have a result.
        results: name of the target in the source, whose files are no input; "" if it is not below the source.
    """

    source: str
    target: str
    verb: Verb
    bundle: str
    folder: str
    options: Mapping[str, Any]
    suffix: str
    device: str = "cpu"
    threads: int = 1
    batch_size: int = 16
    max_pixels: int = MAX_PIXELS
    max_bytes: int = 1 << 28
    force: bool = False
    fallbacks: Sequence[str] = ()
    results: str = ""

    def result(self, name: str) -> str:
        """The name of a file's result, unique to it.

        ``a.jpg`` becomes ``a.jpg.grain``, because there may be an ``a.png``; ``a.grain`` becomes ``a.png``.
        """
        return (name.removesuffix(PAYLOAD_SUFFIX) if self.verb == "restore" else name) + self.suffix


@dataclass
class Tally:
    """Counts of processed files.

    Attributes:
        done: files processed by this run.
        skipped: files whose result existed.
        failed: files that failed, and folders that could not be listed.
        bytes_in: bytes read for the files that are done.
        bytes_out: bytes written.
        failures: ``{"name", "error"}`` of what failed.
        listed: number of all files, and of the folders that could not be listed, set with the last part of a listing;
            0 before.
    """

    done: int = 0
    skipped: int = 0
    failed: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    failures: list[dict[str, str]] = field(default_factory=list)
    listed: int = 0

    def fail(self, name: str, error: Exception) -> None:
        """Count a failed file or folder, with its error."""
        self.failed += 1
        text = " ".join(str(error).split()) or type(error).__name__
        self.failures.append({"name": printable_name(name), "error": text})

    def add(self, part: Tally, *, keep: int | None = None) -> None:
        """Add a part's counts, and its failures up to a total of ``keep``; None for all."""
        self.done += part.done
        self.skipped += part.skipped
        self.failed += part.failed
        self.bytes_in += part.bytes_in
        self.bytes_out += part.bytes_out
        self.listed += part.listed
        self.failures += part.failures if keep is None else part.failures[:max(0, keep - len(self.failures))]


def candidates(names: Iterator[str], verb: Verb | None, results: str = "") -> Iterator[str]:
    """Filter names by suffix: pictures (compress), payloads (restore), or both (None); not those below ``results``."""
    for name in names:
        if results and name.startswith(f"{results}/"):
            continue
        suffix = suffix_of(name)
        if (verb != "restore" and suffix in PICTURE_SUFFIXES) or (
                verb != "compress" and suffix == PAYLOAD_SUFFIX):
            yield name


def find_verb(store: Store, results: str | None = None) -> Verb | None:
    """Infer the verb from the content of the first files: payloads are restored, other files compressed.

    Args:
        results: name of the target in the store, as of `Store.name_of`. Results of an interrupted run are no input: the
            files below the target, and payloads next to pictures if the target is the store itself.

    Returns:
        None if there are files of both kinds, or no files.
    """
    if results == "" and (found := _verb_of(store, candidates(store.names(), "compress"))) is not None:
        return found
    return _verb_of(store, candidates(store.names(), None, results or ""))


def _verb_of(store: Store, names: Iterator[str]) -> Verb | None:
    sample = list(itertools.islice(names, SAMPLE))
    found: set[Verb] = set()
    for name in sample:
        try:
            is_payload = store.head(name, len(MAGIC)) == MAGIC
        except OSError:
            continue  # reported later, as a failed file
        damaged = not is_payload and suffix_of(name) == PAYLOAD_SUFFIX
        if not damaged:
            found.add("restore" if is_payload else "compress")
    if not found and sample:  # damaged payloads only: each is reported as failed
        return "restore" if all(suffix_of(name) == PAYLOAD_SUFFIX for name in sample) else "compress"
    return found.pop() if len(found) == 1 else None


class PendingBatch(NamedTuple):
    """Names without a result.

    Attributes:
        names: a batch of names, or none.
        counts: of the listing since the previous batch: names with a result, folders that could not be listed.
    """

    names: list[str]
    counts: Tally


def pending_batches(plan: BatchPlan, source: Store, target: Store) -> Iterator[PendingBatch]:
    """List the names of a plan that have no result, in batches."""
    waiting: list[str] = []
    counts, listed = Tally(), 0

    def report(folder: str, error: OSError) -> None:
        nonlocal listed
        listed += 1
        counts.fail(folder, error)

    names = candidates(source.names(report), plan.verb, plan.results)
    while chunk := list(itertools.islice(names, CHUNK)):
        listed += len(chunk)
        done = set() if plan.force else target.present([plan.result(name) for name in chunk])
        for name in chunk:
            if plan.result(name) in done:
                counts.skipped += 1
            else:
                waiting.append(name)
            if len(waiting) == plan.batch_size:
                yield PendingBatch(waiting, counts)
                waiting, counts = [], Tally()
        if counts.skipped >= CHUNK:
            yield PendingBatch([], counts)
            counts = Tally()
    counts.listed = listed
    yield PendingBatch(waiting, counts)
