"""``edgegrain restore`` on tiny bundles: files written, lines and JSON printed, exit statuses."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import sdk
from codec_contract.bundle.find import DEFAULT_BUNDLE
from edgegrain.cli.main import app
from tests.tiny_bundle import write_tiny_bundle
from tests.unit.edgegrain.cli.conftest import Shell, write_picture

pytestmark = pytest.mark.usefixtures("tiny_bundles")


class TestRestore:
    def test_beside_the_payload(self, shell: Shell, tmp_path: Path) -> None:
        payload = sdk.compress(write_picture(tmp_path / "me.png"))
        path = payload.save(tmp_path / "me.grain")
        status, out, err = shell("restore", path)
        assert status == 0 and err == ""
        assert out == f"{path} -> {tmp_path / 'me.restored.png'}: 90 x 70 pixels\n"
        restored = np.asarray(Image.open(tmp_path / "me.restored.png"))
        np.testing.assert_array_equal(restored, np.asarray(sdk.restore(payload)))

    def test_finds_the_bundle_the_payload_names(self, shell: Shell, tmp_path: Path) -> None:
        payload = sdk.compress(write_picture(tmp_path / "me.png"), bundle="random-64-lr16")
        path = payload.save(tmp_path / "me.grain")
        assert shell("restore", path)[0] == 0
        status, _, err = shell("restore", path, "--force", "--bundle", "faces")
        assert status == 1 and "restore it with the bundle it was made with" in err

    def test_a_picture_too_large_for_its_format_does_not_stop_the_others(self, shell: Shell, tmp_path: Path) -> None:
        wide = sdk.compress(write_picture(tmp_path / "wide.png", size=(17000, 40))).save(tmp_path / "wide.grain")
        path = sdk.compress(write_picture(tmp_path / "me.png")).save(tmp_path / "me.grain")
        status, out, err = shell("restore", wide, path, "--out", tmp_path / "out", "--format", "webp")
        assert status == 1 and "17000 x 40 pixels, the sides of a WEBP file have at most 16383" in " ".join(err.split())
        assert (tmp_path / "out" / "me.restored.webp").is_file()

    @pytest.mark.parametrize(("name", "kind"), [("x.jpg", "JPEG"), ("x.webp", "WEBP"), ("x.png", "PNG")])
    def test_out_and_its_suffix(self, shell: Shell, tmp_path: Path, name: str, kind: str) -> None:
        path = sdk.compress(write_picture(tmp_path / "me.png")).save(tmp_path / "me.grain")
        assert shell("restore", path, "--out", tmp_path / name, "--size", "native")[0] == 0
        with Image.open(tmp_path / name) as image:
            assert image.format == kind and image.size == (64, 50)
        mark = sdk.read_mark(tmp_path / name)
        assert mark is not None and (mark.by_edgegrain, mark.bundle) == (True, DEFAULT_BUNDLE)
        assert shell("restore", path, "--out", tmp_path / name, "--no-mark", "--force")[0] == 0
        assert sdk.read_mark(tmp_path / name) is None

    def test_sizes(self, shell: Shell, tmp_path: Path) -> None:
        bundle = write_tiny_bundle(tmp_path, doublings=1)
        path = sdk.compress(write_picture(tmp_path / "me.png"), bundle=bundle).save(tmp_path / "me.grain")
        status, out, _ = shell("restore", path, "--bundle", bundle, "--size", 128, "--out", tmp_path / "large.png")
        assert status == 0 and out.endswith(": 128 x 100 pixels\n")
        large = sdk.restore(path, bundle, size=128)
        np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "large.png")), np.asarray(large))
        status, _, err = shell("restore", path, "--bundle", bundle, "--size", 200, "--force")
        assert status == 1 and "at up to 128 pixels, not at 200; its sizes: 64, 128" in err
        for size in ("huge", "-1", "0", "1e3", "123456"):
            status, _, err = shell("restore", path, f"--size={size}", "--force")
            assert status == 2 and "--size" in err and "size" in err

    def test_other_suffix(self, shell: Shell, tmp_path: Path) -> None:
        path = sdk.compress(write_picture(tmp_path / "me.png")).save(tmp_path / "me.grain")
        status, _, err = shell("restore", path, "--out", tmp_path / "x.doc")
        assert status == 1 and "written as .png, .jpg, .jpeg, .webp, not as .doc" in err

    def test_lr_png(self, shell: Shell, tmp_path: Path) -> None:
        payload = sdk.compress(write_picture(tmp_path / "me.png"))
        Image.fromarray(payload.lr).save(tmp_path / "lr.png")
        assert shell("restore", tmp_path / "lr.png")[0] == 0
        with Image.open(tmp_path / "lr.restored.png") as image:
            assert image.size == (64, 64)

    def test_folder_and_json(self, shell: Shell, tmp_path: Path) -> None:
        payload = sdk.compress(write_picture(tmp_path / "me.png"))
        for name in ("a", "b"):
            payload.save(tmp_path / "in" / f"{name}.grain")
        status, out, _ = shell("restore", tmp_path / "in", "-o", tmp_path / "out", "--format", "jpg", "--json")
        assert status == 0
        rows = json.loads(out)["done"]
        assert [row["picture"] for row in rows] == [str(tmp_path / "out" / f"{n}.restored.jpg") for n in ("a", "b")]
        assert [(row["width"], row["height"], row["device"]) for row in rows] == [(90, 70, "cpu")] * 2

    def test_damaged_payload(self, shell: Shell, tmp_path: Path) -> None:
        path = tmp_path / "bad.grain"
        path.write_bytes(bytes(sdk.compress(write_picture(tmp_path / "me.png")))[:-3])
        status, out, err = shell("restore", path)
        assert status == 1 and out == "" and err.startswith(f"error: {path}: the payload") and err.count("\n") == 1
        assert not (tmp_path / "bad.restored.png").exists()

    def test_does_not_overwrite(self, shell: Shell, tmp_path: Path) -> None:
        path = sdk.compress(write_picture(tmp_path / "me.png")).save(tmp_path / "me.grain")
        (tmp_path / "me.restored.png").write_text("precious")
        status, _, err = shell("restore", path)
        assert status == 1 and "--force" in err and (tmp_path / "me.restored.png").read_text() == "precious"
        assert shell("restore", path, "--force")[0] == 0

    def test_standard_output(self, tmp_path: Path, capsysbinary: pytest.CaptureFixture[bytes]) -> None:
        path = sdk.compress(write_picture(tmp_path / "me.png")).save(tmp_path / "me.grain")
        with pytest.raises(SystemExit) as leaving:
            app(["restore", str(path), "--out", "-", "--format", "webp"])
        out, err = capsysbinary.readouterr()
        with Image.open(io.BytesIO(out)) as image:
            assert leaving.value.code == 0 and (image.format, image.size) == ("WEBP", (90, 70))
        assert err.decode() == f"{path} -> -: 90 x 70 pixels\n"

    def test_claims_are_bounded(self, shell: Shell, tmp_path: Path) -> None:
        path = sdk.compress(write_picture(tmp_path / "me.png")).save(tmp_path / "me.grain")
        status, _, err = shell("restore", path, "--max-megapixels", "0.001")
        assert status == 1 and "claims an original of 90 x 70" in err
