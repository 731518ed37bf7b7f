"""The manifest: every field is checked, files are verified before they are read; enlargers, forms, contract ids."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from codec_contract.bundle.manifest import (
    BundledForm,
    Enlarger,
    FileEntry,
    Manifest,
    decoder_forms,
    default_form,
    load_manifest,
    parse_manifest,
    verify_bundle,
)
from codec_contract.errors import BundleError
from codec_contract.lr_coder.coder_tables import CoderTables
from edge_encoder.contract_id import lr_contract_id

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


def parse(**changes: Any) -> Manifest:
    return parse_manifest(json.dumps(record(**changes)).encode(), Path("faces-256-lr16"))


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
    assert manifest.entry("coder.json") == FileEntry(19, hashlib.sha256(FILES["coder.json"]).hexdigest())
    assert manifest.path("encoder.mlpackage/Data/com.apple.CoreML/model.mlmodel").is_file()
    assert {name: verify_bundle(bundle).open_file(name) for name in FILES} == FILES


@pytest.mark.parametrize("change", [
    None, "folder", lambda data: data[:9] + b"!" + data[10:], lambda data: data + b"x", lambda data: data[:-1]],
    ids=["missing", "folder", "changed", "longer", "shorter"])
def test_an_altered_file_is_never_handed_out(bundle: Path, change: Any) -> None:
    path = bundle / "decoder.onnx"
    path.unlink()
    if change == "folder":
        path.mkdir()
    elif change is not None:
        path.write_bytes(change(FILES["decoder.onnx"]))
    manifest = load_manifest(bundle)
    with pytest.raises(BundleError, match="decoder.onnx of bundle faces-256-lr16"):
        manifest.open_file("decoder.onnx")
    with pytest.raises(BundleError, match="decoder.onnx of bundle faces-256-lr16"):
        verify_bundle(bundle)
    assert manifest.open_file("coder.json") == FILES["coder.json"]


@pytest.mark.parametrize(("held", "claimed"), [(200_000_000, None), (None, 1 << 30)])
def test_sizes_take_no_memory_before_they_are_checked(bundle: Path, held: int | None, claimed: int | None) -> None:
    if held is not None:
        os.truncate(bundle / "coder.json", held)
    if claimed is not None:
        fields = json.loads((bundle / "manifest.json").read_text())
        fields["files"]["coder.json"]["size"] = claimed
        (bundle / "manifest.json").write_text(json.dumps(fields))
    manifest = load_manifest(bundle)
    tracemalloc.start()
    try:
        with pytest.raises(BundleError, match=f"coder.json .* its manifest says {claimed or 19}"):
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
def test_names_that_are_no_plain_relative_path_are_refused(name: str) -> None:
    with pytest.raises(BundleError, match="plain relative path|lists itself"):
        parse(files={name: {"sha256": "0" * 64, "size": 1}})


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
def test_a_wrong_field_is_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(BundleError, match=message):
        parse(**changes)


@pytest.mark.parametrize("version", ["1.0.0", "2", "1.2.0-rc.1+build5", "v3_a", "1" * 64])
def test_versions(version: str) -> None:
    assert parse(version=version).version == version


def test_the_lr_of_a_picture_in_tiles_follows_from_its_size() -> None:
    assert parse().lr_size((5000, 30)) == (16, 16) and parse().tile_overlap is None
    tiled = parse(lr=64, preprocessing={"pad": "edge", "tile_overlap": 16})
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
    return parse(files={name: {"size": 1, "sha256": "11" * 32} for name in ("decoder.onnx", *ENLARGERS)}, **fields)


def test_every_file_doubles_the_sides() -> None:
    assert listed().enlarger is None and listed().sides == (256,)
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


MADE_FROM = "11" * 32
FORM_FILES = {"decoder.onnx": {"size": 10, "sha256": MADE_FROM}, "decoder_cuda.onnx": {"size": 5, "sha256": "22" * 32},
         "generator.onnx": {"size": 7, "sha256": "33" * 32}}
CUDA = {"file": "decoder_cuda.onnx", "precision": "float16", "ops": "fused", "source": MADE_FROM}


def manifest(decoder: dict[str, Any], **fields: Any) -> Manifest:
    return parse(decoder=decoder, files=FORM_FILES, **fields)


def with_form(**changes: Any) -> Manifest:
    return manifest({"file": "decoder.onnx", "forms": {"cuda": {**CUDA, **changes}}})


def test_a_manifest_of_one_file_has_one_form() -> None:
    form = BundledForm("default", "decoder.onnx", "float32", "plain")
    old = manifest({"file": "decoder.onnx", "input": "lr", "output": "hr", "controls": []})
    assert default_form(old) == form and decoder_forms(old) == {"default": form}


def test_a_form_for_a_device() -> None:
    forms = decoder_forms(with_form())
    assert list(forms) == ["default", "fused"]
    assert forms["fused"] == BundledForm("fused", "decoder_cuda.onnx", "float16", "fused")


def test_a_form_made_from_another_file_is_not_current() -> None:
    assert not decoder_forms(with_form(source="44" * 32))["fused"].current
    without = {name: value for name, value in CUDA.items() if name != "source"}
    assert not decoder_forms(manifest({"file": "decoder.onnx", "forms": {"cuda": without}}))["fused"].current


def test_forms_of_later_releases_are_left_out() -> None:
    later = manifest({"file": "decoder.onnx", "forms": {"cuda": CUDA, "npu": {"anything": 1}}})
    assert list(decoder_forms(later)) == ["default", "fused"]


@pytest.mark.parametrize(("forms", "message"), [
    ([CUDA], "'forms' must be an object"), ({"cuda": "decoder_cuda.onnx"}, "expected an object with a 'file'"),
    ({"cuda": {**CUDA, "file": "absent.onnx"}}, "lists no file 'absent.onnx'"),
    ({"cuda": {**CUDA, "precision": "int4"}}, "'precision' is 'int4', expected float32 or float16"),
    ({"cuda": {**CUDA, "ops": ["fused"]}}, "'ops' is .*, expected plain or fused")])
def test_forms_described_wrongly_are_refused(forms: Any, message: str) -> None:
    with pytest.raises(BundleError, match=message):
        decoder_forms(manifest({"file": "decoder.onnx", "forms": forms}))


def test_a_manifest_without_a_decoder_file() -> None:
    with pytest.raises(BundleError, match="decoder: expected an object with a 'file'"):
        default_form(manifest({"input": "lr"}))


def test_other_decoders_are_chosen_by_name() -> None:
    several = manifest({"file": "decoder.onnx"}, decoders={"generator": {"file": "generator.onnx", "controls": []}})
    assert several.with_decoder("default") is several
    chosen = several.with_decoder("generator")
    assert default_form(chosen).file == "generator.onnx" and chosen.lr_contract_id == several.lr_contract_id
    with pytest.raises(BundleError, match="has no decoder 'x2', only: default, generator"):
        several.with_decoder("x2")
    assert not manifest({"file": "decoder.onnx"}).decoders


@pytest.mark.parametrize("decoders", [["generator"], {"default": {}}, {"../x": {}}, {"generator": "generator.onnx"}])
def test_other_decoders_described_wrongly_are_refused(decoders: Any) -> None:
    with pytest.raises(BundleError, match="decoders|cannot be called"):
        manifest({"file": "decoder.onnx"}, decoders=decoders)


ENCODER = hashlib.sha256(b"encoder").digest()
PREPROCESSING = {
    "resize": "pillow-bilinear-22bit-width-first", "fit_default": "pad", "pad": "edge", "more": ["ä", True, None]}


def test_the_id_is_the_hash_of_the_written_record() -> None:
    tables = CoderTables.default()
    record = (
        '{"coder":"' + tables.digest().hex() + '","contract":"edgegrain LR contract 1","encoder":"' + ENCODER.hex()
        + '","preprocessing":{"fit_default":"pad","more":["\\u00e4",true,null],"pad":"edge",'
        + '"resize":"pillow-bilinear-22bit-width-first"},'
        + '"quantization":"level = floor((value + 1) * 127.5 + 0.5) clipped to 0..255"}')
    assert lr_contract_id(ENCODER, PREPROCESSING, tables) == hashlib.sha256(record.encode()).digest()


def test_everything_that_fixes_the_bytes_changes_it() -> None:
    tables = CoderTables.default()
    first, second, third = tables.channels
    weight = third.output.weight.copy()
    weight[0, 0] += 1
    output = dataclasses.replace(third.output, weight=weight)
    nudged = CoderTables((first, second, dataclasses.replace(third, output=output)))
    ids = {
        lr_contract_id(ENCODER, PREPROCESSING, tables), lr_contract_id(ENCODER, PREPROCESSING, nudged),
        lr_contract_id(ENCODER, {**PREPROCESSING, "pad": "black"}, tables),
        lr_contract_id(bytes(32), PREPROCESSING, tables)}
    assert len(ids) == 4


def test_preprocessing_that_is_no_json() -> None:
    with pytest.raises(BundleError, match="JSON"):
        lr_contract_id(ENCODER, {"pad": np.float32(1)}, CoderTables.default())
