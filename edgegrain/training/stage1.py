"""Stage 1 of [GRAIN] 3.5: exact encoder and RRDB decoder trained together, the LR quantized in the loop.

    python -m edgegrain.training.stage1 --data FACES --weights METRICS --out runs/faces --budget-seconds 3600

The run is made for preemptible machines: it stops at ``--pictures`` or at ``--budget-seconds``, whichever comes first,
anneals towards that end, writes a checkpoint every few minutes and on Ctrl-C, and continues from it when started again
with ``--resume``. The optimizer's moments are not stored; a warm-up rebuilds them.
"""

from __future__ import annotations

import copy
import json
import math
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import typer
from PIL import Image
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from edge_encoder import integer_network
from edge_encoder.architectures import EncoderConfig, config_from_name, encoder_config
from edge_encoder.lowering import raise_twin
from edge_encoder.twin import BoxMean, EncoderTwin
from edgegrain.contract.bundle_paths import find_bundle
from edgegrain.contract.errors import BundleError, EdgegrainError
from edgegrain.contract.files import write_atomically
from edgegrain.contract.manifest import load_manifest
from edgegrain.contract.quantization import dequantize, unit_to_levels
from edgegrain.evaluation.identity import FaceIdentity
from edgegrain.evaluation.lpips import LPIPS
from edgegrain.training.losses import LossWeights, stage1_loss
from edgegrain.training.pictures import batches, list_pictures, pack, read_square
from export.server import bundle_decoder
from server_decoder.grain.rrdb_decoder import FACES_256_LR16, DecoderConfig, RRDBDecoder


@dataclass(frozen=True)
class Stage1Config:
    """Everything that shapes a run.

    Attributes:
        hold: part of the run at the full learning rate; the rest anneals to zero (cosine).
        identity_from: part of the run after which the identity loss joins.
        noise_until: part of the run during which uniform noise stands for rounding ([GRAIN] 3.2); afterwards the LR is
            rounded with a straight-through gradient, so the decoder ends on exactly what it will see.
        ema: decay of the averaged weights, which are what is evaluated and shipped.
    """

    encoder: EncoderConfig = field(default_factory=lambda: encoder_config(256, 16))
    decoder: DecoderConfig = FACES_256_LR16
    correction: bool = True
    loss: LossWeights = LossWeights()
    batch: int = 8
    learning_rate: float = 6e-4
    warm_up: int = 200
    hold: float = 0.6
    identity_from: float = 0.4
    noise_until: float = 0.6
    ema: float = 0.998
    clip_gradient: float = 1.0
    seed: int = 1

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON values; `from_dict` reads them back."""
        return asdict(self)

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> Stage1Config:
        """The configuration that `as_dict` described."""
        encoder = fields["encoder"]
        return cls(**{
            **fields,
            "encoder": EncoderConfig(**{**encoder, "channels": tuple(encoder["channels"]),
                                        "blocks": tuple(encoder["blocks"])}),
            "decoder": DecoderConfig.from_dict(fields["decoder"]),
            "loss": LossWeights(**fields["loss"]),
        })


class Autoencoder(nn.Module):
    """Encoder twin (or plain box mean) and decoder; what a checkpoint holds."""

    def __init__(self, config: Stage1Config) -> None:
        super().__init__()
        self.encoder = EncoderTwin(config.encoder) if config.correction else BoxMean(config.encoder)
        self.decoder = RRDBDecoder(config.decoder)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stubs lack it

    def forward(self, picture: Tensor, *, noise: bool = False) -> tuple[Tensor, Tensor, Tensor]:
        """Integers 0...255 ``[B, 3, S, S]`` -> restored picture, LR and box mean, all in [-1, 1]."""
        levels, box = self.encoder(picture, noise=noise)
        lr = dequantize(levels)
        return self.decoder(lr).float(), lr, dequantize(box)


def learning_rate(config: Stage1Config, progress: float, step: int) -> float:
    """Warm-up, a constant part, a cosine to one hundredth."""
    warm = min(1.0, (step + 1) / config.warm_up)
    if progress <= config.hold:
        return config.learning_rate * warm
    phase = min(1.0, (progress - config.hold) / (1 - config.hold))
    return config.learning_rate * warm * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * phase)))


@torch.no_grad()
def evaluate(model: Autoencoder, pictures: np.ndarray, lpips: LPIPS, identity: FaceIdentity) -> dict[str, float]:
    """Mean PSNR (dB), LPIPS and identity distance of rounded restorations in float32."""
    rows = []
    for picture in pictures:
        x = torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None].float()
        y = _levels(model(x)[0])
        psnr = 10 * math.log10(255**2 / float((y - x).pow(2).mean().clamp_min(1e-6)))
        a, b = dequantize(y), dequantize(x)
        rows.append((psnr, float(lpips(a, b)), float(identity.distance(a, b))))
    means = np.mean(rows, axis=0)
    return {"psnr": round(float(means[0]), 3), "lpips_alex": round(float(means[1]), 4),
            "identity": round(float(means[2]), 4)}


@torch.no_grad()
def sample_sheet(model: Autoencoder, pictures: np.ndarray, path: Path) -> None:
    """PNG with one column per picture: original, LR enlarged, restored."""
    x = torch.from_numpy(np.array(pictures)).permute(0, 3, 1, 2).float()
    y, lr, _ = model(x)
    side = x.shape[-1]
    lr = nn.functional.interpolate(lr, (side, side), mode="nearest")
    rows = _levels(torch.cat([dequantize(x), lr, y], 2))
    sheet = torch.cat(list(rows), 2).permute(1, 2, 0).to(torch.uint8).numpy()
    Image.fromarray(sheet).save(path)


def _levels(picture: Tensor) -> Tensor:
    return unit_to_levels(picture).add(0.5).floor().clamp(0, 255)


def save_checkpoint(path: Path, model: Autoencoder, average: Autoencoder, config: Stage1Config, pictures: int) -> None:
    """Weights and averaged weights as one safetensors file with the run's configuration in its header."""
    tensors = {f"model.{name}": tensor.contiguous() for name, tensor in model.state_dict().items()}
    tensors |= {f"average.{name}": tensor.contiguous() for name, tensor in average.state_dict().items()}
    metadata = {"config": json.dumps(config.as_dict()), "pictures": str(pictures)}
    write_atomically(path, save(tensors, metadata=metadata), force=True)


def load_run(path: Path) -> tuple[Autoencoder, Autoencoder, Stage1Config, int]:
    """Model, averaged model, configuration and pictures seen of a checkpoint.

    Raises:
        BundleError: the file is no checkpoint of this stage.
    """
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            config = Stage1Config.from_dict(json.loads(metadata["config"]))
            models = []
            for prefix in ("model.", "average."):
                model = Autoencoder(config)
                model.load_state_dict({name.removeprefix(prefix): file.get_tensor(name)
                                       for name in file.keys() if name.startswith(prefix)})
                models.append(model)
            return models[0], models[1].requires_grad_(False), config, int(metadata["pictures"])
    except (OSError, SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise BundleError(f"{path} is not a stage 1 checkpoint ({error})") from error


def train(config: Stage1Config, *, data: Path, weights: Path, out: Path, pictures: int, budget_seconds: float,
          exclude: tuple[str, ...] = (), validation: Path | None = None, resume: bool = False,
          start: Path | None = None, evaluate_every: int = 4000,
          report: Callable[[float, str], None] | None = None) -> dict[str, float]:
    """Run stage 1; returns the last evaluation. See the module docstring for what stops it and what it writes.

    ``start`` is the folder of a bundle whose networks the run begins with, instead of random ones. ``report`` is told
    the finished part of the run and a line about it, every few seconds.

    Raises:
        FileExistsError: ``out`` holds a run and ``resume`` is false.
        EdgegrainError: pictures, metric weights or the checkpoint cannot be read.
    """
    out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(config.seed)
    checkpoint, seen = out / "last.safetensors", 0
    if resume and checkpoint.exists():
        model, average, stored, seen = load_run(checkpoint)
        config = replace(config, encoder=stored.encoder, decoder=stored.decoder, correction=stored.correction)
    elif checkpoint.exists():
        raise FileExistsError(f"{checkpoint} exists; pass --resume to continue it or choose another folder")
    else:
        model, config = load_bundle(start, config) if start else (Autoencoder(config), config)
        average = copy.deepcopy(model).requires_grad_(False)
    size = config.encoder.hr
    shard = pack(list_pictures(data, exclude), size, out.parent / "packed")
    held_out = np.stack([read_square(path, size) for path in list_pictures(validation or data)[:16]])
    lpips = LPIPS(weights).requires_grad_(False)
    identity = FaceIdentity(weights).requires_grad_(False)
    optimizer = torch.optim.AdamW(model.parameters(), lr=config.learning_rate, betas=(0.9, 0.99), weight_decay=1e-4)
    stop = _StopOnSignal()
    log = (out / "log.jsonl").open("a")
    log.write(json.dumps({"config": config.as_dict(), "pictures_in_set": len(shard), "seen": seen}) + "\n")
    started, first, step, result = time.monotonic(), seen, 0, {}
    feed = batches(shard, config.batch, config.seed + seen)
    while not stop.requested:
        elapsed = time.monotonic() - started
        progress = max(seen / pictures, (elapsed / budget_seconds) if budget_seconds else 0.0)
        if progress >= 1:
            break
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(config, progress, step)
        x = next(feed).contiguous(memory_format=torch.channels_last)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            y, lr, box = model(x, noise=progress < config.noise_until)
            loss, terms = stage1_loss(config.loss, y, dequantize(x), lr, box, lpips,
                                      identity if progress >= config.identity_from else None)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), config.clip_gradient)
        optimizer.step()
        step += 1
        seen += config.batch
        with torch.no_grad():
            decay = min(config.ema, (1 + step) / (10 + step)) if first == 0 else config.ema
            torch._foreach_lerp_(list(average.parameters()), list(model.parameters()), 1 - decay)
        if step % 50 == 0:
            rate = (seen - first) / (time.monotonic() - started)
            row = {"pictures": seen, "per_second": round(rate, 2), "loss": round(loss.item(), 5),
                   **{name: round(value, 5) for name, value in terms.items()}}
            log.write(json.dumps(row) + "\n")
            log.flush()
        if report and step % 5 == 0:
            report(progress, f"{seen:,} pictures, loss {loss.item():.3f}")
        if step % (evaluate_every // config.batch) == 0:
            result = evaluate(average, held_out, lpips, identity)
            log.write(json.dumps({"pictures": seen, "validation": result}) + "\n")
            log.flush()
            sample_sheet(average, held_out[:8], out / "samples.png")
            save_checkpoint(checkpoint, model, average, config, seen)
    result = evaluate(average, held_out, lpips, identity)
    log.write(json.dumps({"pictures": seen, "validation": result, "end": not stop.requested}) + "\n")
    log.close()
    sample_sheet(average, held_out[:8], out / "samples.png")
    save_checkpoint(checkpoint, model, average, config, seen)
    return result


def load_bundle(folder: Path, config: Stage1Config) -> tuple[Autoencoder, Stage1Config]:
    """The networks of a bundle as a model to go on training, and ``config`` with their shapes.

    Raises:
        BundleError: the bundle is damaged, or its networks are of another family.
    """
    manifest = load_manifest(folder)
    decoder = bundle_decoder(manifest)
    network = integer_network.load(manifest.open_file("encoder.safetensors"))
    try:
        encoder = config_from_name(network.architecture)
    except ValueError as error:
        raise BundleError(f"bundle {manifest.id} cannot be trained further: {error}") from error
    config = replace(config, encoder=encoder, decoder=decoder.config, correction=True)
    model = Autoencoder(config)
    model.encoder.load_state_dict(raise_twin(network, encoder).state_dict())
    model.decoder.load_state_dict(decoder.state_dict())
    return model, config


class _StopOnSignal:
    """Turns the first Ctrl-C or SIGTERM into a request to stop after the current step."""

    def __init__(self) -> None:
        self.requested = False
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._request)

    def _request(self, number: int, frame: object) -> None:
        self.requested = True
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)


def main(
    data: Path = typer.Option(..., help="Folder of training pictures."),
    weights: Path = typer.Option(..., help="Folder of the LPIPS and identity weights."),
    out: Path = typer.Option(..., help="Folder of the run: checkpoint, log.jsonl, samples.png."),
    pictures: int = typer.Option(27_000, min=1, help="Pictures to see before the run ends."),
    budget_seconds: float = typer.Option(0, min=0, help="End the run after this time at the latest; 0: no limit."),
    exclude: list[str] = typer.Option([], help="Name patterns to leave out of training, e.g. 'usgov_*'."),
    validation: Path = typer.Option(None, help="Folder whose first 16 pictures are evaluated on."),
    control: bool = typer.Option(False, help="Train the control: LR = box mean, no learned correction."),
    resume: bool = typer.Option(False, help="Continue from the checkpoint in --out."),
    start: str = typer.Option("", help="Bundle whose networks to begin with, by name or folder."),
    threads: int = typer.Option(0, min=0, help="CPU threads; 0: all."),
    dry_run: bool = typer.Option(False, "--dry-run", help="Print the configuration and stop."),
) -> None:
    """Train an exact encoder and its decoder (stage 1 of GRAIN).

    Ctrl-C ends the run after the current step, with a checkpoint; --resume continues it.
    """
    if threads:
        torch.set_num_threads(threads)
    config = Stage1Config(correction=not control)
    if dry_run:
        typer.echo(json.dumps(config.as_dict(), indent=2))
        return
    bar = Progress(TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn(),
                   console=Console(stderr=True))
    try:
        with bar:
            task = bar.add_task("preparing", total=1.0)
            result = train(config, data=data, weights=weights, out=out, pictures=pictures,
                           budget_seconds=budget_seconds, exclude=tuple(exclude or ()), validation=validation,
                           resume=resume, start=find_bundle(start) if start else None,
                           report=lambda part, line: bar.update(task, completed=part, description=line))
    except (EdgegrainError, FileExistsError) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from None
    typer.echo(json.dumps(result))


if __name__ == "__main__":
    typer.run(main)
