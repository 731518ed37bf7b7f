"""Ray's environment, without Ray."""

from __future__ import annotations

import os
import sys

import pytest

from codec_contract.errors import ServiceError
from edgegrain.ray_cluster import ray_cluster


def test_without_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_MODE", "RAY_USAGE_STATS_ENABLED"):
        monkeypatch.delenv(name, raising=False)
    before = dict(os.environ)
    monkeypatch.setitem(sys.modules, "ray", None)
    try:
        with pytest.raises(ServiceError, match=r"pip install 'edgegrain\[ray\]'"), ray_cluster(None):
            pass
        assert os.environ["RAY_USAGE_STATS_ENABLED"] == "0"
        assert (os.environ["RAY_AUTH_MODE"], len(os.environ["RAY_AUTH_TOKEN"])) == ("token", 64)
    finally:
        os.environ.clear()
        os.environ.update(before)
