"""The demonstration page in Chromium, from choosing a file to the restored picture: `make test-demo`."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from PIL import Image

import sdk
from tests.service_harness import SOON, live_service

TOKEN = "a-token-for-this-test"


@pytest.fixture(scope="module")
def drive(repository: Path) -> list[str]:
    """The command that drives the page."""
    web = repository / "clients" / "web"
    if not shutil.which("node"):
        pytest.skip("needs Node")
    if not (web / "node_modules" / "playwright-core").is_dir():
        pytest.skip("needs clients/web/node_modules: make test-demo")
    if not Path(os.environ.get("CHROMIUM", "/usr/bin/chromium")).exists():
        pytest.skip("needs Chromium at /usr/bin/chromium, or the variable CHROMIUM")
    return ["node", str(web / "e2e" / "drive.mjs")]


def test_from_a_file_to_the_restored_picture(
    drive: list[str], default_bundle: Path, portrait_path: Path, tmp_path: Path
) -> None:
    picture = tmp_path / "portrait.png"
    with Image.open(portrait_path) as image:
        image.convert("RGB").resize((500, 620)).save(picture)
        two = Image.new("RGB", (512, 256))
        for left in (0, 256):
            two.paste(image.convert("RGB"), (left, 0))
    group = tmp_path / "group.png"
    two.save(group)
    assert sdk.find_faces(picture).problems == () and sdk.find_faces(group).problems == ("several", "too-small")
    with live_service(default_bundle, deadline=SOON, batch_sizes="1", tokens=TOKEN) as service:
        command = [
            *drive, "--url", service.url, "--picture", str(picture), "--group", str(group), "--out",
            str(tmp_path / "out"), "--token", TOKEN]
        driven = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert driven.returncode == 0, driven.stderr
    page = json.loads((tmp_path / "out" / "page.json").read_text())

    # The browser's bytes are Python's.
    payload = sdk.compress(picture)
    assert (tmp_path / "out" / "payload.grain").read_bytes() == payload
    assert page["ready"].startswith("Ready. This device encoded all 12 test pictures to exactly the right bytes")
    assert page["advice"] == {"sent": 0, "sentence": (
        "There are several faces. Choose a picture of one person. The face is small. Come closer, or crop the picture, "
        "until the face fills half of it. Nothing has been sent yet.")}
    assert page["ignored"].endswith("and a portrait again.")
    assert page["done"] == f"{picture.stat().st_size:,} bytes became {len(payload)}, and a portrait again."

    assert page["trouble"] == [] and page["unnamed"] == []
    assert page["isolated"] is True, "threads need the isolation headers"
    assert page["focused"] == "result-title"
    assert page["slider"] == ["50%", "60%"], "the arrow keys move the slider"
    assert page["overflow"] == 0, "a phone's window scrolls in one direction only"
    assert page["cropped"] == "500 × 500 pixels", "enlarged to the size of the original's square"

    nothing_left = {"result": False, "payload": None}
    unreadable, unreachable = page["unreadable"], page["unreachable"]
    assert unreadable.pop("sentence").startswith("That picture cannot be used")
    assert unreadable == {**nothing_left, "again": False}
    assert unreachable.pop("sentence").startswith("The service could not be reached.")
    assert unreachable == {**nothing_left, "again": True}
    assert page["repeated"].endswith("and a portrait again.")

    report = json.loads((tmp_path / "out" / "device-report.json").read_text())
    assert (report["platform"], report["bundle"], report["threads"]) == ("web", default_bundle.name, page["threads"])
    assert (report["checked"], report["failed"]) == (12, [])
    assert 0 < report["encode_ms"]["least"] <= report["encode_ms"]["median"] <= report["encode_ms"]["most"]

    assert page["sides"]["original"] == "Original|"
    webp = re.fullmatch(r"WebP, (\d+) bytes\|", page["sides"]["webp"])
    assert webp and int(webp[1]) <= len(payload)
    jpeg = re.fullmatch(r"JPEG, (\d+) bytes\|(.*)", page["sides"]["jpeg"])
    assert jpeg and (int(jpeg[1]) <= len(payload)) is (jpeg[2] == "")
    stages = [row.split("\t")[0] for row in page["timings"]]
    assert {"Encoder network (here)", "Decoder network (server)"} <= set(stages)

    for name in ("page-wide.png", "page-phone.png"):
        with Image.open(tmp_path / "out" / name) as screenshot:
            assert screenshot.width == (1280 if name == "page-wide.png" else 390)
            assert len(screenshot.convert("RGB").getcolors(1 << 24) or []) > 5000, "pictures are to be seen"
