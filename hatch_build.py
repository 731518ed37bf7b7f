"""Puts the default bundle into built wheels, in `edgegrain/bundles/`; an editable install reads the checkout's own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

DEFAULT_BUNDLE = "faces-256-lr16-small"  # as in codec_contract.bundle.paths, which cannot be imported here


class BundleHook(BuildHookInterface):
    """Found by hatchling through `[tool.hatch.build.targets.wheel.hooks.custom]`."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Add the folder unless the wheel is editable (there a copy would hide the checkout's)."""
        bundle = Path(self.root) / "bundles" / DEFAULT_BUNDLE  # other bundles may lie next to it, built from the zoo
        if version == "standard" and bundle.is_dir():
            build_data["force_include"][str(bundle)] = f"edgegrain/bundles/{DEFAULT_BUNDLE}"
