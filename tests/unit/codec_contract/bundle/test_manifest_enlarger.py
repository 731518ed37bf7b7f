"""The enlarger, as a manifest describes it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from codec_contract.bundle.contract_id import canonical_json
from codec_contract.bundle.manifest import Enlarger, Manifest, parse_manifest
from codec_contract.errors import BundleError

FILES = ["enlarger_x2.onnx", "enlarger_x4.onnx"]
BOTH = {"files": FILES}


def manifest(**fields: Any) -> Manifest:
    files = {name: {"size": 1, "sha256": "11" * 32} for name in ("decoder.onnx", *FILES)}
    record = {"schema": 1, "id": "faces-256-lr16", "version": "1.0.0", "lr_contract_id": "ab" * 32, "codec": "grain",
              "domain": "faces", "hr": 256, "lr": 16, "encoder": {}, "preprocessing": {},
              "decoder": {"file": "decoder.onnx"}, "files": files, "training": {}, "evaluation": {}, "licence": {}}
    return parse_manifest(canonical_json({**record, **fields}), Path("faces-256-lr16"))


def test_a_manifest_without_an_enlarger() -> None:
    assert manifest().enlarger is None and manifest().sides == (256,)


def test_every_file_doubles_the_sides() -> None:
    first = manifest(enlarger={"files": FILES[:1], "comment": "other fields are ignored"})
    assert first.enlarger == Enlarger(("enlarger_x2.onnx",)) and first.sides == (256, 512)
    both = manifest(enlarger={**BOTH, "training": {"pictures_seen": 5}})
    assert both.enlarger == Enlarger(tuple(FILES), {"pictures_seen": 5}) and both.sides == (256, 512, 1024)


def test_tiles_are_restored_at_the_original_s_size() -> None:
    tiles = {"preprocessing": {"pad": "edge", "tile_overlap": 2}}
    assert manifest(**tiles).sides == ()
    with pytest.raises(BundleError, match="bundles of tiles cannot have"):
        manifest(**tiles, enlarger=BOTH)


@pytest.mark.parametrize(("enlarger", "message"), [
    (FILES, "'enlarger' must be of type dict"),
    ({}, "lacks the field 'files'"),
    ({**BOTH, "training": 5}, "'training' must be of type dict"),
    ({"files": "enlarger_x2.onnx"}, "'files' must be of type list"),
    ({"files": []}, "0 files, expected 1 or 2"),
    ({"files": [*FILES, "decoder.onnx"]}, "3 files, expected 1 or 2"),
    ({"files": [FILES[0], FILES[0]]}, "lists a file twice"),
    *(({"files": [name]}, "which is not listed") for name in ("../x.onnx", None, 2, FILES))])
def test_enlargers_described_wrongly_are_refused(enlarger: Any, message: str) -> None:
    with pytest.raises(BundleError, match=message):
        manifest(enlarger=enlarger)


def test_enlarged_squares_are_bounded() -> None:
    assert manifest(hr=4096, enlarger=BOTH).sides == (4096, 8192, 16384)
    with pytest.raises(BundleError, match="sides of 32768 pixels, more than 16384"):
        manifest(hr=8192, enlarger=BOTH)
