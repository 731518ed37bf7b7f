"""Header against bundle: contract, LR size, and the size of the restored picture."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

import sdk
from codec_contract.bundle.manifest import Manifest, load_manifest
from codec_contract.fit import Size
from codec_contract.oriented_square import OrientedSquare
from codec_contract.payload import Header, parse_header
from sdk.payload_claims import check_claims, restored_size
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
    ("native", "pad", (64, 64)), ("native", "crop", (64, 64))])
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
