"""The demonstration page: complete, small, isolated, newer than its sources, and absent where it is switched off."""

from __future__ import annotations

import gzip
import hashlib
import re
from pathlib import Path

import httpx
import pytest

from edgegrain.service import demo_page
from edgegrain.service.demo_page import FOLDER
from tests.service_harness import SOON, LiveService, get, live_service, stub_worker


def test_it_is_built_from_the_present_sources(repository: Path) -> None:
    web = repository / "clients" / "web"
    files = [path for folder in ("page", "src") for path in (web / folder).rglob("*") if path.is_file()]
    names = sorted([path.relative_to(web).as_posix() for path in files] + ["package-lock.json", "vite.page.config.ts"])
    digest = hashlib.sha256()
    for name in names:
        digest.update(name.encode() + b"\0" + (web / name).read_bytes() + b"\0")
    built = (FOLDER / "sources.txt").read_text().strip()
    assert built == digest.hexdigest(), "the page is older than clients/web: npm run build:page"


def test_it_is_small() -> None:
    files = [path for path in FOLDER.rglob("*") if path.is_file()]
    runtime = sum(path.stat().st_size for path in files if path.parent.name == "runtime")
    rest = sum(path.stat().st_size for path in files) - runtime
    assert 3 << 20 < runtime < 4 << 20
    assert 50_000 < rest < 3 << 20


def test_it_is_served_isolated_from_other_origins(tiny_service: LiveService) -> None:
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


@pytest.mark.parametrize("name", ["ort-wasm-simd-threaded.wasm", "ort-wasm-simd-threaded.mjs"])
def test_the_runtime_travels_compressed_to_those_who_can(tiny_service: LiveService, name: str) -> None:
    url, stored = f"{tiny_service.url}/runtime/{name}", (FOLDER / "runtime" / f"{name}.gz").read_bytes()
    with httpx.stream("GET", url, headers={"Accept-Encoding": "gzip"}, timeout=SOON, verify=False) as answer:
        assert answer.headers["content-encoding"] == "gzip"
        assert b"".join(answer.iter_raw()) == stored
    plain = get(url, headers={"Accept-Encoding": "identity"})
    assert "content-encoding" not in plain.headers and plain.content == gzip.decompress(stored)
    assert demo_page._decompressed(f"runtime/{name}") is demo_page._decompressed(f"runtime/{name}")  # for all clients
    kinds = {"ort-wasm-simd-threaded.wasm": "application/wasm", "ort-wasm-simd-threaded.mjs": "text/javascript"}
    assert plain.headers["content-type"].split(";")[0] == kinds[name]
    for known in (plain.headers["etag"], "*"):
        again = get(url, headers={"If-None-Match": known})
        assert again.status_code == 304 and not again.content


@pytest.mark.parametrize("path", ["assets/none.js", "runtime/..%2findex.html", "sources.txt", "web/index.html"])
def test_nothing_else_is_served(tiny_service: LiveService, path: str) -> None:
    answer = get(f"{tiny_service.url}/{path}")
    assert answer.status_code == 404 and answer.json()["type"] == "urn:edgegrain:problem:not-found"


def test_it_can_be_switched_off(tiny_bundle: Path) -> None:
    with live_service(tiny_bundle, worker_command=stub_worker(), page=False) as service:
        assert get(f"{service.url}/").status_code == 404
