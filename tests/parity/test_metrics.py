"""KID equals that of torchmetrics, less the pairs of a picture and its own original; LPIPS the published distances."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from edgegrain.metrics.kid import kernel_distance
from edgegrain.metrics.lpips import LPIPS
from edgegrain.metrics.picture_metrics import unit_batch


class Flattened(nn.Module):
    """Pixels as features."""

    num_features = 48

    def forward(self, pictures: Tensor) -> Tensor:
        return pictures.float().flatten(1) / 255


@pytest.mark.filterwarnings("ignore:Metric `Kernel Inception Distance`")
def test_equals_torchmetrics_on_all_pictures_at_once_less_pairs_within_a_picture() -> None:
    from torchmetrics.image.kid import KernelInceptionDistance  # takes seconds, in every process that collects tests

    rng = np.random.default_rng(0)
    originals = rng.integers(0, 256, (40, 3, 4, 4), np.uint8)
    restored = (originals // 2 + rng.integers(0, 100, originals.shape)).astype(np.uint8)
    metric = KernelInceptionDistance(feature=Flattened(), subsets=1, subset_size=40)
    metric.update(torch.from_numpy(originals), real=True)
    metric.update(torch.from_numpy(restored), real=False)
    expected, _ = metric.compute()
    x, y = (Flattened()(torch.from_numpy(pictures)).numpy() for pictures in (restored, originals))
    crossed = (x.astype(np.float64) @ y.T / 48 + 1) ** 3  # torchmetrics keeps its diagonal
    between = crossed[~np.eye(40, dtype=bool)].mean()
    ours = kernel_distance(x, y)
    assert crossed.mean() - between > 1e-4
    # torchmetrics computes in float32
    assert ours.value == pytest.approx(float(expected) + 2 * (crossed.mean() - between), abs=2e-6)
    assert ours.low < ours.value < ours.high


EXAMPLES = Path(__file__).parent / "lpips_examples"
# Of the reference to the two distorted pictures. AlexNet: as printed. VGG16: of the published weights in float32; the
# package stores them as int8, which changes the distances by up to 0.0021.
PUBLISHED = {"alex": (0.722, 0.138), "vgg": (0.5686, 0.4217)}
TOLERANCE = {"alex": 0.0005, "vgg": 0.0025}


def example(name: str) -> Tensor:
    with Image.open(EXAMPLES / f"{name}.png") as image:
        return unit_batch(np.array(image.convert("RGB")))


@pytest.mark.parametrize("net", PUBLISHED)
@torch.no_grad()
def test_example_distances(net: str, shared_weights: Path) -> None:
    lpips, reference = LPIPS(shared_weights, net), example("ex_ref")
    found = [float(lpips(reference, example(name))) for name in ("ex_p0", "ex_p1")]
    assert found == pytest.approx(PUBLISHED[net], abs=TOLERANCE[net])
