"""Fit the LR coder's tables to the LRs of an encoder.

    python -m edgegrain.publishing.fit_coder LRS.npy coder.json
    python -m edgegrain.publishing.fit_coder PICTURES/ codec_contract/lr_coder/default_coder.json --widths 32 32

``LRS.npy`` holds uint8 [N, h, w, 3], the LRs of training pictures. Given a folder of pictures instead,
the tables are fitted to generic LRs made from them. One network per channel is trained in floating point
to give each sample as many bits of probability as it can, then rounded to the integers of
``CoderTables``. Every tenth LR is held out; the command reports their mean size beside optimised PNG and
lossless WebP.
"""

from __future__ import annotations

import argparse
import io
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from codec_contract.files import write_atomically
from codec_contract.lr_coder.coder import encode_lr
from codec_contract.lr_coder.coder_tables import CoderTables
from codec_contract.lr_coder.context import all_contexts
from edgegrain.training.grain.coder_network import FloatNetwork, code_length

LR = npt.NDArray[np.uint8]

BATCH = 4096
CALIBRATION_SAMPLES = 200_000
WIDTHS = (128, 128)
STEPS = 8000
ROUNDED_FROM = 0.7
"""Part of the training after which weights are rounded."""


def fit_network(
    context: Tensor, reference: Tensor, level: Tensor, *, widths: Sequence[int], steps: int, seed: int
) -> FloatNetwork:
    """Train one channel's network on samples [S, n], [S], [S] of any number type; the result is calibrated."""
    torch.manual_seed(seed)
    network = FloatNetwork(context.shape[1], widths)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=1e-2, total_steps=steps)
    for step in range(steps):
        if step == round(ROUNDED_FROM * steps):
            network.calibrate(context[:: max(1, len(context) // CALIBRATION_SAMPLES)].float())
        batch = torch.randint(len(context), (BATCH,))
        prediction = network(context[batch].float())
        loss = code_length(prediction, reference[batch].float(), level[batch].float()).mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        schedule.step()
    return network


def _samples(lrs: Sequence[LR], channel: int) -> tuple[Tensor, Tensor, Tensor]:
    """Contexts [S, n], references [S] and levels [S] of one channel of all LRs, int16."""
    pairs = [all_contexts(lr, channel) for lr in lrs]
    context = np.concatenate([pair[0].astype(np.int16) for pair in pairs])
    reference = np.concatenate([pair[1].astype(np.int16) for pair in pairs])
    level = np.concatenate([lr[..., channel].ravel().astype(np.int16) for lr in lrs])
    return torch.from_numpy(context), torch.from_numpy(reference), torch.from_numpy(level)


def fit_tables(
    lrs: Sequence[LR] | LR, *, widths: Sequence[int] = WIDTHS, steps: int = STEPS, seed: int = 0
) -> CoderTables:
    """Coder tables for LRs like these, uint8 [N, h, w, 3] or a list of uint8 [h, w, 3] of any sizes.

    Args:
        widths: units of each hidden layer; (128, 128) makes tables of about 94 KB, (64, 64) of 31 KB, for which LRs
            of 16 x 16 need 1 to 2 % more (docs/training.md).
        steps: optimizer steps of 4096 samples for each channel.
    """
    networks = []
    for channel in range(3):
        context, reference, level = _samples(list(lrs), channel)
        network = fit_network(context, reference, level, widths=widths, steps=steps, seed=seed + channel)
        networks.append(network.integers())
    first, second, third = networks
    return CoderTables((first, second, third))


def generic_lrs(folder: Path, seed: int = 0) -> list[LR]:
    """LRs to fit the default tables to: box means of the folder's pictures at many scales.

    Sides run from 8 to 64; cropped and mirrored at random, a fifth of them with little contrast, half of
    them with a texture of any strength that the channels share in part, as learned encoders leave one.
    """
    rng = np.random.default_rng(seed)
    mixing = np.linalg.cholesky(np.array([[1.0, 0.6, 0.4], [0.6, 1.0, 0.6], [0.4, 0.6, 1.0]]))
    lrs = []
    for path in sorted(folder.iterdir()):
        with Image.open(path) as opened:
            picture = opened.convert("RGB")
        crop = int(rng.integers(min(picture.size) // 2, min(picture.size) + 1))
        left = int(rng.integers(picture.width - crop + 1))
        top = int(rng.integers(picture.height - crop + 1))
        side = int(rng.choice([8, 16, 16, 24, 32, 64], p=[0.2, 0.25, 0.25, 0.15, 0.1, 0.05]))
        small = picture.resize((side, side), Image.Resampling.BOX, (left, top, left + crop, top + crop))
        levels = np.asarray(small, dtype=np.float64)
        if rng.random() < 0.5:
            levels = levels[:, ::-1]
        if rng.random() < 0.2:
            levels = levels.mean(axis=(0, 1)) + rng.uniform(0, 0.5) * (levels - levels.mean(axis=(0, 1)))
        if rng.random() < 0.5:
            strength = 2.0 ** rng.uniform(0, 6.5)
            levels = levels + strength * rng.standard_normal((side, side, 3)) @ mixing.T
        lrs.append(np.clip(np.floor(levels + 0.5), 0, 255).astype(np.uint8))
    return lrs


def load_lrs(path: Path) -> list[LR]:
    """The LRs of a .npy file, uint8 [N, h, w, 3], or generic ones made from a folder of pictures."""
    if path.is_dir():
        return generic_lrs(path)
    array = np.load(path, allow_pickle=False)
    if array.dtype != np.uint8 or array.ndim != 4 or array.shape[3] != 3:
        raise SystemExit(f"{path} must hold uint8 [N, h, w, 3], is {array.dtype} {list(array.shape)}")
    return list(array)


def png_bytes(lr: LR) -> int:
    """Size of the LR as optimised PNG."""
    stream = io.BytesIO()
    Image.fromarray(lr).save(stream, "PNG", optimize=True)
    return len(stream.getvalue())


def webp_bytes(lr: LR) -> int:
    """Size of the LR as lossless WebP at its highest effort."""
    stream = io.BytesIO()
    Image.fromarray(lr).save(stream, "WEBP", lossless=True, quality=100, method=6)
    return len(stream.getvalue())


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m edgegrain.publishing.fit_coder",
        description="Fit the LR coder's tables; every tenth LR is held out and reported on.",
    )
    parser.add_argument("lrs", type=Path, help="LRs, uint8 [N, h, w, 3] as .npy, or a folder of pictures")
    parser.add_argument("out", type=Path, help="the coder.json to write")
    parser.add_argument("--widths", type=int, nargs="+", default=list(WIDTHS), help="hidden units, default 128 128")
    parser.add_argument("--steps", type=int, default=STEPS, help="training steps per channel, default 8000")
    parser.add_argument("--report", type=int, default=500, help="held-out LRs to code, default 500")
    parser.add_argument("--force", action="store_true", help="overwrite an existing file")
    options = parser.parse_args(arguments)
    if options.out.exists() and not options.force:  # before the work, not after it
        parser.error(f"{options.out} exists; tables are part of an LR contract, --force replaces them")
    lrs = load_lrs(options.lrs)
    kept = [lr for index, lr in enumerate(lrs) if index % 10]
    tables = fit_tables(kept, widths=options.widths, steps=options.steps)
    data = tables.to_json()
    write_atomically(options.out, data, force=options.force)

    held = lrs[::10][: options.report]
    coded = np.mean([len(encode_lr(lr, tables)) for lr in held])
    print(f"{options.out}: {len(data)} bytes, fitted to {len(kept)} LRs; means of {len(held)} held-out LRs:")
    print(f"  coded          {coded:8.1f} bytes")
    for name, size in (("optimised PNG", png_bytes), ("lossless WebP", webp_bytes)):
        other = np.mean([size(lr) for lr in held])
        print(f"  {name}  {other:8.1f} bytes; coded is {100 * coded / other:.1f} %")
    return 0


if __name__ == "__main__":
    sys.exit(main())
