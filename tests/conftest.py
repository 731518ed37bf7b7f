"""Fixtures for all tests: where shared pictures and weights lie, one portrait, the default bundle."""

import os

# One thread a process: several cost small networks more than they bring, and make test runs as many processes as there
# are cores. Before NumPy is imported, whose OpenBLAS reads the variable then.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import asyncio
import functools
import gc
import inspect
import sys
from collections.abc import Generator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

gc.set_threshold(50_000, 10, 10)  # imports and tests make many objects, and few cycles

REPOSITORY = Path(__file__).resolve().parents[1]
SHARED = REPOSITORY.parent / "shared"


@pytest.hookimpl(optionalhook=True, wrapper=True)
def pytest_xdist_auto_num_workers() -> Generator[None, int, int]:
    """One process more than there are cores: an eighth of the time a process waits for those that a test starts."""
    cores = yield
    return cores + 1


def pytest_collection_finish() -> None:
    """Keep thousands of tests and all imported modules out of the garbage collections to come: 5 % of the time.

    And build the tree of commands once, not at every call of one: Typer evaluates all annotations again. And run ONNX
    Runtime's sessions on one thread where a test names no number: a second one waits busily for the first.
    """
    gc.collect()
    gc.freeze()
    if (typer := sys.modules.get("typer.main")) is not None:
        typer.get_command = functools.cache(typer.get_command)
    if (testing := sys.modules.get("typer.testing")) is not None:
        testing._get_command = functools.cache(testing._get_command)
    if (sessions := sys.modules.get("codec_contract.onnx_runtime")) is not None:
        sessions.available_cores = lambda: 1


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run a test that is a coroutine, in a loop of its own."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    arguments = {name: pyfuncitem.funcargs[name] for name in inspect.signature(pyfuncitem.obj).parameters}
    asyncio.run(asyncio.wait_for(pyfuncitem.obj(**arguments), 120))
    return True


def pytest_runtest_setup() -> None:
    """Read torch's ONNX functions once, not at every export: a second each."""
    exporter = sys.modules.get("torch.onnx._internal.exporter._registration")
    registry = getattr(exporter, "ONNXRegistry", None)
    if hasattr(registry, "from_torchlib") and not hasattr(registry.from_torchlib, "cache_info"):
        registry.from_torchlib = staticmethod(functools.cache(registry.from_torchlib))


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_call() -> None:
    """Let every test draw the same numbers of torch, alone or after others."""
    if (torch := sys.modules.get("torch")) is not None:
        torch.manual_seed(0)


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
    from codec_contract.bundle.find import DEFAULT_BUNDLE

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
