"""Enlargers on the fake device: what one doubling hands to the next stays there."""

from __future__ import annotations

import numpy as np

from codec_contract.bundle.manifest import load_manifest
from server_decoder.enlarger_session import EnlargerSession
from tests.fake_cuda.on_device.conftest import Device
from tests.fake_cuda.on_device.decoders import SHIPPED


def shipped_enlarger() -> EnlargerSession:
    manifest = load_manifest(SHIPPED.parent)
    return EnlargerSession([manifest.open_file(file) for file in manifest.enlarger.files], manifest.hr, "cuda")


def test_only_pictures_are_copied_and_memory_does_not_grow(idle_kernels: Device) -> None:
    session = shipped_enlarger()
    square = np.zeros((1, session.side, session.side, 3), np.uint8)
    session.enlarge(square, 4)  # the first run also copies weights
    first = idle_kernels.report()["bytes_in_use"]
    idle_kernels.reset()
    enlarged = session.enlarge(square, 4)
    assert enlarged.shape == (1, 4 * session.side, 4 * session.side, 3)
    assert idle_kernels.report()["copied"] == {"pageable to device": square.nbytes,
                                               "device to pageable": enlarged.nbytes}
    assert idle_kernels.report()["bytes_in_use"] == first
