"""Decoders and their forms, as a manifest describes them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from codec_contract.bundle.manifest import BundledForm, Manifest, decoder_forms, default_form, parse_manifest
from codec_contract.errors import BundleError
from tests.unit.codec_contract.bundle.test_manifest import record

MADE_FROM = "11" * 32
FILES = {"decoder.onnx": {"size": 10, "sha256": MADE_FROM}, "decoder_cuda.onnx": {"size": 5, "sha256": "22" * 32},
         "generator.onnx": {"size": 7, "sha256": "33" * 32}}
CUDA = {"file": "decoder_cuda.onnx", "precision": "float16", "ops": "fused", "source": MADE_FROM}


def manifest(decoder: dict[str, Any], **fields: Any) -> Manifest:
    return parse_manifest(json.dumps(record(decoder=decoder, files=FILES, **fields)).encode(), Path("faces-256-lr16"))


def with_form(**changes: Any) -> Manifest:
    return manifest({"file": "decoder.onnx", "forms": {"cuda": {**CUDA, **changes}}})


def test_a_manifest_of_one_file_has_one_form() -> None:
    form = BundledForm("default", "decoder.onnx", "float32", "plain")
    old = manifest({"file": "decoder.onnx", "input": "lr", "output": "hr", "controls": []})
    assert default_form(old) == form and decoder_forms(old) == {"default": form}


def test_a_form_for_a_device() -> None:
    forms = decoder_forms(with_form())
    assert list(forms) == ["default", "cuda"]
    assert forms["cuda"] == BundledForm("cuda", "decoder_cuda.onnx", "float16", "fused")


def test_a_form_made_from_another_file_is_not_current() -> None:
    assert not decoder_forms(with_form(source="44" * 32))["cuda"].current
    without = {name: value for name, value in CUDA.items() if name != "source"}
    assert not decoder_forms(manifest({"file": "decoder.onnx", "forms": {"cuda": without}}))["cuda"].current


def test_forms_of_later_releases_are_left_out() -> None:
    later = manifest({"file": "decoder.onnx", "forms": {"cuda": CUDA, "npu": {"anything": 1}}})
    assert list(decoder_forms(later)) == ["default", "cuda"]


@pytest.mark.parametrize(("forms", "message"), [
    ([CUDA], "'forms' must be an object"), ({"cuda": "decoder_cuda.onnx"}, "expected an object with a 'file'"),
    ({"cuda": {**CUDA, "file": "absent.onnx"}}, "lists no file 'absent.onnx'"),
    ({"cuda": {**CUDA, "precision": "int4"}}, "'precision' is 'int4', expected float32 or float16"),
    ({"cuda": {**CUDA, "ops": ["fused"]}}, "'ops' is .*, expected plain or fused")])
def test_forms_described_wrongly_are_refused(forms: Any, message: str) -> None:
    with pytest.raises(BundleError, match=message):
        decoder_forms(manifest({"file": "decoder.onnx", "forms": forms}))


def test_a_manifest_without_a_decoder_file() -> None:
    with pytest.raises(BundleError, match="names no decoder file"):
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
