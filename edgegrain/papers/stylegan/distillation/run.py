"""The state of a distillation: a MobileStyleGAN with additional heads, in memory and in a checkpoint."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from codec_contract.errors import ModelError
from edgegrain.papers.stylegan.distillation.recipes import DistillationRecipe
from edgegrain.training.adversarial import AdversarialLoss
from edgegrain.training.checkpoint import open_checkpoint, prefixed
from server_decoder.mobile_stylegan.generator import MobileStyleGAN, WaveletHead, fit_rgb_heads, save_mobile_stylegan
from server_decoder.stylegan2.discriminator import Discriminator
from server_decoder.stylegan2.layers import MAPPING_RATE
from server_decoder.stylegan2.synthesis import StyleGAN2

STUDENT = "mobile_stylegan.safetensors"
"""The result of a run: the averaged student, as `load_mobile_stylegan` reads it."""
FAMILY = "distillation"
_HEAD_PICTURES = 32  # for fitting the heads with which the generator can be cut


class Student(nn.Module):
    """A MobileStyleGAN and wavelet heads on its coarser features.

    The heads make a picture at every resolution, so that every block has its own target (arXiv:2104.04767, Section 3);
    a finished generator keeps only its last head.
    """

    def __init__(self, generator: MobileStyleGAN) -> None:
        super().__init__()
        self.generator = generator
        self.heads = nn.ModuleDict({
            str(resolution): WaveletHead(channels, generator.code_width)
            for resolution, channels in generator.feature_channels.items() if 2 * resolution < generator.size})

    def forward(self, codes: Tensor) -> list[Tensor]:
        """Codes ``[B, L, code_width]`` -> pictures ``[B, 3, r, r]``, coarse to fine, the last of full size."""
        picture, features = self.generator(codes)
        last = {resolution: index for index, resolution in enumerate(self.generator.code_resolutions)}
        return [head(features[int(name)], codes[:, last[int(name)]]) for name, head in self.heads.items()] + [picture]


@dataclass
class DistilRun:
    """The state of a training run.

    Attributes:
        student: the network that the optimizer changes.
        average: the same with averaged weights.
        adversarial: the discriminator, in recipes that have one.
        pictures: of the teacher, seen so far.
        teacher: its name, for the student's file.
    """

    recipe: DistillationRecipe
    student: Student
    average: Student
    adversarial: AdversarialLoss | None
    pictures: int = 0
    teacher: str = ""
    family = FAMILY

    def networks(self) -> dict[str, nn.Module]:
        """All networks by their prefix in a checkpoint."""
        networks: dict[str, nn.Module] = {"student": self.student, "average": self.average}
        return networks if self.adversarial is None else {
            **networks, "discriminator": self.adversarial.discriminator}

    def tensors(self) -> dict[str, Tensor]:
        return prefixed(self.networks())

    def state(self) -> dict[str, Any]:
        return {}

    def save_weights(self, folder: Path) -> None:
        """Write ``mobile_stylegan.safetensors``."""
        generator = self.average.generator
        heads = fit_rgb_heads(generator, pictures=_HEAD_PICTURES) if generator.config.head == "wavelet" else {}
        save_mobile_stylegan(generator, folder / STUDENT, heads,
                             {"teacher": self.teacher, "pictures_seen": str(self.pictures)}, force=True)


def start_run(recipe: DistillationRecipe, teacher: StyleGAN2, discriminator: Discriminator | None = None, name: str = ""
              ) -> DistilRun:
    """A run at its first step.

    Args:
        recipe: of the run.
        teacher: a StyleGAN2 of the student's size.
        discriminator: a trained one; None for the recipe's own with random weights.
        name: the teacher's, for the student's file.

    Raises:
        ModelError: the teacher's codes or mapping network are not of the student's sizes.
    """
    torch.manual_seed(recipe.seed)
    generator = MobileStyleGAN(recipe.student)
    adopt_teacher(generator, teacher)
    student = Student(generator)
    adversarial = AdversarialLoss(recipe.adversarial, discriminator) if recipe.adversarial is not None else None
    return DistilRun(recipe, student, copy.deepcopy(student).eval().requires_grad_(False), adversarial,
                     teacher=name)


@torch.no_grad()
def adopt_teacher(student: MobileStyleGAN, teacher: StyleGAN2) -> None:
    """Copy the teacher's mapping network, mean code, noise and, if it has the same shape, input to a student.

    The mapping network computes the same function: equalized learning rates are multiplied into its weights. It stays
    frozen.

    Raises:
        ModelError: the sizes differ.
    """
    mine, theirs = student.config, teacher.config
    if (mine.code_width, mine.mapping_layers) != (theirs.code_width, theirs.mapping_layers):
        raise ModelError(f"the student takes codes of {mine.code_width} from {mine.mapping_layers} mapping layers, the "
                         f"teacher has {theirs.code_width} and {theirs.mapping_layers}; set student.code_width and "
                         "student.mapping_layers to these, or pass another teacher")
    if mine.size != theirs.size:
        raise ModelError(f"the student makes {mine.size}x{mine.size} pictures, the teacher {theirs.size}x{theirs.size}")
    gains = {"weight": MAPPING_RATE / math.sqrt(theirs.code_width), "bias": MAPPING_RATE}
    student.mapping.load_state_dict({
        name: tensor * gains[name.rpartition(".")[2]] for name, tensor in teacher.mapping.state_dict().items()})
    student.mapping.requires_grad_(False)
    student.mean_code.copy_(teacher.mean_code)
    if student.input.shape == teacher.constant.shape:
        student.input.copy_(teacher.constant)
    convs = ["conv", *(f"blocks.{index}.{conv}" for index in range(len(student.blocks)) for conv in ("conv1", "conv2"))]
    for index, conv in enumerate(convs):  # a wavelet student has two fewer than the teacher has layers
        student.get_buffer(f"{conv}.noise").copy_(teacher.get_buffer(f"layers.{index}.noise"))


def teacher_codes(codes: Tensor, count: int) -> Tensor:
    """A student's codes ``[B, L, code_width]`` for a teacher of ``count``: both begin at the coarsest layer, and
    the student's last code, that of its head, is repeated for the teacher's additional layers."""
    missing = count - codes.shape[1]
    return torch.cat([codes, codes[:, -1:].expand(-1, missing, -1)], dim=1)


def load_run(folder: Path, teacher: StyleGAN2, discriminator: Discriminator | None = None, name: str = "") -> DistilRun:
    """The run of a folder, on the CPU.

    Args:
        folder: the run's.
        teacher: the one it began with.
        discriminator: any of the kind it began with; its weights are replaced.
        name: the teacher's, for the student's file.

    Raises:
        ModelError: there is no run, a part of it is damaged, or it began with another teacher.
    """
    with open_checkpoint(folder, FAMILY) as stored:
        run = start_run(DistillationRecipe.from_dict(stored.config), teacher, discriminator, name)
        mapping = run.student.generator.mapping
        expected = {key: tensor.clone() for key, tensor in mapping.state_dict().items()}
        for prefix, network in run.networks().items():
            network.load_state_dict(stored.part(prefix))
        if any(not torch.equal(tensor, expected[key]) for key, tensor in mapping.state_dict().items()):
            raise ModelError(f"{folder} began with another teacher than the one given; pass --teacher with that one")
        run.pictures = stored.pictures
        return run


def read_recipe(folder: Path) -> DistillationRecipe:
    """The recipe of the run in a folder.

    Raises:
        ModelError: there is no run, or a part of it is damaged.
    """
    with open_checkpoint(folder, FAMILY) as stored:
        return DistillationRecipe.from_dict(stored.config)
