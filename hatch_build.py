"""Puts bundles into built wheels, in `edgegrain/bundles/`; an editable install reads the checkout's own.

Those of `small` and `medium`, without the encoders for phones; with ``EDGEGRAIN_WHEEL_BUNDLES=all`` every one of the
checkout that has a quality, complete. An enlarger that several of them have is in the wheel once, in the folder
`shared`, as it may be in the checkout.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

MANIFEST = "manifest.json"
BUNDLES = ("faces-256-lr16-small", "faces-256-lr32")
PHONES = ("encoder.tflite", "encoder.mlpackage/")  # no computer runs them, and `export encoder` makes them again
SHARED = "shared"  # as in codec_contract.bundle.manifest
TARGET = "edgegrain/bundles"
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
        folders = [Path(self.root) / "bundles" / name for name in BUNDLES]
        wanted = os.environ.get(VARIABLE, "")
        if wanted not in ("", "all"):
            raise ValueError(f"{VARIABLE} is {wanted!r}; set it to 'all' for the bundles of all qualities, or unset it")
        if wanted:
            folders += [
                path.parent
                for path in sorted(Path(self.root).glob(f"bundles/*/{MANIFEST}"))
                if path.parent not in folders and "quality" in json.loads(path.read_bytes())
            ]
        manifests = {folder: json.loads((folder / MANIFEST).read_bytes()) for folder in folders if folder.is_dir()}
        self._changed = tempfile.TemporaryDirectory()  # lasts as long as the hook, until the wheel is written
        uses = Counter(digest for manifest in manifests.values() for digest in _enlarger(manifest).values())
        files: dict[str, Path] = {}  # by their place in the wheel
        for folder, manifest in manifests.items():
            for file in (path for path in folder.rglob("*") if path.is_file()):
                files[f"{TARGET}/{folder.name}/{file.relative_to(folder).as_posix()}"] = file
            if not wanted:
                for name in [name for name in manifest["files"] if name.startswith(PHONES)]:
                    del manifest["files"][name]
                    files.pop(f"{TARGET}/{folder.name}/{name}", None)
                shorter = Path(self._changed.name, f"{folder.name}.json")
                shorter.write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
                files[f"{TARGET}/{folder.name}/{MANIFEST}"] = shorter
            for name, digest in _enlarger(manifest).items():
                own = files.pop(f"{TARGET}/{folder.name}/{name}", folder.parent / SHARED / digest)
                place = f"{SHARED}/{digest}" if uses[digest] > 1 else f"{folder.name}/{name}"
                files[f"{TARGET}/{place}"] = own
        build_data["force_include"].update({str(file): place for place, file in sorted(files.items())})


def _enlarger(manifest: dict[str, Any]) -> dict[str, str]:
    """The files of a bundle's enlarger with their SHA-256."""
    enlarger = manifest.get("enlarger", {})
    names = [name for form in (enlarger, *enlarger.get("forms", {}).values()) for name in form.get("files", ())]
    return {name: manifest["files"][name]["sha256"] for name in names}
