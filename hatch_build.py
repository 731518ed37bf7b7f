"""Puts bundles into built wheels, in `edgegrain/bundles/`; an editable install reads the checkout's own.

The default bundle always; with ``EDGEGRAIN_WHEEL_BUNDLES=all`` those of the other qualities too (`make qualities`), so
that an installation without a clone has every quality.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

DEFAULT_BUNDLE = "faces-256-lr16-small"  # as in codec_contract.bundle.paths, which cannot be imported here
VARIABLE = "EDGEGRAIN_WHEEL_BUNDLES"


class BundleHook(BuildHookInterface):
    """Found by hatchling through `[tool.hatch.build.targets.wheel.hooks.custom]`."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Add the folders unless the wheel is editable (there a copy would hide the checkout's).

        Raises:
            ValueError: the variable has another value than ``all``.
        """
        if version != "standard":
            return
        folders = [Path(self.root) / "bundles" / DEFAULT_BUNDLE]
        wanted = os.environ.get(VARIABLE, "")
        if wanted not in ("", "all"):
            raise ValueError(f"{VARIABLE} is {wanted!r}; set it to 'all' for the bundles of all qualities, or unset it")
        if wanted:
            folders += [path.parent for path in sorted(Path(self.root).glob("bundles/*/manifest.json"))
                        if path.parent != folders[0] and "quality" in json.loads(path.read_bytes())]
        for folder in folders:
            if folder.is_dir():
                build_data["force_include"][str(folder)] = f"edgegrain/bundles/{folder.name}"
