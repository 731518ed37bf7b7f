"""Evaluation of a GRAIN run: figures on held-out pictures and a sheet of samples."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from codec_contract.quantization import dequantize
from edgegrain.training.grain.autoencoder import Autoencoder
from edgegrain.training.grain.losses import mean_saturation
from edgegrain.training.grain.synthetic import SyntheticBatch
from edgegrain.training.levels import levels_psnr, rounded_levels
from edgegrain.training.metric_networks import MetricNetworks
from edgegrain.training.sample_sheet import write_samples
from server_decoder.grain.grain import Grain


@torch.no_grad()
def evaluate(model: Autoencoder, pictures: np.ndarray, networks: MetricNetworks) -> dict[str, float]:
    """Means over rounded restorations in float32: PSNR (dB), LPIPS (on its grid and off it) and identity distance.

    For a final picture also its LPIPS with f_gen set to zero and that of the invertible picture, which show the
    contribution of the prior, and that of the generator's picture, which shows if its codes still match the other
    pictures. While a rate is trained, also the expected bytes of an LR, and its saturation relative to that of the area
    average.
    """
    names = ["psnr"]
    names += ["lpips_alex", "lpips_alex_off_grid"] if networks.lpips is not None else []
    names += ["identity"] if networks.identity is not None else []
    fused = networks.lpips is not None and model.output == "final"
    rows, saturation = [], []
    device = next(model.parameters()).device
    for picture in pictures:
        x = torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None].float().to(device)
        restored = model(x)
        y = rounded_levels(restored.picture)
        row = [levels_psnr(y, x)]
        a, b = dequantize(y), dequantize(x)
        if networks.lpips is not None:
            row += [float(networks.lpips(a, b)), float(networks.lpips.off_grid(a, b))]
        if networks.identity is not None:
            row.append(float(networks.identity.distance(a, b)))
        if fused and networks.lpips is not None:
            others = model(x, prior_gain=0.0), model(x, output="invertible"), model(x, output="style")
            row += [float(networks.lpips(dequantize(rounded_levels(other.picture)), b)) for other in others]
        if restored.lr_bytes is not None:
            row.append(float(restored.lr_bytes))
            saturation += [float(mean_saturation(each)) for each in (restored.lr, restored.box)]
        rows.append(row)
    means = np.mean(rows, axis=0)
    names += ["lpips_alex_without_prior", "lpips_alex_invertible", "lpips_alex_style"] if fused else []
    names += ["lr_bytes"] if model.rate is not None else []
    digits = {"psnr": 3, "lr_bytes": 1}
    result = {name: round(float(mean), digits.get(name, 4)) for name, mean in zip(names, means, strict=True)}
    if saturation:
        result["lr_saturation"] = round(sum(saturation[::2]) / max(sum(saturation[1::2]), 1e-6), 3)
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
        x = torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None].float().to(device)
        restored = [model(x, output=output) for output in outputs]
        columns.append([dequantize(x), restored[0].lr, *(each.picture for each in restored)])
    write_samples([torch.cat(row) for row in zip(*columns, strict=True)], path)
