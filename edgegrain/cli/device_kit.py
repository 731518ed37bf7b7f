"""``edgegrain device-kit``: a folder with all files that prove exact encoding on a device."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from codec_contract.bundle.file_names import (
    CODER_TABLES,
    ENCODER_COREML,
    ENCODER_ONNX,
    ENCODER_TFLITE,
    GOLDEN,
    MANIFEST,
)
from codec_contract.errors import ExistsError
from edgegrain.cli.options import BundleOption, ForceOption, JsonOption
from edgegrain.cli.output import print_json

PHONE_FILES = (CODER_TABLES, GOLDEN, ENCODER_ONNX, ENCODER_TFLITE, f"{ENCODER_COREML}/")
"""Files of a bundle that the device needs; a name with a slash stands for all files below it."""


def device_kit(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder to write.")],
    bundle: BundleOption = "faces",
    force: ForceOption = False,
    json_output: JsonOption = False,
) -> None:
    """Write the files that prove exact encoding on a device.

    The folder holds the encoders, golden vectors and instructions for each platform. Every procedure ends with a
    device-report.json: the checks and the speed of the device. docs/devices.md describes it.

    \b
    Examples:
      edgegrain device-kit kit
      edgegrain device-kit kit --bundle my-bundle/ --force
    """
    from codec_contract.bundle.manifest import load_manifest
    from codec_contract.bundle.paths import find_bundle
    from codec_contract.files import write_atomically

    manifest = load_manifest(find_bundle(bundle))
    names = [name for name in sorted(manifest.files)
             if any(name == wanted or wanted.endswith("/") and name.startswith(wanted) for wanted in PHONE_FILES)]
    procedure = Path(__file__).with_name("device_kit.md").read_text(encoding="utf-8").format(
        bundle=manifest.id, contract=manifest.lr_contract_id.hex()[:8], hr=manifest.hr, lr=manifest.lr)
    files = {f"bundle/{name}": manifest.open_file(name) for name in names}
    files[f"bundle/{MANIFEST}"] = (manifest.folder / MANIFEST).read_bytes()
    files["README.md"] = procedure.encode("utf-8")
    present = [name for name in files if (out / name).exists()]
    if present and not force:
        raise ExistsError(out / present[0], "choose another folder, or pass --force to replace it")
    for name, data in files.items():
        write_atomically(out / name, data, force=force)
    size = sum(map(len, files.values()))
    if json_output:
        print_json({"folder": out, "bundle": manifest.id, "bytes": size, "files": [out / name for name in files]})
        return
    typer.echo(f"{len(files)} files, {size / 1e6:.1f} MB, in {out}; start with {out / 'README.md'}")
