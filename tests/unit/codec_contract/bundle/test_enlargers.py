"""Enlargers, as a manifest describes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from codec_contract.bundle.contract_id import canonical_json
from codec_contract.bundle.manifest import Enlarger, Manifest, parse_manifest
from codec_contract.errors import BundleError

X2, X4 = {"factor": 2, "file": "enlarger_x2.onnx"}, {"factor": 4, "file": "enlarger_x4.onnx"}


def manifest(**fields: Any) -> Manifest:
    files = {name: {"size": 1, "sha256": "11" * 32} for name in ("decoder.onnx", X2["file"], X4["file"])}
    record = {"schema": 1, "id": "faces-256-lr16", "version": "1.0.0", "lr_contract_id": "ab" * 32, "codec": "grain",
              "domain": "faces", "hr": 256, "lr": 16, "encoder": {}, "preprocessing": {},
              "decoder": {"file": "decoder.onnx"}, "files": files, "training": {}, "evaluation": {}, "licence": {}}
    return parse_manifest(canonical_json({**record, **fields}), Path("faces-256-lr16"))


def test_a_manifest_without_enlargers() -> None:
    assert manifest().enlargers == manifest(enlargers=[]).enlargers == ()
    assert manifest().sides == (256,)


def test_enlargers_in_ascending_order() -> None:
    both = manifest(enlargers=[X4, {**X2, "comment": "other fields are ignored"}])
    assert both.enlargers == (Enlarger(2, "enlarger_x2.onnx"), Enlarger(4, "enlarger_x4.onnx"))
    assert both.sides == (256, 512, 1024) and manifest(enlargers=[X4]).sides == (256, 1024)
    assert both.enlarger(4).file == "enlarger_x4.onnx"
    with pytest.raises(BundleError, match="faces-256-lr16 has no enlarger of factor 3, only: 2, 4"):
        both.enlarger(3)


def test_tiles_are_restored_at_the_original_s_size() -> None:
    tiles = {"preprocessing": {"pad": "edge", "tile_overlap": 2}}
    assert manifest(**tiles).sides == ()
    with pytest.raises(BundleError, match="bundles of tiles cannot have"):
        manifest(**tiles, enlargers=[X2])


@pytest.mark.parametrize(("enlargers", "message"), [
    ({"2": "enlarger_x2.onnx"}, "'enlargers' must be of type list"),
    (["enlarger_x2.onnx"], "must be an object, is str"),
    ([{"factor": 2}], "lacks the field 'file'"),
    ([{**X2, "factor": 3}], "factor 3, expected 2 or 4"),
    ([{**X2, "factor": "2"}], "'factor' must be of type int"),
    ([{**X2, "factor": True}], "'factor' must be of type int"),
    ([X2, X2], "two enlargers of factor 2"),
    ([{**X2, "file": "../x.onnx"}], "'../x.onnx', which is no listed file")])
def test_enlargers_described_wrongly_are_refused(enlargers: Any, message: str) -> None:
    with pytest.raises(BundleError, match=message):
        manifest(enlargers=enlargers)


def test_enlarged_squares_are_bounded() -> None:
    assert manifest(hr=4096, enlargers=[X4]).sides == (4096, 16384)
    with pytest.raises(BundleError, match="at most 16384 pixels from 8192"):
        manifest(hr=8192, enlargers=[X4])
