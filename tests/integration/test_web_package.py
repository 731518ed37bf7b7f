"""The npm package: what `npm pack` packs, and a fresh Vite project that installs it and encodes in Chromium."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
from PIL import Image

import sdk
from tests.service_harness import SOON, live_service


@pytest.mark.skipif("EDGEGRAIN_TEST_PACKAGE" not in os.environ, reason="needs the npm registry: make test-package")
def test_a_fresh_project_encodes_pythons_bytes(
    repository: Path, default_bundle: Path, portrait_path: Path, tmp_path: Path
) -> None:
    web = repository / "clients" / "web"
    picture = tmp_path / "portrait.png"
    with Image.open(portrait_path) as image:
        image.convert("RGB").resize((500, 620)).save(picture)
    with live_service(default_bundle, deadline=SOON, batch_sizes="1", page=False, cors_origins="*") as service:
        command = ["node", str(web / "e2e" / "package.mjs"), "--picture", str(picture), "--out", str(tmp_path / "out"),
                   "--service", service.url]
        tried = subprocess.run(command, capture_output=True, text=True, timeout=900)
    assert tried.returncode == 0, tried.stdout + tried.stderr

    payload = sdk.compress(picture)
    for name in ("built.grain", "service.grain", "dev.grain"):
        assert (tmp_path / "out" / name).read_bytes() == payload, name

    packed = json.loads((tmp_path / "out" / "package.json").read_text())
    assert packed["size"] < 64_000
    paths = {file["path"] for file in packed["files"]}
    sources = {path.stem for path in (web / "src").iterdir()}
    assert paths == {"LICENSE", "README.md", "package.json", *(
        f"dist/{name}{suffix}" for name in sources for suffix in (".js", ".d.ts"))}
