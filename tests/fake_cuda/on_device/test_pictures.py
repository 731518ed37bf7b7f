"""Decoders whose every node is a fused op: pictures of the emulated kernels, through IO binding and CUDA graphs."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from server_decoder.decoder_session import DecoderSession
from tests.fake_cuda.on_device.conftest import Device
from tests.fake_cuda.on_device.decoders import RRDB, RRDB_HALF, Decoders

KEPT = (1, 2)
BATCHES = (1, 3, 2, 1)  # 3 is not kept; the emulation is slow
LEVELS = 2  # float16's; the emulated kernels in float32 are compared by the tests of the ops


def test_pictures_are_those_of_the_cpu(device: Device, emulated_ops: Path, decoders: Decoders) -> None:
    reference, session = DecoderSession(decoders(RRDB), "cpu"), DecoderSession(decoders(RRDB_HALF), "cuda")
    assert session.graphs and session.lr_size is not None
    session.warm_up(KEPT)
    device.reset()
    width, height = session.lr_size
    random = np.random.default_rng(0)
    for batch in BATCHES:
        lr = random.integers(0, 256, (batch, height, width, 3), np.uint8)
        difference = np.abs(session.decode(lr).astype(int) - reference.decode(lr))
        assert difference.max() <= LEVELS, batch
    report = device.report()
    assert report["replays"] == sum(batch in KEPT for batch in BATCHES)
    assert list(report["calls"]) == ["edgegrain"], "another node than a fused op ran"
