"""Files for clients: conditional requests, a reproducible archive; and the demonstration page."""

import gzip
import hashlib
import io
import re
import zipfile
from pathlib import Path

import pytest
from starlette.requests import Request

from codec_contract.bundle.manifest import load_manifest
from edgegrain.service.downloads import FOLDER, ServedFile, client_files, respond
from tests.service_harness import LiveService, get, stubbed
from tests.tiny_bundle import refresh_manifest, write_tiny_bundle

DATA = bytes(range(100))
FILE = ServedFile("encoder.onnx", DATA, {"Cache-Control": "public, no-cache"})
ETAG = f'"{hashlib.sha256(DATA).hexdigest()}"'


def request(method: str = "GET", **headers: str) -> Request:
    pairs = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return Request({"type": "http", "method": method, "headers": pairs})


@pytest.mark.parametrize(
    ("tags", "status"), [(ETAG, 304), (f'"a", {ETAG}', 304), (f"W/{ETAG}", 304), ("*", 304), ('"a"', 200), ("", 200)]
)
def test_a_client_that_has_it(tags: str, status: int) -> None:
    answer = respond(FILE, request(if_none_match=tags))
    assert answer.status_code == status and (answer.body == b"") == (status == 304)
    assert answer.headers["etag"] == ETAG


def test_mlpackage_becomes_one_archive_that_is_always_the_same(tmp_path: Path) -> None:
    folder = write_tiny_bundle(tmp_path)
    assert set(client_files(load_manifest(folder))) == {"encoder.onnx", "coder.json", "golden.json"}
    parts = {"encoder.mlpackage/Manifest.json": b"{}", "encoder.mlpackage/Data/weights.bin": bytes(1000)}
    for name, data in parts.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    refresh_manifest(folder)
    first, second = (client_files(load_manifest(folder))["encoder.mlpackage.zip"] for _ in range(2))
    assert first.data == second.data and first.sha256 == hashlib.sha256(first.data).hexdigest()
    with zipfile.ZipFile(io.BytesIO(first.data)) as archive:
        assert {name: archive.read(name) for name in archive.namelist()} == parts


def test_the_page_is_built_from_the_present_sources(repository: Path) -> None:
    web = repository / "clients" / "web"
    files = [path for folder in ("page", "src") for path in (web / folder).rglob("*") if path.is_file()]
    names = sorted([path.relative_to(web).as_posix() for path in files] + ["package-lock.json", "vite.page.config.ts"])
    digest = hashlib.sha256()
    for name in names:
        digest.update(name.encode() + b"\0" + (web / name).read_bytes() + b"\0")
    built = (FOLDER / "sources.txt").read_text().strip()
    assert built == digest.hexdigest(), "the page is older than clients/web: npm run build:page"


def test_the_page_is_small() -> None:
    files = [path for path in FOLDER.rglob("*") if path.is_file()]
    runtime = sum(path.stat().st_size for path in files if path.parent.name == "runtime")
    rest = sum(path.stat().st_size for path in files) - runtime
    assert 3 << 20 < runtime < 4 << 20
    assert 50_000 < rest < 3 << 20


def test_the_page_is_isolated_from_other_origins(tiny_service: LiveService) -> None:
    answer = get(f"{tiny_service.url}/")
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.headers["cross-origin-opener-policy"] == "same-origin"
    assert answer.headers["cross-origin-embedder-policy"] == "require-corp"
    assert "script-src 'self' 'wasm-unsafe-eval'" in answer.headers["content-security-policy"]
    assert answer.headers["cache-control"] == "no-cache"
    parts = re.findall(r'(?:src|href)="\./([^"]+)"', answer.text)
    assert len(parts) >= 4
    for part in parts:
        found = get(f"{tiny_service.url}/{part}")
        assert found.status_code == 200, part
        assert ("immutable" in found.headers["cache-control"]) is part.startswith("assets/")


@pytest.mark.parametrize(
    ("name", "kind"),
    [("ort-wasm-simd-threaded.wasm", "application/wasm"), ("ort-wasm-simd-threaded.mjs", "text/javascript")],
)
def test_the_runtime_travels_compressed(tiny_service: LiveService, name: str, kind: str) -> None:
    answer = get(f"{tiny_service.url}/runtime/{name}")
    assert answer.headers["content-encoding"] == "gzip"
    assert answer.content == gzip.decompress((FOLDER / "runtime" / f"{name}.gz").read_bytes())
    assert answer.headers["content-type"].split(";")[0] == kind


@pytest.mark.parametrize("path", ["assets/none.js", "runtime/..%2findex.html", "sources.txt", "web/index.html"])
def test_no_other_file_is_served(tiny_service: LiveService, path: str) -> None:
    answer = get(f"{tiny_service.url}/{path}")
    assert answer.status_code == 404 and answer.json()["type"] == "urn:edgegrain:problem:not-found"


def test_the_page_can_be_switched_off(tiny_bundle: Path) -> None:
    with stubbed(tiny_bundle, page=False) as service:
        assert get(f"{service.url}/").status_code == 404
