"""Compare the scores of decoders: they come from their own pictures, and every rule refuses by itself."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from codec_contract.pixels import Rgb
from edge_encoder.twin import EncoderConfig, box_network
from edgegrain.evaluation.classical_codecs import encode_lossless
from edgegrain.evaluation.results import SCORES
from edgegrain.metrics.kid import KIDS, Estimate
from edgegrain.metrics.picture_metrics import Scores
from edgegrain.metrics.pixel_scores import psnr
from edgegrain.metrics.score_names import GRIDS
from edgegrain.pictures.stored_pictures import original_of
from edgegrain.publishing import publish
from edgegrain.publishing.publish import JUDGES, Figures, changes, losses_of, measure, shortcomings
from edgegrain.training.checkpoint import save_checkpoint
from edgegrain.training.grain.recipes import GRAIN_RECIPES
from edgegrain.training.grain.start import start_run
from export.decoder import WeightStorage
from export.decoder.export import DecoderSource
from server_decoder.grain.grain import PRESETS, Grain
from server_decoder.grain.rrdb_decoder import RRDBDecoder

ENCODER = EncoderConfig(hr=64, lr=16, patch=2, channels=(8, 16), blocks=(1, 1))
PICTURES = 40
FEATURES = np.random.default_rng(0).standard_normal((3, PICTURES, 8)).astype(np.float32)


def figures(gain: float = 0.0, noise: float = 0.0, without: float | None = None, **moved: float) -> Figures:
    """Scores of a decoder that is better by ``gain`` on every judge, or as ``moved`` says, give or take ``noise``."""
    rng = np.random.default_rng(1)
    rows = []
    for _ in range(PICTURES):
        scores = Scores(25.0, 0.7, 0.150, 0.330, 0.400, 0.280, 0.350)
        judged = {name: getattr(scores, name) - gain + moved.get(name, 0.0) + noise * rng.standard_normal()
                  for name in ("lpips_vgg", "dists", "identity_mobileface")}
        rows.append(replace(scores, lpips_alex=0.150 + moved.get("lpips_alex", 0.0), **judged))
    features = FEATURES[0] + (1.0 - 40 * gain + 40 * moved.get("kid", 0.0)) * FEATURES[1]
    return Figures(tuple(rows), {"kid": features}, {"kid": FEATURES[0]}, without, lr_bytes=500.0)


class FlatMetrics:
    """Scores that need no weights: LPIPS-Alex is the mean difference in levels."""

    def against(self, original: Rgb) -> FlatMetrics:
        self.original = original
        self.features = {"kid": original[0, :1].astype(np.float32)}
        return self

    def lpips_alex(self, picture: Rgb) -> float:
        return float(np.abs(picture.astype(int) - self.original).mean())

    def scores(self, picture: Rgb) -> tuple[Scores, dict[str, np.ndarray]]:
        return (Scores(psnr(picture, self.original), 0.5, self.lpips_alex(picture), 0.25),
                {"kid": picture[0, :1].astype(np.float32)})


def test_figures_come_from_what_the_decoder_restores() -> None:
    decoder = RRDBDecoder(PRESETS["grain-smoke"].decoder).eval()
    with torch.no_grad():
        for parameter in decoder.head[-1].parameters():
            parameter.zero_()  # grey, level 128
    originals = [np.full((64, 64, 3), level, np.uint8) for level in 3 * (100, 140)]
    found = measure(DecoderSource("grey", decoder, box_network(ENCODER.hr, ENCODER.lr)), originals, FlatMetrics())  # type: ignore[arg-type]
    assert found.scores["lpips_alex"] == pytest.approx((28 + 12) / 2)
    assert found.scores["lpips_vgg"] == 0.25 and "identity" not in found.scores
    assert found.features["kid"].shape == (6, 1, 3) and "kid" in found.scores and "kid_eyes" not in found.scores
    assert found.lpips_without_prior is None
    assert found.lr_bytes == np.mean([len(encode_lossless(original[::4, ::4], "png")) for original in originals])


def test_a_decoder_gets_the_levels_that_payloads_store_and_is_also_measured_without_its_generator() -> None:
    decoder, given = Grain(PRESETS["grain-smoke"]).eval(), []
    torch.nn.init.normal_(decoder.fusion.to_rgb.weight)
    decoder.register_forward_pre_hook(lambda module, args: given.append((args[0] + 1) * 127.5))
    found = measure(DecoderSource("steps", decoder, box_network(ENCODER.hr, ENCODER.lr), step=8),
                    [np.full((64, 64, 3), 101, np.uint8)], FlatMetrics())  # type: ignore[arg-type]
    torch.testing.assert_close(given[0], torch.full((1, 3, 16, 16), 104.0))
    assert found.lpips_without_prior != pytest.approx(found.scores["lpips_alex"])


def test_a_change_is_paired_and_leaves_out_training_losses_and_what_was_not_measured() -> None:
    found = changes(figures(0.01, noise=0.02), figures(noise=0.02), {"dists"})
    assert list(found) == ["lpips_vgg", "identity_mobileface", "kid"]
    assert (found["lpips_vgg"].value, found["lpips_vgg"].low) == pytest.approx((-0.01, -0.01))  # the noise is the same
    assert found["kid"].low < found["kid"].value < found["kid"].high < 0
    new = figures(0.01)
    unmeasured = replace(new, rows=tuple(replace(row, identity_mobileface=None) for row in new.rows))
    assert list(changes(unmeasured, figures())) == ["lpips_vgg", "dists", "kid"]


@pytest.mark.parametrize(("earlier", "now", "published", "grids"), [
    ({}, 0.0, {}, False), ({"grid": 2.0}, 0.0, {}, True), ({}, 2.0, {}, True), ({}, 0.0, {"grid": 2.0}, True)])
def test_a_loss_of_any_stage_of_either_is_no_judge(earlier: dict[str, float], now: float, published: dict[str, float],
                                                   grids: bool) -> None:
    recipe = GRAIN_RECIPES["smoke-stage1"]
    run = start_run(replace(recipe, loss=replace(recipe.loss, grid=now)), None)
    run.history = ({"stage": "1", "pictures": 30, **earlier},)
    found = losses_of(run, "faces", {"stages": [{"stage": "1", "pictures": 40, **published}]})
    assert found == {"lpips_alex", "identity", *(GRIDS if grids else ())}


def test_eyes_mouth_and_grids_are_judges() -> None:
    assert set(JUDGES) <= {*SCORES, *KIDS}
    details = {"lpips_eyes": 0.3, "lpips_mouth": 0.3, "chroma_eyes": 4.0, "chroma_mouth": 5.0, "grid_2": 1.0,
               "grid_4": 3.0, "grid_8": 9.0, "grid_16": 4.0}

    def detailed(figures: Figures, factor: float) -> Figures:
        scale = {name: factor * value for name, value in details.items()}
        sets = dict.fromkeys(KIDS, FEATURES[0] + factor * FEATURES[1])
        return replace(figures, rows=tuple(replace(row, **scale) for row in figures.rows), features=sets,
                       original_features=dict.fromkeys(KIDS, FEATURES[0]))

    old = detailed(figures(), 1)
    found = changes(detailed(figures(0.01), 0.5), old)
    assert list(found) == list(JUDGES) and all(change.high < 0 for change in found.values())
    grid = replace(old, rows=tuple(replace(row, grid_8=12.0) for row in old.rows))
    assert "grid of 8: worse than that of faces by 3.0000 (95 % interval 3.0000 to 3.0000)" in (
        shortcomings(changes(grid, old), grid, old, "faces"))
    eyes = replace(old, features={**old.features, "kid_eyes": FEATURES[0] + 2 * FEATURES[1]})
    assert shortcomings(changes(eyes, old), eyes, old, "faces")[0].startswith("KID, eyes: worse than that of faces")


@pytest.mark.parametrize(("new", "reason"), [
    (figures(0.01), None),
    (figures(0.01, without=0.158), None),
    (figures(0.01, lpips_alex=0.1), None),  # a training loss is no judge
    (figures(0.01, dists=0.02), "DISTS: worse than that of faces by 0.0100 (95 % interval 0.0100 to 0.0100)"),
    (figures(0.01, kid=0.05), "KID: worse than that of faces"),
    (figures(), "only 0 of 4 judges are better than faces"),
    (replace(figures(0.01), lr_bytes=510.0), None),
    (replace(figures(0.01), lr_bytes=511.0), "its LRs need more bytes: 511 on average as PNG, those of faces 500"),
    (figures(0.01, without=0.157), "without its generator LPIPS-Alex is 0.1570, hardly worse than the 0.1500 with it"),
])
def test_every_rule_refuses_by_itself(new: Figures, reason: str | None) -> None:
    found = shortcomings(changes(new, figures()), new, figures(), "faces")
    assert len(found) == (reason is not None)
    assert reason is None or reason in found[0]


@pytest.mark.parametrize(("worse", "published"), [(1, True), (2, False)])
def test_within_the_interval_the_majority_decides(worse: int, published: bool) -> None:
    found = {judge: Estimate(0.001 if index < worse else -0.001, -0.002, 0.002)
             for index, judge in enumerate(("dists", "kid", "kid_eyes", "lpips_vgg"))}
    reasons = shortcomings(found, figures(), figures(), "faces")
    assert reasons == ([] if published else ["only 2 of 4 judges are better than faces (KID, eyes; LPIPS-VGG)"])


def test_originals_and_weights_are_those_of_an_evaluation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """JPEGs too, which training pictures are decoded from at a fraction of their size, and weights as they are stored.
    """
    run, seen, weights = start_run(GRAIN_RECIPES["smoke-stage1"], None), [], []
    save_checkpoint(tmp_path / "run", run)
    (tmp_path / "unseen").mkdir()
    cells = np.random.default_rng(0).integers(0, 256, (9, 9, 3), dtype=np.uint8)
    for name in ("a.jpg", "b.jpg"):
        Image.fromarray(cells).resize((800, 700), Image.Resampling.BICUBIC).save(tmp_path / "unseen" / name)

    class Metrics(FlatMetrics):
        def __init__(self, *_: object, **__: object) -> None: ...

        def against(self, original: Rgb) -> FlatMetrics:
            seen.append(original)
            return super().against(original)

    monkeypatch.setattr(publish, "find_decoder", lambda _: DecoderSource(
        "published", publish.final_decoder(run), publish.integer_encoder(run)))
    monkeypatch.setattr(publish, "find_metric_weights", lambda *_, **__: None)
    monkeypatch.setattr(publish, "PictureMetrics", Metrics)
    monkeypatch.setattr(publish, "measure", lambda source, *rest: (
        weights.append(source.decoder.conv_first.weight.clone()), measure(source, *rest))[1])
    figures, reasons = publish.compare(tmp_path / "run", tmp_path / "bundle", tmp_path / "unseen")
    assert figures["pictures_compared"] == 2 and "only 0 of" in reasons[0]
    assert all(np.array_equal(original, original_of(tmp_path / "unseen/a.jpg", 64)) for original in seen)
    new, published = weights
    assert torch.equal(new, published.half().float()) and not torch.equal(new, published)
    publish.compare(tmp_path / "run", tmp_path / "bundle", tmp_path / "unseen", storage=WeightStorage.float32)
    assert torch.equal(weights[2], published)
