"""A tiny bundle, one service of it that the tests of HTTP behaviour share."""

import logging
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from edgegrain.service.observability import JsonFormatter
from tests.pretended_cuda import pretended_cuda
from tests.service_harness import SOON, LiveService, live_service
from tests.tiny_bundle import write_tiny_bundle

__all__ = ["pretended_cuda"]


@pytest.fixture(scope="session")
def tiny_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a tiny bundle: 64 x 64 pixels, LR 16 x 16, the decoder repeats pixels."""
    return write_tiny_bundle(tmp_path_factory.mktemp("service"))


@pytest.fixture(scope="session")
def enlarging(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a tiny bundle with an enlarger to 128 and 256 pixels."""
    return write_tiny_bundle(tmp_path_factory.mktemp("enlarging"), doublings=2)


@pytest.fixture(scope="session")
def tiny_service(tiny_bundle: Path) -> Iterator[LiveService]:
    """A service of the tiny bundle with small limits; tests do not change it."""
    limits = {"max_picture_bytes": 1 << 16, "max_pixels": 1 << 20, "max_photo_pixels": 1 << 20, "max_batch_items": 4}
    with live_service(tiny_bundle, deadline=60, **limits) as service:
        yield service


@pytest.fixture(scope="module")
def client(tiny_service: LiveService) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=tiny_service.url, timeout=SOON, verify=False) as client:
        yield client


@pytest.fixture(autouse=True)
def logs_end_with_the_test() -> Iterator[None]:
    """Remove the handler that `configure_logs` adds in this process: its stream is the test's captured stderr."""
    root = logging.getLogger()
    level = root.level
    yield
    root.setLevel(level)
    logging.getLogger("edgegrain").setLevel(logging.NOTSET)
    for handler in root.handlers[:]:
        if isinstance(handler.formatter, JsonFormatter):
            root.removeHandler(handler)
