"""The evaluator on a tiny bundle whose decoder repeats LR pixels, with metrics that need no networks."""

import colorsys
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from PIL import Image

import sdk
from codec_contract.errors import ImageError
from codec_contract.exact_square import exact_resize
from edgegrain.evaluation import evaluator as evaluation
from edgegrain.evaluation.evaluator import EvaluationConfig, Evaluator, evaluate_photographs, recorded, weights_id
from edgegrain.evaluation.results import CLASSICAL_BY_LPIPS, CLASSICAL_BY_PSNR, PictureResult
from edgegrain.metrics.picture_metrics import mean_saturation, unit_batch
from edgegrain.metrics.pixel_scores import psnr
from edgegrain.metrics.score_names import photographs_in_words
from edgegrain.metrics.weights import DLIB_FILE
from sdk import Codec, RunningDecoder
from tests.gradient_metrics import PHOTOGRAPHS, GradientMetrics
from tests.tiny_bundle import HR, LR, refresh_manifest, repeating_decoder, write_tiny_bundle
from tests.unit.edgegrain.cli.conftest import tiny_face_bundles, tiny_face_root

__all__ = ["tiny_face_bundles", "tiny_face_root"]

BUDGETS = (300, 900)


@pytest.fixture(scope="module")
def codec(tmp_path_factory: pytest.TempPathFactory) -> Codec:
    return Codec(write_tiny_bundle(tmp_path_factory.mktemp("bundles")))


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory, portrait: np.ndarray) -> Path:
    path = tmp_path_factory.mktemp("pictures") / "a.png"
    Image.fromarray(portrait).save(path)
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


def evaluator(
    codec: Codec, folder: Path, config: EvaluationConfig, weights: str = "w", faces: bool = False
) -> Evaluator:
    return Evaluator(codec, GradientMetrics(faces=faces), weights, folder, config)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def result(codec: Codec, path: Path, folder: Path) -> PictureResult:
    return evaluator(codec, folder, EvaluationConfig(True, BUDGETS)).picture(path)


def test_decoders_of_a_bundle_do_not_share_results(tmp_path: Path, path: Path) -> None:
    folder, cache = write_tiny_bundle(tmp_path), tmp_path / "cache"
    model = onnx.load_model_from_string(repeating_decoder())
    weight = model.graph.initializer[0]
    weight.CopyFrom(numpy_helper.from_array(-numpy_helper.to_array(weight), weight.name))
    (folder / "negative.onnx").write_bytes(model.SerializeToString())
    refresh_manifest(folder, decoders={"negative": {"file": "negative.onnx", "controls": []}})
    codecs = [Codec(folder, decoder=name) for name in ("default", "negative", "default")]
    rows = [evaluator(codec, cache, EvaluationConfig(False)).picture(path).ours for codec in codecs]
    default, negative, again = (row.scores.psnr for row in rows)
    assert default == again > negative + 5


def test_the_bundle_is_scored_on_what_it_restores(result: PictureResult, codec: Codec, path: Path) -> None:
    """The decoder repeats pixels and the encoder is the box mean: the restoration can be written down."""
    with Image.open(path) as image:
        original = exact_resize(np.array(image), (HR, HR))
    side = HR // LR
    mean = np.floor(original.reshape(LR, side, LR, side, 3).mean((1, 3)) + 0.5)
    expected = mean.astype(np.uint8).repeat(side, 0).repeat(side, 1)
    ours = result.ours
    assert (ours.picture, ours.method, ours.setting) == ("a.png", codec.bundle.id, None)
    assert result.payload == codec.compress(original)
    assert ours.nbytes == ours.budget == len(result.payload) == result.lr_bytes["payload"]
    assert ours.scores.psnr == pytest.approx(psnr(expected, original), abs=0.05)
    assert result.lr_saturation[0] == pytest.approx(result.lr_saturation[1], abs=5e-3)  # rounded differently
    assert result.lr_bytes["payload"] < result.lr_bytes["webp"] and result.lr_bytes["payload"] < result.lr_bytes["png"]


def test_classical_codecs_get_the_same_bytes(result: PictureResult) -> None:
    rows = {row.method: row for row in result.equal}
    assert [row.method for row in result.equal][:2] == [CLASSICAL_BY_LPIPS, CLASSICAL_BY_PSNR]
    assert {"JPEG, best PSNR", "WebP, best PSNR", "AVIF, best LPIPS-Alex", "JPEG XL, best LPIPS-Alex"} <= set(rows)
    assert all(row.nbytes <= row.budget == result.ours.nbytes for row in result.equal)
    assert rows[CLASSICAL_BY_PSNR].scores.psnr == max(row.scores.psnr for row in result.equal)
    assert rows[CLASSICAL_BY_LPIPS].scores.lpips_alex == min(row.scores.lpips_alex for row in result.equal)
    full = rows["WebP, full size"]
    assert full.setting is not None and full.setting.factor == 1
    assert full.scores.psnr <= rows["WebP, best PSNR"].scores.psnr


def test_curves_keep_their_budgets_and_rise(result: PictureResult) -> None:
    rows = {(row.method, row.budget): row for row in result.curve}
    assert {budget for _, budget in rows} == set(BUDGETS)
    assert all(row.nbytes <= row.budget and row.scores.lpips_vgg is None for row in result.curve)
    assert rows["WebP, best PSNR", 300].scores.psnr < rows["WebP, best PSNR", 900].scores.psnr
    assert rows["WebP, best LPIPS-Alex", 300].scores.lpips_alex > rows["WebP, best LPIPS-Alex", 900].scores.lpips_alex


def test_a_second_run_compresses_and_measures_nothing_and_finds_the_same(
    result: PictureResult, codec: Codec, path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = GradientMetrics.asked
    monkeypatch.setattr(codec, "compress", None)  # a refined payload takes minutes
    assert evaluator(codec, folder, EvaluationConfig(True, BUDGETS)).picture(path) == result
    assert GradientMetrics.asked == asked


def test_an_interrupted_picture_keeps_what_is_done(
    codec: Codec, path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(evaluation._ClassicalSearch, "at_equal_bytes", Mock(side_effect=KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            evaluator(codec, tmp_path, EvaluationConfig()).picture(path)
    assert len(list(tmp_path.iterdir())) == 2  # the payload and its scores
    monkeypatch.setattr(codec, "restore", lambda _: pytest.fail("restored again"))
    assert evaluator(codec, tmp_path, EvaluationConfig()).picture(path).equal


def test_another_search_keeps_what_was_measured_of_the_bundle(
    result: PictureResult, codec: Codec, path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgegrain.evaluation.classical_codecs.SEARCH_REVISION", 0)
    monkeypatch.setattr(codec, "restore", lambda _: pytest.fail("restored again"))
    before = len(list(folder.iterdir()))
    assert evaluator(codec, folder, EvaluationConfig(True, (300,))).picture(path).ours == result.ours
    assert len(list(folder.iterdir())) == before + 2  # at equal bytes, and at one budget


def test_other_weights_or_another_bundle_are_measured_anew(
    result: PictureResult, codec: Codec, path: Path, folder: Path, tmp_path: Path
) -> None:
    asked = GradientMetrics.asked
    found = evaluator(codec, folder, EvaluationConfig(False, BUDGETS), weights="other").picture(path)
    assert (found.equal, found.curve) == ([], []) and found.ours.scores.psnr > 10  # without baselines the bundle alone
    assert GradientMetrics.asked == asked + 1
    other = Codec(write_tiny_bundle(tmp_path, "other-64-lr16"))
    found = evaluator(other, folder, EvaluationConfig(True, BUDGETS)).picture(path)
    assert GradientMetrics.asked == asked + 2
    # The same payload size: the results of the classical codecs are those of the first bundle.
    assert found.ours.nbytes == result.ours.nbytes and found.equal == result.equal


@pytest.mark.parametrize("device", ["cuda", "cpu"])
def test_another_form_of_the_decoder_is_measured_anew(
    codec: Codec, path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, device: str
) -> None:
    monkeypatch.setattr(codec, "device", device)
    for file in ("decoder.onnx", "decoder.onnx", "decoder_cuda.onnx"):
        asked = GradientMetrics.asked
        running = RunningDecoder(file, "float32", "plain", device, "", graphs=False)
        monkeypatch.setattr(Codec, "running_decoder", running)
        evaluator(codec, tmp_path, EvaluationConfig(False)).picture(path)
        if file == "decoder_cuda.onnx":
            assert GradientMetrics.asked == asked + 1
    assert len(list(tmp_path.iterdir())) == 4  # payload and scores of each form


def test_a_larger_size_is_restored_by_the_enlarger_and_compared_with_bicubic(
    path: Path, tmp_path: Path, portrait: np.ndarray
) -> None:
    """The enlarger repeats pixels, so what it makes of the decoder's square is known."""
    large = Codec(write_tiny_bundle(tmp_path, doublings=1))
    found = evaluator(large, tmp_path / "cache", EvaluationConfig(False, side=2 * HR)).picture(path)
    original = exact_resize(portrait, (2 * HR, 2 * HR))
    square = large.restore(large.compress(original), size="native")
    repeated = np.asarray(square).repeat(2, 0).repeat(2, 1)
    assert found.ours.scores.psnr == pytest.approx(psnr(repeated, original))
    (bicubic,) = found.equal
    assert (bicubic.method, bicubic.nbytes) == ("tiny-64-lr16, bicubic", found.ours.nbytes)
    enlarged = np.asarray(square.resize((2 * HR, 2 * HR), Image.Resampling.BICUBIC))
    assert bicubic.scores.psnr == pytest.approx(psnr(enlarged, original))
    # At its own size the enlarger takes no part.
    assert evaluator(large, tmp_path / "cache", EvaluationConfig(False)).picture(path).equal == []


def test_budgets_lie_around_the_payloads() -> None:
    assert evaluation.curve_budgets([540, 580]) == (300, 450, 600, 900, 1300, 2000)
    assert evaluation.curve_budgets([4000]) == (2000, 3000, 4500, 7000, 10000, 15000)


def test_weights_are_told_apart_by_content(tmp_path: Path) -> None:
    (tmp_path / DLIB_FILE).write_bytes(b"1")
    first = weights_id(tmp_path)
    (tmp_path / "notes.npz").write_text("no weights")
    assert weights_id(tmp_path) == first
    (tmp_path / DLIB_FILE).write_bytes(b"2")
    assert weights_id(tmp_path) != first


@pytest.mark.parametrize("damage", [b"{", b'{"key": {}, "value": 7}', b"\xff"])
def test_a_damaged_record_is_computed_again(tmp_path: Path, damage: bytes) -> None:
    recorded(tmp_path, {"a": 1}, lambda: "first")
    (file,) = tmp_path.iterdir()
    file.write_bytes(damage)
    assert recorded(tmp_path, {"a": 1}, lambda: "second") == "second"
    assert recorded(tmp_path, {"a": 1}, lambda: "third") == "second"


def test_it_is_that_of_hsv() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (4, 5, 3), np.uint8)
    picture[0, 0] = 0
    expected = np.mean([colorsys.rgb_to_hsv(*(pixel / 255))[1] for pixel in picture.reshape(-1, 3)])
    assert mean_saturation(unit_batch(picture)).item() == pytest.approx(expected, rel=1e-5)


def test_a_faded_lr_has_less_than_the_area_mean() -> None:
    original = np.zeros((8, 8, 3), np.uint8)
    original[:, ::2], original[:, 1::2] = (200, 100, 100), (100, 50, 50)
    lr = np.full((2, 2, 3), (150, 110, 110), np.uint8)
    assert evaluation.lr_saturation(lr, original) == pytest.approx((40 / 150, 75 / 150), rel=1e-5)


@pytest.fixture
def pictures(tmp_path: Path, portrait: np.ndarray, tiny_face_bundles: Path) -> Path:
    """A framed portrait, a photograph with a small one, and a grey picture."""
    Image.fromarray(portrait).save(tmp_path / "framed.png")
    photograph = np.full((400, 500, 3), 130, np.uint8)
    photograph[100:300, 200:400] = np.asarray(Image.fromarray(portrait).resize((200, 200)))
    Image.fromarray(photograph).save(tmp_path / "photograph.png")
    Image.new("RGB", (200, 200), (9, 90, 80)).save(tmp_path / "grey.png")
    return tmp_path


def test_faces_before_and_after(pictures: Path) -> None:
    codec, dlib, mobileface = sdk.Codec(), Mock(), Mock()  # networks that compare means, and the pictures themselves
    dlib.distance.side_effect = lambda before, after: 10 * (before.mean() - after.mean()).abs()
    mobileface.distance.side_effect = lambda before, after: (
        1 - torch.cosine_similarity(before.flatten(1), after.flatten(1))
    )
    paths = [pictures / name for name in ("framed.png", "photograph.png", "grey.png")]
    scores = evaluate_photographs(codec, paths, [pictures / "grey.png", pictures / "framed.png"], dlib, mobileface)
    assert [scores[key] for key in ("photographs", "missed", "empty", "invented")] == [3, 1, 2, 1]
    assert [call.args[0].shape for call in dlib.distance.call_args_list] == [(1, 3, 64, 64)] * 2
    assert scores["bytes"] == np.mean([len(sdk.compress(path)) for path in paths[:2]])
    # The tests' decoder repeats pixels, which keeps the mean and the coarse picture.
    assert 0 <= scores["identity"] < 0.2 and scores["above"] == 0 and 0 < scores["identity_mobileface"] < 0.2
    with pytest.raises(ImageError, match="no face was found in any of the photographs"):
        evaluate_photographs(codec, [pictures / "grey.png"], [], dlib, mobileface)


def test_in_words() -> None:
    text = photographs_in_words(PHOTOGRAPHS)
    assert "of 36 photographs as people have them, a face was found in 34 (2 missed)" in text
    assert "334 bytes" in text and "0.431 (dlib; 3% above 0.6) and 0.198 (MobileFace)" in text
    assert text.endswith("In 1 of 38 pictures without faces one was found.")
    assert "without faces" not in photographs_in_words({**PHOTOGRAPHS, "empty": 0})
