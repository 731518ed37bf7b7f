"""Bytes that a transformer would need for the LRs of a bundle, next to the bytes of the payload coder.

    python benchmarks/quality/coder_limit.py --bundle faces --data FACES --validation UNSEEN --seconds 3600 \
        --out results/coder_limit.json

The transformer sees the coder's context, ten neighbours, and all other pixels before the current one, and it need be
neither fast nor exact. It is trained on the LRs of training pictures and of their mirror images; its weights are those
of the step with the fewest bits on a tenth of the pictures, which it is not trained on. What it saves on unseen
pictures is what a better coder could save at most, as far as this model and this set tell. Give it a core of its own:
the time is that of the clock.
"""

from __future__ import annotations

import copy
import json
import math
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import torch.nn.functional as F
import typer
from torch import Tensor, nn

if not __package__:
    sys.path[0] = str(Path(__file__).resolve().parents[2])  # run as a script: import from the checkout

from codec_contract.bundle.manifest import load_manifest
from codec_contract.bundle.paths import find_bundle
from codec_contract.errors import EdgegrainError, ExistsError
from codec_contract.files import write_atomically
from codec_contract.lr_coder.context import CONTEXT_SIZES
from codec_contract.payload import encode_payload
from edgegrain.cli.output import errors_to_exit_codes, with_progress
from edgegrain.pictures.stored_pictures import read_square, stored_pictures
from edgegrain.training.device import mixed_precision
from edgegrain.training.grain.coder_network import CONTEXT_UNIT, MEAN_UNIT
from edgegrain.training.grain.rate import CoderContext
from sdk.open_bundle import OpenBundle

HALF_RANGE = 127.5
FRAME_BYTES = 16
"""Header and trailer of a payload."""
VALIDATION_PART = 10
EVALUATE_EVERY, WARM_UP = 200, 100  # steps
LEARNING_RATE = 1e-3
INITIAL_SCALE = -4.0
"""Added to the scales before the softplus: errors of some levels at first."""


@dataclass(frozen=True)
class Shape:
    """Shape of the transformer."""

    width: int = 128
    layers: int = 4
    heads: int = 4
    components: int = 4
    dropout: float = 0.05


class LRTransformer(nn.Module):
    """Bits of LRs: mixtures of discretized logistics, pixel after pixel in reading order, red before green before blue
    (Salimans et al. 2017, PixelCNN++, for the distribution). Means are relative to the coder's reference."""

    def __init__(self, side: int, shape: Shape = Shape()) -> None:
        super().__init__()
        self.side, self.components = side, shape.components
        width = shape.width
        self.context = CoderContext(side, side)
        self.first = nn.Linear(CONTEXT_SIZES[0], width)
        self.place = nn.Parameter(0.02 * torch.randn(side * side, width))
        layer = nn.TransformerEncoderLayer(width, shape.heads, 4 * width, shape.dropout, "gelu", batch_first=True,
                                           norm_first=True)
        self.layers = nn.TransformerEncoder(layer, shape.layers, nn.LayerNorm(width), enable_nested_tensor=False)
        self.heads = nn.ModuleList(nn.Sequential(nn.Linear(width + size, width), nn.GELU(),
                                                 nn.Linear(width, 3 * shape.components)) for size in CONTEXT_SIZES)

    def forward(self, levels: Tensor) -> Tensor:
        """Bits of each LR, ``[B]``, of levels 0...255, float ``[B, side * side, 3]``."""
        pictures = levels.transpose(1, 2).unflatten(2, (self.side, self.side))
        contexts = [self.context(pictures, channel) for channel in range(3)]
        before = self.first(contexts[0][0] / CONTEXT_UNIT)  # the context of red holds earlier pixels only
        mask = nn.Transformer.generate_square_subsequent_mask(self.side**2, device=levels.device)
        features = self.layers(before + self.place, mask, is_causal=True)
        bits = []
        for channel, (head, (context, reference)) in enumerate(zip(self.heads, contexts, strict=True)):
            parameters = head(torch.cat([features, context / CONTEXT_UNIT], -1))
            logits, offsets, scales = parameters.float().chunk(3, -1)
            means = (MEAN_UNIT * offsets + reference[..., None]) / HALF_RANGE - 1
            bits.append(mixture_bits(torch.cat([logits, means, scales + INITIAL_SCALE], -1),
                                     levels[..., channel] / HALF_RANGE - 1))
        return torch.stack(bits, -1).sum((1, 2))


def mixture_bits(parameters: Tensor, values: Tensor) -> Tensor:
    """Bits of levels, as values in [-1, 1], under mixtures with ``parameters`` ``[..., 3 * components]``."""
    logits, means, scales = parameters.float().chunk(3, -1)
    scales = F.softplus(scales) + 1 / 512
    distance = values[..., None] - means
    step = 0.5 / HALF_RANGE
    upper, lower = (distance + step) / scales, (distance - step) / scales
    inside = torch.sigmoid(upper) - torch.sigmoid(lower)
    ends = torch.where(values[..., None] < -1 + step, torch.sigmoid(upper), torch.where(
        values[..., None] > 1 - step, torch.sigmoid(-lower), inside))
    return -torch.logsumexp(torch.log_softmax(logits, -1) + ends.clamp_min(1e-9).log(), -1) / math.log(2)


def train(lrs: np.ndarray, *, seconds: float = math.inf, steps: float = math.inf, shape: Shape = Shape(),
          batch: int = 32, seed: int = 0) -> LRTransformer:
    """Train on LRs, uint8 ``[N, side, side, 3]``, for this time or number of steps; returns the best step's weights."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    levels = torch.from_numpy(lrs.reshape(len(lrs), -1, 3))
    pairs = rng.permutation(len(levels) // 2)  # an LR is followed by that of the mirror image
    held_out, own = (np.concatenate([2 * part, 2 * part + 1])
                     for part in np.split(pairs, [len(pairs) // VALIDATION_PART]))
    model = LRTransformer(lrs.shape[1], shape)
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=0.05)
    best, kept, step, start = math.inf, copy.deepcopy(model.state_dict()), 0, time.monotonic()
    while (progress := max((time.monotonic() - start) / seconds, step / steps)) < 1:
        for group in optimizer.param_groups:
            group["lr"] = LEARNING_RATE * min(1.0, (step + 1) / WARM_UP) * (0.5 + 0.5 * math.cos(math.pi * progress))
        chosen = own[rng.integers(0, len(own), batch)]
        with mixed_precision(torch.device("cpu")):
            loss = model(levels[chosen].float()).mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        step += 1
        if step % EVALUATE_EVERY == 0:
            bits = mean_bits(model, lrs[held_out])
            if bits < best:
                best, kept = bits, copy.deepcopy(model.state_dict())
    if best < math.inf:
        model.load_state_dict(kept)
    return model


@torch.no_grad()
def mean_bits(model: LRTransformer, lrs: np.ndarray) -> float:
    """Mean bits of LRs, uint8 ``[N, side, side, 3]``, in evaluation mode."""
    model.eval()
    levels = torch.from_numpy(lrs.reshape(len(lrs), -1, 3)).float()
    bits = torch.cat([model(part) for part in levels.split(32)])
    model.train()
    return float(bits.mean())


@errors_to_exit_codes()
def main(
    data: Annotated[Path, typer.Option(exists=True, file_okay=False, help="Training pictures.")],
    validation: Annotated[Path, typer.Option(exists=True, file_okay=False, help="Unseen pictures.")],
    out: Annotated[Path, typer.Option(help="JSON file to write.")],
    bundle: Annotated[str, typer.Option(help="Id or folder of the bundle.")] = "faces",
    seconds: Annotated[float, typer.Option(min=1, help="Time of training.")] = 3600.0,
    count: Annotated[int, typer.Option(min=1, help="Number of unseen pictures.")] = 60,
    force: Annotated[bool, typer.Option("--force", help="Replace the file.")] = False,
) -> None:
    """Compare the payload coder with a transformer on a bundle's LRs."""
    if out.exists() and not force:
        raise ExistsError(out)
    opened = OpenBundle(load_manifest(find_bundle(bundle)))
    manifest = opened.manifest
    if opened.tables.step > 1:
        raise EdgegrainError(f"the LRs of {bundle} have levels in steps of {opened.tables.step}; the transformer "
                             "predicts single levels: choose a bundle with steps of 1")
    training = []
    for picture in with_progress(stored_pictures(data), "encoding"):
        square = read_square(picture, manifest.hr)
        training.append(opened.encode(np.stack([square, square[:, ::-1]])))
    squares = [read_square(picture, manifest.hr) for picture in stored_pictures(validation)[:count]]
    unseen = opened.encode(np.stack(squares))
    payloads = [len(encode_payload(lr, contract_id=bytes(4), tables=opened.tables, original_size=(manifest.hr,) * 2))
                for lr in unseen]
    model = train(np.concatenate(training), seconds=seconds)
    found = report(float(np.mean(payloads)) - FRAME_BYTES, mean_bits(model, unseen) / 8)
    found |= {"bundle": f"{manifest.id} {manifest.version}", "pictures": len(unseen), "training_lrs": 2 * len(training),
              "seconds": seconds}
    write_atomically(out, (json.dumps(found, indent=1) + "\n").encode(), force=force)
    typer.echo(json.dumps(found))


def report(coder: float, transformer: float) -> dict[str, Any]:
    """Mean bytes of an LR's body by both, and what the transformer saves of the coder's, as a part of 1."""
    return {"coder_bytes": round(coder, 1), "transformer_bytes": round(transformer, 1),
            "left": round(1 - transformer / coder, 3)}


if __name__ == "__main__":
    typer.run(main)
