"""Payload, inspect and bundles, and inputs of restore."""

import copy
import dataclasses
import io
import logging
import pickle
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import sdk
from codec_contract.bundle.find import DEFAULT_BUNDLE
from codec_contract.errors import DeviceMemoryError, ExistsError, ImageError, PayloadError
from codec_contract.lr_coder.coder_tables import CoderTables
from codec_contract.payload import MAX_LARGE_LR_PIXELS, encode_payload
from sdk.inputs import read_restore_source
from sdk.installed_bundles import manifest_for, require_manifest_for
from tests.payload_bytes import sealed, version_1
from tests.pictures import encoded, noise
from tests.tiny_bundle import HR, LR, refresh_manifest

pytestmark = pytest.mark.usefixtures("tiny_bundles")


@pytest.fixture
def payload() -> sdk.Payload:
    return sdk.compress(noise(40, 30), fit="stretch")


def test_is_bytes(payload: sdk.Payload) -> None:
    data = bytes(payload)
    assert type(data) is bytes and payload == data and hash(payload) == hash(data)
    assert payload[:2] == data[:2] and b"".join([payload]) == data
    assert {payload: 1}[data] == 1 and sdk.Payload(payload) is payload


def test_tells_what_it_holds(payload: sdk.Payload) -> None:
    assert (payload.original_size, payload.fit, payload.bundle) == ((40, 30), "stretch", DEFAULT_BUNDLE)
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


def test_a_preview_has_the_original_s_aspect() -> None:
    rgb = noise(40, 30)
    for fit, shape in (("pad", (12, 16, 3)), ("stretch", (12, 16, 3)), ("crop", (16, 16, 3))):
        payload = sdk.compress(rgb, fit=fit)
        preview = payload.preview()
        assert preview.shape == shape and preview.dtype == np.uint8
        if fit != "stretch":
            np.testing.assert_array_equal(preview, payload.lr[2:14] if fit == "pad" else payload.lr)


def test_pickles_and_copies(payload: sdk.Payload) -> None:
    data = pickle.dumps(payload)
    assert len(data) < len(payload) + 200  # the bytes, without the decoded LR
    unpickled = pickle.loads(data)  # noqa: S301 - our own bytes
    assert type(unpickled) is sdk.Payload and unpickled == payload and unpickled.fit == "stretch"
    np.testing.assert_array_equal(unpickled.lr, payload.lr)
    assert copy.copy(payload) == copy.deepcopy([payload])[0] == payload


def test_saves_without_overwriting(payload: sdk.Payload, tmp_path: Path) -> None:
    path = tmp_path / "new folder" / "p.grain"
    assert payload.save(path) == path and path.read_bytes() == payload
    other = sdk.compress(np.zeros((4, 4, 3), np.uint8))
    with pytest.raises(ExistsError, match=r"p\.grain exists; .* pass force=True") as refusal:
        other.save(path)
    assert isinstance(refusal.value, sdk.EdgegrainError) and isinstance(refusal.value, FileExistsError)
    assert str(copy.copy(refusal.value)) == str(refusal.value) and "--force" not in str(refusal.value)
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
        coding, sizes = "range" if payload[3] >> 2 & 3 else "raw", ((LR, LR), (40, 30))
        expected = sdk.PayloadInfo(
            len(payload), 2, coding, contract[:4], DEFAULT_BUNDLE, *sizes, "stretch", body_checked=True, sides=(HR,)
        )
        path = payload.save(tmp_path / "p.grain")
        for form in (payload, bytes(payload), bytearray(payload), path, str(path)):
            assert sdk.inspect(form) == expected
        old = version_1(payload, bytes.fromhex(contract))
        assert sdk.inspect(old) == replace(expected, bytes=len(old), version=1, contract_id=contract[:8])
        np.testing.assert_array_equal(sdk.restore(old), sdk.restore(payload))
        with pytest.raises(dataclasses.FrozenInstanceError):
            expected.size = 1  # type: ignore[misc]

    @pytest.mark.parametrize(("coding", "name"), list(enumerate(("raw", "range", "deflate"))))
    def test_every_coding_of_an_unknown_contract_is_stated(self, coding: int, name: str) -> None:
        lr, tables = np.zeros((LR, LR, 3), np.uint8), CoderTables.default()
        data = encode_payload(lr, contract_id=b"\x12\x34", tables=tables, original_size=(9, 8), coding=coding)
        expected = sdk.PayloadInfo(len(data), 2, name, "1234", None, (LR, LR), (9, 8), "pad", name == "raw")
        assert sdk.inspect(data) == expected

    def test_every_bit_counts(self, payload: sdk.Payload) -> None:
        for position in range(0, 8 * len(payload), 37):
            damaged = bytearray(payload)
            damaged[position // 8] ^= 1 << position % 8
            with pytest.raises(sdk.PayloadError):
                sdk.inspect(damaged)

    def test_body_is_checked(self) -> None:
        flat = sdk.compress(np.full((HR, HR, 3), 77, np.uint8))
        with pytest.raises(sdk.PayloadError, match="does not end"):  # a body that goes on after its end
            sdk.inspect(sealed(flat[:-3] + b"\x01\x02\x03"))


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


def test_an_lr_of_a_photograph_is_read_from_a_png(tmp_path: Path) -> None:
    lr = noise(400, 300)
    Image.fromarray(lr).save(tmp_path / "lr.png")
    read = read_restore_source(tmp_path / "lr.png")
    assert isinstance(read, np.ndarray)
    np.testing.assert_array_equal(read, lr)
    with pytest.raises(ImageError, match=f"1 to {MAX_LARGE_LR_PIXELS} pixels"):
        read_restore_source(Image.new("RGB", (1 << 13, (1 << 11) + 1)))


def test_an_lr_has_pixels() -> None:
    for lr in (np.zeros((0, 0, 3), np.uint8), np.zeros((0, 5, 3), np.uint8), Image.new("RGB", (0, 5))):
        with pytest.raises(ImageError, match="at least one pixel|1 to .* pixels"):
            read_restore_source(lr)


@pytest.mark.parametrize("function", ["PIL.Image.open", "PIL.Image.Image.convert"])
def test_lack_of_memory_is_no_damage(function: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise MemoryError

    data = encoded(Image.new("RGB", (16, 16)))
    monkeypatch.setattr(function, fail)
    with pytest.raises(DeviceMemoryError, match="too little memory to read the LR"):
        read_restore_source(data)


def test_a_damaged_picture_is_an_image_error() -> None:
    data = encoded(noise(16, 16))[:300]
    for source in (Image.open(io.BytesIO(data)), data):
        with pytest.raises(ImageError, match="cannot be read"):
            read_restore_source(source)


@pytest.fixture
def root(tiny_bundles: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with copies of the installed bundles, which are installed instead."""
    root = shutil.copytree(tiny_bundles, tmp_path / "bundles")
    monkeypatch.setattr("codec_contract.bundle.find.bundle_roots", lambda: (root,))
    return root


def test_a_broken_bundle_is_left_out_with_a_warning(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    payload = sdk.compress(np.full((HR, HR, 3), 90, np.uint8))
    (root / "a-broken-one").mkdir()
    (root / "a-broken-one" / "manifest.json").write_text("")
    forged = shutil.copytree(root / "random-64-lr16", root / "b-forged-one")
    refresh_manifest(forged, id="b-forged-one", decoder={"controls": 3})
    assert sdk.restore(payload).size == (HR, HR)
    with caplog.at_level(logging.WARNING):
        assert manifest_for(replace(payload.header, contract_id=b"\1\2")) is None
    assert "a-broken-one" in caplog.text and "b-forged-one" in caplog.text
    assert [bundle.id for bundle in sdk.bundles()] == ["faces-256-lr16-small", "random-64-lr16"]
    assert len(sdk.compress(np.full((HR, HR, 3), 90, np.uint8), max_bytes=10_000)) <= 10_000
    with pytest.raises(PayloadError, match="no installed bundle has"):
        require_manifest_for(replace(payload.header, contract_id=b"\1\2"))


def test_contracts_that_begin_alike(root: Path) -> None:
    """Two bytes do not tell them apart: the default bundle is taken; version 1 names four."""
    payload = sdk.compress(np.full((HR, HR, 3), 90, np.uint8))
    contract = bytes.fromhex(sdk.bundles()[0].lr_contract_id)
    alike = contract[:2] + bytes(byte ^ 255 for byte in contract[2:])
    twin = shutil.copytree(root / "random-64-lr16", root / "a-twin")
    refresh_manifest(twin, id="a-twin", lr_contract_id=alike.hex())
    assert [bundle.id for bundle in sdk.bundles()] == [DEFAULT_BUNDLE, "a-twin", "random-64-lr16"]
    assert payload.bundle == DEFAULT_BUNDLE
    old = [version_1(payload, name) for name in (contract, alike)]
    assert [sdk.Payload(data).bundle for data in old] == [DEFAULT_BUNDLE, "a-twin"]
