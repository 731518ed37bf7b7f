"""Small pictures that can be learned in seconds."""

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor

from edgegrain.pictures.packed import random_pictures
from edgegrain.training.adversarial import LAYERS
from edgegrain.training.family import Trainer
from tests.hub_server import Hub, hub_server


@pytest.fixture(autouse=True)
def nothing_is_fetched(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests do not see generators and metric weights that were fetched on this machine."""
    monkeypatch.setenv("EDGEGRAIN_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


@pytest.fixture(autouse=True)
def the_usual_allocator(monkeypatch: pytest.MonkeyPatch) -> None:
    """``edgegrain train`` sets the allocator of its process, which here is that of all tests."""
    monkeypatch.setattr("edgegrain.training.distributed.keep_freed_memory", lambda: True)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A local Hub with a token, and an empty cache."""
    monkeypatch.setenv("EDGEGRAIN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    with hub_server(monkeypatch) as running:
        yield running


@pytest.fixture
def unevaluated(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs measure and draw nothing, which takes longer than a few steps."""
    for family in Trainer.__subclasses__():
        monkeypatch.setattr(family, "evaluate", lambda trainer: {})
        monkeypatch.setattr(family, "draw_samples", lambda trainer, path: None)


@pytest.fixture(scope="session")
def faces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 smooth random pictures of 64 x 64."""
    folder = tmp_path_factory.mktemp("pictures")
    for index, picture in enumerate(random_pictures(24, 64, seed=0)):
        Image.fromarray(picture).save(folder / f"p{index:02}.png")
    return folder


def lock(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Refuse to list a folder, also to root."""
    original = os.scandir

    def scandir(path: str) -> Any:
        if os.path.samefile(path, folder):
            raise PermissionError(13, "Permission denied", str(path))
        return original(path)

    monkeypatch.setattr(os, "scandir", scandir)


def rows(run: Path, key: str) -> list[dict]:
    """The lines of a run's log that have a key."""
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return [line for line in lines if key in line]


def shaken(kind: Callable[[Any], Any], config: Any, by: float = 0.05, seed: int = 0) -> Any:
    """A network with random numbers added to its parameters: none is zero, no two are equal."""
    torch.manual_seed(seed)
    network = kind(config).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(by * torch.randn_like(parameter))
    return network


def alexnet_stand_in(picture: Tensor) -> list[Tensor]:
    """The layers of AlexNet that a projected discriminator sees: the mean colour of patches in each channel."""
    patches = torch.nn.functional.avg_pool2d(picture, 8).mean(1, keepdim=True)
    return [patches.expand(-1, channels, -1, -1) for channels in (*LAYERS, 256)]


def same(one: Any, other: Any) -> bool:
    """True if two networks, or state dicts, have the same weights."""
    weights, others = (each if isinstance(each, dict) else each.state_dict() for each in (one, other))
    return weights.keys() == others.keys() and all(weights[name].equal(others[name]) for name in others)
