"""The training of IRN and IRN+ ([IRN], section 3 and appendix 2).

A step downscales crops, rounds y, draws another z and restores: L = lambda_1 L_recon + lambda_2 L_guide +
lambda_3 L_distr' while pre-training (eq. 10); with a discriminator, the Jensen-Shannon divergence replaces L_distr' and
a perceptual term joins (eq. 11).
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from codec_contract.bundle.manifest import IRN_WEIGHTS
from codec_contract.errors import EdgegrainError, ModelError
from edgegrain.metrics.lpips import LPIPS
from edgegrain.papers.irn.bundle import load_irn, save_irn
from edgegrain.papers.irn.crops import Photographs, crops, pack_photographs
from edgegrain.papers.irn.losses import (
    IRNDiscriminator,
    adversarial_loss,
    bicubic_reduction,
    divergence,
    guide_loss,
    latent_loss,
    lpips_loss,
    perceptual_loss,
    reconstruction_loss,
)
from edgegrain.papers.irn.network import IRN, DenseBlock, round_to_levels
from edgegrain.papers.irn.recipes import IRN_RECIPES, IRNRecipe
from edgegrain.pictures.packed import random_pictures
from edgegrain.pictures.stored_pictures import list_pictures
from edgegrain.training.checkpoint import CHECKPOINT, open_checkpoint, prefixed
from edgegrain.training.data import UNSEEN_SEED, packed_folder, require_pictures, write_samples
from edgegrain.training.distributed import Distributed, mixed_precision
from edgegrain.training.family import Family, RunOptions
from edgegrain.training.losses import needed_metric_weights
from edgegrain.training.optimizers import descend, early_decay, finite_gradients, optimizers, update_averages
from edgegrain.training.recipe import continued
from server_decoder.grain.fusion import BicubicEnlargement

FAMILY = "irn"


@dataclass
class IRNRun:
    """The state of a training run.

    Attributes:
        model: the network that the optimizer changes.
        average: the same with averaged weights.
        discriminator: of IRN+.
        pictures: crops seen so far.
    """

    recipe: IRNRecipe
    model: IRN
    average: IRN
    discriminator: IRNDiscriminator | None
    pictures: int = 0
    family = FAMILY

    def networks(self) -> dict[str, nn.Module]:
        """All networks by their prefix in a checkpoint."""
        networks: dict[str, nn.Module] = {"model": self.model, "average": self.average}
        return networks if self.discriminator is None else {**networks, "discriminator": self.discriminator}

    def tensors(self) -> dict[str, Tensor]:
        return prefixed(self.networks())

    def state(self) -> dict[str, Any]:
        return {}

    def save_weights(self, folder: Path) -> None:
        """Write ``irn.safetensors``."""
        training = {"config": self.recipe.as_dict(), "crops_seen": self.pictures}
        save_irn(self.average, folder / IRN_WEIGHTS, training=training, force=True)


def start_run(recipe: IRNRecipe, start: Path | None = None) -> IRNRun:
    """A run at its first step.

    Args:
        recipe: of the run.
        start: an ``irn.safetensors``, or a folder with one, to begin with: IRN+ begins with a pre-trained IRN, a larger
            network with a smaller one (`edgegrain.papers.irn.training`).
    """
    torch.manual_seed(recipe.seed)
    model = IRN(recipe.network)
    if start is not None:
        trained = load_irn(start / IRN_WEIGHTS if start.is_dir() else start)
        grow(model, trained)
    discriminator = IRNDiscriminator(recipe.crop, recipe.discriminator) if recipe.discriminator else None
    return IRNRun(recipe, model, copy.deepcopy(model).eval().requires_grad_(False), discriminator)


def load_run(folder: Path) -> IRNRun:
    """The run of a folder, on the CPU."""
    with open_checkpoint(folder, FAMILY) as stored:
        run = start_run(IRNRecipe.from_dict(stored.config))
        for prefix, network in run.networks().items():
            network.load_state_dict(stored.part(prefix) or stored.part("judge"))  # the name in edgegrain 0.5
        run.pictures = stored.pictures
        return run


HELD_OUT = 8  # crops that a run is evaluated on


class IRNTrainer:
    """A run on its device, one step at a time.

    Attributes:
        steps: taken in this session.
        skipped: steps whose gradient was not finite and that changed nothing.
    """

    def __init__(self, run: IRNRun, distributed: Distributed, photographs: Photographs, held_out: Tensor,
                 features: LPIPS | None) -> None:
        """Moves all networks to the device.

        Args:
            run: the run.
            distributed: device and processes.
            photographs: to train on.
            held_out: crops to evaluate on, ``[N, 3, S, S]`` in [0, 1].
            features: VGG16 for the perceptual losses.
        """
        self.run, self.distributed, recipe = run, distributed, run.recipe
        self.pictures_in_set, self._held_out = len(photographs), held_out.to(distributed.device)
        self.features = features.to(distributed.device) if features is not None else None
        self.steps, self.updates, self.skipped = 0, 0, 0  # updates: of the network
        distributed.move(run.networks().values(), convolutional=True)
        if run.discriminator is not None:
            run.discriminator.train()
        self._parameters = list(run.model.parameters())
        self._averages = list(run.average.parameters())
        self._optimizers = optimizers(self._parameters, recipe.learning_rate, recipe.muon, recipe.weight_decay,
                                      betas=recipe.betas, adam=torch.optim.Adam)
        self._discriminator_optimizer = None if run.discriminator is None else torch.optim.Adam(
            run.discriminator.parameters(), recipe.learning_rate, recipe.betas)
        seed = distributed.seed(recipe.seed, run.pictures)
        self._crops = crops(photographs, recipe.batch, recipe.crop, seed, distributed.device)
        self._random = torch.Generator(distributed.device).manual_seed(seed)

    def step(self, progress: float) -> dict[str, Tensor]:
        """One batch at this progress (0...1) of the run: the unweighted terms of the loss, detached."""
        run, recipe = self.run, self.run.recipe
        x = next(self._crops).contiguous(memory_format=self.distributed.layout)
        self.steps += 1
        run.pictures += recipe.batch * self.distributed.world
        if run.discriminator is not None and progress < recipe.discriminator_alone:
            with torch.no_grad():
                restored = self._restore(run.model, x)[0]
            return self._train_discriminator(run.discriminator, x, restored, progress)
        with mixed_precision(self.distributed.device, recipe.bf16):
            restored, y, z = self._restore(run.model, x)
        terms = {"reconstruction": reconstruction_loss(restored, x), "guide": guide_loss(y, x)}
        if run.discriminator is None:
            terms["distribution"] = latent_loss(z, recipe.network.z_std)
        else:
            run.discriminator.requires_grad_(False)
            terms["distribution"] = adversarial_loss(run.discriminator(restored))
            run.discriminator.requires_grad_(True)
        if self.features is not None and recipe.loss.perceptual:
            terms["perceptual"] = perceptual_loss(self.features, restored, x)
        if self.features is not None and recipe.loss.lpips:
            terms["lpips"] = lpips_loss(self.features, restored, x)
        self._update(sum((getattr(recipe.loss, name) * term for name, term in terms.items()), torch.zeros(())),
                     progress)
        learned = {} if run.discriminator is None else self._train_discriminator(
            run.discriminator, x, restored.detach(), progress)
        return {name: term.detach() for name, term in terms.items()} | learned

    @torch.no_grad()
    def evaluate(self) -> dict[str, float]:
        """The averaged network on held-out crops: PSNR (dB, RGB) with z = 0 and of the bicubic pair, PSNR of y to the
        bicubic reduction, the mean absolute difference (levels) between two random z, deviation of the true z."""
        model, x = self.run.average, self._held_out
        y, z = model(x)
        y = round_to_levels(y)
        likeliest = model.inverse(y, torch.zeros_like(z)).clamp(0, 1)
        one, other = (model.inverse(y, model.sample_z(y, self._random)).clamp(0, 1) for _ in range(2))
        reduced = round_to_levels(bicubic_reduction(x, y.shape[-1]))
        enlarged = BicubicEnlargement(y.shape[-1], x.shape[-1]).to(y.device)(reduced).clamp(0, 1)
        figures = {"psnr": _psnr(likeliest, x), "psnr_bicubic": _psnr(enlarged, x), "psnr_y": _psnr(y, reduced),
                   "z_difference": 255 * float((one - other).abs().mean()), "z_std": float(z.std())}
        return {name: round(value, 4) for name, value in figures.items()}

    @torch.no_grad()
    def draw_samples(self, path: Path) -> None:
        """One column per crop: the crop, y, the restored crop."""
        model, x = self.run.average, self._held_out
        y, z = model(x)
        y = round_to_levels(y)
        write_samples([2 * row - 1 for row in (x, y, model.inverse(y, torch.zeros_like(z)))], path)

    def _restore(self, model: IRN, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        y, z = model(x)
        return model.inverse(round_to_levels(y), model.sample_z(y, self._random)), y, z

    def _train_discriminator(self, discriminator: IRNDiscriminator, real: Tensor, restored: Tensor, progress: float
                             ) -> dict[str, Tensor]:
        value = divergence(discriminator(real), discriminator(restored))
        optimizer = self._discriminator_optimizer
        if optimizer is None:
            raise ValueError("the discriminator has no optimizer")
        optimizer.zero_grad(set_to_none=True)
        (-value).backward()
        self.distributed.average_gradients(list(discriminator.parameters()))
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(self.run.recipe, progress, self.steps - 1)
        if finite_gradients(discriminator.parameters()):
            optimizer.step()
        return {"divergence": value.detach()}

    def _update(self, loss: Tensor, progress: float) -> None:
        recipe = self.run.recipe
        rate = learning_rate(recipe, progress, self.updates)
        self.updates += 1
        if not descend(loss, self._parameters, self._optimizers, rate, self.distributed, clip=recipe.clip_gradient):
            self.skipped += 1
            return
        update_averages(self._averages, self._parameters,
                        early_decay(recipe.ema, self.run.pictures // (recipe.batch * self.distributed.world)))


def open_trainer(recipe: IRNRecipe, options: RunOptions, folder: Path, distributed: Distributed) -> IRNTrainer:
    """Continue the run in ``folder``, or start one; see `Family.open`."""
    require_pictures(options, recipe.random_pictures)
    resumed = (folder / CHECKPOINT).exists()
    if recipe.discriminator and options.init_from is None and not resumed and not recipe.random_pictures:
        raise EdgegrainError("IRN+ fine-tunes a trained IRN; pass --init-from with a run or its irn.safetensors")
    weights = needed_metric_weights(options.weights, needed=recipe.loss.needs_vgg, faces=False)
    features = LPIPS(weights, "vgg").requires_grad_(False) if recipe.loss.needs_vgg and weights is not None else None
    if resumed:
        run = load_run(folder)
        # The discriminator's shape depends on the crop.
        run.recipe = continued(recipe, network=run.recipe.network, discriminator=run.recipe.discriminator,
                               crop=run.recipe.crop if run.recipe.discriminator else recipe.crop)
    else:
        run = start_run(recipe, options.start)
    recipe = run.recipe
    if options.data is not None:
        photographs = pack_photographs(list_pictures(options.data, options.exclude), packed_folder(folder))
    else:
        photographs = Photographs.of(list(random_pictures(recipe.random_pictures, 2 * recipe.crop, recipe.seed)))
    unseen = photographs
    if options.validation is not None:
        unseen = pack_photographs(list_pictures(options.validation), packed_folder(folder))
    held_out = next(crops(unseen, HELD_OUT, recipe.crop, UNSEEN_SEED))
    return IRNTrainer(run, distributed, photographs, held_out, features)


def learning_rate(recipe: IRNRecipe, progress: float, step: int) -> float:
    """Warm-up, then halved at every mark that the run has passed."""
    passed = sum(progress >= mark for mark in recipe.halve_at)
    return recipe.learning_rate * min(1.0, (step + 1) / max(recipe.warm_up, 1)) * 0.5**passed


def _psnr(picture: Tensor, target: Tensor) -> float:
    """Mean over pictures in [0, 1] that are rounded first."""
    error = (round_to_levels(picture) - target).pow(2).mean((1, 2, 3)).clamp_min(1e-10)
    return float(-10 * error.log10().mean())


def _takes(recipe: IRNRecipe) -> set[str]:
    return {"data", "validation", "exclude", "init_from"} | ({"weights"} if recipe.loss.needs_vgg else set())


def _describe(recipe: IRNRecipe) -> str:
    return (f"{'IRN+' if recipe.discriminator else 'IRN'} {recipe.network.factor}x, "
            f"{'+'.join(map(str, recipe.network.blocks))} InvBlocks, {recipe.iterations:,} iterations of "
            f"{recipe.batch} crops of {recipe.crop}x{recipe.crop}")


IRN_FAMILY = Family(FAMILY, "IRN and IRN+", IRNRecipe, IRN_RECIPES, _describe, open_trainer, _takes,
                    lambda recipe: recipe.iterations * recipe.batch)


@torch.no_grad()
def grow(network: IRN, trained: IRN) -> None:
    """Give ``network`` the weights of a smaller one; what it has beyond that begins without effect.

    New InvBlocks follow those of their module and couple nothing yet: their dense blocks give zero. New channels of
    dense blocks are computed from random weights, and nothing reads them yet.

    Args:
        network: new, with at least as many blocks in each module and at least as much growth.
        trained: its weights are copied.
    """
    new, old = network.config, trained.config
    fewer = len(old.blocks) == len(new.blocks) and all(a <= b for a, b in zip(old.blocks, new.blocks, strict=True))
    if replace(old, blocks=new.blocks, growth=new.growth) != new or old.growth > new.growth or not fewer:
        raise ModelError(f"the run would begin with {old}, the recipe has {new}; only its blocks and growth may be "
                         "larger")
    for module, smaller in zip(network.stages, trained.stages, strict=True):
        module.get_submodule("transform").load_state_dict(smaller.get_submodule("transform").state_dict())
    own = dict(network.named_modules())
    for name, block in trained.named_modules():
        if isinstance(block, DenseBlock):
            _widen(own[name], block)


def _widen(target: DenseBlock, source: DenseBlock) -> None:
    inputs = source.conv1.in_channels
    old, new = source.conv1.out_channels, target.conv1.out_channels
    for index, (wide, narrow) in enumerate(zip(target.convs(), source.convs(), strict=True)):
        # A convolution reads the block's input, then the outputs of the ones before it.
        read = [*range(inputs), *(inputs + group * new + channel for group in range(index) for channel in range(old))]
        outputs = narrow.out_channels
        wide.weight[:outputs] = 0
        wide.weight[:outputs, read] = narrow.weight
        if wide.bias is not None and narrow.bias is not None:
            wide.bias[:outputs] = narrow.bias
