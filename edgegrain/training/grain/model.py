"""Encoder and decoder as one network, the model that a stage trains."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from codec_contract.errors import ModelError
from codec_contract.pixels import dequantize
from edge_encoder.twin import BoxMean, EncoderTwin
from edgegrain.training.adversarial import AdversarialLoss
from edgegrain.training.checkpoint import Run, frozen_copy, open_checkpoint, open_header
from edgegrain.training.grain.rate import RateModel
from edgegrain.training.grain.recipes import PARTS, GrainRecipe, RRDBEncoderConfig
from server_decoder.generative_prior import GenerativePrior, Window, prior_digest
from server_decoder.grain.grain import Grain, GrainConfig
from server_decoder.grain.rrdb_decoder import RRDBDecoder


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
    """Encoder twin (or plain box mean) and decoder: the invertible one alone, or GRAIN. Weights are random, except for
    the prior; only the parts of ``recipe.trains`` take gradients, so that frozen parts build no graph in front of them.

    Attributes:
        rate: the rate model, if an encoder is trained with the rate loss; else None.
    """

    decoder: RRDBDecoder | Grain
    rate: RateModel | None

    def __init__(self, recipe: GrainRecipe, prior: GenerativePrior | None = None) -> None:
        super().__init__()
        self.output = recipe.output
        self.lr_step = recipe.lr_step
        self.told = recipe.invertible.step > 0
        encoder, decoder = recipe.encoder, recipe.decoder
        if not recipe.correction:
            self.encoder: nn.Module = BoxMean(encoder.hr, encoder.lr)
        else:
            self.encoder = encoder.build() if isinstance(encoder, RRDBEncoderConfig) else EncoderTwin(encoder)
        self.decoder = Grain(decoder, prior) if isinstance(decoder, GrainConfig) else RRDBDecoder(decoder)
        self.rate = RateModel(encoder.lr, encoder.lr) if recipe.loss.rate else None
        self.requires_grad_(False)
        for name, part in self.parts().items():
            part.requires_grad_(name in recipe.trains)
        if recipe.lr_steps:  # the decoder stays what it is at its own step
            for name, weights in self.named_parameters():
                weights.requires_grad_("step_branches" in name)
        if self.rate is not None:
            self.rate.requires_grad_(True)

    def forward(
        self,
        picture: Tensor,
        *,
        noise: bool = False,
        output: str | None = None,
        prior_gain: float = 1.0,
        window: Window | None = None,
    ) -> Restoration:
        """Restore pictures ``[B, 3, S, S]`` of integers 0...255.

        Args:
            noise: uniform noise instead of rounding ([GRAIN] 3.2 (2)).
            output: ``"invertible"``, ``"style"`` or ``"final"``; by default the stage's.
            prior_gain: factor on f_gen, to measure the contribution of the prior.
            window: the part of the pictures that is wanted, for the output ``"style"``; None for all of it.
        """
        levels, box = self.encode(picture, noise=noise)
        lr = dequantize(levels)
        restored, codes = self._decode(lr, output or self.output, prior_gain, window)
        rate = self.rate(levels / self.lr_step) if self.rate is not None else None
        return Restoration(restored.float(), lr, dequantize(box), codes, rate)

    def _decode(
        self, lr: Tensor, output: str, prior_gain: float, window: Window | None
    ) -> tuple[Tensor, Tensor | None]:
        """The requested picture and the codes, if any; parts that neither needs do not run (stage 2 does not fuse)."""
        decoder, step = self.decoder, lr.new_full((1,), self.lr_step) if self.told else None
        if isinstance(decoder, RRDBDecoder):
            return decoder(lr, step), None
        if output == "invertible":
            return decoder.decoder(lr, step), None
        if output == "style" and decoder.prior is not None:
            _, f_inv = decoder.decoder.forward_features(lr, step)
            codes, synthesis = decoder.generate(f_inv, window=window)
            return synthesis.picture, codes
        restored = decoder.forward_all(lr, prior_gain, step)
        return restored.final, restored.codes

    def encode(self, picture: Tensor, *, noise: bool = False) -> tuple[Tensor, Tensor]:
        """LR levels as payloads store them and box mean, ``[B, 3, h, w]`` float32 in 0...255; see `forward`.

        With an `lr_step` above 1 the gradient passes straight through the rounding, or noise is as wide as the step. A
        frozen encoder gives exact levels; one that is trained computes under the caller's autocast (up to 2 apart).
        """
        trained = any(parameter.requires_grad for parameter in self.encoder.parameters())
        exact = contextlib.nullcontext() if trained else torch.autocast(picture.device.type, enabled=False)
        with exact:
            if self.lr_step == 1:
                return self.encoder(picture, noise=noise)
            levels, box = self.encoder(picture)
        if noise:
            return (levels + self.lr_step * (torch.rand_like(levels) - 0.5)).clamp(0, 255), box
        # Rounded as `codec_contract.lr_coder.coder_tables` does.
        rounded = (torch.floor((levels + self.lr_step // 2) / self.lr_step) * self.lr_step).clamp(max=255)
        return levels + (rounded - levels).detach(), box

    @property
    def prior(self) -> GenerativePrior | None:
        return self.decoder.prior if isinstance(self.decoder, Grain) else None

    def parts(self) -> dict[str, nn.Module]:
        """The modules that a stage may train, by the names of `GrainRecipe.trains`."""
        whole = self.decoder
        if not isinstance(whole, Grain):
            return {"encoder": self.encoder, "decoder": whole}
        parts = zip(PARTS, (self.encoder, whole.decoder, whole.codes, whole.fusion), strict=True)
        return {name: part for name, part in parts if part is not None}


FAMILY = "grain"
PRIOR = "decoder.prior."  # prefix of the generator's weights, which are in no checkpoint


@dataclass
class GrainRun(Run):
    """The state of a training run, with the stages before it as in `stages`."""

    recipe: GrainRecipe
    model: Autoencoder
    average: Autoencoder
    history: tuple[Mapping[str, Any], ...] = ()
    family = FAMILY
    frozen = (PRIOR,)

    @property
    def stages(self) -> tuple[Mapping[str, Any], ...]:
        """All stages in order, this one included: ``{"stage": ..., "pictures": ...}``, and ``"grid"``, that weight."""
        grid = {"grid": self.recipe.loss.grid} if self.recipe.loss.grid else {}
        return (*self.history, {"stage": self.recipe.stage, "pictures": self.pictures, **grid})

    def tensors(self) -> dict[str, Tensor]:
        """Everything to store; of the averages only the trained weights."""
        trained = {f"average.{name}" for name, weights in self.model.named_parameters() if weights.requires_grad}
        tensors = super().tensors().items()
        return {name: tensor for name, tensor in tensors if name in trained or not name.startswith("average.")}

    def state(self) -> dict[str, Any]:
        """The stages before this one and the hash of the generator."""
        prior = self.model.prior
        return {"history": list(self.history), "prior": prior_digest(prior) if prior is not None else ""}


def load_run(path: Path, prior: GenerativePrior | None = None) -> GrainRun:
    """A run from its folder or its checkpoint's first file, on the CPU; ``prior``: the generator it was trained with"""
    with open_checkpoint(path, FAMILY) as stored:
        recipe = GrainRecipe.from_dict(stored.config)
        if (digest := stored.state.get("prior")) and prior is None:
            raise ModelError(f"{path} was trained with a generator, whose file is needed too (--prior)")
        if digest and prior is not None and digest != prior_digest(prior):
            raise ModelError(f"{path} was trained with another generator than the one given; pass --prior with it")
        model = Autoencoder(recipe, prior)
        run = GrainRun(recipe, model, frozen_copy(model), history=tuple(stored.state.get("history", [])))
        if recipe.adversarial is not None and stored.part("discriminator"):
            run.adversarial = AdversarialLoss(recipe.adversarial)
        frozen = {f"average.{name}": tensor for name, tensor in stored.part("model").items()}
        return run.load(replace(stored, tensors=frozen | stored.tensors))


def read_recipe(path: Path) -> GrainRecipe:
    """The configuration of a run, without its weights."""
    with open_header(path) as header:
        return GrainRecipe.from_dict(json.loads(header["config"]))
