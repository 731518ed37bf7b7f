"""Generated pictures as tar shards, for training together with photographs (``edgegrain prior generate``)."""

from __future__ import annotations

import io
import json
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from PIL import Image

from codec_contract.errors import EdgegrainError
from codec_contract.files import write_atomically
from codec_contract.quantization import pictures_of
from edgegrain.pictures.folder_lock import only_writer
from edgegrain.pictures.progress import Progress
from edgegrain.pictures.tar_shards import write_shard
from edgegrain.training.grain.synthetic import synthetic_faces
from sdk.generated_mark import GENERATED, GeneratedMark, MarkedPicture
from server_decoder.generative_prior import GenerativePrior, prior_digest

NAME = "generated"
"""Prefix of the names of pictures and shards, by which recipes recognize generated pictures."""
RECORD = "generated.json"
PER_SHARD = 1000


@dataclass(frozen=True)
class GeneratedSet:
    """A set of generated pictures; equal descriptions on one machine give equal pictures.

    Attributes:
        count: of the pictures.
        seed: of codes, truncation and mixing.
        psi: least and largest truncation; uniform between the two.
        mixing: part of the pictures whose layers from a random one on take the codes of another.
        quality: of WebP, 0...100.
    """

    count: int
    seed: int = 0
    psi: tuple[float, float] = (0.6, 1.0)
    mixing: float = 0.5
    quality: int = 92

    def __post_init__(self) -> None:
        if self.count < 1 or not 0 <= self.psi[0] <= self.psi[1] or not 0 <= self.mixing <= 1:
            raise ValueError(f"count must be at least 1, psi two ascending numbers from 0 on, mixing from 0 to 1; got "
                             f"{self}")


def write_generated(prior: GenerativePrior, wanted: GeneratedSet, out: Path, *, force: bool = False,
                    report: Progress | None = None) -> list[Path]:
    """Write ``generated-SIDE-00000.tar`` and so on, of `PER_SHARD` pictures each.

    Shards that are there already are kept, so an interrupted call continues; every shard has a seed of its own.

    Args:
        prior: the generator, in evaluation mode; its size is the pictures' side.
        wanted: the set.
        out: folder of the shards, and of a record of the set.
        force: replace a set of another description.
        report: called with the finished part, 0...1, and a line of text.

    Raises:
        EdgegrainError: the folder has shards of another set, and ``force`` is false; or another process writes to it.
    """
    with only_writer(out):
        return _write_missing(prior, wanted, out, force, report)


def _write_missing(prior: GenerativePrior, wanted: GeneratedSet, out: Path, force: bool,
                   report: Progress | None) -> list[Path]:
    record = {**asdict(wanted), "psi": list(wanted.psi), "side": prior.size, "prior": prior_digest(prior)[:16],
              "per_shard": PER_SHARD}
    present = sorted(out.glob(f"{NAME}-*.tar"))
    if present and _read(out / RECORD) != record:
        if not force:
            raise EdgegrainError(f"{out} holds generated pictures of other settings; choose another folder or pass "
                                 "--force to replace them")
        for path in present:
            path.unlink()
    write_atomically(out / RECORD, (json.dumps(record, indent=2) + "\n").encode(), force=True)
    written = []
    for index in range(-(-wanted.count // PER_SHARD)):
        path, first = out / f"{NAME}-{prior.size}-{index:05}.tar", index * PER_SHARD
        if not path.exists():
            _write(prior, wanted, index, path, report)
        elif report is not None:
            report(min(1.0, (first + PER_SHARD) / wanted.count), f"{path.name} is there")
        written.append(path)
    return written


def _write(prior: GenerativePrior, wanted: GeneratedSet, index: int, path: Path,
           report: Progress | None) -> None:
    first = index * PER_SHARD
    count = min(PER_SHARD, wanted.count - first)
    mark = GeneratedMark(GENERATED).xmp()
    members: list[tuple[str, bytes]] = []
    faces = synthetic_faces(prior, count, (wanted.seed << 32) + index, psi_range=wanted.psi, mixing=wanted.mixing,
                            dtype=torch.bfloat16)
    for batch in faces:
        for picture in pictures_of(batch.pictures.cpu().numpy()):
            content = io.BytesIO()
            MarkedPicture(Image.fromarray(picture), mark).save(content, "WEBP", method=4, quality=wanted.quality)
            members.append((f"{NAME}_{first + len(members):06}.webp", content.getvalue()))
        if report is not None:
            done = first + len(members)
            report(done / wanted.count, f"{done:,} pictures")
    write_shard(path, members)


def _read(path: Path) -> object:
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
