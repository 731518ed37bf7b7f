"""compress, restore and Codec on a bundle with simple arithmetic: the encoder averages, the decoder repeats."""

import base64
import copy
import io
import multiprocessing
import pickle
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from starlette.datastructures import UploadFile

import sdk
from codec_contract.bundle.find import DEFAULT_BUNDLE
from codec_contract.fit import fit_picture, restored_size, unfit_picture
from tests.payload_bytes import sealed
from tests.pictures import encoded, noise
from tests.tiny_bundle import HR, LR, refresh_manifest, write_tiny_bundle

pytestmark = pytest.mark.usefixtures("tiny_bundles")


def picture(height: int = HR, width: int = HR, seed: int = 0) -> np.ndarray:
    coarse = noise(-(-width // 8), -(-height // 8), seed)
    return coarse.repeat(8, axis=0).repeat(8, axis=1)[:height, :width].copy()


def box_mean(square: np.ndarray) -> np.ndarray:
    factor = HR // LR
    total = square.astype(int).reshape(LR, factor, LR, factor, 3).sum(axis=(1, 3))
    return ((total + factor * factor // 2) // (factor * factor)).astype(np.uint8)


def repeated(lr: np.ndarray) -> np.ndarray:
    return lr.repeat(HR // LR, axis=0).repeat(HR // LR, axis=1)


def test_values_by_hand() -> None:
    rgb = picture()
    payload = sdk.compress(rgb)
    assert isinstance(payload, sdk.Payload) and isinstance(payload, bytes)
    np.testing.assert_array_equal(payload.lr, box_mean(rgb))
    restored = sdk.restore(payload)
    assert isinstance(restored, Image.Image) and restored.mode == "RGB"
    np.testing.assert_array_equal(np.asarray(restored), repeated(box_mean(rgb)))


def test_every_source_gives_the_same_payload(tmp_path: Path) -> None:
    rgb = picture()
    path = tmp_path / "p.png"
    path.write_bytes(encoded(rgb))
    expected = sdk.compress(rgb)
    data = path.read_bytes()
    arrays: list[Any] = [data, bytearray(data), memoryview(data), memoryview(data[::-1])[::-1]]
    with path.open("rb") as file:
        files = path, str(path), file, file, UploadFile(io.BytesIO(data))
        for source in (*arrays, *files, Image.fromarray(rgb), Image.open(path)):
            assert sdk.compress(source) == expected
        assert not file.closed


def test_a_heic_picture(tmp_path: Path) -> None:
    heif = pytest.importorskip("pillow_heif", reason="needs the extra heic")
    if not heif.libheif_info()["HEIF"]:
        pytest.skip("this pillow-heif cannot write HEIC")
    rgb = picture()
    heif.from_pillow(Image.fromarray(rgb)).save(tmp_path / "p.heic", quality=95, chroma=444)
    payload = sdk.compress(tmp_path / "p.heic")
    assert payload.original_size == (HR, HR) and np.abs(payload.lr.astype(int) - box_mean(rgb)).mean() < 6


def test_every_form_of_a_payload_restores(tmp_path: Path) -> None:
    rgb = picture()
    payload = sdk.compress(rgb)
    path = payload.save(tmp_path / "p.grain")
    lr_path = tmp_path / "lr.png"
    lr_path.write_bytes(encoded(payload.lr))
    expected = np.asarray(sdk.restore(payload))
    forms: list[Any] = [bytes(payload), bytearray(payload), memoryview(payload), path, str(path), io.BytesIO(payload)]
    forms += [payload.lr, encoded(payload.lr), lr_path, str(lr_path), Image.fromarray(payload.lr)]
    text, text_path = payload.text(), tmp_path / "p.txt"
    text_path.write_text(text + "\n", "utf-8-sig")  # with a byte order mark
    forms += [text, text.encode(), text_path, "\ufeff" + text, io.BytesIO(text.encode("utf-8-sig"))]
    forms += [payload.text("base45"), f"data:application/vnd.edgegrain;base64,{base64.b64encode(payload).decode()}"]
    for form in forms:
        np.testing.assert_array_equal(np.asarray(sdk.restore(form)), expected)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "1", "I;16"])
def test_an_lr_in_other_pixels(mode: str) -> None:
    """`canvas.toBlob` and Android write RGBA."""
    grey = np.arange(LR * LR, dtype=np.uint8).reshape(LR, LR)
    shown = Image.fromarray(picture(LR, LR) if mode == "RGBA" else grey)
    lr = Image.fromarray(grey.astype(np.uint16) * 257) if mode == "I;16" else shown.convert(mode)
    expected = np.asarray(sdk.restore(np.asarray((shown if mode == "I;16" else lr).convert("RGB"))))
    forms: list[Any] = [lr, encoded(lr), *([np.asarray(lr)] if mode == "RGBA" else [])]
    for form in forms:
        np.testing.assert_array_equal(np.asarray(sdk.restore(form)), expected)


def test_an_lr_that_is_no_8_bit_rgb() -> None:
    clear = Image.new("RGBA", (LR, LR), (9, 9, 9, 254))
    one = Image.new("RGB", (LR, LR), (9, 9, 9))
    one.info["transparency"] = (9, 9, 9)
    for lr in (clear, clear.convert("LA"), one, np.asarray(clear)):
        with pytest.raises(sdk.ImageError, match="an LR is opaque, this picture has transparent pixels"):
            sdk.restore(lr)
    with pytest.raises(sdk.ImageError, match="levels of 8 bits, this picture has others of 16"):
        sdk.restore(Image.fromarray(np.full((LR, LR), 258, np.uint16)))


def test_a_text_and_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A str that begins as a text does is a path if it is no whole payload and there is such a file."""
    payload = sdk.compress(picture())
    monkeypatch.chdir(tmp_path)
    for length in (80, 1000):  # the second is too long for the name of a file
        with pytest.raises(sdk.PayloadError, match=f"{length * 3 // 4} of 777 bytes"):
            sdk.restore(payload.text()[:length])
    for name in ("7W4Q.grain", "quiet", "HELLO"):
        payload.save(name)
        assert sdk.inspect(name).bytes == len(payload)
    with pytest.raises(sdk.PayloadError, match="cannot read the payload quiet.png: "):
        sdk.restore("quiet.png")
    assert type(sdk.Payload.from_text(payload.text())) is sdk.Payload
    with pytest.raises(sdk.PayloadError, match="is not whole base64url"):
        sdk.Payload.from_text("7W4Q.grain")
    batch = [payload, payload[:6]]
    with pytest.raises(sdk.PayloadError, match="payload 1: a payload has at least 7 bytes, got 6") as error:
        sdk.Codec().restore_batch(batch)
    assert error.value.truncated


def test_addresses_and_text_files(tmp_path: Path) -> None:
    for work in (sdk.compress, sdk.restore, sdk.read_mark):
        with pytest.raises(sdk.EdgegrainError, match=r"download it first, with httpx.get\(url\).content"):
            work("https://example.org/me.jpg")
    (tmp_path / "p.txt").write_text("7W4Q")
    with (tmp_path / "p.txt").open() as file:
        with pytest.raises(sdk.ImageError, match="an open binary file, .* got TextIOWrapper"):
            sdk.compress(file)  # type: ignore[arg-type]
        with pytest.raises(sdk.PayloadError, match="got TextIOWrapper"):
            sdk.restore(file)  # type: ignore[arg-type]


@pytest.mark.parametrize("fit", ["pad", "stretch", "crop"])
@pytest.mark.parametrize("size", [(1, 1), (640, 480), (31, 200), (1, 5000), (5000, 1)])
def test_fits(fit: str, size: tuple[int, int]) -> None:
    rgb = picture(size[1], size[0])
    payload = sdk.compress(rgb, fit=fit)
    assert payload.fit == fit and payload.original_size == size
    np.testing.assert_array_equal(payload.lr, box_mean(fit_picture(rgb, HR, fit)))
    square = repeated(payload.lr)
    for wanted in ("original", "native"):
        restored = np.asarray(sdk.restore(payload, size=wanted))
        shown = restored_size(payload.header, HR, wanted)
        np.testing.assert_array_equal(restored, unfit_picture(square, payload.header, shown))
    assert sdk.restore(payload).size == ((min(size),) * 2 if fit == "crop" else size)


def test_background_reaches_the_encoder() -> None:
    clear = np.zeros((HR, HR, 4), np.uint8)
    assert (sdk.compress(clear, background=(1, 2, 3)).lr == (1, 2, 3)).all()
    assert (sdk.compress(clear).lr == 255).all()


def test_payload_names_its_bundle_and_restore_finds_it() -> None:
    rgb = picture()
    payload = sdk.compress(rgb, bundle="random-64-lr16")
    assert payload.bundle == "random-64-lr16"
    assert payload != sdk.compress(rgb)
    np.testing.assert_array_equal(np.asarray(sdk.restore(bytes(payload))), repeated(payload.lr))
    with pytest.raises(sdk.PayloadError, match=f"bundle {DEFAULT_BUNDLE} has"):
        sdk.restore(payload, bundle="faces")


def test_bundle_in_a_folder(tmp_path: Path) -> None:
    folder = write_tiny_bundle(tmp_path, "elsewhere", random=True)
    refresh_manifest(folder, lr_contract_id="ab" * 32)
    rgb = picture()
    payload = sdk.compress(rgb, bundle=folder)
    assert payload.bundle is None
    assert payload.lr.shape == (LR, LR, 3)  # known from compressing, without the bundle being installed
    with pytest.raises(sdk.PayloadError, match=r"contract abab, .*installed: .*bundle=, --bundle"):
        sdk.restore(payload)
    with pytest.raises(sdk.PayloadError, match="no installed bundle"):
        _ = sdk.Payload(bytes(payload)).lr
    np.testing.assert_array_equal(np.asarray(sdk.restore(payload, bundle=str(folder))), repeated(payload.lr))


class TestCodec:
    def test_batches_equal_single_calls(self) -> None:
        codec = sdk.Codec(threads=1)
        pictures = [picture(20 + 7 * index, 90 - 5 * index, seed=index) for index in range(11)]  # more than one group
        payloads = codec.compress_batch(iter(pictures))
        assert payloads == [codec.compress(item) for item in pictures]
        restored = codec.restore_batch(payloads)
        assert [item.size for item in restored] == [(item.shape[1], item.shape[0]) for item in pictures]
        for one, payload in zip(restored, payloads, strict=True):
            np.testing.assert_array_equal(np.asarray(one), np.asarray(codec.restore(payload)))
        assert codec.compress_batch([]) == [] and codec.restore_batch([]) == []

    def test_it_can_restore_payloads_of_its_own_contract(self, tmp_path: Path) -> None:
        other = write_tiny_bundle(tmp_path, "tiny-other", random=True)
        payload = sdk.compress(picture())
        assert sdk.Codec().can_restore(payload) and not sdk.Codec(other).can_restore(payload)

    def test_errors_in_a_batch_name_the_position(self) -> None:
        codec = sdk.Codec()
        with pytest.raises(sdk.ImageError, match=r"^picture 9: .*not a picture"):
            codec.compress_batch([picture()] * 9 + [b"not a picture"])
        with pytest.raises(sdk.PayloadError, match=r"^payload 1: "):
            codec.restore_batch([codec.compress(picture()), b"nonsense nonsense nonsense"])

    def test_shared_by_threads(self) -> None:
        codec = sdk.Codec()  # nothing opened yet: the threads race for it
        pictures = [picture(seed=seed) for seed in range(4)]
        expected = [(box_mean(item), repeated(box_mean(item))) for item in pictures]

        def work(index: int) -> None:
            for step in range(6):
                chosen = (index + step) % len(pictures)
                payload = codec.compress(pictures[chosen])
                np.testing.assert_array_equal(payload.lr, expected[chosen][0])
                np.testing.assert_array_equal(codec.restore(payload), expected[chosen][1])

        with ThreadPoolExecutor(6) as threads:
            list(threads.map(work, range(6)))

    def test_copies_and_processes_open_it_again(self) -> None:
        codec = sdk.Codec("faces", threads=1)
        payload = codec.compress(picture())
        for other in (copy.deepcopy(codec), pickle.loads(pickle.dumps(codec))):  # noqa: S301 - our own bytes
            assert repr(other) == repr(codec) and other.bundle == codec.bundle and other.compress(picture()) == payload
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
            assert repr(pool.submit(copy.copy, codec).result(60)) == repr(codec)

    def test_describes_itself(self) -> None:
        codec = sdk.Codec("faces", threads=2)
        assert repr(codec) == f"Codec(bundle={DEFAULT_BUNDLE!r}, device='cpu', threads=2)"
        assert codec.bundle.hr == HR and codec.bundle.lr == LR
        codec.warm_up()


class TestRefusals:
    def test_no_payload(self, tmp_path: Path) -> None:
        for source in (b"", b"short", b"x" * 100, tmp_path / "absent.grain", tmp_path, 7, None):
            with pytest.raises(sdk.PayloadError):
                sdk.restore(source)  # type: ignore[arg-type]
        with (tmp_path / "large.grain").open("wb") as file:
            file.truncate(1 << 31)
        with pytest.raises(sdk.PayloadError, match="more than 67108864 bytes"):
            sdk.restore(tmp_path / "large.grain")

    def test_lr_of_another_size_is_refused_before_it_is_decoded(self) -> None:
        content = bytearray(sdk.compress(np.full((HR, HR, 3), 90, np.uint8))[:-3])
        content[0] = 0xAB  # claims 128 x 128
        with pytest.raises(sdk.PayloadError, match="LR of 128 x 128, bundle .* works with 16 x 16"):
            sdk.restore(sealed(bytes(content)))

    def test_huge_claim_is_refused_before_anything_is_made(self) -> None:
        payload = sdk.compress(np.zeros((2, 5000, 3), np.uint8))
        with pytest.raises(sdk.ImageError, match=r"claims an original of 5000 x 2 pixels, more than 9999"):
            sdk.restore(payload, max_pixels=9999)
        assert sdk.restore(payload, size="native", max_pixels=9999).size == (HR, 1)
        with pytest.raises(sdk.ImageError, match="max_pixels is a whole number"):
            sdk.restore(payload, max_pixels=float("nan"))  # type: ignore[arg-type]

    def test_other_lrs(self) -> None:
        arrays = np.zeros((8, 8, 3), np.uint8), np.zeros((LR, LR), np.uint8), np.zeros((LR, LR, 3), np.float32)
        sizes = ("RGB", (LR, 8)), ("RGBA", (LR, LR)), ("RGB", (300, 300))
        for lr in (*arrays, *(Image.new(*size) for size in sizes)):
            with pytest.raises(sdk.ImageError):
                sdk.restore(lr)

    def test_unknown_names(self) -> None:
        with pytest.raises(sdk.BundleError, match="no bundle 'cats'"):
            sdk.compress(picture(), bundle="cats")
        with pytest.raises(sdk.ImageError, match="unknown fit"):
            sdk.compress(picture(), fit="cover")
        with pytest.raises(sdk.ImageError, match="unknown size"):
            sdk.restore(sdk.compress(picture()), size="big")
        with pytest.raises(sdk.DeviceError, match="unknown device"):
            sdk.Codec(device="npu")

    def test_altered_bundle(self, tmp_path: Path) -> None:
        folder = write_tiny_bundle(tmp_path)
        altered = bytearray((folder / "encoder.onnx").read_bytes())
        altered[100] ^= 1
        (folder / "encoder.onnx").write_bytes(altered)
        with pytest.raises(sdk.BundleError, match="SHA-256"):
            sdk.Codec(folder).compress(picture())
        refresh_manifest(folder, preprocessing={"resize": "lanczos", "pad": "edge"})
        with pytest.raises(sdk.BundleError, match="'lanczos'.*update edgegrain"):
            sdk.Codec(folder)
