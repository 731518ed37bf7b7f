"""`OpenBundle` on tiny bundles: lazily opened parts, strengths, and payloads there and back."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import sdk
from codec_contract.bundle.manifest import load_manifest
from codec_contract.lr_coder.coder_tables import CoderTables
from codec_contract.payload import parse_payload
from sdk.open_bundle import OpenBundle
from tests.tiny_bundle import HR, LR, STRENGTH_DEFAULT, refresh_manifest, write_steered_bundle, write_tiny_bundle

GREY = np.full((1, HR, HR, 3), 128, np.uint8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_bundle(tmp_path_factory.mktemp("bundles"))


def test_there_and_back(folder: Path) -> None:
    bundle = OpenBundle(load_manifest(folder), threads=1)
    lr = bundle.encode(GREY)
    assert lr.shape == (1, LR, LR, 3)
    np.testing.assert_array_equal(bundle.unpack(parse_payload(bundle.pack(lr[0], (HR, HR)))), lr[0])
    np.testing.assert_array_equal(bundle.decode(lr), GREY)


def test_lrs_have_the_levels_that_payloads_store(tmp_path: Path) -> None:
    folder = write_tiny_bundle(tmp_path)
    (folder / "coder.json").write_bytes(replace(CoderTables.default(), step=7).to_json())
    refresh_manifest(folder)
    bundle = OpenBundle(load_manifest(folder), threads=1)
    np.testing.assert_array_equal(bundle.encode(GREY), np.full((1, LR, LR, 3), 126, np.uint8))
    np.testing.assert_array_equal(bundle.decode(bundle.encode(GREY)), np.full((1, HR, HR, 3), 126, np.uint8))
    restored = sdk.restore(np.full((LR, LR, 3), 128, np.uint8), bundle=folder)
    np.testing.assert_array_equal(restored, np.full((HR, HR, 3), 126, np.uint8))


def test_parts_are_opened_once_for_all_threads(folder: Path) -> None:
    bundle = OpenBundle(load_manifest(folder), threads=1)
    found: list[object] = []
    threads = [threading.Thread(target=lambda: found.append(bundle.encoder)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4 and len(set(map(id, found))) == 1
    assert bundle.decoder is bundle.decoder and bundle.tables is bundle.tables


def test_open_finds_what_is_missing(tmp_path: Path) -> None:
    folder = write_tiny_bundle(tmp_path)
    (folder / "decoder.onnx").unlink()
    bundle = OpenBundle(load_manifest(folder))
    bundle.encode(GREY)  # needs no decoder
    with pytest.raises(sdk.BundleError, match=r"decoder\.onnx .* is missing"):
        bundle.open()


def test_strengths_default_to_the_bundle_s(tmp_path: Path) -> None:
    bundle = OpenBundle(load_manifest(write_steered_bundle(tmp_path)), threads=1)
    assert bundle.default_strength == STRENGTH_DEFAULT
    lrs = np.full((2, LR, LR, 3), 90, np.uint8)
    default = bundle.decode(lrs)
    np.testing.assert_array_equal(bundle.decode(lrs, strengths=[None, STRENGTH_DEFAULT]), default)
    stronger = bundle.decode(lrs, strengths=[None, STRENGTH_DEFAULT + 4])
    np.testing.assert_array_equal(stronger[0], default[0])
    np.testing.assert_array_equal(stronger[1], default[1] + 2)  # see `steered_decoder`


def test_a_wrong_control_is_noticed_before_anything_is_opened(tmp_path: Path) -> None:
    folder = write_steered_bundle(tmp_path)
    refresh_manifest(folder, decoder={"file": "decoder.onnx", "controls": ["strength"], "strength": 3})
    with pytest.raises(sdk.BundleError, match="describes no strength"):
        OpenBundle(load_manifest(folder))
