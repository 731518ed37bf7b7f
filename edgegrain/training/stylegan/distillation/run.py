"""A MobileStyleGAN that learns from a StyleGAN2: the student, with the heads it needs meanwhile; its checkpoint."""

from __future__ import annotations

import copy
import json
import math
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from codec_contract.errors import ModelError
from edgegrain.training.adversarial import Opponent
from edgegrain.training.stylegan.distillation.recipes import DistilConfig
from edgegrain.training.weight_shards import load_shards, save_shards
from server_decoder.mobile_stylegan.generator import MobileStyleGAN, WaveletHead, save_mobile_stylegan
from server_decoder.mobile_stylegan.rgb_heads import fit_rgb_heads
from server_decoder.stylegan2.discriminator import Discriminator
from server_decoder.stylegan2.mapping import MAPPING_RATE
from server_decoder.stylegan2.synthesis import StyleGAN2

CHECKPOINT = "last.safetensors"
STUDENT = "mobile_stylegan.safetensors"
"""What a run is for: the averaged student, as `load_mobile_stylegan` reads it."""
_FORMAT = "edgegrain-distillation-1"
_HEAD_PICTURES = 32  # that the heads of a file, for cutting the generator, are fitted on


class Student(nn.Module):
    """A MobileStyleGAN and wavelet heads on its coarser features.

    The heads make a picture at every resolution, so that every block has a target of its own (arXiv:2104.04767, Section
    3); a finished generator has only its last head.
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
    """A run of `edgegrain.training.stylegan.distillation.loop`; ``average`` has averaged weights."""

    config: DistilConfig
    student: Student
    average: Student
    opponent: Opponent | None
    pictures: int = 0


def begin(config: DistilConfig, teacher: StyleGAN2, discriminator: Discriminator | None = None) -> DistilRun:
    """A run at its first step.

    Raises:
        ModelError: the teacher's codes or mapping network are not of the student's sizes.
    """
    torch.manual_seed(config.seed)
    generator = MobileStyleGAN(config.student)
    adopt(generator, teacher)
    student = Student(generator)
    opponent = Opponent(config.adversarial, discriminator) if config.adversarial is not None else None
    return DistilRun(config, student, copy.deepcopy(student).eval().requires_grad_(False), opponent)


@torch.no_grad()
def adopt(student: MobileStyleGAN, teacher: StyleGAN2) -> None:
    """Give a student the teacher's mapping network, mean code, noise and, where it fits, input.

    The mapping network is the same function: equalized learning rates are multiplied into its weights. It stays frozen.

    Raises:
        ModelError: the sizes differ.
    """
    mine, theirs = student.config, teacher.config
    if (mine.code_width, mine.mapping_layers) != (theirs.code_width, theirs.mapping_layers):
        raise ModelError(f"the student takes codes of {mine.code_width} from {mine.mapping_layers} mapping layers, the "
                         f"teacher has {theirs.code_width} and {theirs.mapping_layers}")
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
    """A student's codes ``[B, L, code_width]`` for a teacher of ``count``: they agree from the coarsest on, and the
    student's last one, of its head, stands for all that the teacher has more."""
    missing = count - codes.shape[1]
    return torch.cat([codes, codes[:, -1:].expand(-1, missing, -1)], dim=1)


def save(folder: Path, run: DistilRun, teacher: str) -> None:
    """Write the checkpoint of a run, and its averaged student as a file that can be used; both replace older ones.

    ``teacher`` goes into the file's header.
    """
    networks: dict[str, nn.Module] = {"student": run.student, "average": run.average}
    if run.opponent is not None:
        networks["discriminator"] = run.opponent.discriminator
    tensors = {f"{prefix}.{name}": tensor for prefix, network in networks.items()
               for name, tensor in network.state_dict().items()}
    save_shards(folder / CHECKPOINT, tensors, {"format": _FORMAT, "config": json.dumps(run.config.as_dict()),
                                               "pictures": str(run.pictures)}, run.pictures)
    generator = run.average.generator
    heads = fit_rgb_heads(generator, pictures=_HEAD_PICTURES) if generator.config.head == "wavelet" else {}
    save_mobile_stylegan(generator, folder / STUDENT, heads,
                         {"teacher": teacher, "pictures_seen": str(run.pictures)}, force=True)


def load(folder: Path, teacher: StyleGAN2, discriminator: Discriminator | None = None) -> DistilRun:
    """The run of a folder, on the CPU.

    Args:
        folder: the run's.
        teacher: the one it began with.
        discriminator: any of the kind it began with; its weights are replaced.

    Raises:
        ModelError: there is no run, a part of it is damaged, or it began with another teacher.
    """
    path = folder / CHECKPOINT
    try:
        metadata, tensors = load_shards(path)
        if metadata.get("format") != _FORMAT:
            raise ModelError(f"{path} is no distillation (format {metadata.get('format')!r}, expected {_FORMAT!r})")
        run = begin(DistilConfig.from_dict(json.loads(metadata["config"])), teacher, discriminator)
        expected = {name: tensor.clone() for name, tensor in run.student.generator.mapping.state_dict().items()}
        networks: dict[str, nn.Module] = {"student": run.student, "average": run.average}
        if run.opponent is not None:
            networks["discriminator"] = run.opponent.discriminator
        for prefix, network in networks.items():
            network.load_state_dict({name.removeprefix(f"{prefix}."): tensor for name, tensor in tensors.items()
                                     if name.startswith(f"{prefix}.")})
        run.pictures = int(metadata["pictures"])
    except (OSError, SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
        if isinstance(error, ModelError):
            raise
        raise ModelError(f"{path} cannot be continued ({error}); expected a checkpoint of a distillation") from error
    if any(not torch.equal(tensor, expected[name])
           for name, tensor in run.student.generator.mapping.state_dict().items()):
        raise ModelError(f"{path} began with another teacher than the one given")
    return run
