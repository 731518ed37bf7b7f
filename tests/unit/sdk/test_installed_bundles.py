"""A bundle that cannot be read does not block the payloads of the others."""

from __future__ import annotations

import logging
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import sdk
from codec_contract.errors import PayloadError
from sdk.installed_bundles import manifest_for, require_manifest_for
from tests.tiny_bundle import HR, refresh_manifest


def test_a_broken_bundle_is_left_out_with_a_warning(tiny_bundles: Path, caplog: pytest.LogCaptureFixture) -> None:
    payload = sdk.compress(np.full((HR, HR, 3), 90, np.uint8))
    broken = tiny_bundles / "a-broken-one"
    broken.mkdir()
    try:
        (broken / "manifest.json").write_text("")
        shutil.copytree(tiny_bundles / "random-64-lr16", tiny_bundles / "b-forged-one")
        refresh_manifest(tiny_bundles / "b-forged-one", id="b-forged-one", decoder={"controls": "seed"})
        assert sdk.restore(payload).size == (HR, HR)
        with caplog.at_level(logging.WARNING):
            assert manifest_for(replace(payload.header, contract_id=b"\1\2\3\4")) is None
        assert "a-broken-one" in caplog.text and "b-forged-one" in caplog.text
        assert [bundle.id for bundle in sdk.bundles()] == ["faces-256-lr16-small", "random-64-lr16"]
        assert len(sdk.compress(np.full((HR, HR, 3), 90, np.uint8), max_bytes=10_000)) <= 10_000
        with pytest.raises(PayloadError, match="no installed bundle has"):
            require_manifest_for(replace(payload.header, contract_id=b"\1\2\3\4"))
    finally:
        shutil.rmtree(broken)
        shutil.rmtree(tiny_bundles / "b-forged-one", ignore_errors=True)
