"""Compare the scores of decoders: they come from their own pictures, and every rule refuses by itself."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from codec_contract.rgb import Rgb
from edge_encoder.architectures import EncoderConfig
from edge_encoder.lowering import box_network
from edgegrain.metrics.picture_metrics import Scores
from edgegrain.metrics.psnr_ssim import psnr
from edgegrain.publishing.improvement import Figures, measure, shortcomings
from export.decoder.sources import DecoderSource
from server_decoder.grain.grain import Grain
from server_decoder.grain.presets import PRESETS
from server_decoder.grain.rrdb_decoder import RRDBDecoder

ENCODER = EncoderConfig(hr=64, lr=16, patch=2, channels=(8, 16), blocks=(1, 1))
PUBLISHED = Figures({"psnr": 25.0, "lpips_alex": 0.150, "lpips_alex_off_grid": 0.160, "lpips_vgg": 0.330,
                     "identity": 0.400})


class FlatMetrics:
    """Scores that need no weights: LPIPS-Alex is the mean difference in levels."""

    def against(self, original: Rgb) -> FlatMetrics:
        self.original = original
        return self

    def lpips_alex(self, picture: Rgb) -> float:
        return float(np.abs(picture.astype(int) - self.original).mean())

    def lpips_alex_off_grid(self, picture: Rgb) -> float:
        return 2 * self.lpips_alex(picture)

    def scores(self, picture: Rgb) -> tuple[Scores, None]:
        return Scores(psnr(picture, self.original), 0.5, self.lpips_alex(picture), 0.25), None


def test_figures_come_from_what_the_decoder_restores() -> None:
    torch.manual_seed(0)
    decoder = RRDBDecoder(PRESETS["grain-smoke"].decoder).eval()
    with torch.no_grad():
        for parameter in decoder.head[-1].parameters():
            parameter.zero_()  # grey, level 128
    originals = [np.full((64, 64, 3), level, np.uint8) for level in (100, 140)]
    figures = measure(DecoderSource("grey", decoder, box_network(ENCODER)), originals, FlatMetrics())  # type: ignore[arg-type]
    assert figures.scores["lpips_alex"] == pytest.approx((28 + 12) / 2)
    assert figures.scores["lpips_alex_off_grid"] == pytest.approx(28 + 12)
    assert figures.scores["lpips_vgg"] == 0.25 and "identity" not in figures.scores
    assert figures.lpips_without_prior is None


def test_a_generator_is_also_measured_with_its_features_at_zero() -> None:
    torch.manual_seed(0)
    decoder = Grain(PRESETS["grain-smoke"]).eval()
    assert decoder.fusion is not None
    torch.nn.init.normal_(decoder.fusion.to_rgb.weight)
    figures = measure(DecoderSource("random", decoder, box_network(ENCODER)),
                      [np.full((64, 64, 3), 90, np.uint8)], FlatMetrics())  # type: ignore[arg-type]
    assert figures.lpips_without_prior is not None
    assert figures.lpips_without_prior != pytest.approx(figures.scores["lpips_alex"])


@pytest.mark.parametrize(("change", "without", "reason"), [
    ({}, None, None), ({}, 0.158, None), ({"psnr": 20.0}, None, None),
    ({"lpips_alex": 0.151}, None, "LPIPS-Alex of 0.1510 is worse than the 0.1500 of faces"),
    ({"lpips_alex_off_grid": 0.161}, None, "LPIPS-Alex off its grid of 0.1610 is worse than the 0.1600 of faces"),
    ({"lpips_vgg": 0.331}, None, "LPIPS-VGG of 0.3310"),
    ({"identity": 0.401}, None, "identity distance of 0.4010"),
    ({}, 0.157, "without its generator LPIPS-Alex is 0.1570"),
])
def test_every_rule_refuses_by_itself(change: dict[str, float], without: float | None, reason: str | None) -> None:
    found = shortcomings(Figures({**PUBLISHED.scores, **change}, without), PUBLISHED, "faces")
    assert len(found) == (reason is not None)
    assert reason is None or reason in found[0]
