"""`PictureMetrics` returns the values of the single metrics."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from codec_contract.errors import DeviceError
from edgegrain.metrics.identity import FaceIdentity, MobileFace
from edgegrain.metrics.lpips import DISTS, LPIPS
from edgegrain.metrics.picture_metrics import LEAST_SIDE, PictureMetrics, Reference, boxes, unit_batch
from edgegrain.metrics.pixel_scores import psnr, ssim
from edgegrain.metrics.weights import FILES
from tests.mobileface_network import write_mobileface


@pytest.fixture(scope="module")
def weights(shared_weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shared weights, and a network in place of MobileFace."""
    folder = tmp_path_factory.mktemp("weights")
    for name in FILES[:3]:
        (folder / name).symlink_to(shared_weights / name)
    write_mobileface(folder)
    return folder


@pytest.fixture(scope="module")
def metrics(weights: Path) -> PictureMetrics:
    return PictureMetrics(weights)


@pytest.fixture(scope="module")
def metrics_of_any_picture(shared_weights: Path) -> PictureMetrics:
    return PictureMetrics(shared_weights, faces=False)


@pytest.fixture(scope="module")
def reference(metrics: PictureMetrics, portrait: np.ndarray) -> Reference:
    """The portrait as an original."""
    return metrics.against(portrait)


@pytest.fixture(scope="module")
def upside_down(metrics_of_any_picture: PictureMetrics, portrait: np.ndarray) -> Reference:
    """The portrait upside down as an original."""
    return metrics_of_any_picture.against(np.ascontiguousarray(portrait[::-1]))


def test_scores_are_the_single_metrics(metrics: PictureMetrics, weights: Path, portrait: np.ndarray) -> None:
    portrait = portrait[::4, ::4]
    darker, reference = (portrait // 2 + 30).astype(np.uint8), metrics.against(portrait)
    scores, _ = reference.scores(darker)
    x, target = unit_batch(darker), unit_batch(portrait)
    distances = FaceIdentity(weights).distance, DISTS(metrics.vgg), MobileFace(weights).distance
    with torch.no_grad():
        networks = LPIPS(weights, "alex"), LPIPS(weights, "vgg"), *distances
        expected = [float(network(x, target)) for network in networks]
    assert [scores.psnr, scores.ssim] == pytest.approx([psnr(darker, portrait), ssim(darker, portrait)], rel=1e-6)
    assert [scores.lpips_alex, scores.lpips_vgg, scores.identity, scores.dists, scores.identity_mobileface] == (
        pytest.approx(expected, rel=1e-5, abs=1e-6)
    )
    assert reference.lpips_alex(darker) == pytest.approx(scores.lpips_alex, rel=1e-6)
    assert scores.identity is not None and 0 < scores.identity < 0.6
    quick = reference.quick_scores(darker)
    assert quick.lpips_vgg is None and quick.dists is None
    assert quick.identity_mobileface is not None and quick.identity_mobileface > 1e-4
    assert [quick.psnr, quick.identity] == pytest.approx([scores.psnr, scores.identity], rel=1e-5)


def test_features_for_kid_are_vggs_last_activations_at_256(
    metrics_of_any_picture: PictureMetrics, reference: Reference, upside_down: Reference, portrait: np.ndarray
) -> None:
    metrics = metrics_of_any_picture
    with torch.no_grad():
        expected = metrics.vgg.activations(unit_batch(portrait))[-1].mean((2, 3))[0]
    features = reference.features["kid"]
    assert features.shape == (1, 512) and features.dtype == np.float32
    assert features[0] == pytest.approx(expected.numpy(), rel=1e-5)
    # Another size is brought to 256 first, so that a picture and its half resemble each other more than two pictures.
    half = F.avg_pool2d(torch.tensor(portrait).permute(2, 0, 1)[None].float(), 2)[0].permute(1, 2, 0)
    smaller = metrics.against(half.round().byte().numpy()).features["kid"]
    assert np.linalg.norm(smaller - features) < 0.7 * np.linalg.norm(upside_down.features["kid"] - features)


def test_crops_of_larger_pictures_have_features_of_their_own(
    metrics_of_any_picture: PictureMetrics, reference: Reference, upside_down: Reference, portrait: np.ndarray
) -> None:
    metrics = metrics_of_any_picture
    wide = np.concatenate([portrait, portrait[::-1]], axis=1)
    features = metrics.against(wide).features
    assert {name: found.shape for name, found in features.items()} == {"kid": (1, 512), "kid_crops": (2, 512)}
    alone = [half.features["kid"][0] for half in (reference, upside_down)]
    for index in range(2):  # nearly those of the crop alone: the convolutions see across its edge
        distances = [np.linalg.norm(features["kid_crops"][index] - one) for one in alone]
        assert np.argmin(distances) == index and distances[index] < 0.5 * distances[1 - index]


def test_eyes_and_mouth_are_scored_apart(metrics: PictureMetrics, reference: Reference, portrait: np.ndarray) -> None:
    left, top, size = boxes(256)["mouth"]
    blurred = portrait.copy()
    mouth = blurred[top : top + size, left : left + size]
    mouth[:] = mouth.mean((0, 1)).astype(np.uint8)
    scores, features = reference.scores(blurred)
    assert scores.lpips_eyes == pytest.approx(0, abs=1e-6) and scores.chroma_eyes == pytest.approx(0, abs=1e-6)
    mouths = [unit_batch(picture[top : top + size, left : left + size]) for picture in (blurred, portrait)]
    enlarged = [F.interpolate(each, (128, 128), mode="bicubic", antialias=True).clamp(-1, 1) for each in mouths]
    with torch.no_grad():
        assert scores.lpips_mouth == pytest.approx(metrics.vgg(*enlarged).item(), rel=1e-4)
        expected = metrics.vgg.activations(enlarged[1])[-1].mean((2, 3))
    assert scores.chroma_mouth is not None and scores.chroma_mouth > 0.5
    shapes = {name: found.shape for name, found in features.items()}
    assert shapes == {"kid": (1, 512), "kid_eyes": (2, 512), "kid_mouth": (1, 512)}
    assert features["kid_eyes"] == pytest.approx(reference.features["kid_eyes"])
    assert reference.features["kid_mouth"] == pytest.approx(expected.numpy(), rel=1e-4)
    assert scores.grid_8 is not None and scores.grid_8 >= 0
    quick = reference.quick_scores(blurred)
    assert quick.lpips_eyes is None and quick.grid_8 is None


def test_others_have_neither_eyes_nor_grids(metrics_of_any_picture: PictureMetrics, portrait: np.ndarray) -> None:
    reference = metrics_of_any_picture.against(portrait[:64, :72])
    scores, features = reference.scores(portrait[1:65, :72])
    assert list(features) == list(reference.features) == ["kid"]
    assert scores.lpips_vgg is not None
    assert scores.lpips_eyes is None and scores.chroma_mouth is None and scores.grid_8 is None
    assert scores.identity is None and scores.identity_mobileface is None  # which is for faces only


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_an_absent_device_is_named(tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match="--device cpu"):
        PictureMetrics(tmp_path, device="cuda")


def test_the_smallest_pictures(metrics: PictureMetrics, portrait: np.ndarray) -> None:
    smallest = np.ascontiguousarray(portrait[:LEAST_SIDE, :LEAST_SIDE])
    scores, _ = metrics.against(smallest).scores(255 - smallest)
    assert scores.lpips_alex > 0.1 and scores.ssim < 1
