"""`Payload`, `inspect` and `bundles`."""

from __future__ import annotations

import copy
import dataclasses
import pickle
from pathlib import Path

import numpy as np
import pytest

import sdk
from codec_contract.bundle.contract_id import lr_contract_id
from codec_contract.bundle.find import DEFAULT_BUNDLE
from codec_contract.errors import ExistsError
from codec_contract.lr_coder.coder_tables import CoderTables
from codec_contract.payload import encode_payload
from tests.tiny_bundle import HR, LR

pytestmark = pytest.mark.usefixtures("tiny_bundles")


@pytest.fixture
def payload() -> sdk.Payload:
    rgb = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    return sdk.compress(rgb, fit="stretch")


def test_is_bytes(payload: sdk.Payload) -> None:
    data = bytes(payload)
    assert type(data) is bytes and payload == data and hash(payload) == hash(data)
    assert payload[:2] == data[:2] and b"".join([payload]) == data
    assert {payload: 1}[data] == 1


def test_tells_what_it_holds(payload: sdk.Payload) -> None:
    assert payload.original_size == (40, 30)
    assert payload.fit == "stretch"
    assert payload.bundle == DEFAULT_BUNDLE
    assert (payload.header.lr_width, payload.header.lr_height) == (LR, LR)
    assert repr(payload) == f"Payload({len(payload)} bytes: LR 16 x 16, original 40 x 30, fit 'stretch')"


def test_received_bytes_show_the_same_lr(payload: sdk.Payload) -> None:
    received = sdk.Payload(bytearray(payload))
    assert received == payload
    np.testing.assert_array_equal(received.lr, payload.lr)
    assert received.lr is received.lr  # decoded once
    assert received.lr.dtype == np.uint8 and received.lr.shape == (LR, LR, 3)
    for one in (payload, received):
        with pytest.raises(ValueError, match="read-only"):
            one.lr[0, 0, 0] = 1


def test_pickles_and_copies(payload: sdk.Payload) -> None:
    data = pickle.dumps(payload)
    assert len(data) < len(payload) + 200  # the bytes, without the decoded LR
    unpickled = pickle.loads(data)  # noqa: S301 - our own bytes
    assert type(unpickled) is sdk.Payload and unpickled == payload and unpickled.fit == "stretch"
    np.testing.assert_array_equal(unpickled.lr, payload.lr)
    assert copy.copy(payload) is payload and copy.deepcopy([payload])[0] is payload


def test_saves_without_overwriting(payload: sdk.Payload, tmp_path: Path) -> None:
    path = tmp_path / "new folder" / "p.grain"
    assert payload.save(path) == path and path.read_bytes() == payload
    other = sdk.compress(np.zeros((4, 4, 3), np.uint8))
    with pytest.raises(ExistsError, match=r"p\.grain exists; .* pass force=True") as refusal:
        other.save(path)
    assert isinstance(refusal.value, sdk.EdgegrainError)
    assert isinstance(refusal.value, FileExistsError)
    assert "--force" not in str(refusal.value)
    assert str(copy.copy(refusal.value)) == str(refusal.value)
    with pytest.raises(sdk.PayloadError, match="cannot write .*: embedded null byte"):
        payload.save("a\0b")
    assert path.read_bytes() == payload
    other.save(str(path), force=True)
    assert path.read_bytes() == other
    assert [item.name for item in path.parent.iterdir()] == ["p.grain"]  # no temporary file stays


def test_other_things_are_refused(payload: sdk.Payload, tmp_path: Path) -> None:
    for data in (b"", b"hello world, this is no payload", payload[:-1], "text"):
        with pytest.raises(sdk.PayloadError):
            sdk.Payload(data)  # type: ignore[arg-type]
    for source in (tmp_path / "absent", 3, np.zeros((16, 16, 3), np.uint8)):
        with pytest.raises(sdk.PayloadError):
            sdk.inspect(source)  # type: ignore[arg-type]


class TestInspect:
    def test_reports_everything(self, payload: sdk.Payload, tmp_path: Path) -> None:
        contract = sdk.bundles()[0].lr_contract_id
        expected = sdk.PayloadInfo(
            bytes=len(payload), version=1, coding=payload_coding(payload), contract_id=contract[:8],
            bundle=DEFAULT_BUNDLE, lr_size=(LR, LR), original_size=(40, 30), fit="stretch", body_checked=True,
            sides=(HR,))
        path = payload.save(tmp_path / "p.grain")
        for form in (payload, bytes(payload), bytearray(payload), path, str(path)):
            assert sdk.inspect(form) == expected
        with pytest.raises(dataclasses.FrozenInstanceError):
            expected.size = 1  # type: ignore[misc]

    def test_coding(self) -> None:
        flat = np.zeros((LR, LR, 3), np.uint8)
        noise = np.random.default_rng(0).integers(0, 256, (HR, HR, 3), dtype=np.uint8)
        assert sdk.inspect(sdk.compress(noise)).coding in ("range", "raw")
        contract = bytes.fromhex(sdk.bundles()[0].lr_contract_id)
        for coding, name in ((0, "raw"), (1, "range")):
            data = encode_payload(
                flat, contract_id=contract, tables=CoderTables.default(), original_size=(9, 8), coding=coding)
            info = sdk.inspect(data)
            assert info.coding == name and info.original_size == (9, 8) and info.fit == "pad"

    def test_unknown_contract_is_stated(self) -> None:
        contract = lr_contract_id(bytes(32), {}, CoderTables.default())
        flat = np.zeros((LR, LR, 3), np.uint8)
        data = encode_payload(flat, contract_id=contract, tables=CoderTables.default(), original_size=(9, 8))
        info = sdk.inspect(data)
        assert info.bundle is None and not info.body_checked and info.contract_id == contract[:4].hex()

    def test_every_bit_counts(self, payload: sdk.Payload) -> None:
        for position in range(0, 8 * len(payload), 37):
            damaged = bytearray(payload)
            damaged[position // 8] ^= 1 << position % 8
            with pytest.raises(sdk.PayloadError):
                sdk.inspect(damaged)

    def test_body_is_checked(self) -> None:
        import zlib

        flat = sdk.compress(np.full((HR, HR, 3), 77, np.uint8))
        content = flat[:-4] + b"\x01\x02\x03"  # a body that goes on after its end, under a CRC that fits
        forged = content + zlib.crc32(content).to_bytes(4, "little")
        with pytest.raises(sdk.PayloadError, match="does not end"):
            sdk.inspect(forged)


def payload_coding(payload: sdk.Payload) -> str:
    return "range" if payload[2] & 15 else "raw"


def test_bundles(tiny_bundles: Path) -> None:
    first, second = sdk.bundles()
    assert (first.id, second.id) == (DEFAULT_BUNDLE, "random-64-lr16")
    assert first.aliases == ("faces",) and second.aliases == ()
    assert (first.hr, first.lr, first.codec, first.domain) == (HR, LR, "grain", "anything")
    assert first.folder == tiny_bundles / DEFAULT_BUNDLE
    files = [path for path in first.folder.iterdir() if path.name != "manifest.json"]
    assert first.bytes == sum(path.stat().st_size for path in files)
    assert first.lr_contract_id != second.lr_contract_id and len(first.lr_contract_id) == 64


def test_no_bundles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, payload: sdk.Payload) -> None:
    monkeypatch.setattr("codec_contract.bundle.find.bundle_roots", lambda: (tmp_path,))
    assert sdk.bundles() == []
    assert sdk.inspect(payload).bundle is None
    with pytest.raises(sdk.PayloadError, match="installed: none"):
        sdk.restore(payload)
    with pytest.raises(sdk.BundleError, match="no bundle"):
        sdk.compress(np.zeros((4, 4, 3), np.uint8))
