"""Encoder files: conditional requests, ranges, and a reproducible archive."""

from __future__ import annotations

import hashlib
import io
import zipfile
from pathlib import Path

import pytest
from starlette.requests import Request

from codec_contract.bundle.manifest import load_manifest
from codec_contract.errors import BundleError
from edgegrain.service.encoder_downloads import EncoderFile, encoder_files, parse_range, respond
from edgegrain.service.problem_details import Problem
from tests.tiny_bundle import refresh_manifest, write_tiny_bundle

DATA = bytes(range(100))
FILE = EncoderFile("encoder.onnx", DATA, "application/octet-stream", hashlib.sha256(DATA).hexdigest())


def request(method: str = "GET", **headers: str) -> Request:
    pairs = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return Request({"type": "http", "method": method, "headers": pairs})


@pytest.mark.parametrize(("header", "expected"), [
    (None, None), ("bytes=0-9", (0, 9)), ("bytes=90-", (90, 99)), ("bytes=90-500", (90, 99)), ("bytes=-10", (90, 99)),
    ("bytes=-500", (0, 99)), ("bytes=99-99", (99, 99)), ("lines=0-9", None), ("bytes=0-1,3-4", None), ("bytes=-", None),
    ("bytes=9-3", None), ("bytes=a-b", None), ("nonsense", None)])
def test_ranges(header: str | None, expected: tuple[int, int] | None) -> None:
    assert parse_range(header, 100) == expected


@pytest.mark.parametrize("header", ["bytes=100-", "bytes=100-200", "bytes=-0", "bytes=9999999999999999999-"])
def test_ranges_behind_the_end(header: str) -> None:
    with pytest.raises(Problem) as caught:
        parse_range(header, 100)
    assert caught.value.status == 416 and caught.value.headers == {"Content-Range": "bytes */100"}


def test_whole_file() -> None:
    answer = respond(FILE, request())
    assert answer.status_code == 200 and answer.body == DATA
    assert answer.headers["etag"] == f'"{FILE.sha256}"' and answer.headers["accept-ranges"] == "bytes"
    assert answer.headers["cache-control"] == "public, no-cache"
    head = respond(FILE, request("HEAD"))
    assert head.body == b"" and head.headers["content-length"] == "100"


def test_one_range() -> None:
    answer = respond(FILE, request(range="bytes=10-19"))
    assert (answer.status_code, answer.body) == (206, DATA[10:20])
    assert answer.headers["content-range"] == "bytes 10-19/100"


def test_a_range_of_another_version_gives_the_whole_file() -> None:
    assert respond(FILE, request(range="bytes=10-19", if_range=FILE.etag)).status_code == 206
    assert respond(FILE, request(range="bytes=10-19", if_range='"older"')).status_code == 200


@pytest.mark.parametrize(("tags", "status"), [
    (FILE.etag, 304), (f'"a", {FILE.etag}', 304), (f"W/{FILE.etag}", 304), ("*", 304), ('"a"', 200), ("", 200)])
def test_a_client_that_has_it(tags: str, status: int) -> None:
    answer = respond(FILE, request(if_none_match=tags))
    assert answer.status_code == status and (answer.body == b"") == (status == 304)
    assert answer.headers["etag"] == FILE.etag


def test_mlpackage_becomes_one_archive_that_is_always_the_same(tmp_path: Path) -> None:
    folder = write_tiny_bundle(tmp_path)
    assert set(encoder_files(load_manifest(folder))) == {"encoder.onnx"}
    parts = {"encoder.mlpackage/Manifest.json": b"{}", "encoder.mlpackage/Data/weights.bin": bytes(1000)}
    for name, data in parts.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    refresh_manifest(folder)
    first, second = (encoder_files(load_manifest(folder))["encoder.mlpackage.zip"] for _ in range(2))
    assert first == second and first.sha256 == hashlib.sha256(first.data).hexdigest()
    with zipfile.ZipFile(io.BytesIO(first.data)) as archive:
        assert {name: archive.read(name) for name in archive.namelist()} == parts


def test_an_altered_file_is_not_served(tmp_path: Path) -> None:
    folder = write_tiny_bundle(tmp_path)
    (folder / "encoder.onnx").write_bytes(b"altered")
    with pytest.raises(BundleError, match=r"encoder\.onnx"):
        encoder_files(load_manifest(folder))
