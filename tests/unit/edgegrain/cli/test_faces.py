"""``edgegrain faces``, and the faces of ``compress`` and ``restore``: aligned, required, all of them, scenes."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import sdk
from codec_contract.scene import encode_scene
from edge_encoder.faces.alignment import FaceFinder, FoundFace
from edge_encoder.faces.detection import DetectedFace
from tests.unit.edgegrain.cli.conftest import Shell, pipe_in

pytestmark = pytest.mark.usefixtures("tiny_bundles", "tiny_face_bundles")


@pytest.fixture
def pictures(portrait: np.ndarray, tmp_path: Path) -> Path:
    """A folder with a face, another file of it, and half a face."""
    Image.fromarray(portrait).save(tmp_path / "one.png")
    Image.fromarray(portrait[:, :125]).save(tmp_path / "half.png")
    Image.fromarray(portrait).save(tmp_path / "one.bmp")  # the same name but for the suffix
    return tmp_path


@pytest.fixture
def two_faces(picture: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A picture in which the finder finds a face, and a smaller one where all are wanted."""
    faces = []
    for x, side in ((45.0, 36), (70.0, 34)):
        detected = DetectedFace(np.array([x, 34.0]), side, np.zeros((6, 2)), 0.9)
        faces.append(FoundFace(detected, np.array([(x - 5, 30), (x + 5, 30), (x, 40)])))
    monkeypatch.setattr(FaceFinder, "find", lambda self, rgb, every=False, largest=False: faces[: 2 if every else 1])
    return picture


def test_one_face(shell: Shell, pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = shell.ok("faces", pictures / "one.png").splitlines()
    assert first == f"{pictures / 'one.png'}: the largest face can be encoded"
    assert " pixels (6" in second and ", roll 0" in second and " degrees, score 0.9" in second
    shell.ok("faces", pictures / "one.png", "--all-faces")
    pipe_in(monkeypatch, (pictures / "one.png").read_bytes())
    assert shell.ok("faces", "-").startswith("-: the largest face can be encoded")
    shell.fails("does not exist", "faces", pictures / "none.png", status=2)


def test_a_problem_is_an_exit_status(shell: Shell, pictures: Path) -> None:
    status, out, err = shell("faces", pictures, "--json")
    report = json.loads(out)
    assert status == 1 and err == "" and report["failed"] == []
    rows = {Path(row["picture"]).name: row for row in report["done"]}
    assert rows["one.png"]["problems"] == rows["one.bmp"]["problems"] == []
    assert rows["half.png"]["problems"] == ["cut-off"] and "cut off by the picture" in rows["half.png"]["message"]


def test_pictures_that_cannot_be_read(shell: Shell, pictures: Path) -> None:
    (pictures / "junk.png").write_bytes(b"junk")
    names = (pictures / name for name in ("junk.png", "one.png", "half.png"))
    status, out, err = shell("faces", *names, "--max-megapixels", "0.05")
    assert status == 1 and "half.png: the face is cut off" in out and "junk.png is not a picture" in err
    assert "one.png claims 256 x 256 pixels, more than 50000; reduce it first" in err


def test_a_required_face(shell: Shell, pictures: Path) -> None:
    status, out, err = shell("compress", pictures / "one.png", pictures / "half.png", "--require-face")
    assert status == 1 and "one.png -> " in out and (pictures / "one.grain").exists()
    assert f"error: {pictures / 'half.png'}: the face is cut off by the picture's edge" in err
    assert not (pictures / "half.grain").exists()


def test_there_and_back_into_a_background(shell: Shell, tmp_path: Path, two_faces: Path) -> None:
    row = shell.json("compress", two_faces)["done"][0]
    assert row["fit"] == "align" and (row["width"], row["height"]) == (90, 70)
    payload = tmp_path / "me.grain"
    assert "a square of 40 pixels; restore --background" in shell.ok("info", payload)
    for size in ("original", "native", 32):
        shell.ok("restore", payload, "--background", two_faces, "--out", tmp_path / f"{size}.png", "--size", size)
        face = sdk.restore(payload, size="native" if size == "original" else size)  # type: ignore[arg-type]
        expected = sdk.paste(face, payload, two_faces)
        with Image.open(tmp_path / f"{size}.png") as image:
            restored = np.asarray(image)
        np.testing.assert_array_equal(restored, np.asarray(expected))
        assert sdk.read_mark(tmp_path / f"{size}.png") == sdk.read_mark(expected) is not None
        assert (restored[:, :25] == np.asarray(Image.open(two_faces))[:, :25]).all()


def test_every_face_has_a_file(shell: Shell, tmp_path: Path, two_faces: Path) -> None:
    row = shell.json("compress", two_faces, "--all-faces")["done"][0]
    files = [tmp_path / "me.1.grain", tmp_path / "me.2.grain"]
    assert row["payloads"] == list(map(str, files))
    assert [file.read_bytes() for file in files] == sdk.compress_faces(two_faces)
    assert row["bytes"] == [file.stat().st_size for file in files]
    shell.fails("no quality fits into 60 bytes", "compress", two_faces, "--all-faces", "--max-bytes", 60)
    shell.fails("me.1.grain exists", "compress", two_faces, "--all-faces")
    assert shell.ok("compress", two_faces, "--all-faces", "--out", tmp_path / "there").count("there/me.") == 2
    shell.fails("it takes one payload, got 2", "restore", *files, "--background", two_faces, status=2)


def test_a_scene(shell: Shell, tmp_path: Path, two_faces: Path) -> None:
    out, scene = shell.ok("compress", two_faces, "--scene", "--max-bytes", "5000"), tmp_path / "me.grain"
    assert f"me.grain: {scene.stat().st_size:,} bytes, 2 faces, " in out
    assert scene.read_bytes() == sdk.compress_scene(two_faces, max_bytes=5000)
    lines = shell.ok("info", scene)
    assert "2 faces" in lines and "90 x 70 pixels" in lines
    assert shell.json("info", scene)["done"][0]["faces"] == 2
    parsed = sdk.Scene(scene.read_bytes()).parsed
    damaged = encode_scene(parsed.faces, parsed.original_size, parsed.background_webp[:44])
    (tmp_path / "damaged.grain").write_bytes(damaged)
    shell.fails("the background of the scene is damaged", "info", tmp_path / "damaged.grain")
    shell.ok("restore", scene)
    restored = np.asarray(Image.open(tmp_path / "me.restored.png"))
    np.testing.assert_array_equal(restored, np.asarray(sdk.restore(scene)))
    shell.fails("no quality fits into 50 bytes", "compress", two_faces, "--scene", "--max-bytes", "50", "--force")


def test_the_whole_picture(shell: Shell, two_faces: Path) -> None:
    for arguments, fit in ((["--no-align"], "pad"), (["--fit", "crop"], "crop"), ([], "align")):
        shell.ok("compress", two_faces, *arguments, "--force")
        assert sdk.inspect(two_faces.with_suffix(".grain")).fit == fit


def test_what_does_not_go_together(shell: Shell, picture: Path) -> None:
    for arguments in ("--all-faces --fit crop", "--all-faces --scene", "--scene --no-align", "--scene --lr"):
        first, *others = arguments.split()
        shell.fails(f"{first} does not take it", "compress", picture, first, *others, status=2)
    shell.fails("each face has a file of its own", "compress", picture, "--all-faces", "--out", "-", status=2)
    shell.fails("the face is checked that is cut out", "compress", picture, "--require-face", "--fit", "pad", status=2)
    assert list(picture.parent.iterdir()) == [picture]
