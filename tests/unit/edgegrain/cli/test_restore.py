"""``edgegrain restore`` on tiny bundles: files written, lines and JSON printed, exit statuses."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import sdk
from codec_contract.bundle.find import DEFAULT_BUNDLE
from tests.tiny_bundle import write_tiny_bundle
from tests.unit.edgegrain.cli.conftest import Shell, write_payload, write_picture

pytestmark = pytest.mark.usefixtures("tiny_bundles")


@pytest.fixture
def payload(tmp_path: Path) -> Path:
    return write_payload(tmp_path / "me.grain")


class TestRestore:
    def test_beside_the_payload(self, shell: Shell, tmp_path: Path, payload: Path) -> None:
        restored = tmp_path / "me.restored.png"
        assert shell.ok("restore", payload) == f"{payload} -> {restored}: 90 x 70 pixels\n"
        np.testing.assert_array_equal(np.asarray(Image.open(restored)), np.asarray(sdk.restore(payload)))

    def test_finds_the_bundle_the_payload_names(self, shell: Shell, tmp_path: Path) -> None:
        path = write_payload(tmp_path / "me.grain", bundle="random-64-lr16")
        shell.ok("restore", path)
        shell.fails("restore it with the bundle it was made with", "restore", path, "--force", "--bundle", "faces")

    def test_a_picture_too_large_for_its_format_does_not_stop_the_others(
        self, shell: Shell, tmp_path: Path, payload: Path
    ) -> None:
        wide = sdk.compress(write_picture(tmp_path / "wide.png", size=(17000, 40))).save(tmp_path / "wide.grain")
        too_wide = "17000 x 40 pixels, the sides of a WEBP file have at most 16383"
        shell.fails(too_wide, "restore", wide, payload, "--out", tmp_path / "out", "--format", "webp")
        assert (tmp_path / "out" / "me.restored.webp").is_file()

    @pytest.mark.parametrize(("name", "kind"), [("x.jpg", "JPEG"), ("x.webp", "WEBP"), ("x.png", "PNG")])
    def test_out_and_its_suffix(self, shell: Shell, tmp_path: Path, payload: Path, name: str, kind: str) -> None:
        shell.ok("restore", payload, "--out", tmp_path / name, "--size", "native")
        with Image.open(tmp_path / name) as image:
            assert image.format == kind and image.size == (64, 50)
        mark = sdk.read_mark(tmp_path / name)
        assert mark is not None and (mark.by_edgegrain, mark.bundle) == (True, DEFAULT_BUNDLE)
        shell.ok("restore", payload, "--out", tmp_path / name, "--no-mark", "--force")
        assert sdk.read_mark(tmp_path / name) is None

    def test_sizes(self, shell: Shell, tmp_path: Path) -> None:
        bundle = write_tiny_bundle(tmp_path, doublings=1)
        path = write_payload(tmp_path / "me.grain", bundle=bundle)
        out = shell.ok("restore", path, "--bundle", bundle, "--size", 128, "--out", tmp_path / "large.png")
        assert out.endswith(": 128 x 100 pixels\n")
        large = sdk.restore(path, bundle, size=128)
        np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "large.png")), np.asarray(large))
        too_large = "at up to 128 pixels, not at 200; its sizes: 64, 128"
        shell.fails(too_large, "restore", path, "--bundle", bundle, "--size", 200, "--force")
        for size in ("huge", "-1", "0", "1e3", "123456"):
            shell.fails("Invalid value for --size", "restore", path, f"--size={size}", "--force", status=2)

    def test_lr_png(self, shell: Shell, tmp_path: Path, payload: Path) -> None:
        Image.fromarray(sdk.Payload(payload.read_bytes()).lr).save(tmp_path / "lr.png")
        shell.ok("restore", tmp_path / "lr.png")
        assert Image.open(tmp_path / "lr.restored.png").size == (64, 64)

    def test_folder_and_json(self, shell: Shell, tmp_path: Path) -> None:
        for name in ("a", "b"):
            write_payload(tmp_path / "in" / f"{name}.grain")
        rows = shell.json("restore", tmp_path / "in", "-o", tmp_path / "out", "--format", "jpg")["done"]
        assert [row["picture"] for row in rows] == [str(tmp_path / "out" / f"{n}.restored.jpg") for n in ("a", "b")]
        assert [(row["width"], row["height"], row["device"]) for row in rows] == [(90, 70, "cpu")] * 2

    def test_damaged_payload(self, shell: Shell, tmp_path: Path, payload: Path) -> None:
        payload.write_bytes(payload.read_bytes()[:-3])
        status, out, err = shell("restore", payload)
        assert status == 1 and out == "" and err.startswith(f"error: {payload}: the payload") and err.count("\n") == 1
        assert not (tmp_path / "me.restored.png").exists()

    def test_does_not_overwrite(self, shell: Shell, tmp_path: Path, payload: Path) -> None:
        (tmp_path / "me.restored.png").write_text("precious")
        shell.fails("--force", "restore", payload)
        assert (tmp_path / "me.restored.png").read_text() == "precious"
        shell.ok("restore", payload, "--force")

    def test_standard_output(self, payload: Path, capsysbinary: pytest.CaptureFixture[bytes]) -> None:
        status, out, err = Shell(capsysbinary)("restore", payload, "--out", "-", "--format", "webp")
        with Image.open(io.BytesIO(out)) as image:
            assert status == 0 and (image.format, image.size) == ("WEBP", (90, 70))
        assert err.decode() == f"{payload} -> -: 90 x 70 pixels\n"

    def test_other_suffixes_and_large_claims_are_refused(self, shell: Shell, tmp_path: Path, payload: Path) -> None:
        shell.fails("written as .png, .jpg, .jpeg, .webp, not as .doc", "restore", payload, "--out", tmp_path / "x.doc")
        shell.fails("claims an original of 90 x 70", "restore", payload, "--max-megapixels", "0.001")
