"""What a run looks at between its steps: figures on held-out pictures, and a sheet of samples."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from codec_contract.quantization import dequantize, unit_to_levels
from edgegrain.metrics.identity import FaceIdentity
from edgegrain.metrics.lpips import LPIPS
from edgegrain.training.grain.autoencoder import Autoencoder
from edgegrain.training.synthetic import SyntheticBatch
from server_decoder.grain.grain import Grain


class Judges(NamedTuple):
    """The metric networks, where their weights are given; losses and validation share them."""

    lpips: LPIPS | None
    identity: FaceIdentity | None

    @classmethod
    def load(cls, weights: Path | None, device: torch.device, *, faces: bool = True) -> Judges:
        """From a folder, frozen, identity for faces only; none without a folder. Errors as in `LPIPS` and
        `FaceIdentity`.
        """
        if weights is None:
            return cls(None, None)
        return cls(LPIPS(weights).requires_grad_(False).to(device),
                   FaceIdentity(weights).requires_grad_(False).to(device) if faces else None)


@torch.no_grad()
def evaluate(model: Autoencoder, pictures: np.ndarray, judges: Judges) -> dict[str, float]:
    """Means over rounded restorations in float32: PSNR (dB), LPIPS (on its grid and off it) and identity distance.

    For a final picture also its LPIPS with f_gen set to zero, and that of the invertible picture: what the prior
    contributes; and that of the generator's picture: whether its codes still draw what the other pictures show. While a
    rate is trained, also the bytes that an LR is expected to need.
    """
    names = ["psnr"]
    names += ["lpips_alex", "lpips_alex_off_grid"] if judges.lpips is not None else []
    names += ["identity"] if judges.identity is not None else []
    mute = judges.lpips is not None and model.output == "final"
    rows = []
    device = next(model.parameters()).device
    for picture in pictures:
        x = torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None].float().to(device)
        restored = model(x)
        y = to_levels(restored.picture)
        row = [psnr(y, x)]
        a, b = dequantize(y), dequantize(x)
        if judges.lpips is not None:
            row += [float(judges.lpips(a, b)), float(judges.lpips.off_grid(a, b))]
        if judges.identity is not None:
            row.append(float(judges.identity.distance(a, b)))
        if mute and judges.lpips is not None:
            others = model(x, prior_gain=0.0), model(x, output="invertible"), model(x, output="style")
            row += [float(judges.lpips(dequantize(to_levels(other.picture)), b)) for other in others]
        if restored.rate is not None:
            row.append(float(restored.rate) * restored.lr.numel() / 8)
        rows.append(row)
    means = np.mean(rows, axis=0)
    names += ["lpips_alex_without_prior", "lpips_alex_invertible", "lpips_alex_style"] if mute else []
    names += ["lr_bytes"] if model.rate is not None else []
    digits = {"psnr": 3, "lr_bytes": 1}
    return {name: round(float(mean), digits.get(name, 4)) for name, mean in zip(names, means, strict=True)}


@torch.no_grad()
def evaluate_codes(model: Autoencoder, synthetic: SyntheticBatch, variance: Tensor) -> dict[str, float]:
    """Error of the codes predicted for the prior's own pictures, in units of the variance of W; the mean code has 1."""
    codes = model(unit_to_levels(synthetic.pictures).add(0.5).floor().clamp(0, 255)).codes
    if codes is None:
        return {}
    return {"codes": round(float((codes - synthetic.codes).pow(2).mean() / variance), 4)}


@torch.no_grad()
def sample_sheet(model: Autoencoder, pictures: np.ndarray, path: Path) -> None:
    """PNG with one column per picture: original, LR enlarged, then what is restored.

    With a prior, that is the invertible picture, the one of the predicted codes, and the fused one unless the stage is
    about codes.
    """
    device = next(model.parameters()).device
    x = torch.from_numpy(np.array(pictures)).permute(0, 3, 1, 2).float().to(device)
    side = x.shape[-1]
    outputs = ["invertible", "style", "final"] if isinstance(model.decoder, Grain) else ["invertible"]
    if model.output == "style":
        outputs.remove("final")
    rows = []
    for output in outputs:
        restored = model(x, output=output)
        rows.append(restored.picture)
    lr = nn.functional.interpolate(restored.lr, (side, side), mode="nearest")
    draw_sheet([dequantize(x), lr, *rows], path)


def draw_sheet(rows: Sequence[Tensor], path: Path) -> None:
    """PNG with one column per picture; every row ``[B, 3, S, S]`` in [-1, 1]."""
    sheet = to_levels(torch.cat(list(rows), 2))
    columns = torch.cat(list(sheet), 2).permute(1, 2, 0).to(torch.uint8).cpu().numpy()
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(columns).save(path)


def psnr(levels: Tensor, target: Tensor) -> float:
    """In dB, over all of two pictures of integers 0...255; 108 at most, where they are equal."""
    return 10 * math.log10(255**2 / float((levels - target).pow(2).mean().clamp_min(1e-6)))


def to_levels(picture: Tensor) -> Tensor:
    """[-1, 1] -> integers 0...255, rounded half up and clipped."""
    return unit_to_levels(picture).add(0.5).floor().clamp(0, 255)
