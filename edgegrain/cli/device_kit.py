"""``edgegrain device-kit``: what a device needs to prove that it encodes exactly, in one folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

PHONE_FILES = ("coder.json", "golden.json", "encoder.onnx", "encoder.tflite", "encoder.mlpackage/")
"""What of a bundle goes to the device; a name with a slash stands for all files below it."""


def device_kit(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder to write; made if it is not there.")],
    bundle: Annotated[str, typer.Option("--bundle", "-b", help="Id, alias or folder of a bundle.")] = "faces",
    force: Annotated[bool, typer.Option("--force", help="Replace files that are there.")] = False,
) -> None:
    """Write encoders, golden vectors and a procedure for every platform into a folder.

    Each procedure ends with a device-report.json: what the device proved and how fast it is. docs/devices.md
    describes it.

    \b
    Examples:
      edgegrain device-kit kit
      edgegrain device-kit kit --bundle my-bundle/ --force
    """
    from codec_contract.bundle.manifest import MANIFEST_NAME, load_manifest
    from codec_contract.bundle.paths import find_bundle
    from codec_contract.files import write_atomically

    manifest = load_manifest(find_bundle(bundle))
    names = [name for name in sorted(manifest.files)
             if any(name == wanted or wanted.endswith("/") and name.startswith(wanted) for wanted in PHONE_FILES)]
    procedure = Path(__file__).with_name("device_kit.md").read_text(encoding="utf-8").format(
        bundle=manifest.id, contract=manifest.lr_contract_id.hex()[:8], hr=manifest.hr, lr=manifest.lr)
    files = {f"bundle/{name}": manifest.open_file(name) for name in names}
    files[f"bundle/{MANIFEST_NAME}"] = (manifest.folder / MANIFEST_NAME).read_bytes()
    files["README.md"] = procedure.encode("utf-8")
    present = [name for name in files if (out / name).exists()]
    if present and not force:
        raise FileExistsError(f"{out / present[0]} exists; choose another folder or add --force")
    for name, data in files.items():
        write_atomically(out / name, data, force=force)
    size = sum(map(len, files.values()))
    typer.echo(f"{len(files)} files, {size / 1e6:.1f} MB, in {out}; begin with {out / 'README.md'}")
