"""Puts `bundles/` into built wheels as `edgegrain/bundles/`; an editable install reads the checkout's own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class BundleHook(BuildHookInterface):
    """Found by hatchling through `[tool.hatch.build.targets.wheel.hooks.custom]`."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Add the folder unless the wheel is editable (there a copy would hide the checkout's)."""
        bundles = Path(self.root) / "bundles"
        if version == "standard" and bundles.is_dir():
            build_data["force_include"][str(bundles)] = "edgegrain/bundles"
