"""The default bundle's payloads, refined with the real decoder and the real losses."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import sdk
from codec_contract.quantization import network_input
from edgegrain.metrics.lpips import LPIPS
from edgegrain.metrics.psnr_ssim import psnr
from edgegrain.refinement import RefiningCodec


def test_a_few_steps_restore_a_better_face(
    default_bundle: Path, shared_weights: Path, shared_data: Path
) -> None:
    """The payload is as small as before, and an ordinary one."""
    if not (faces := sorted((shared_data / "dev_eval" / "faces_256").glob("*"))):
        pytest.skip("needs ../shared/data/dev_eval/faces_256")
    plain = sdk.Codec(default_bundle, threads=1)
    original = plain.fit(faces[1]).rgb
    start = plain.compress(original)
    found = RefiningCodec(default_bundle, steps=10, weights=shared_weights, threads=1).compress(original)
    assert len(found) <= len(start) and found != start
    assert np.abs(found.lr.astype(int) - start.lr).mean() < 2  # levels: the LR stays a small version of the picture
    before, after = (np.asarray(plain.restore(payload)) for payload in (start, found))
    lpips, target = LPIPS(shared_weights), torch.from_numpy(network_input(original[None]))
    with torch.inference_mode():
        distances = [lpips(torch.from_numpy(network_input(picture[None])), target).item()
                     for picture in (before, after)]
    assert distances[1] < 0.95 * distances[0]
    assert psnr(after, original) > psnr(before, original) - 0.3
