"""CUDA graphs of decoders: captured and replayed on unchanged host memory, without allocations."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest

from server_decoder import decoder_session
from server_decoder.decoder_session import CudaOptions, DecoderSession
from tests.fake_cuda.on_device.conftest import Device
from tests.fake_cuda.on_device.decoders import FORMS, Decoders, Form

KEPT = (1, 2, 4)
BATCHES = (3, 1, 4, 2, 3, 2, 1, 4, 4, 1)  # 3 is not kept


@pytest.fixture(autouse=True)
def always_replay(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sessions use no graphs below ONNX Runtime 1.30, where the tests of this file shall fail."""
    monkeypatch.setattr(decoder_session, "can_replay_graphs", lambda version: True)


@pytest.mark.parametrize("form", FORMS, ids=str)
@pytest.mark.parametrize("nhwc", [False, True], ids=["nchw", "nhwc"])
def test_replays_read_what_was_captured(
    idle_kernels: Device, emulated_ops: Path, decoders: Decoders, caplog: pytest.LogCaptureFixture, form: Form, nhwc: bool,
) -> None:
    with caplog.at_level(logging.WARNING):
        session = DecoderSession(decoders(form), "cuda", cuda=CudaOptions(prefer_nhwc=nhwc))
        assert session.graphs, caplog.text
        session.warm_up(KEPT)
    warm = idle_kernels.report()
    assert (warm["graphs"], warm["replays"]) == (len(KEPT), len(KEPT))
    idle_kernels.reset()
    assert session.lr_size is not None
    width, height = session.lr_size
    for batch in BATCHES:
        assert session.decode(np.full((batch, height, width, 3), batch, np.uint8)).shape[0] == batch
    report = idle_kernels.report()
    kept = sum(batch in KEPT for batch in BATCHES)
    assert (report["graphs"], report["replays"]) == (0, kept)
    assert report["host_copies_changed"] == 0, f"of {warm['host_copies_in_graphs']} captured: {report['changes'][:5]}"
    assert report["mallocs"] == 0
    assert warm["violations"] == []
    assert caplog.text == ""
