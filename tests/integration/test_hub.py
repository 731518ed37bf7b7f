"""Bundles of the Hub in processes of their own: the command line, then the service without a Hub."""

import sys
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image

import sdk
from sdk import api
from tests.hub_server import hub_server
from tests.programs import run
from tests.service_harness import PAYLOAD
from tests.service_process import SERVE, running
from tests.tiny_bundle import write_tiny_bundle


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EDGEGRAIN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    return tmp_path / "cache"


def test_the_service_starts_with_a_fetched_bundle_when_the_hub_is_gone(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = write_tiny_bundle(tmp_path)
    with hub_server(monkeypatch) as hub:
        hub.add("anna/tiny", bundle)
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        folder = Path(run([sys.executable, "-m", "edgegrain", "bundles", "fetch", "hf://anna/tiny"]).strip())
    assert folder.parent == cache / "hub" / "models--anna--tiny" / "snapshots"
    payload = sdk.compress(np.full((70, 90, 3), 100, np.uint8), bundle=folder)
    with running(SERVE, bundles="hf://anna/tiny", batch_sizes="1") as service:
        answer = httpx.post(f"{service.url}/v1/restore", content=bytes(payload), headers=PAYLOAD)
        assert answer.status_code == 200 and answer.headers["content-type"] == "image/png"


def test_functions_of_the_sdk_ask_the_hub_once(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    picture = np.full((70, 90, 3), 100, np.uint8)
    api._hub_folder.cache_clear()
    with hub_server(monkeypatch) as hub:
        hub.add("anna/tiny", write_tiny_bundle(tmp_path))
        payload = sdk.compress(picture, bundle="hf://anna/tiny")
        assert "Licence of weights: Apache-2.0. Licence of data: none." in caplog.text
        asked = len(hub.requests)
        restored = sdk.restore(payload, bundle="hf://anna/tiny")
        assert isinstance(restored, Image.Image) and restored.size == (90, 70) and len(hub.requests) == asked
        assert sdk.Codec("hf://anna/tiny").bundle.id == "tiny-64-lr16" and len(hub.requests) == asked + 1
    api._hub_folder.cache_clear()
