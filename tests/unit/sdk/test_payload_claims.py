"""Header against bundle: contract, LR size, and the size of the restored picture."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

import sdk
from codec_contract.bundle.manifest import Enlarger, Manifest, load_manifest
from codec_contract.fit import Size
from codec_contract.oriented_square import OrientedSquare
from codec_contract.payload import Header, parse_header
from sdk.payload import check_claims, enlargement, restored_size
from tests.service_harness import raw_payloads


@pytest.fixture
def manifest(tiny_bundles: Path) -> Manifest:
    return load_manifest(sdk.bundles()[0].folder)


@pytest.fixture
def header(manifest: Manifest) -> Header:
    return parse_header(raw_payloads(manifest.folder, 1, size=(300, 200))[0])


def test_a_payload_of_the_bundle_passes(manifest: Manifest, header: Header) -> None:
    check_claims(header, manifest)


@pytest.mark.parametrize(("changes", "message"), [
    ({"contract_id": b"abcd"}, "was made under LR contract 61626364, bundle .* has .*; restore it with"),
    ({"lr_width": 256}, "LR of 256 x 16, bundle .* works with 16 x 16; it is corrupt or forged")])
def test_other_payloads_are_refused(
    manifest: Manifest, header: Header, changes: dict[str, object], message: str
) -> None:
    with pytest.raises(sdk.PayloadError, match=message):
        check_claims(dataclasses.replace(header, **changes), manifest)  # type: ignore[arg-type]


@pytest.mark.parametrize(("size", "fit", "expected"), [
    ("original", "pad", (300, 200)), ("original", "stretch", (300, 200)), ("original", "crop", (200, 200)),
    ("native", "pad", (64, 64)), ("native", "crop", (64, 64)),
    (128, "pad", (128, 85)), (128, "stretch", (128, 85)), (128, "crop", (128, 128))])
def test_size_of_the_picture(
    manifest: Manifest, header: Header, size: Size, fit: str, expected: tuple[int, int]
) -> None:
    assert restored_size(dataclasses.replace(header, fit=fit), manifest, size) == expected


def test_an_aligned_payload_gives_its_square(manifest: Manifest, header: Header) -> None:
    aligned = dataclasses.replace(header, fit="align", square=OrientedSquare(400, 400, 320, 240))
    assert restored_size(aligned, manifest, "original") == (100, 100)


def test_tiles_give_the_original_at_any_size(manifest: Manifest, header: Header) -> None:
    tiled = dataclasses.replace(manifest, tile_overlap=2)
    assert restored_size(header, tiled, "native") == (300, 200)
    assert enlargement(header, tiled, "original") == enlargement(None, tiled, "native") == 1
    with pytest.raises(sdk.ImageError, match="at their original's size only, not at 128 pixels; leave size out"):
        enlargement(header, tiled, 128)


@pytest.mark.parametrize(("size", "original", "factor"), [
    ("native", (300, 200), 1), ("original", (64, 64), 1), ("original", (200, 65), 4), ("original", (65, 128), 2),
    ("original", (3000, 2), 4), (1, (300, 200), 1), (64, (300, 200), 1), (65, (1, 1), 2), (256, (1, 1), 4)])
def test_the_smallest_factor_covers_the_size(
    manifest: Manifest, header: Header, size: Size, original: tuple[int, int], factor: int
) -> None:
    enlarging = dataclasses.replace(manifest, enlarger=Enlarger(("x2", "x4")))
    sized = dataclasses.replace(header, original_width=original[0], original_height=original[1])
    assert enlargement(sized, enlarging, size) == factor
    if not isinstance(size, int):
        assert enlargement(sized, manifest, size) == 1  # without an enlarger
    cropped = dataclasses.replace(sized, fit="crop")
    assert enlargement(cropped, enlarging, "original") == {64: 1, 65: 2, 200: 4}.get(min(original), 1)


def test_an_lr_has_no_original_to_cover(manifest: Manifest) -> None:
    enlarging = dataclasses.replace(manifest, enlarger=Enlarger(("x2",)))
    assert enlargement(None, enlarging, "original") == 1 and enlargement(None, enlarging, 100) == 2
