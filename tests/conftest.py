"""Fixtures for all tests: where shared pictures and weights lie, one portrait, the default bundle."""

from __future__ import annotations

import gc
import os
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

# One process per core (make test): each computes on one thread, instead of all on all cores.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

REPOSITORY = Path(__file__).resolve().parents[1]
SHARED = REPOSITORY.parent / "shared"


def pytest_collection_finish() -> None:
    """Keep thousands of tests and all imported modules out of the garbage collections to come: 5 % of the time."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 10, 10)


def _shared(part: str) -> Path:
    folder = SHARED / part
    if not folder.is_dir():
        pytest.skip(f"needs ../shared/{part} beside the repository: pictures and metric weights are not part of it")
    return folder


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of the checkout."""
    return REPOSITORY


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """``../shared/data``: face pictures for training and evaluation."""
    return _shared("data")


@pytest.fixture(scope="session")
def shared_weights() -> Path:
    """``../shared/weights``: networks that metrics and losses use."""
    return _shared("weights")


@pytest.fixture(scope="session")
def default_bundle() -> Path:
    """The folder of the default bundle."""
    from codec_contract.bundle.paths import DEFAULT_BUNDLE

    folder = REPOSITORY / "bundles" / DEFAULT_BUNDLE
    if not (folder / "manifest.json").is_file():
        pytest.skip(f"needs the bundle bundles/{DEFAULT_BUNDLE}")
    return folder


@pytest.fixture(scope="session")
def portrait_path() -> Path:
    """The portrait that ships with the package, a 256x256 JPEG."""
    return REPOSITORY / "edgegrain" / "demo" / "portrait.jpg"


@pytest.fixture(scope="session")
def portrait(portrait_path: Path) -> npt.NDArray[np.uint8]:
    """The portrait's pixels, uint8 ``[256, 256, 3]``, read-only."""
    with Image.open(portrait_path) as image:
        rgb = np.asarray(image.convert("RGB"))
    rgb.setflags(write=False)
    return rgb
