"""Encoder and decoder as one network, the model that a stage trains."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from codec_contract.errors import EdgegrainError
from codec_contract.quantization import dequantize
from edge_encoder.twin import BoxMean, EncoderTwin
from edgegrain.training.grain.rate import RateModel
from edgegrain.training.grain.stages import GrainRecipe, RRDBEncoderConfig
from server_decoder.generative_prior import GenerativePrior
from server_decoder.grain.grain import Grain, GrainConfig
from server_decoder.grain.rrdb_decoder import RRDBDecoder
from server_decoder.window import Window

SAME_GRADIENTS = 0.8
"""Smallest cosine between the gradients of a decoder and of the compiled one."""


class Restoration(NamedTuple):
    """A restored batch of pictures, float32 in [-1, 1].

    Attributes:
        picture: the stage's output, ``[B, 3, S, S]``.
        lr, box: LR and box mean ``[B, 3, h, w]``.
        codes: predicted codes ``[B, L, W]``, where there is a prior.
        rate: expected bits per sample of the LR, a scalar, where the model has a `RateModel`.
    """

    picture: Tensor
    lr: Tensor
    box: Tensor
    codes: Tensor | None = None
    rate: Tensor | None = None

    @property
    def lr_bytes(self) -> Tensor | None:
        """Expected bytes of an LR, without the frame of a payload, a scalar; None without ``rate``."""
        return None if self.rate is None else self.rate * self.lr[0].numel() / 8


class Autoencoder(nn.Module):
    """Encoder twin (or plain box mean) and decoder: the invertible one alone, or GRAIN.

    Attributes:
        rate: the rate model, if an encoder is trained with the rate loss; else None.
    """

    decoder: RRDBDecoder | Grain
    rate: RateModel | None

    def __init__(self, recipe: GrainRecipe, prior: GenerativePrior | None = None) -> None:
        super().__init__()
        self.output = recipe.output
        self.lr_step = recipe.lr_step
        self.encoder = _encoder(recipe)
        self.decoder = (Grain(recipe.decoder, prior) if isinstance(recipe.decoder, GrainConfig)
                        else RRDBDecoder(recipe.decoder))
        learns = recipe.loss.rate and recipe.correction and "encoder" in recipe.trains
        self.rate = RateModel(recipe.encoder.lr, recipe.encoder.lr) if learns else None
        self._decode = decode

    def compile_decoder(self, lr: Tensor) -> None:
        """Decode through `torch.compile`: the first step takes minutes.

        Args:
            lr: ``[B, 3, h, w]`` in [-1, 1], of the training's batch, on its device and under its autocast.

        Raises:
            EdgegrainError: the compiled decoder has other gradients. In bfloat16 on a CPU torch 2.13 loses those of
                `FACES_256_LR16_FINE` between its upsamplings, and a run gets worse without an error.
        """
        compiled = torch.compile(decode)
        plain, traced = (self._gradients(each, lr) for each in (decode, compiled))
        # Rounding to bfloat16 alone makes gradients of the same network differ by a quarter of their norm.
        likeness = min(float(F.cosine_similarity(a, b, dim=0)) for a, b in zip(plain, traced, strict=True))
        if not likeness >= SAME_GRADIENTS:
            raise EdgegrainError(f"torch {torch.__version__} compiles this decoder to one with other gradients (cosine "
                                 f"{likeness:.2f} instead of about 1); train without --compile")
        self._decode = compiled

    def forward(self, picture: Tensor, *, noise: bool = False, output: str | None = None,
                prior_gain: float = 1.0, window: Window | None = None) -> Restoration:
        """Restore pictures.

        Args:
            picture: integers 0...255, ``[B, 3, S, S]``.
            noise: uniform noise instead of rounding ([GRAIN] 3.2 (2)).
            output: ``"invertible"``, ``"style"`` or ``"final"``; by default the stage's.
            prior_gain: factor on f_gen, to measure the contribution of the prior.
            window: the part of the pictures that is wanted, for the output ``"style"``; None for all of it.
        """
        levels, box = self.encode(picture, noise=noise)
        lr = dequantize(levels)
        restored, codes = self._decode(self.decoder, lr, output or self.output, prior_gain, window)
        rate = self.rate(levels / self.lr_step) if self.rate is not None else None
        return Restoration(restored.float(), lr, dequantize(box), codes, rate)

    def encode(self, picture: Tensor, *, noise: bool = False) -> tuple[Tensor, Tensor]:
        """LR levels as payloads store them and box mean, ``[B, 3, h, w]`` float32 in 0...255; see `forward`.

        With an `lr_step` above 1 levels are rounded to multiples of it with a straight-through gradient, or noise is as
        wide as the step. A frozen encoder gives exact levels; one that is trained computes under the caller's autocast,
        in which levels differ by up to 2.
        """
        trained = any(parameter.requires_grad for parameter in self.encoder.parameters())
        exact = contextlib.nullcontext() if trained else torch.autocast(picture.device.type, enabled=False)
        with exact:
            if self.lr_step == 1:
                return self.encoder(picture, noise=noise)
            levels, box = self.encoder(picture)
        if noise:
            return (levels + self.lr_step * (torch.rand_like(levels) - 0.5)).clamp(0, 255), box
        return levels + (rounded_to_step(levels, self.lr_step) - levels).detach(), box

    @property
    def prior(self) -> GenerativePrior | None:
        return self.decoder.prior if isinstance(self.decoder, Grain) else None

    def parts(self) -> dict[str, nn.Module]:
        """The modules that a stage may train, by the names of `GrainRecipe.trains`."""
        if not isinstance(self.decoder, Grain):
            return {"encoder": self.encoder, "decoder": self.decoder}
        parts = {"encoder": self.encoder, "decoder": self.decoder.decoder, "codes": self.decoder.codes,
                 "fusion": self.decoder.fusion}
        return {name: part for name, part in parts.items() if part is not None}

    def is_prior(self, name: str) -> bool:
        """True for names of the state dict that belong to the generator, whose weights are in no checkpoint."""
        return isinstance(self.decoder, Grain) and name.startswith("decoder.prior.")

    def _gradients(self, function: Callable[..., tuple[Tensor, Tensor | None]], lr: Tensor) -> tuple[Tensor, Tensor]:
        """Gradients at the LR and at the decoder's trained weights, each as one vector."""
        lr = lr.detach().requires_grad_(True)
        trained = [parameter for parameter in self.decoder.parameters() if parameter.requires_grad]
        picture, _ = function(self.decoder, lr, self.output)
        at_lr, *others = torch.autograd.grad(picture.float().square().mean(), [lr, *trained], allow_unused=True)
        return at_lr.flatten().float(), torch.cat([each.flatten().float() for each in others if each is not None])


def rounded_to_step(levels: Tensor, step: int) -> Tensor:
    """Levels 0...255 of any shape, rounded to multiples of ``step`` as `codec_contract.lr_coder.coder_tables` does."""
    return (torch.floor((levels + step // 2) / step) * step).clamp(max=255)


def decode(decoder: RRDBDecoder | Grain, lr: Tensor, output: str, prior_gain: float = 1.0,
           window: Window | None = None) -> tuple[Tensor, Tensor | None]:
    """The requested picture and the codes, if any; parts that neither needs do not run (stage 2 does not fuse)."""
    if isinstance(decoder, RRDBDecoder):
        return decoder(lr), None
    if output == "invertible":
        return decoder.decoder(lr), None
    if output == "style" and decoder.prior is not None:
        _, f_inv = decoder.decoder.forward_features(lr)
        codes, synthesis = decoder.generate(f_inv, window=window)
        return synthesis.picture, codes
    restored = decoder.forward_all(lr, prior_gain)
    return restored.final, restored.codes


def build_autoencoder(recipe: GrainRecipe, prior: GenerativePrior | None = None) -> Autoencoder:
    """A model with random weights, except for the prior; only the parts of ``recipe.trains`` take gradients."""
    model = Autoencoder(recipe, prior)
    freeze(model, recipe.trains)
    return model


def freeze(model: Autoencoder, trains: tuple[str, ...]) -> None:
    """Let gradients reach the named parts only, so that frozen parts build no graph in front of them."""
    model.requires_grad_(False)
    for name, part in model.parts().items():
        part.requires_grad_(name in trains)
    if model.rate is not None:
        model.rate.requires_grad_(True)


def _encoder(recipe: GrainRecipe) -> nn.Module:
    if not recipe.correction:
        return BoxMean(recipe.encoder.hr, recipe.encoder.lr)
    if isinstance(recipe.encoder, RRDBEncoderConfig):
        return recipe.encoder.build()
    return EncoderTwin(recipe.encoder)
