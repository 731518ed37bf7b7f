"""The demonstration page in Chromium, from choosing a file to the restored picture: `make test-demo`."""

import json
import math
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import sdk
from codec_contract.oriented_square import OrientedSquare
from edge_encoder.preprocessing import load_picture
from sdk.faces import cut_face
from tests.golden.regenerate_contract import generated_picture
from tests.programs import run
from tests.service_harness import SOON, live_service
from tests.unit.edge_encoder.test_same_pictures import FILES

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


def test_pictures_are_those_of_python(drive: list[str], repository: Path, tmp_path: Path) -> None:
    """Orientation, colour, frame and refusals of the table in docs/exact_square.md."""
    for name, (data, *_) in FILES.items():
        (tmp_path / name).write_bytes(data)
    decoded = run(["node", repository / "clients" / "web" / "e2e" / "pictures.mjs", tmp_path])
    for name, found in json.loads(decoded).items():
        data, expected, _ = FILES[name]
        if isinstance(expected, str):
            assert found["error"].startswith("ImageError: "), name
            continue
        rgb = load_picture(data)
        assert found["size"] == [rgb.shape[1], rgb.shape[0]], name
        corners = rgb[[0, 0, -1, -1], [0, -1, 0, -1]].astype(int)
        assert np.abs(corners - found["corners"]).max() <= 2, name


def test_a_component_shows_pythons_preview_and_picture(
    drive: list[str], default_bundle: Path, portrait_path: Path
) -> None:
    with Image.open(portrait_path) as image:
        payload = sdk.compress(image.convert("RGB").resize((300, 400)), fit="pad")
    script = Path(drive[1]).with_name("image.mjs")
    with live_service(default_bundle, deadline=SOON, batch_sizes="1", cors_origins="*") as service:
        seen = json.loads(run(["node", script, payload.text(), service.url]))
    assert (seen["revoked"], seen["trouble"]) == (True, [])
    pictures = payload.preview(), sdk.restore(payload, size="native")
    for one, step, picture, difference in zip(seen["shown"], ("preview", "restored"), pictures, (0, 3), strict=True):
        expected = np.asarray(picture)
        height, width = expected.shape[:2]
        assert (one["step"], one["size"]) == (step, [width, height])
        assert one["box"] == pytest.approx([200, 200 * 4 / 3], abs=0.1)
        pixels = np.reshape(one["pixels"], (height, width, 4))[..., :3]
        assert np.abs(pixels - expected.astype(int)).mean() <= difference


def photograph(portrait: Image.Image, size: tuple[int, int], *faces: tuple[int, int, int, int]) -> Image.Image:
    """A picture of coarse noise with portraits: side, roll in degrees, x and y of the centre of each."""
    noise = Image.fromarray(generated_picture(7, 1, (8, 6)))
    picture = noise.resize(size, Image.Resampling.BICUBIC)
    for side, roll, x, y in faces:
        square = portrait.resize((side, side), Image.Resampling.LANCZOS).convert("RGBA")
        turned = square.rotate(-roll, Image.Resampling.BICUBIC, expand=True)
        picture.paste(turned, (x - turned.width // 2, y - turned.height // 2), turned)
    return picture


def square_of(path: Path) -> OrientedSquare:
    """The square of a payload that the page saved."""
    square = sdk.Payload(path.read_bytes()).header.square
    assert square is not None
    return square


def assert_alike(square: OrientedSquare | None, expected: OrientedSquare | None) -> None:
    """Sizes, angles and places differ by less than one percent of the side."""
    assert square is not None and expected is not None
    assert math.dist((square.x, square.y), (expected.x, expected.y)) < 0.04 * expected.side
    assert math.dist((square.across_x, square.across_y), (expected.across_x, expected.across_y)) < 0.04 * expected.side


def test_from_a_file_to_the_restored_picture(
    drive: list[str], default_bundle: Path, repository: Path, tmp_path: Path
) -> None:
    others, out = tmp_path / "others", tmp_path / "out"
    others.mkdir()
    with Image.open(repository / "edgegrain" / "demo" / "portrait_768.jpg") as image:
        portrait = image.convert("RGB")
    picture = tmp_path / "photograph.png"
    photograph(portrait, (1200, 900), (420, 20, 760, 430)).save(picture)
    photograph(portrait, (640, 480), (220, -12, 420, 260), (140, 8, 130, 170)).save(others / "group.png")
    photograph(portrait, (200, 160), (44, 0, 90, 80)).save(others / "small.png")
    photograph(portrait, (500, 400)).save(others / "empty.png")
    upright = photograph(portrait, (600, 800), (300, 10, 330, 390))
    exif = Image.Exif()
    exif[0x0112] = 6
    upright.transpose(Image.Transpose.ROTATE_90).save(others / "turned.jpg", quality=95, exif=exif)
    assert sdk.find_faces(others / "small.png").problems == ("too-small",)

    with live_service(default_bundle, deadline=SOON, batch_sizes="1", tokens=TOKEN) as service:
        pictures = ["--picture", picture, "--others", others, "--out", out]
        run([*drive, "--url", service.url, *pictures, "--token", TOKEN])
    page = json.loads((out / "page.json").read_text())

    # The browser finds Python's face, and encodes its square to Python's bytes.
    payload = sdk.Payload((out / "payload.grain").read_bytes())
    square = square_of(out / "payload.grain")
    assert_alike(square, sdk.compress(picture).header.square)
    codec = sdk.Codec(default_bundle)
    assert payload == codec.compress_fitted(cut_face(load_picture(picture), codec.bundle.hr, square))
    assert page["squares"] == 1
    for index, face in enumerate(sdk.compress_faces(others / "group.png")):
        assert_alike(square_of(out / f"group-{index}.grain"), face.header.square)
    assert page["faces"] == ["Face 1 of 2", "Face 2 of 2"] and page["clicked"] is True
    assert_alike(square_of(out / "turned.grain"), sdk.compress(others / "turned.jpg").header.square)
    assert page["turned"] == "600 × 800 pixels"
    assert page["ready"].startswith("Ready. This device encoded all 12 test pictures to exactly the right bytes")
    unsent = "Nothing has been sent yet."
    small = f"This face is very small. Come closer, or choose a larger picture. {unsent}"
    assert page["small"] == {"sent": 0, "sentence": small}
    assert page["empty"] == {"sent": 0, "sentence": f"No face was found. Only faces are restored well. {unsent}"}
    assert page["fits"] == ["500 × 400 pixels", "400 × 400 pixels", False]
    assert page["done"] == f"{picture.stat().st_size:,} bytes became {len(payload)}, and a face again."

    assert page["trouble"] == [] and page["unnamed"] == []
    assert page["isolated"] is True, "threads need the isolation headers"
    assert page["focused"] == "result-title"
    assert page["slider"] == ["50%", "60%"], "the arrow keys move the slider"
    assert page["overflow"] == 0, "a phone's window scrolls in one direction only"

    nothing_left = {"result": False, "payload": None}
    unreadable, unreachable = page["unreadable"], page["unreachable"]
    assert unreadable.pop("sentence").startswith("That picture cannot be used")
    assert unreadable == {**nothing_left, "again": False}
    assert unreachable.pop("sentence").startswith("The service could not be reached.")
    assert unreachable == {**nothing_left, "again": True}
    assert page["repeated"].endswith("and a face again.")

    report = json.loads((out / "device-report.json").read_text())
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
        with Image.open(out / name) as screenshot:
            assert screenshot.width == (1280 if name == "page-wide.png" else 390)
            assert len(screenshot.convert("RGB").getcolors(1 << 24) or []) > 5000, "pictures are to be seen"
