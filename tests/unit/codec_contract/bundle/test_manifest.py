"""The manifest reader: every field is checked, files are verified before they are read; enlargers."""

from __future__ import annotations

import hashlib
import json
import os
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from codec_contract.bundle.manifest import Enlarger, FileEntry, Manifest, load_manifest, parse_manifest, verify_bundle
from codec_contract.errors import BundleError

FILES = {
    "coder.json": b'{"format":"tables"}', "decoder.onnx": bytes(range(256)) * 20,
    "encoder.mlpackage/Data/com.apple.CoreML/model.mlmodel": b"program", "empty.txt": b""}


def record(**changes: Any) -> dict[str, Any]:
    fields = {
        "schema": 1,
        "id": "faces-256-lr16",
        "version": "1.0.0",
        "lr_contract_id": "ab" * 32,
        "codec": "grain",
        "domain": "faces",
        "hr": 256,
        "lr": 16,
        "encoder": {"architecture": "exact", "layers": 9, "parameters": 1000, "max_accumulator_log2": 19.4},
        "preprocessing": {"resize": "pillow-bilinear-22bit-width-first", "fit_default": "pad", "pad": "edge"},
        "decoder": {"file": "decoder.onnx", "input": "lr", "output": "hr", "controls": []},
        "files": {
            name: {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data)} for name, data in FILES.items()
        },
        "training": {},
        "evaluation": {},
        "licence": {"weights": "research", "data": "mixed"},
    }
    return {**fields, **changes}


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    folder = tmp_path / "faces-256-lr16"
    for name, data in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    (folder / "manifest.json").write_text(json.dumps(record()))
    return folder


def parse(tmp_path: Path, **changes: Any) -> Manifest:
    return parse_manifest(json.dumps(record(**changes)).encode(), tmp_path)


def test_every_field_is_read(bundle: Path) -> None:
    manifest = load_manifest(bundle)
    assert (manifest.id, manifest.version, manifest.codec, manifest.domain) == (
        "faces-256-lr16", "1.0.0", "grain", "faces")
    assert (manifest.hr, manifest.lr) == (256, 16)
    assert manifest.lr_contract_id == b"\xab" * 32
    assert manifest.decoder["file"] == "decoder.onnx"
    assert manifest.preprocessing["fit_default"] == "pad"
    assert manifest.licence["weights"] == "research"
    assert manifest.encoder["layers"] == 9
    assert manifest.entry("coder.json") == FileEntry("coder.json", 19, hashlib.sha256(FILES["coder.json"]).hexdigest())
    assert manifest.path("encoder.mlpackage/Data/com.apple.CoreML/model.mlmodel").is_file()


def test_verified_files_are_handed_out(bundle: Path) -> None:
    manifest = verify_bundle(bundle)
    for name, data in FILES.items():
        assert manifest.open_file(name) == data


def test_the_files_cannot_be_edited_through_the_manifest(bundle: Path) -> None:
    manifest = load_manifest(bundle)
    with pytest.raises(TypeError):
        manifest.files["coder.json"] = FileEntry("x", 0, "0" * 64)  # type: ignore[index]


def altered(bundle: Path, name: str, change: str) -> None:
    if change == "missing":
        (bundle / name).unlink()
    elif change == "folder":
        (bundle / name).unlink()
        (bundle / name).mkdir()
    else:
        data = bytearray(FILES[name])
        if change == "flipped":
            data[len(data) // 2] ^= 1
        elif change == "longer":
            data += b"x"
        else:
            del data[-1]
        (bundle / name).write_bytes(data)


@pytest.mark.parametrize("change", ["missing", "folder", "flipped", "longer", "shorter"])
def test_an_altered_file_is_never_handed_out(bundle: Path, change: str) -> None:
    altered(bundle, "decoder.onnx", change)
    manifest = load_manifest(bundle)
    with pytest.raises(BundleError, match="decoder.onnx of bundle faces-256-lr16"):
        manifest.open_file("decoder.onnx")
    with pytest.raises(BundleError, match="decoder.onnx of bundle faces-256-lr16"):
        verify_bundle(bundle)
    assert manifest.open_file("coder.json") == FILES["coder.json"]


def test_a_grown_file_is_not_read_whole(bundle: Path) -> None:
    with (bundle / "coder.json").open("r+b") as stream:
        stream.truncate(200_000_000)
    assert_refused_in_little_memory(bundle, "coder.json")


def test_a_claimed_size_takes_no_memory(bundle: Path) -> None:
    fields = json.loads((bundle / "manifest.json").read_text())
    fields["files"]["coder.json"]["size"] = 1 << 30
    (bundle / "manifest.json").write_text(json.dumps(fields))
    assert_refused_in_little_memory(bundle, "coder.json .* its manifest says 1073741824")


def assert_refused_in_little_memory(bundle: Path, message: str) -> None:
    manifest = load_manifest(bundle)
    tracemalloc.start()
    try:
        with pytest.raises(BundleError, match=message):
            manifest.open_file("coder.json")
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


def test_an_unlisted_file_is_refused(bundle: Path) -> None:
    (bundle / "extra.bin").write_bytes(b"x")
    with pytest.raises(BundleError, match="no file 'extra.bin', only: coder.json"):
        load_manifest(bundle).open_file("extra.bin")


def test_a_fifo_does_not_block(bundle: Path) -> None:
    (bundle / "coder.json").unlink()
    os.mkfifo(bundle / "coder.json")
    for read in (load_manifest(bundle).open_file, load_manifest(bundle).verify_file):
        with pytest.raises(BundleError, match="coder.json of bundle .* is no regular file"):
            read("coder.json")


def test_a_linked_file_is_judged_by_its_bytes(bundle: Path, tmp_path: Path) -> None:
    os.symlink(bundle, tmp_path / "link")
    assert verify_bundle(tmp_path / "link").open_file("empty.txt") == b""
    # Download caches keep the files elsewhere and link to them.
    elsewhere = tmp_path / "blob"
    elsewhere.write_bytes(FILES["coder.json"])
    (bundle / "coder.json").unlink()
    os.symlink(elsewhere, bundle / "coder.json")
    assert verify_bundle(bundle).open_file("coder.json") == FILES["coder.json"]
    elsewhere.write_bytes(b"something of a kind")
    with pytest.raises(BundleError, match="SHA-256"):
        load_manifest(bundle).open_file("coder.json")


@pytest.mark.parametrize("name", [
    "a\x1b[2Jb", "../secret", "a/../../secret", "/etc/passwd", "a//b", "./a", "a/.", "", "a/", "..\\secret", "C:/x",
    "c:x", "a\0b", "manifest.json"])
def test_names_that_are_no_plain_relative_path_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(BundleError, match="plain relative path|lists itself"):
        parse(tmp_path, files={name: {"sha256": "0" * 64, "size": 1}})


@pytest.mark.parametrize(("changes", "message"), [
    ({"schema": 2}, "schema 2, this release reads 1"), ({"schema": "1"}, "'schema' must be of type int, is str"),
    ({"schema": True}, "'schema' must be of type int, is bool"), ({"id": "../x"}, "'id'"),
    ({"id": "Faces"}, "'id'"), ({"version": 1}, "'version' must be of type str"), ({"version": ""}, "'version'"),
    ({"version": "1/../../../x"}, "'version' is '1/../../../x', expected the form"),
    ({"version": "1..0"}, "'version'"), ({"version": "1" * 65}, "'version'"),
    ({"lr_contract_id": "ab" * 31}, "'lr_contract_id'"), ({"lr_contract_id": "AB" * 32}, "'lr_contract_id'"),
    ({"codec": "jpeg"}, "codec 'jpeg' is unknown, expected one of grain"),
    ({"hr": 0}, "'hr' is 0, expected 1 to 16384"), ({"hr": 1e3}, "'hr' must be of type int, is float"),
    ({"lr": 512}, "'lr' is 512, expected 1 to 256"), ({"lr": 15}, "hr 256 is not a multiple of lr 15"),
    ({"preprocessing": {"tile_overlap": 9}}, "'tile_overlap' is 9, expected 0 to 8"),
    ({"preprocessing": {"tile_overlap": "4"}}, "'tile_overlap' must be of type int"),
    ({"encoder": []}, "'encoder' must be of type dict"), ({"files": []}, "'files' must be of type dict"),
    ({"files": {"a": 1}}, "entry of 'a'"), ({"files": {"a": {"sha256": "0" * 64}}}, "lacks the field 'size'"),
    ({"files": {"a": {"sha256": "0" * 64, "size": -1}}}, "'size' is -1"),
    ({"files": {"a": {"sha256": "0" * 64, "size": 1 << 60}}}, "'size' is"),
    ({"files": {"a": {"sha256": "0" * 63, "size": 1}}}, "'sha256'"),
    ({"files": {f"f{i}": {"sha256": "0" * 64, "size": 1} for i in range(5000)}}, "5000 files")])
def test_a_wrong_field_is_named(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(BundleError, match=message):
        parse(tmp_path, **changes)


@pytest.mark.parametrize("version", ["1.0.0", "2", "1.2.0-rc.1+build5", "v3_a", "1" * 64])
def test_versions(tmp_path: Path, version: str) -> None:
    assert parse(tmp_path, version=version).version == version


def test_the_lr_of_a_picture_in_tiles_follows_from_its_size(tmp_path: Path) -> None:
    assert parse(tmp_path).lr_size((5000, 30)) == (16, 16) and parse(tmp_path).tile_overlap is None
    tiled = parse(tmp_path, lr=64, preprocessing={"pad": "edge", "tile_overlap": 16})
    assert (tiled.tile_overlap, tiled.factor) == (16, 4)
    assert tiled.lr_size((5000, 30)) == (1250, 8) and tiled.lr_size((1, 4001)) == (1, 1001)


@pytest.mark.parametrize("name", list(record()))
def test_a_missing_field_is_named(tmp_path: Path, name: str) -> None:
    fields = record()
    del fields[name]
    with pytest.raises(BundleError, match=f"lacks the field '{name}'"):
        parse_manifest(json.dumps(fields).encode(), tmp_path)


@pytest.mark.parametrize("data", [b"", b"{", b"\xff\xff", b"[]", b"3", b"[" * 200_000, b'{"schema":NaN}'])
def test_what_is_no_manifest_is_refused(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(BundleError):
        parse_manifest(data, tmp_path)


def test_duplicate_names_are_refused(tmp_path: Path) -> None:
    text = json.dumps(record()).replace('"schema": 1', '"schema": 2, "schema": 1')
    with pytest.raises(BundleError, match="'schema' twice"):
        parse_manifest(text.encode(), tmp_path)


def test_a_manifest_is_bounded(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_bytes(b" " * (1 << 20) + b"{}")
    with pytest.raises(BundleError, match="larger than 1048576"):
        load_manifest(tmp_path)


def test_no_manifest_no_bundle(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(BundleError, match="missing: no file"):
            load_manifest(folder)


# -- enlargers ----------------------------------------------------------------------------------------------

ENLARGERS = ["enlarger_x2.onnx", "enlarger_x4.onnx"]
BOTH = {"files": ENLARGERS}


def listed(**fields: Any) -> Manifest:
    return parse(Path("x"), files={
        name: {"size": 1, "sha256": "11" * 32} for name in ("decoder.onnx", *ENLARGERS)}, **fields)


def test_a_manifest_without_an_enlarger() -> None:
    assert listed().enlarger is None and listed().sides == (256,)


def test_every_file_doubles_the_sides() -> None:
    first = listed(enlarger={"files": ENLARGERS[:1], "comment": "other fields are ignored"})
    assert first.enlarger == Enlarger(("enlarger_x2.onnx",)) and first.sides == (256, 512)
    both = listed(enlarger={**BOTH, "training": {"pictures_seen": 5}})
    assert both.enlarger == Enlarger(tuple(ENLARGERS), {"pictures_seen": 5}) and both.sides == (256, 512, 1024)


def test_tiles_are_restored_at_the_original_s_size() -> None:
    tiles = {"preprocessing": {"pad": "edge", "tile_overlap": 2}}
    assert listed(**tiles).sides == ()
    with pytest.raises(BundleError, match="bundles of tiles cannot have"):
        listed(**tiles, enlarger=BOTH)


@pytest.mark.parametrize(("enlarger", "message"), [
    (ENLARGERS, "'enlarger' must be of type dict"),
    ({}, "lacks the field 'files'"),
    ({**BOTH, "training": 5}, "'training' must be of type dict"),
    ({"files": "enlarger_x2.onnx"}, "'files' must be of type list"),
    ({"files": []}, "0 files, expected 1 or 2"),
    ({"files": [*ENLARGERS, "decoder.onnx"]}, "3 files, expected 1 or 2"),
    ({"files": [ENLARGERS[0], ENLARGERS[0]]}, "lists a file twice"),
    *(({"files": [name]}, "which is not listed") for name in ("../x.onnx", None, 2, ENLARGERS))])
def test_enlargers_described_wrongly_are_refused(enlarger: Any, message: str) -> None:
    with pytest.raises(BundleError, match=message):
        listed(enlarger=enlarger)


def test_enlarged_squares_are_bounded() -> None:
    assert listed(hr=4096, enlarger=BOTH).sides == (4096, 8192, 16384)
    with pytest.raises(BundleError, match="sides of 32768 pixels, more than 16384"):
        listed(hr=8192, enlarger=BOTH)
