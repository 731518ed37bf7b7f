"""Evaluation of a GRAIN run: figures on held-out pictures and a sheet of samples."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from codec_contract.quantization import dequantize
from edgegrain.training.data import levels_psnr, picture_levels, rounded_levels, write_samples
from edgegrain.training.grain.model import Autoencoder
from edgegrain.training.grain.synthetic import SyntheticBatch
from edgegrain.training.losses import MetricNetworks, mean_saturation
from server_decoder.grain.grain import Grain


@torch.no_grad()
def evaluate(model: Autoencoder, pictures: np.ndarray, networks: MetricNetworks) -> dict[str, float]:
    """Means over rounded restorations in float32: PSNR (dB), LPIPS (on its grid and off it) and identity distance.

    For a final picture also its LPIPS with f_gen set to zero and that of the invertible picture, which show the
    contribution of the prior, and that of the generator's picture, which shows if its codes still match the other
    pictures. While a rate is trained, also the expected bytes of an LR, and its saturation relative to that of the area
    average.

    Args:
        model: with averaged weights.
        pictures: held out, uint8 ``[N, S, S, 3]``.
        networks: of the metrics, on the model's device.
    """
    rows: list[dict[str, float]] = []
    saturation: list[float] = []
    device = next(model.parameters()).device
    for picture in pictures:
        x = picture_levels(picture, device)
        restored = model(x)
        y = rounded_levels(restored.picture)
        a, b = dequantize(y), dequantize(x)
        row = {"psnr": levels_psnr(y, x)}
        if networks.lpips is not None:
            row["lpips_alex"] = float(networks.lpips(a, b))
            row["lpips_alex_off_grid"] = float(networks.lpips.off_grid(a, b))
        if networks.identity is not None:
            row["identity"] = float(networks.identity.distance(a, b))
        if networks.lpips is not None and model.output == "final":
            others = {"without_prior": model(x, prior_gain=0.0), "invertible": model(x, output="invertible"),
                      "style": model(x, output="style")}
            row |= {f"lpips_alex_{name}": float(networks.lpips(dequantize(rounded_levels(other.picture)), b))
                    for name, other in others.items()}
        if restored.lr_bytes is not None:
            row["lr_bytes"] = float(restored.lr_bytes)
            saturation += [float(mean_saturation(each)) for each in (restored.lr, restored.box)]
        rows.append(row)
    means = np.mean([list(row.values()) for row in rows], axis=0)
    digits = {"psnr": 3, "lr_bytes": 1}
    result = {name: round(float(mean), digits.get(name, 4)) for name, mean in zip(rows[0], means, strict=True)}
    if (originals := sum(saturation[1::2])) > 0:  # 0: grey pictures
        result["lr_saturation"] = round(sum(saturation[::2]) / originals, 3)
    return result


@torch.no_grad()
def evaluate_codes(model: Autoencoder, synthetic: SyntheticBatch, variance: Tensor) -> dict[str, float]:
    """Error of the codes predicted for the prior's own pictures, in units of the variance of W; the mean code has 1."""
    codes = model(rounded_levels(synthetic.pictures)).codes
    if codes is None:
        return {}
    return {"codes": round(float((codes - synthetic.codes).pow(2).mean() / variance), 4)}


@torch.no_grad()
def write_restorations(model: Autoencoder, pictures: np.ndarray, path: Path) -> None:
    """Write a sheet with one column per picture: original, enlarged LR and restorations.

    With a prior, these are the invertible picture, that of the predicted codes and, except in stage 2, the fused one.
    """
    device = next(model.parameters()).device
    outputs = ["invertible", "style", "final"] if isinstance(model.decoder, Grain) else ["invertible"]
    if model.output == "style":
        outputs.remove("final")
    columns = []
    for picture in pictures:  # one by one: all of them at 1024x1024 took three times the memory of a training step
        x = picture_levels(picture, device)
        restored = [model(x, output=output) for output in outputs]
        columns.append([dequantize(x), restored[0].lr, *(each.picture for each in restored)])
    write_samples([torch.cat(row) for row in zip(*columns, strict=True)], path)
