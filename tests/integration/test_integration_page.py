"""The blocks of docs/integration.md work in the order they stand in, against a running service."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

import sdk
from tests.service_harness import SOON, live_service

ADDRESS = "http://127.0.0.1:8000"


def test_the_blocks_work(repository: Path, default_bundle: Path, portrait_path: Path, tmp_path: Path) -> None:
    if not shutil.which("curl"):
        pytest.skip("needs curl")
    page = (repository / "docs" / "integration.md").read_text()
    first, *blocks = re.findall(r"^```(sh|python)\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    assert "edgegrain serve" in first[1] and len(blocks) == 5
    shutil.copy(portrait_path, tmp_path / "me.jpg")
    environment = {**os.environ, "PYTHONPATH": str(repository)}
    with live_service(default_bundle, deadline=SOON, batch_sizes="1", page=False) as service:
        for language, block in blocks:
            program = [sys.executable, "-c"] if language == "python" else ["bash", "-ec"]
            command = [*program, block.replace(ADDRESS, service.url)]
            run = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=SOON)
            assert run.returncode == 0, f"{block}:\n{run.stdout}\n{run.stderr}"

    payload = sdk.compress(portrait_path)
    assert (tmp_path / "me.grain").read_bytes() == payload == (tmp_path / "same.grain").read_bytes()
    sizes = {}
    for name in ("me.webp", "restored.png", "preview.png"):
        with Image.open(tmp_path / name) as picture:
            sizes[name] = (picture.format, picture.size)
    square = (256, 256)
    assert sizes == {"me.webp": ("WEBP", square), "restored.png": ("PNG", square), "preview.png": ("PNG", square)}
