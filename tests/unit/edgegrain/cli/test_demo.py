"""The demonstration writes what it promises and compares at equal bytes."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import sdk
from codec_contract.exact_square import cut_square
from edgegrain.cli.demo import PICTURES, SHEET_SIDE, SHIPPED
from edgegrain.pictures.sheets import GAP, MARGIN
from sdk.generated_mark import COMPOSITE, EDITED
from tests.unit.edgegrain.cli.conftest import Shell


@pytest.mark.usefixtures("tiny_face_bundles")
def test_the_shipped_photograph(shell: Shell, tmp_path: Path) -> None:
    out, photograph = shell.ok("demo", "--out", tmp_path / "out"), SHIPPED
    payload = sdk.Payload((tmp_path / "out" / f"{photograph.stem}.grain").read_bytes())
    scene = sdk.Scene((tmp_path / "out" / f"{photograph.stem}.scene.grain").read_bytes())
    square = payload.header.square
    assert payload == sdk.compress(photograph) and square is not None and abs(square.side - 177) < 6
    assert bytes(scene) == sdk.compress_scene(photograph, max_bytes=1500) and len(scene) <= 1500
    ratio = photograph.stat().st_size / len(payload)
    assert (
        f": 512 x 512 pixels, {photograph.stat().st_size:,} bytes\nfound a face in a square of {square.side} p" in out
    )
    assert f"compressed to {len(payload):,} bytes: {ratio:,.0f} times less than the file" in out
    assert f"with a blurred background: {len(scene):,} bytes\n" in out
    compared = re.findall(r"compared with: (\w+)(.*)", out)
    assert [codec for codec, _ in compared] == ["JPEG", "WebP", "AVIF"]
    for _, text in compared:
        if text.endswith(" bytes"):
            assert int(text.split()[-2]) <= len(payload)

    pictures = {name: np.asarray(Image.open(tmp_path / "out" / f"{name}.png")) for name in PICTURES}
    original = np.asarray(Image.open(photograph).convert("RGB"))
    np.testing.assert_array_equal(pictures["face"], cut_square(original, square, square.side))
    np.testing.assert_array_equal(pictures["restored"], np.asarray(sdk.restore(payload)))
    np.testing.assert_array_equal(pictures["restored_photograph"], np.asarray(sdk.restore(scene)))
    marks = {name: sdk.read_mark(tmp_path / "out" / f"{name}.png") for name in pictures}
    terms = {"restored": EDITED, "side_by_side": COMPOSITE, "restored_photograph": EDITED}
    assert {name: mark.source_type for name, mark in marks.items() if mark} == terms
    assert pictures["side_by_side"].shape[1] == 2 * MARGIN + 4 * SHEET_SIDE + 3 * GAP


@pytest.mark.usefixtures("tiny_bundles")
def test_own_picture_and_lines(shell: Shell, tmp_path: Path, picture: Path) -> None:
    arguments = ("demo", picture, "-o", tmp_path / "out")
    out = shell.ok(*arguments)
    assert f"{picture}: 90 x 70 pixels" in out and "side_by_side.png" in out
    assert (tmp_path / "out" / "me.grain").read_bytes() == sdk.compress(picture)
    shell.fails("face.png exists; choose another --out", *arguments)
    shell.ok(*arguments, "--force")


def test_the_demonstration_needs_no_torch() -> None:
    program = "import sys; sys.modules['torch'] = None; import edgegrain.cli.demo, edgegrain.pictures.sheets"
    subprocess.run([sys.executable, "-c", f"{program}, edgegrain.evaluation.classical_codecs"], check=True)
