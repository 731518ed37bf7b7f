"""A payload's header and CRC are checked once on its way through the SDK, once in each process of the service."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import sdk
from edgegrain.service.engine import CompressOptions, Engine, RestoreOptions
from tests.service_harness import live_service, stub_worker
from tests.tiny_bundle import HR

pytestmark = pytest.mark.usefixtures("tiny_bundles")
PICTURE = np.full((HR, HR, 3), 90, np.uint8)


class CountedZlib:
    """Replaces the module zlib in `codec_contract.payload`, and counts the computed CRCs, one per parsed payload."""

    def __init__(self) -> None:
        self.parses = 0

    def crc32(self, data: bytes) -> int:
        self.parses += 1
        return zlib.crc32(data)


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Iterator[CountedZlib]:
    counted = CountedZlib()
    monkeypatch.setattr("codec_contract.payload.zlib", counted)
    return counted


@pytest.fixture
def payload() -> sdk.Payload:
    return sdk.compress(PICTURE)


def test_a_payload_is_not_parsed_again(payload: sdk.Payload, tmp_path: Path, counted: CountedZlib) -> None:
    codec, data = sdk.Codec("faces"), bytes(payload)
    sdk.restore(payload)
    codec.restore_batch([payload, payload])
    sdk.inspect(payload)
    assert sdk.Payload(payload) is payload and payload.lr.size
    assert counted.parses == 0
    sdk.restore(data)
    assert counted.parses == 1
    path = payload.save(tmp_path / "p.grain")
    codec.restore(path)
    sdk.inspect(path)
    assert counted.parses == 3


def test_a_worker_parses_each_payload_once(payload: sdk.Payload, counted: CountedZlib, tiny_bundles: Path) -> None:
    (bundle,) = (found for found in sdk.bundles() if "faces" in found.aliases)
    engine = Engine([bundle.folder], threads=1)
    outcomes = engine.restore(bundle.id, [bytes(payload)] * 3, [RestoreOptions()] * 3)
    assert all(isinstance(item, bytes) for item in outcomes) and counted.parses == 3
    engine.compress(bundle.id, [b"no picture"], [CompressOptions()])
    assert counted.parses == 3


def test_a_request_is_parsed_once_in_front_of_the_worker(
    payload: sdk.Payload, counted: CountedZlib, tiny_bundles: Path
) -> None:
    with live_service(sdk.bundles()[0].folder, worker_command=stub_worker()) as service:
        assert service.restore(bytes(payload)).status_code == 200
        assert counted.parses == 1
