"""A worker of ``edgegrain batch`` without Ray: an error of one file does not affect the others."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import sdk
from codec_contract.errors import BundleError, DeviceError, EdgegrainError, ImageError, PayloadError, ServiceError
from edgegrain.service.batch import batch_worker
from edgegrain.service.batch.batch_worker import BatchWorker
from edgegrain.service.batch.engine_process import EngineProcess
from edgegrain.service.batch.folder_store import FolderStore
from edgegrain.service.batch.plan import BatchPlan
from edgegrain.service.batcher import Verb
from edgegrain.service.engine import CompressOptions, Outcome, RestoreOptions
from tests.tiny_bundle import HR, write_qualities, write_tiny_bundle

POISON = """
import os, sys
from edgegrain.service.worker import pack, read
read(sys.stdin.buffer)
blobs, fields = [], {"warm_up": [], "decoders": {}}
while True:
    for piece in pack(fields, blobs):
        sys.stdout.buffer.write(piece)
    sys.stdout.buffer.flush()
    message = read(sys.stdin.buffer)
    if message is None:
        break
    blobs = message[1]
    if b"poison" in blobs:
        os._exit(9)
    fields = {"outcomes": [None] * len(blobs), "seconds": {}}
    if b"nonsense" in blobs:
        fields["outcomes"] = fields["outcomes"][1:]
    if b"device" in blobs:
        fields["outcomes"] = [{"error": "DeviceError", "message": "it died, an illegal address"}] * len(blobs)
        fields["ends"] = True
"""
"""A worker process that returns its input, dies on one input, omits an answer on another, and fails on a third as a
device does."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_bundle(tmp_path_factory.mktemp("bundle"))


COMPRESS, RESTORE = asdict(CompressOptions()), asdict(RestoreOptions())


def plan(folder: Path, place: Path, verb: Verb) -> BatchPlan:
    (place / "out").mkdir(exist_ok=True)
    options, suffix = (COMPRESS, ".grain") if verb == "compress" else (RESTORE, ".png")
    return BatchPlan(
        str(place / "in"), str(place / "out"), verb, folder.name, str(folder), options, suffix, batch_size=8,
        max_pixels=10_000)


@pytest.fixture
def pictures(tmp_path: Path) -> dict[str, np.ndarray]:
    (tmp_path / "in" / "deep").mkdir(parents=True)
    random = np.random.default_rng(5)
    found = {f"deep/{index}.png": random.integers(0, 256, (HR, HR, 3), dtype=np.uint8) for index in range(3)}
    for name, rgb in found.items():
        Image.fromarray(rgb).save(tmp_path / "in" / name)
    return found


def test_there_and_back(folder: Path, tmp_path: Path, pictures: dict[str, np.ndarray]) -> None:
    (tmp_path / "in" / "damaged.png").write_bytes(b"\x89PNG and so on")
    (tmp_path / "in" / "huge.png").write_bytes(b"")
    Image.new("RGB", (101, 100)).save(tmp_path / "in" / "huge.png")
    worker = BatchWorker(plan(folder, tmp_path, "compress"))
    tally = worker.work([*pictures, "damaged.png", "huge.png", "missing.png"])
    worker.close()
    codec = sdk.Codec(folder)
    written = {name: (tmp_path / "out" / f"{name}.grain").read_bytes() for name in pictures}
    assert written == {name: codec.compress(rgb) for name, rgb in pictures.items()}
    assert (tally.done, tally.skipped, tally.failed) == (3, 0, 3)
    assert tally.bytes_in == sum((tmp_path / "in" / name).stat().st_size for name in pictures)
    assert tally.bytes_out == sum(map(len, written.values()))
    errors = {failure["name"]: failure["error"] for failure in tally.failures}
    assert errors.keys() == {"damaged.png", "huge.png", "missing.png"}
    assert "No such file" in errors["missing.png"] and "10000" in errors["huge.png"].replace(",", "")

    (tmp_path / "back").mkdir()
    (tmp_path / "out").rename(tmp_path / "back" / "in")
    (tmp_path / "back" / "in" / "damaged.grain").write_bytes(b"\xed\x6e")
    worker = BatchWorker(plan(folder, tmp_path / "back", "restore"))
    tally = worker.work([*(f"{name}.grain" for name in pictures), "damaged.grain"])
    worker.close()
    assert (tally.done, tally.failed, tally.failures[0]["name"]) == (3, 1, "damaged.grain")
    for name, payload in written.items():
        with Image.open(tmp_path / "back" / "out" / f"{name}.png") as restored:
            assert np.array_equal(np.asarray(restored), np.asarray(codec.restore(payload)))


def test_a_result_that_cannot_be_written(folder: Path, tmp_path: Path, pictures: dict[str, np.ndarray]) -> None:
    (tmp_path / "out" / "deep" / "1.png.grain").mkdir(parents=True)
    worker = BatchWorker(plan(folder, tmp_path, "compress"))
    tally = worker.work(list(pictures))
    worker.close()
    assert (tally.done, [failure["name"] for failure in tally.failures]) == (2, ["deep/1.png"])


@pytest.mark.parametrize("verb", ["compress", "restore"])
def test_large_batches_are_computed_in_parts(
    verb: Verb, folder: Path, tmp_path: Path, pictures: dict[str, np.ndarray],
    monkeypatch: pytest.MonkeyPatch
) -> None:
    counts = []
    run = EngineProcess.run

    def counted(engine: EngineProcess, *arguments: Any) -> list[Outcome]:
        counts.append(len(arguments[-1]))
        return run(engine, *arguments)

    files = {name: (tmp_path / "in" / name).read_bytes() for name in pictures}
    limit = sum(map(len, files.values())) - 1  # of the pictures
    if verb == "restore":
        codec = sdk.Codec(folder)
        files = {f"{name}.grain": codec.compress(rgb) for name, rgb in pictures.items()}
        limit = sum(map(len, files.values())) + 3 * 4 * HR * HR - 1  # of the payloads and of their results
        for name, payload in files.items():
            (tmp_path / "in" / name).write_bytes(payload)
        (tmp_path / "in" / "damaged.grain").write_bytes(b"\xed\x6e")
        files["damaged.grain"] = b""
    monkeypatch.setattr(batch_worker, "PART_BYTES", limit)
    monkeypatch.setattr(EngineProcess, "run", counted)
    worker = BatchWorker(plan(folder, tmp_path, verb))
    tally = worker.work(list(files))
    assert (tally.done, counts) == (3, [2, len(files) - 2])
    monkeypatch.setattr(batch_worker, "PART_BYTES", 1)
    assert worker.work(list(files)).done == 3 and counts[2:] == [1] * len(files)
    worker.close()


def test_files_are_read_while_a_part_is_put_together(
    folder: Path, tmp_path: Path, pictures: dict[str, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[str | int] = []
    read, run = FolderStore.read, EngineProcess.run

    def reading(store: FolderStore, name: str, limit: int) -> bytes:
        steps.append(name)
        return read(store, name, limit)

    def running(engine: EngineProcess, *arguments: Any) -> list[Outcome]:
        steps.append(len(arguments[-1]))
        return run(engine, *arguments)

    monkeypatch.setattr(FolderStore, "read", reading)
    monkeypatch.setattr(EngineProcess, "run", running)
    monkeypatch.setattr(batch_worker, "PART_BYTES", 1)
    worker = BatchWorker(plan(folder, tmp_path, "compress"))
    tally = worker.work(["missing.png", *pictures])
    worker.close()
    assert (tally.done, tally.failed) == (3, 1)
    assert steps == ["missing.png", "deep/0.png", "deep/1.png", 1, "deep/2.png", 1, 1]


def test_a_damaged_bundle_says_so(tmp_path: Path) -> None:
    broken = write_tiny_bundle(tmp_path)
    (broken / "decoder.onnx").write_bytes(b"something else")
    with pytest.raises(BundleError, match="decoder.onnx"):
        BatchWorker(plan(broken, tmp_path, "restore"))


@pytest.mark.parametrize(("deadly", "kind"), [
    (b"poison", ServiceError), (b"nonsense", ServiceError), (b"device", DeviceError)])
def test_what_kills_the_process_is_found_out(deadly: bytes, kind: type[EdgegrainError]) -> None:
    engine = EngineProcess({}, [sys.executable, "-c", POISON])
    first, poison, last = engine.run("restore", "any", {}, [b"first", deadly, b"last"])
    assert (first, last) == (b"first", b"last")
    assert isinstance(poison, kind) and "died" in str(poison)
    assert engine.run("restore", "any", {}, [b"more"]) == [b"more"]
    assert engine.run("restore", "any", {}, []) == []
    engine.close()


def test_the_time_for_a_batch_grows_with_its_items(monkeypatch: pytest.MonkeyPatch) -> None:
    allowed = []

    class Timer(threading.Timer):
        def __init__(self, interval: float, function: Callable[[], None]) -> None:
            allowed.append(interval)
            super().__init__(interval, function)

    monkeypatch.setattr(threading, "Timer", Timer)
    engine = EngineProcess({}, [sys.executable, "-c", POISON])
    for count in (1, 2, 1024):
        engine.run("restore", "any", {}, [b"item"] * count)
    engine.close()
    assert allowed == [600, 600, 630, 600 + 1023 * 30]


def test_outcomes_keep_their_class(folder: Path) -> None:
    engine = EngineProcess({"folders": [str(folder)], "threads": 1, "max_pixels": 10_000, "log_level": "error"})
    (payload,) = engine.run("restore", folder.name, RESTORE, [b"no payload"])
    (picture,) = engine.run("compress", folder.name, COMPRESS, [b"no picture"])
    engine.close()
    assert isinstance(payload, PayloadError) and isinstance(picture, ImageError)


def test_a_payload_that_is_too_large_is_made_with_the_next_bundle(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    noise = np.random.default_rng(0).integers(0, 256, (HR, HR, 3), dtype=np.uint8)
    pictures = {"grey.png": np.full((HR, HR, 3), 128, np.uint8), "noise.png": noise}
    for name, rgb in pictures.items():
        Image.fromarray(rgb).save(tmp_path / "in" / name)
    (tmp_path / "in" / "damaged.png").write_bytes(b"\x89PNG and so on")
    folders = write_qualities(tmp_path / "bundles")
    sizes = {(quality, name): len(sdk.Codec(folder).compress(rgb)) for quality, folder in folders.items()
             for name, rgb in pictures.items()}
    limit, least = sizes["medium", "grey.png"], sizes["tiny", "noise.png"]
    assert least <= limit < sizes["small", "noise.png"]
    others = [folders["small"], folders["tiny"]]
    options = asdict(CompressOptions(max_bytes=limit, fallbacks=[folder.name for folder in others]))
    chosen = replace(plan(folders["medium"], tmp_path, "compress"), options=options, fallbacks=list(map(str, others)))
    worker = BatchWorker(chosen)
    tally = worker.work([*pictures, "damaged.png"])
    for name, side in (("grey.png", 32), ("noise.png", 8)):
        written = sdk.Payload((tmp_path / "out" / f"{name}.grain").read_bytes())
        assert (written.header.lr_width, tally.done, tally.failed) == (side, 2, 1)
    worker.close()
    worker = BatchWorker(replace(chosen, options={**options, "max_bytes": least - 1}))
    (failure,) = worker.work(["noise.png"]).failures
    worker.close()
    assert failure["error"] == (
        f"no quality fits into {least - 1} bytes: the smallest payload of this picture has {least}")
