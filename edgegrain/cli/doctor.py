"""``edgegrain doctor``: check the installation and bundles."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Callable, Iterator
from functools import partial
from importlib import metadata
from pathlib import Path
from timeit import repeat
from typing import Annotated, Literal, NamedTuple

import numpy as np
import typer

import sdk
from codec_contract import __version__
from codec_contract.bundle.find import bundle_roots, find_bundle, installed_bundles
from codec_contract.bundle.manifest import ENCODER_ONNX, GOLDEN, load_manifest, verify_bundle
from codec_contract.errors import DeviceError, EdgegrainError
from edgegrain.cli.options import Device, JsonOption
from edgegrain.cli.output import message_of, report, say

State = Literal["ok", "warning", "broken"]
Result = tuple[State, str]

RESIZED_SHA256 = "13e858b05803091634c738a357d8aed25e766cd06e2f94f94df3b8641a4f6ee6"
"""Of pictures that the exact resize makes (docs/exact_square.md)."""


class Check(NamedTuple):
    """The result of one check: its name, its state, and the details or the remedy."""

    name: str
    state: State
    detail: str


def doctor(
    bundle: Annotated[str | None, typer.Option("--bundle", "-b")] = None,
    device: Device = "cpu",
    json_output: JsonOption = False,
) -> None:
    """Check this installation.

    Checks versions, execution providers, files and LR contracts of the bundles, golden vectors of the encoder (float
    encoders, such as those of IRN, have none), and the speed of the decoder. The exit code is 1 if a check fails;
    warnings do not count.

    \b
    Examples:
      edgegrain doctor
      edgegrain doctor --device cuda
      edgegrain doctor --bundle my-bundle/ --json

    Args:
        bundle: Id, alias, folder or hf:// name of the bundle [default: all that are installed].
        device: Device to test the decoder on.
    """
    checks = []
    for check in run_checks(bundle, device):
        checks.append(check)
        if not json_output:
            say(f"{check.state:<8} {check.name}: {check.detail}")
    broken = sum(check.state == "broken" for check in checks)
    last = f"{broken} of {len(checks)} checks failed" if broken else "all is well"
    report({"checks": [check._asdict() for check in checks], "broken": broken}, last, as_json=json_output)
    if broken:
        raise typer.Exit(1)


def run_checks(bundle: str | None, device: Device) -> Iterator[Check]:
    """Check the installation, then a bundle, or all that are installed."""
    for name, check in INSTALLATION.items():
        yield run_check(name, check)
    folders = list(installed_bundles().values()) if bundle is None else [find_bundle(bundle)]
    if not folders:
        yield Check("bundles", "broken", f"no bundle is installed; searched {', '.join(map(str, bundle_roots()))}")
    for folder in folders:
        yield from check_bundle(folder, device)


def check_bundle(folder: Path, device: Device = "cpu") -> Iterator[Check]:
    """Check files, LR contract id, golden vectors through ``encoder.onnx``, and the time of a restore on ``device``."""
    name = f"bundle {folder.name}"
    yield run_check(f"{name}: files", partial(_check_files, folder))
    yield run_check(f"{name}: encoder", partial(_check_encoder, folder))
    yield run_check(f"{name}: decoder on {device}", partial(_check_decoder, folder, device))


def run_check(name: str, check: Callable[[], Result]) -> Check:
    """The result of a check; an error it raises is the result ``broken``."""
    try:
        return Check(name, *check())
    except (EdgegrainError, OSError, ImportError) as error:
        return Check(name, "broken", message_of(error))


def _check_pillow() -> Result:
    import PIL

    from edge_encoder.preprocessing import INSTALL, readable_formats

    formats = readable_formats()
    advice = "" if "HEIF" in formats else f"; for HEIF (HEIC): {INSTALL}"
    return "ok", f"{PIL.__version__}, reads {', '.join(formats)}{advice}"


def _check_resize() -> Result:
    from codec_contract.exact_square import exact_resize
    from edge_encoder.golden_inputs import golden_input

    picture = golden_input("noise", {"seed": 0, "block": 1, "low": 0, "high": 255}, 97)[:61]
    sizes = ((32, 20), (97, 30), (140, 75), (16, 16))
    resized = b"".join(exact_resize(picture, size).tobytes() for size in sizes)
    if hashlib.sha256(resized).hexdigest() != RESIZED_SHA256:
        why = "payloads made here differ from those of other devices; install another version of Pillow"
        return "broken", f"this Pillow does not resample as the contract defines; {why}"
    return "ok", f"Pillow equals the reference on {len(sizes)} sizes"


def _check_runtime() -> Result:
    import onnxruntime

    found = f"{onnxruntime.__version__}, {', '.join(onnxruntime.get_available_providers())}"
    if {"onnxruntime", "onnxruntime-gpu"} <= {each.metadata["Name"] for each in metadata.distributions()}:
        why = (
            "onnxruntime and onnxruntime-gpu are both installed and share one folder; uninstall both, then install one"
        )
        return "warning", f"{found}; {why}"
    return "ok", found


def _check_cuda() -> Result:
    import onnxruntime

    from server_decoder.providers import PROVIDERS, cuda_failure, driver_version

    if PROVIDERS["cuda"] not in onnxruntime.get_available_providers():
        if driver_version():
            advice = "to decode on the GPU install edgegrain[gpu] (onnxruntime-gpu instead of onnxruntime)"
            return "warning", f"an NVIDIA driver is installed, but this ONNX Runtime has no CUDA; {advice}"
        return "ok", "no NVIDIA driver, and this ONNX Runtime has no CUDA: decoders run on the CPU"
    if (failure := cuda_failure()) is not None:
        advice = "the libraries of CUDA and cuDNN come with 'pip install onnxruntime-gpu[cuda,cudnn]', or with torch"
        return "warning", f"the provider cannot start: {failure}; {advice}"
    return "ok", "driver and libraries load"


def _check_fused_ops() -> Result:
    from server_decoder.cuda_ops.library import find_library, has_cuda_kernels, require_cuda_kernels

    try:
        library = find_library()
    except DeviceError:
        return "ok", "not built; only decoders exported with --ops fused need them; run: make ops"
    if not has_cuda_kernels(library):
        return "ok", f"{library.name}, CPU kernels only: built without nvcc"
    try:
        require_cuda_kernels(library)
    except DeviceError as error:
        return "warning", str(error)
    return "ok", f"{library.name}, CPU and CUDA kernels"


def _check_files(folder: Path) -> Result:
    from edge_encoder.contract_id import check_contract_id

    manifest = verify_bundle(folder)
    size = sum(entry.size for entry in manifest.files.values())
    contract = " and the LR contract id" if check_contract_id(manifest) else ""
    return "ok", f"{len(manifest.files)} files, {size / 1e6:.1f} MB, every SHA-256{contract} as in the manifest"


def _check_encoder(folder: Path) -> Result:
    from edge_encoder.encoder_session import EncoderSession
    from edge_encoder.golden_inputs import check_golden

    manifest = load_manifest(folder)
    encoder = EncoderSession(manifest.open_file(ENCODER_ONNX))
    speed = _milliseconds(partial(encoder.encode, np.zeros((1, encoder.hr, encoder.hr, 3), np.uint8)))
    if manifest.encoder.get("exact") is False:
        return "ok", f"a float network, which promises no exact bytes and has no golden vectors, {speed}"
    golden = check_golden(manifest.open_file(GOLDEN), encoder.encode)
    if failed := [name for name, same in golden.items() if not same]:
        found = f"{len(failed)} of {len(golden)} golden vectors differ ({', '.join(failed)})"
        return "broken", f"{found}: payloads made here differ from those of other devices"
    return "ok", f"{len(golden)} golden vectors byte-identical, {speed}"


def _check_decoder(folder: Path, device: Device) -> Result:
    codec = sdk.Codec(folder, device)
    codec.warm_up()
    hr, lr, running = codec.bundle.hr, codec.bundle.lr, codec.running_decoder
    speed = _milliseconds(partial(codec.restore, np.full((lr, lr, 3), 128, np.uint8)))
    detail = f"restores {hr} x {hr} pixels, {speed}, with {running}"
    if running.reason:
        return "warning", f"{detail}, not with a decoder for CUDA: {running.reason}"
    return "ok", detail


def _milliseconds(work: Callable[[], object]) -> str:
    return f"{1000 * min(repeat(work, number=1, repeat=3)):.1f} ms a picture"


def _check_version() -> Result:
    machine = f"{platform.system()} {platform.machine()}"
    return "ok", f"{__version__}, Python {platform.python_version()} on {machine}, numpy {np.__version__}"


INSTALLATION: dict[str, Callable[[], Result]] = {
    "edgegrain": _check_version,
    "Pillow": _check_pillow,
    "exact resize": _check_resize,
    "ONNX Runtime": _check_runtime,
    "CUDA": _check_cuda,
    "fused ops": _check_fused_ops,
}
"""Name -> check of this installation, in the order of the report."""
