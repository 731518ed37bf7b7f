"""Limits on the picture of a payload."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from codec_contract.bundle.manifest import Enlarger, Manifest, load_manifest
from codec_contract.errors import ImageError, PayloadError
from codec_contract.fit import Size
from codec_contract.lr_coder.coder_tables import CoderTables
from codec_contract.oriented_square import OrientedSquare
from codec_contract.payload import CODING_RAW, Header, encode_payload, parse_header
from codec_contract.scene import encode_scene
from edgegrain.service.engine import RestoreOptions, check_faces, check_result
from sdk.payload import Scene
from tests.service_harness import raw_payloads


@pytest.fixture(scope="module")
def manifest(tiny_bundle: Path) -> Manifest:
    return load_manifest(tiny_bundle)


@pytest.fixture(scope="module")
def header(tiny_bundle: Path) -> Header:
    return parse_header(raw_payloads(tiny_bundle, 1, size=(300, 200))[0])


@pytest.mark.parametrize(("size", "fit", "pixels"), [
    ("original", "pad", 60_000), ("original", "stretch", 60_000), ("original", "crop", 40_000),
    ("native", "pad", 4096), ("native", "crop", 4096)])
def test_pixels_of_the_result(manifest: Manifest, header: Header, size: Size, fit: str, pixels: int) -> None:
    assert check_result(dataclasses.replace(header, fit=fit), manifest, RestoreOptions(size), 60_000) == pixels


@pytest.mark.parametrize(("size", "pixels"), [
    ("native", 64 * 64), (64, 64 * 64), (65, 128 * 128), (100, 128 * 128), ("original", 300 * 200), (256, 256 * 256)])
def test_the_enlarged_square_counts(manifest: Manifest, header: Header, size: Size, pixels: int) -> None:
    enlarging = dataclasses.replace(manifest, enlarger=Enlarger(("x2", "x4")))
    small = dataclasses.replace(header, original_width=100, original_height=50)
    assert check_result(small, enlarging, RestoreOptions(), 60_000) == 128 * 128
    assert check_result(header, enlarging, RestoreOptions(size), 60_000) == max(
        pixels, 256 * 256 if size == "original" else 0)


def test_sizes_are_limited(manifest: Manifest, header: Header) -> None:
    enlarging = dataclasses.replace(manifest, enlarger=Enlarger(("x2", "x4")))
    assert check_result(header, enlarging, RestoreOptions(256), 256 * 171) == 256 * 256
    with pytest.raises(ImageError, match="256 x 171 pixels, more than the limit of 43775"):
        check_result(header, enlarging, RestoreOptions(256), 256 * 171 - 1)
    with pytest.raises(ImageError, match="not at 257; its sizes: 64, 128, 256"):
        check_result(header, enlarging, RestoreOptions(257), 1 << 20)


def test_of_an_aligned_picture_the_square_counts(manifest: Manifest, header: Header) -> None:
    aligned = dataclasses.replace(header, fit="align", square=OrientedSquare(400, 400, 320, 240))
    assert check_result(aligned, manifest, RestoreOptions(), 10_000) == 10_000
    with pytest.raises(ImageError, match="100 x 100 pixels, more than the limit of 9999"):
        check_result(aligned, manifest, RestoreOptions(), 9_999)


def test_a_small_result_still_costs_the_decoder_s_square(manifest: Manifest, header: Header) -> None:
    tiny = dataclasses.replace(header, original_width=1, original_height=1)
    assert check_result(tiny, manifest, RestoreOptions(), 60_000) == 4096


@pytest.mark.parametrize(("changes", "error", "message"), [
    ({"contract_id": b"abcd"}, PayloadError, "LR contract 61626364"),
    ({"lr_width": 256}, PayloadError, "LR of 256 x 16"),
    ({"original_width": 301}, ImageError, "301 x 200 pixels, more than the limit of 60000"),
    ({"original_width": 30000, "original_height": 2}, ImageError, "have at most 16383")])
def test_refusals(
    manifest: Manifest, header: Header, changes: dict[str, object], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        check_result(
            dataclasses.replace(header, **changes), manifest, RestoreOptions(format="webp"), 60_000)  # type: ignore[arg-type]


@pytest.mark.parametrize(("size", "counted"), [("original", 4), ("native", 2), (160, 2), (161, 4)])
def test_enlarged_faces_count_twice(manifest: Manifest, size: Size, counted: int) -> None:
    faces = [encode_payload(
        np.zeros((16, 16, 3), np.uint8), contract_id=manifest.lr_contract_id, tables=CoderTables.default(),
        original_size=(200, 100), fit="align", square=OrientedSquare(x, 200, 320, 0), coding=CODING_RAW)
        for x in (200, 600)]
    scene = Scene(encode_scene(faces, (200, 100)))  # of squares of 80 pixels
    check_faces(scene, manifest, size, 2)
    enlarging = dataclasses.replace(manifest, enlarger=Enlarger(("x2", "x4")))
    check_faces(scene, enlarging, size, counted)
    with pytest.raises(ImageError, match="2 faces.*more than the"):
        check_faces(scene, enlarging, size, counted - 1)
