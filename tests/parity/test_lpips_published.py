"""LPIPS on its authors' example pictures gives the distances they publish."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from edgegrain.metrics.lpips import LPIPS
from edgegrain.metrics.picture_metrics import unit_batch

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
