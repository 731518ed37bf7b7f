"""Heads on frozen features: what they see, what is stored, and that they learn."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from codec_contract.errors import ModelError
from codec_contract.quantization import dequantize
from edgegrain.metrics.identity import FaceIdentity
from edgegrain.metrics.lpips import LPIPS
from edgegrain.training.adversarial import AdversarialConfig, AdversarialLoss
from edgegrain.training.config import config_from_dict
from edgegrain.training.metric_networks import MetricNetworks
from edgegrain.training.projected_discriminator import LAYERS, ProjectedConfig, ProjectedDiscriminator

CONFIG = AdversarialConfig("hinge", discriminator=ProjectedConfig(8), learning_rate=2e-3, r1=0.0)


def features(picture: Tensor) -> list[Tensor]:
    """Stand-ins for AlexNet's layers: the mean colour of patches in each channel."""
    patches = torch.nn.functional.avg_pool2d(picture, 8).mean(1, keepdim=True)
    return [patches.expand(-1, channels, -1, -1) for channels in (*LAYERS, 256)]


def test_it_learns_to_tell_pictures_apart_and_gives_the_networks_a_gradient() -> None:
    torch.manual_seed(0)
    adversarial = AdversarialLoss(CONFIG)
    assert isinstance(adversarial.discriminator, ProjectedDiscriminator)
    adversarial.discriminator.features = features
    real, fake = torch.rand(4, 3, 40, 40) * 0.5 + 0.5, -torch.rand(4, 3, 40, 40)
    gaps = [float(adversarial.update_discriminator(fake, real, lambda _: None)["logit_gap"]) for _ in range(30)]
    assert gaps[-1] > gaps[0] + 0.5
    picture = fake.requires_grad_(True)
    adversarial.generator_loss(picture, real).backward()
    assert picture.grad is not None and picture.grad.mean() < 0  # brighter looks more like an original


def test_logits_are_per_patch_and_only_the_heads_are_stored() -> None:
    discriminator = ProjectedDiscriminator(ProjectedConfig(8))
    with pytest.raises(ModelError, match="--weights"):
        discriminator(torch.zeros(1, 3, 40, 40))
    before = set(discriminator.state_dict())
    discriminator.features = features
    assert [tuple(logits.shape) for logits in discriminator(torch.zeros(2, 3, 40, 40))] == [(2, 1, 4, 4)] * 4
    assert set(discriminator.state_dict()) == before and all(name.startswith("heads.") for name in before)


def test_heads_on_the_face_descriptor_see_the_face(shared_weights: Path, portrait: np.ndarray) -> None:
    discriminator = ProjectedDiscriminator(ProjectedConfig(8, identity=True))
    discriminator.features = features
    with pytest.raises(ModelError, match="face descriptor"):
        discriminator(torch.zeros(1, 3, 40, 40))
    discriminator.use(MetricNetworks(LPIPS(shared_weights), FaceIdentity(shared_weights)))
    face = dequantize(torch.from_numpy(portrait).permute(2, 0, 1)[None].float()).requires_grad_(True)
    logits = discriminator(face)
    assert [tuple(each.shape[2:]) for each in logits] == [
        (61, 61), (30, 30), (14, 14), (14, 14), (35, 35), (17, 17), (8, 8), (4, 4)]
    gradient, = torch.autograd.grad(torch.stack([each.mean() for each in logits[4:]]).sum(), face)
    assert gradient[:, :, 72:240, 48:212].abs().mean() > 0
    assert not gradient[:, :, :60].any() and not gradient[:, :, :, :30].any()  # outside the descriptor's crop


def test_its_configuration_survives_json_and_has_no_r1() -> None:
    from dataclasses import asdict

    assert config_from_dict(AdversarialConfig, asdict(CONFIG)) == CONFIG
    with pytest.raises(ValueError, match="R1"):
        AdversarialConfig("hinge", discriminator=ProjectedConfig(), r1=10.0)
