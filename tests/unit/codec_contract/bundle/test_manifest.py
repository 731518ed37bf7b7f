"""The manifest: what is wrong is named, files are verified before they are read; enlargers, forms, contract ids."""

import json
import os
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from codec_contract.bundle import manifest as manifests
from codec_contract.bundle.manifest import Enlarger, Manifest, decoder_forms, default_form, load_manifest, verify_bundle
from codec_contract.errors import BundleError
from codec_contract.lr_coder.coder_tables import CoderTables
from edge_encoder.contract_id import lr_contract_id

FILES = {
    "coder.json": b'{"format":"tables"}',
    "decoder.onnx": bytes(range(256)) * 20,
    "encoder.mlpackage/Data/com.apple.CoreML/model.mlmodel": b"program",
    "empty.txt": b"",
}


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
        "files": {name: {"sha256": sha256(data).hexdigest(), "size": len(data)} for name, data in FILES.items()},
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
    return manifests.parse_manifest(json.dumps(record(**changes)).encode(), Path("faces-256-lr16"))


def test_every_field_is_read(bundle: Path) -> None:
    manifest = load_manifest(bundle)
    assert (manifest.id, manifest.version) == ("faces-256-lr16", "1.0.0")
    assert (manifest.codec, manifest.domain) == ("grain", "faces")
    assert (manifest.hr, manifest.lr) == (256, 16)
    assert manifest.lr_contract_id == b"\xab" * 32
    assert manifest.decoder["file"] == "decoder.onnx"
    assert manifest.preprocessing["fit_default"] == "pad"
    assert manifest.licence["weights"] == "research"
    assert manifest.encoder["layers"] == 9
    assert manifest.entry("coder.json") == manifests.FileEntry(19, sha256(FILES["coder.json"]).hexdigest())
    assert manifest.path("encoder.mlpackage/Data/com.apple.CoreML/model.mlmodel").is_file()
    assert {name: verify_bundle(bundle).open_file(name) for name in FILES} == FILES
    (bundle / "extra.bin").write_bytes(b"x")
    with pytest.raises(BundleError, match="no file 'extra.bin', only: coder.json"):
        manifest.open_file("extra.bin")


@pytest.mark.parametrize(
    "change",
    [None, "folder", lambda data: data[:9] + b"!" + data[10:], lambda data: data + b"x", lambda data: data[:-1]],
    ids=["missing", "folder", "changed", "longer", "shorter"],
)
def test_an_altered_file_is_never_handed_out(bundle: Path, change: Any) -> None:
    path = bundle / "decoder.onnx"
    path.unlink()
    if change == "folder":
        path.mkdir()
    elif change is not None:
        path.write_bytes(change(FILES["decoder.onnx"]))
    manifest = load_manifest(bundle)
    for read in (lambda: manifest.open_file("decoder.onnx"), lambda: verify_bundle(bundle)):
        with pytest.raises(BundleError, match="decoder.onnx of bundle faces-256-lr16"):
            read()
    assert manifest.open_file("coder.json") == FILES["coder.json"]


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


@pytest.mark.parametrize(
    "name", ["", "a\0b", "a\x1b[2Jb", *r"../secret a/../../secret /etc/passwd a//b ./a a/. a/ ..\secret C:/x".split()]
)
def test_names_that_leave_the_folder_are_refused(name: str) -> None:
    with pytest.raises(BundleError, match="bundle faces-256-lr16 is malformed: the file '.*' has not the form"):
        parse(files={name: {"sha256": "0" * 64, "size": 1}})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"schema": 2}, "schema 2, this release reads 1"),
        ({"id": "../x"}, "'../x' has not the form"),
        ({"version": 1}, "expected string"),
        ({"version": "1/../../../x"}, "'1/../../../x' has not the form"),
        ({"lr_contract_id": "ab" * 31}, "has not the form"),
        ({"codec": "jpeg"}, "codec jpeg is unknown, expected one"),
        ({"hr": 0}, "0 is no whole number from 1 to 16384"),
        ({"hr": 1e3}, "1000.0 is no whole number"),
        ({"lr": 15}, "hr 256 is not a multiple of lr 15"),
        ({"encoder": []}, "'encoder' is no object"),
        ({"preprocessing": {"tile_overlap": 9}}, "9 is no whole number from 0 to 8"),
        ({"files": []}, "is malformed"),
        ({"files": {"a": {"sha256": "0" * 64}}}, "lacks the field 'size'"),
        ({"enlarger": {}}, "lacks the field 'files'"),
        ({"enlarger": {"files": ["1", "2", "3"]}}, "1 or 2 files"),
        ({"enlarger": {"files": ["1", "2"], "forms": {"int8": {"files": ["3"]}}}}, "its form as many, got 2 and 1"),
        ({"rates": [{"file": "x"}]}, "lacks the field 'lr_contract_id'"),
        ({"rates": 3}, "is malformed"),
        ({"finest_step": 0}, "0 is no whole number from 1 to 64"),
        ({"finest_step": "2"}, "'2' is no whole number"),
    ],
)
def test_a_wrong_field_is_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(BundleError, match=message):
        parse(**changes)


def test_the_lr_of_a_picture_in_tiles_follows_from_its_size() -> None:
    assert parse().lr_size((5000, 30)) == (16, 16) and parse().tile_overlap is None
    tiled = parse(lr=64, preprocessing={"pad": "edge", "tile_overlap": 16})
    assert (tiled.tile_overlap, tiled.factor) == (16, 4)
    assert tiled.lr_size((5000, 30)) == (1250, 8) and tiled.lr_size((1, 4001)) == (1, 1001)


def test_the_decoder_is_told_no_finer_step_than_it_knows() -> None:
    assert [parse(finest_step=3).told_step(step) for step in (1, 3, 8)] == [3, 3, 8]
    assert parse().finest_step is None and parse().told_step(1) == 1


@pytest.mark.parametrize("data", [b"", b"{", b"\xff\xff", b"[]", b"3", b"[" * 200_000, b'{"schema":NaN}', b"{}"])
def test_what_is_no_manifest_is_refused(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(BundleError, match="the manifest of bundle"):
        manifests.parse_manifest(data, tmp_path)
    for folder in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(BundleError, match="missing: no file"):
            load_manifest(folder)


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
    assert listed(preprocessing={"pad": "edge", "tile_overlap": 2}).sides == ()  # the original's
    formed = listed(enlarger={"files": ENLARGERS[:1], "forms": {"int8": {"files": ENLARGERS[1:]}, "other": {}}})
    assert formed.enlarger == Enlarger((ENLARGERS[0],), {}, (ENLARGERS[1],)) and formed.sides == (256, 512)


MADE_FROM = "11" * 32
FORM_FILES = {
    "decoder.onnx": {"size": 10, "sha256": MADE_FROM},
    "decoder_cuda.onnx": {"size": 5, "sha256": "22" * 32},
    "generator.onnx": {"size": 7, "sha256": "33" * 32},
}
CUDA = {"file": "decoder_cuda.onnx", "precision": "float16", "ops": "fused", "source": MADE_FROM}


def manifest(decoder: dict[str, Any], **fields: Any) -> Manifest:
    return parse(decoder=decoder, files=FORM_FILES, **fields)


def test_a_manifest_of_one_file_has_one_form() -> None:
    form = manifests.BundledForm("default", "decoder.onnx", "float32", "plain")
    old = manifest({"file": "decoder.onnx", "input": "lr", "output": "hr", "controls": []})
    assert default_form(old) == form and decoder_forms(old) == {"default": form}


def test_a_form_for_a_device_and_one_of_a_later_release() -> None:
    forms = decoder_forms(manifest({"file": "decoder.onnx", "forms": {"cuda": CUDA, "npu": {"anything": 1}}}))
    assert list(forms) == ["default", "fused"]
    assert forms["fused"] == manifests.BundledForm("fused", "decoder_cuda.onnx", "float16", "fused")


def test_a_form_made_from_another_file_is_not_current() -> None:
    for source in ({"source": "44" * 32}, {}):
        form = {"file": "decoder_cuda.onnx", **source}
        assert not decoder_forms(manifest({"file": "decoder.onnx", "forms": {"cuda": form}}))["fused"].current


def test_a_form_without_its_file() -> None:
    with pytest.raises(BundleError, match="names no file of its decoder's form 'fused'"):
        decoder_forms(manifest({"file": "decoder.onnx", "forms": {"cuda": {"ops": "fused"}}}))
    with pytest.raises(BundleError, match="names no file of its decoder's form 'default'"):
        default_form(manifest({"input": "lr"}))


def test_other_decoders_are_chosen_by_name() -> None:
    several = manifest({"file": "decoder.onnx"}, decoders={"generator": {"file": "generator.onnx", "controls": []}})
    assert several.with_decoder("default") is several
    chosen = several.with_decoder("generator")
    assert default_form(chosen).file == "generator.onnx" and chosen.lr_contract_id == several.lr_contract_id
    with pytest.raises(BundleError, match="has no decoder 'x2', only: default, generator"):
        several.with_decoder("x2")
    assert not manifest({"file": "decoder.onnx"}).decoders


ENCODER = sha256(b"encoder").digest()
PREPROCESSING: dict[str, Any] = {**record()["preprocessing"], "more": ["ä", True, None]}


def test_the_id_is_the_hash_of_the_written_record() -> None:
    tables = CoderTables.default()
    record = (
        f'{{"coder":"{tables.digest().hex()}","contract":"edgegrain LR contract 1","encoder":"{ENCODER.hex()}",'
        '"preprocessing":{"fit_default":"pad","more":["\\u00e4",true,null],"pad":"edge",'
        '"resize":"pillow-bilinear-22bit-width-first"},'
        '"quantization":"level = floor((value + 1) * 127.5 + 0.5) clipped to 0..255"}'
    )
    assert lr_contract_id(ENCODER, PREPROCESSING, tables) == sha256(record.encode()).digest()


def test_everything_that_fixes_the_bytes_changes_it() -> None:
    tables = CoderTables.default()
    first, second, third = tables.channels
    weight = third.output.weight.copy()
    weight[0, 0] += 1
    nudged = CoderTables((first, second, replace(third, output=replace(third.output, weight=weight))))
    parts = [(ENCODER, PREPROCESSING, tables), (ENCODER, PREPROCESSING, nudged), (bytes(32), PREPROCESSING, tables)]
    parts.append((ENCODER, {**PREPROCESSING, "pad": "black"}, tables))
    assert len({lr_contract_id(*each) for each in parts}) == 4
    with pytest.raises(BundleError, match="JSON"):
        lr_contract_id(ENCODER, {"pad": np.float32(1)}, tables)
