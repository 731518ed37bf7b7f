"""A bundle that cannot be read does not block the payloads of the others."""

from __future__ import annotations

import logging
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import sdk
from codec_contract.errors import BundleError
from sdk.installed_bundles import manifest_for
from tests.tiny_bundle import HR


def test_a_broken_bundle_is_left_out_with_a_warning(tiny_bundles: Path, caplog: pytest.LogCaptureFixture) -> None:
    payload = sdk.compress(np.full((HR, HR, 3), 90, np.uint8))
    broken = tiny_bundles / "a-broken-one"
    broken.mkdir()
    try:
        (broken / "manifest.json").write_text("")
        assert sdk.restore(payload).size == (HR, HR)
        with caplog.at_level(logging.WARNING):
            assert manifest_for(replace(payload.header, contract_id=b"\1\2\3\4")) is None
        assert "a-broken-one" in caplog.text
        with pytest.raises(BundleError):
            sdk.bundles()
    finally:
        shutil.rmtree(broken)
