"""Sessions on the fake device. CUDA graphs: captured and replayed on unchanged host memory, without allocations."""

import logging
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from codec_contract.bundle.manifest import load_manifest
from server_decoder import providers
from server_decoder.decoder_session import DecoderSession
from server_decoder.enlarger_session import EnlargerSession
from server_decoder.providers import CudaOptions
from tests.fake_cuda.on_device.conftest import Device
from tests.fake_cuda.on_device.decoders import FUSED_HALF, RRDB, RRDB_HALF, SHIPPED, Decoders

KEPT = (1, 2, 4)
NEW = 3
BATCHES = (1, 4, 2, NEW, 2, 1, 4, 4, NEW, 1)


@pytest.fixture(autouse=True)
def always_replay(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sessions use no graphs below ONNX Runtime 1.30, where the tests of this file shall fail."""
    monkeypatch.setattr(providers, "can_replay_graphs", lambda version: True)


@pytest.mark.parametrize("nhwc", [False, True], ids=["nchw", "nhwc"])
def test_replays_read_what_was_captured(
    idle_kernels: Device, emulated_ops: Path, decoders: Decoders, caplog: pytest.LogCaptureFixture, nhwc: bool
) -> None:
    check_replays(idle_kernels, decoders(FUSED_HALF), caplog, nhwc)


@pytest.mark.parametrize("nhwc", [False, True], ids=["nchw", "nhwc"])
def test_the_shipped_decoder_replays_its_graphs(
    idle_kernels: Device, caplog: pytest.LogCaptureFixture, nhwc: bool
) -> None:
    check_replays(idle_kernels, SHIPPED, caplog, nhwc)


def test_a_second_run_takes_no_more_memory(idle_kernels: Device) -> None:
    session = DecoderSession(SHIPPED, "cuda", cuda=CudaOptions(graphs=False))
    decode(session, NEW)
    first = idle_kernels.report()
    decode(session, NEW)
    second = idle_kernels.report()
    assert (second["mallocs"], second["bytes_in_use"]) == (first["mallocs"], first["bytes_in_use"])


def test_a_failed_capture_leaves_no_graphs(idle_kernels: Device, caplog: pytest.LogCaptureFixture) -> None:
    session = DecoderSession(SHIPPED, "cuda")
    session.warm_up(1)
    assert session.graphs and idle_kernels.report()["graphs"] == 1
    idle_kernels.fail_captures(True)
    session.warm_up((2, 4))
    assert not session.graphs
    assert len(caplog.records) == 1 and "runs without CUDA graphs: " in caplog.text
    idle_kernels.reset()
    for batch in BATCHES:
        decode(session, batch)
    report = idle_kernels.report()
    assert (report["graphs"], report["replays"], report["violations"]) == (0, 0, [])


@pytest.mark.parametrize("other", ["decoder", "new enlargers"])
def test_other_sessions_disturb_no_capture(idle_kernels: Device, caplog: pytest.LogCaptureFixture, other: str) -> None:
    working, stop = DecoderSession(SHIPPED, "cuda", cuda=CudaOptions(graphs=False)), threading.Event()

    def work() -> None:
        while not stop.is_set():
            if other == "decoder":
                decode(working, 1)  # copies to the device, which CUDA forbids during a capture of any thread
            else:
                session = shipped_enlarger()
                session.enlarge(np.zeros((1, session.side, session.side, 3), np.uint8), 2)

    idle_kernels.prolong_captures(100)
    with ThreadPoolExecutor(1) as thread:
        done = thread.submit(work)
        session = DecoderSession(SHIPPED, "cuda")
        session.warm_up(KEPT)
        stop.set()
        done.result()
    assert session.graphs, caplog.text
    report = idle_kernels.report()
    assert (report["graphs"], report["violations"]) == (len(KEPT), [])


def test_only_pictures_are_copied_and_memory_does_not_grow(idle_kernels: Device) -> None:
    session = shipped_enlarger()
    square = np.zeros((1, session.side, session.side, 3), np.uint8)
    session.enlarge(square, 4)  # the first run also copies weights
    first = idle_kernels.report()["bytes_in_use"]
    idle_kernels.reset()
    enlarged = session.enlarge(square, 4)
    assert enlarged.shape == (1, 4 * session.side, 4 * session.side, 3)
    report, copied = idle_kernels.report(), {"pageable to device": square.nbytes, "device to pageable": enlarged.nbytes}
    assert (report["copied"], report["bytes_in_use"]) == (copied, first)


def test_pictures_of_fused_ops_are_those_of_the_cpu(device: Device, emulated_ops: Path, decoders: Decoders) -> None:
    reference, session = DecoderSession(decoders(RRDB), "cpu"), DecoderSession(decoders(RRDB_HALF), "cuda")
    assert session.graphs and session.lr_size is not None
    session.warm_up((1, 2))
    device.reset()
    width, height = session.lr_size
    random = np.random.default_rng(0)
    for batch in (1, 3, 2, 1):  # 3 is not kept; the emulation is slow
        lr = random.integers(0, 256, (batch, height, width, 3), np.uint8)
        difference = np.abs(session.decode(lr).astype(int) - reference.decode(lr))
        assert difference.max() <= 2, batch  # float16's; the tests of the ops compare the emulated kernels in float32
    report = device.report()
    assert report["replays"] == 3
    assert list(report["calls"]) == ["edgegrain"], "another node than a fused op ran"


def check_replays(device: Device, model: Path, caplog: pytest.LogCaptureFixture, nhwc: bool = False) -> None:
    session = DecoderSession(model, "cuda", cuda=CudaOptions(prefer_nhwc=nhwc))
    assert session.graphs, caplog.text
    session.warm_up(KEPT)
    warm = device.report()
    assert (warm["graphs"], warm["replays"]) == (len(KEPT), len(KEPT))
    device.reset()
    decode(session, NEW)
    mallocs = device.report()["mallocs"]  # a new size may enlarge the arena, once
    for batch in BATCHES:
        decode(session, batch)
    report = device.report()
    kept = sum(batch in KEPT for batch in BATCHES)
    assert (report["graphs"], report["replays"]) == (0, kept)
    changed, copies = report["host_copies_changed"], warm["host_copies_in_graphs"]
    assert changed == 0, f"{changed} times a replay copied host memory that had changed; {copies} copies were captured"
    assert report["mallocs"] == mallocs
    assert warm["violations"] == []
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == []


def decode(session: DecoderSession, batch: int) -> None:
    width, height = session.lr_size
    assert session.decode(np.full((batch, height, width, 3), batch, np.uint8)).shape[0] == batch


def shipped_enlarger() -> EnlargerSession:
    manifest = load_manifest(SHIPPED.parent)
    return EnlargerSession([manifest.open_file(file) for file in manifest.enlarger.files], manifest.hr, "cuda")
