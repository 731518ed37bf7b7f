"""Damaged metric weights are named, with the command that fetches them again."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from codec_contract.errors import ModelError
from edgegrain.metrics import identity, mobileface
from edgegrain.metrics.identity import FaceIdentity
from edgegrain.metrics.lpips import FILES, LPIPS
from edgegrain.metrics.mobileface import MobileFace


@pytest.mark.parametrize(("name", "network", "hint"), [
    (FILES["alex"], LPIPS, "--weights"), (FILES["vgg"], lambda path: LPIPS(path, "vgg"), "--weights"),
    (identity.FILE, FaceIdentity, "--weights"), (mobileface.FILE, MobileFace, "edgegrain metrics fetch")])
def test_damaged_and_missing_weights(name: str, network: Callable[[Path], object], hint: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=f"at {re.escape(str(tmp_path / name))}.*{hint}"):
        network(tmp_path)
    (tmp_path / name).write_bytes(b"half of a fi")
    with pytest.raises(ModelError, match=f"{name} is damaged .* edgegrain metrics fetch --force"):
        network(tmp_path)
