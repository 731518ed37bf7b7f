"""Rows, means and files of an evaluation, on results that were written down."""

import json
import math
from dataclasses import asdict, astuple
from pathlib import Path

import numpy as np
import pytest

from edgegrain.evaluation import results
from edgegrain.evaluation.classical_codecs import Setting
from edgegrain.evaluation.results import CLASSICAL_BY_PSNR, PictureResult, Row, equal_means, packed, row_from, summary
from edgegrain.metrics.kid import kernel_distance, mean_interval
from edgegrain.metrics.picture_metrics import Scores
from sdk import BundleInfo

BUNDLE = BundleInfo("ours", "1.2.3", (), "grain", "faces", 64, 16, "ab" * 32, 1, Path(), {})
VECTORS = np.random.default_rng(0).standard_normal((3, 5, 8)).astype(np.float32)  # original, ours, classical


def result(index: int, *, psnr: float = 24.0, fits: bool = True, vgg: float | None = 0.3) -> PictureResult:
    """Of picture ``index``; its bytes and scores follow from the index."""
    name = f"{index}.png"
    original, ours, classical = (
        packed({"kid": vectors[index][None], "kid_eyes": vectors[index].reshape(2, 4)}) for vectors in VECTORS
    )
    scores = Scores(psnr + index, 0.7, 0.1 * (index + 1), vgg, 0.4)
    nbytes, setting = 500 + index, Setting("webp", 2.5, 31)
    rival = Row(name, CLASSICAL_BY_PSNR, nbytes, 490, Scores(26.0, 0.75, 0.5, 0.4, 0.5), setting, classical)
    curve = [
        Row(name, "AVIF, best PSNR", budget, budget - index, Scores(20.0 + budget / 300, 0.6, 0.5))
        for budget in (300, 600)
        if fits or budget > 300
    ]
    row, sizes = Row(name, "ours", nbytes, nbytes, scores, features=ours), {"png": 700, "webp": 690, "jpeg-xl": 640}
    saturation = 0.2 + 0.1 * index, 0.5
    return PictureResult(row, b"payload", (rival,), curve, {"payload": nbytes, **sizes}, original, saturation)


def test_rows_and_features_survive_json() -> None:
    row = result(1).equal[0]
    assert row_from(json.loads(json.dumps(asdict(row)))) == row
    ours = result(1).ours
    assert row_from(json.loads(json.dumps(asdict(ours)))) == ours and ours.setting is None
    assert np.array_equal(results.unpacked(ours.features["kid"]), VECTORS[1, 1][None])
    assert np.array_equal(results.unpacked(ours.features["kid_eyes"]), VECTORS[1, 1].reshape(2, 4))


def test_means_are_over_pictures_and_kid_over_their_features() -> None:
    means = equal_means([result(index) for index in range(5)])
    assert list(means) == ["ours", CLASSICAL_BY_PSNR]
    found = [means["ours"][key] for key in ("pictures", "bytes", "psnr", "lpips_vgg")]
    assert found == pytest.approx([5, 502, 26, 0.3])
    expected = astuple(kernel_distance(VECTORS[2], VECTORS[0]))
    assert tuple(means[CLASSICAL_BY_PSNR][key] for key in ("kid", "kid_low", "kid_high")) == expected
    of_eyes = kernel_distance(VECTORS[2].reshape(5, 2, 4), VECTORS[0].reshape(5, 2, 4))
    assert (means[CLASSICAL_BY_PSNR]["kid_eyes"], means["ours"]["kid_mouth"]) == (of_eyes.value, None)


def test_means_have_intervals_over_pictures() -> None:
    mean = equal_means([result(0, vgg=None), result(1), result(2)])["ours"]
    assert (mean["psnr_low"], mean["psnr_high"]) == pytest.approx(mean_interval([24, 25, 26]))
    assert mean["ssim_low"] == pytest.approx(mean["ssim_high"]) and mean["dists_low"] is None
    assert mean["lpips_vgg"] is None  # one was not measured
    one = equal_means([result(0)])["ours"]
    assert (one["psnr_low"], one["kid"]) == (None, None)


def test_a_curve_has_points_where_every_picture_fits() -> None:
    (point,) = results.curve_means([result(0), result(1, fits=False)])["AVIF, best PSNR"]
    assert [point[key] for key in ("budget", "bytes", "psnr", "lpips_vgg")] == [600, 599.5, 22.0, None]


def test_tsv_holds_every_picture_and_method() -> None:
    lines = [line.split("\t") for line in results.tsv([result(0), result(1)]).splitlines()]
    assert lines[0] == list(results.COLUMNS)
    assert {len(line) for line in lines} == {len(results.COLUMNS)}
    for index, (ours, rival) in enumerate((lines[1:3], lines[3:5])):
        assert ours[:4] == [f"{index}.png", "ours", f"50{index}", f"50{index}"]
        assert rival[:4] == [f"{index}.png", CLASSICAL_BY_PSNR, f"50{index}", "490"]
    assert lines[1][4:9] == ["24.0000", "0.7000", "0.1000", "0.3000", "0.4000"]
    assert lines[2][-1] == "WebP, quality 31, downscaled 2.5x"


def test_a_folder_of_links_is_named_itself(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "unseen").mkdir()
    (tmp_path / "data" / "1.png").write_bytes(b"1")
    (tmp_path / "unseen" / "1.png").symlink_to(tmp_path / "data" / "1.png")
    assert results.described_pictures([tmp_path / "unseen" / "1.png"])["folder"] == "unseen"


def test_the_summary_says_what_it_was_made_from(tmp_path: Path) -> None:
    paths = [tmp_path / "faces" / f"{index}.png" for index in range(2)]
    paths[0].parent.mkdir()
    for path in paths:
        path.write_bytes(path.name.encode())
    found = summary([result(0, psnr=math.inf), result(1)], BUNDLE, paths, "fast")
    again = json.loads(json.dumps(found, allow_nan=False))
    assert again["bundle"] == {"id": "ours", "version": "1.2.3", "lr_contract_id": "ab" * 32}
    assert (again["pictures"]["folder"], again["pictures"]["count"]) == ("faces", 2)
    assert again["means"]["ours"]["psnr"] is None  # JSON has no infinity
    assert again["curves"]["AVIF, best PSNR"][0]["budget"] == 300
    assert again["lr_bytes"] == {"payload": 500.5, "png": 700, "webp": 690, "jpeg-xl": 640}
    assert again["lr_saturation"] == pytest.approx(0.5)
    assert again["training_losses"] == []
    assert summary([result(0)], BUNDLE, paths, "none", {"b", "a"})["training_losses"] == ["a", "b"]
    assert again["baselines"] == "fast" and "VGG16" in again["kid_features"]
    assert {"edgegrain", "torch", "pillow", "imagecodecs"} <= set(again["versions"])
    paths[1].write_bytes(b"another")
    assert summary([result(0), result(1)], BUNDLE, paths, "fast")["pictures"]["sha256"] != again["pictures"]["sha256"]


@pytest.mark.parametrize("suffix", ["", "-refined-40", "-refined-40-at-512", "-refined-80-at-1024-to-400"])
def test_names(suffix: str) -> None:
    values = map(int, suffix.split("-")[2::2])
    assert results.refinement_suffix({"size": 64, **dict(zip(results.REFINEMENT, values, strict=False))}) == suffix
