"""Small pictures that can be learned in seconds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from edgegrain.pictures.packed import random_pictures


@pytest.fixture(autouse=True)
def nothing_is_fetched(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests do not see generators and metric weights that were fetched on this machine."""
    monkeypatch.setenv("EDGEGRAIN_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


@pytest.fixture(autouse=True)
def the_usual_allocator(monkeypatch: pytest.MonkeyPatch) -> None:
    """``edgegrain train`` sets the allocator of its process, which here is that of all tests."""
    monkeypatch.setattr("edgegrain.training.distributed.keep_freed_memory", lambda: True)


@pytest.fixture(scope="session")
def faces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 smooth random pictures of 64 x 64."""
    folder = tmp_path_factory.mktemp("pictures")
    for index, picture in enumerate(random_pictures(24, 64, seed=0)):
        Image.fromarray(picture).save(folder / f"p{index:02}.png")
    return folder


def rows(run: Path, key: str) -> list[dict]:
    """The lines of a run's log that have a key."""
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return [line for line in lines if key in line]


def same(one: Any, other: Any) -> bool:
    """True if two networks, or state dicts, have the same weights."""
    weights, others = (each if isinstance(each, dict) else each.state_dict() for each in (one, other))
    return weights.keys() == others.keys() and all(weights[name].equal(others[name]) for name in others)
