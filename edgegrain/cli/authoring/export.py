"""``edgegrain export``, ``device-kit`` and ``device-report``: both halves for other runtimes, proofs on devices."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from codec_contract.bundle import manifest as names
from codec_contract.bundle.find import DEFAULT_BUNDLE, find_bundle
from codec_contract.bundle.manifest import MANIFEST, load_manifest, verify_bundle
from codec_contract.errors import needs_extra
from codec_contract.files import write_atomically
from edgegrain.cli.files import refuse_existing
from edgegrain.cli.options import DEFAULT_PRIOR, BundleOption, Documented, ForceOption, JsonOption, refuse_options
from edgegrain.cli.output import progress_bar, report, say
from export import mobile
from export.decoder import DecoderOptions, Ops, Pixels, Precision, WeightStorage

export = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, help="Export encoders, decoders, enlargers and bundles."
)

_HELP = (inspect.getdoc(mobile.encoder) or "").replace("python -m export.mobile", "edgegrain export encoder")
export.command("encoder", help=_HELP)(mobile.encoder)


@export.command(cls=Documented)
def decoder(
    bundle: Annotated[str, typer.Option("--bundle", "-b")] = DEFAULT_BUNDLE,
    out: Annotated[Path | None, typer.Option("--out", "-o")] = None,
    into: Annotated[str, typer.Option("--into", metavar="BUNDLE")] = "",
    storage: WeightStorage | None = None,
    precision: Precision = Precision.float32,
    ops: Ops = Ops.plain,
    pixels: Pixels | None = None,
    data: Annotated[Path | None, typer.Option(file_okay=False)] = None,
    compared: Annotated[int, typer.Option(min=1)] = 8,
    tune_seconds: Annotated[float, typer.Option(min=0)] = 0,
    prior: str = DEFAULT_PRIOR,
    force: ForceOption = False,
) -> None:
    """Write a bundle's decoder as ONNX for servers and compare it with torch on real LRs.

    A folder of the zoo, which holds trained weights alone, is exported together with its generator, which
    'edgegrain prior fetch' downloads.

    With --into, the service and sdk.Codec take the decoder by themselves: on device cuda if the library of fused ops
    is there, one in int8 on CPUs. The bundle's LR contract stays.

    \b
    Examples:
      edgegrain export decoder --bundle faces --out dist
      edgegrain export decoder --bundle faces --storage float16 --out dist
      edgegrain export decoder --bundle faces --precision float16 --ops fused --out dist
      edgegrain export decoder --bundle faces --precision float16 --ops fused --into faces
      edgegrain export decoder --bundle faces --precision int8 --into faces --data FACES --tune-seconds 3600

    Args:
        bundle: Name or folder of the bundle, or a folder of the zoo.
        out: Folder for decoder.onnx [default: dist].
        into: Instead of --out: name or folder of the bundle, which gets this decoder as a form of its own: in int8 for
            CPUs, else for CUDA.
        storage: Storage of the weights [default: the precision's].
        precision: Type that the decoder computes in; float16 needs --ops fused.
        ops: Operators: ONNX's own, or fused ones on channels-last maps, which need their library (docs/cuda_ops.md).
        pixels: Type of the LR and the picture: values for the caller to quantize, or levels [default: uint8 with fused
            operators, else float32].
        data: Folder of pictures to compare on, and to calibrate int8 on [default: those that ship with edgegrain].
        compared: Number of LRs to compare on.
        tune_seconds: --precision int8: train for so long that its pictures are those of float32; 3600 on one core are
            enough. The float32 form stays. Needs edgegrain[train] and 'edgegrain metrics fetch'.
        prior: Generator of a folder of the zoo: a fetched prior or a file.
    """
    refuse_options({"--out, --into": into and out is not None}, "pass either --out or --into")
    refuse_options(
        {"--tune-seconds": tune_seconds and precision is not Precision.int8},
        "only the int8 form is tuned; pass --precision int8",
    )
    with needs_extra("export", "exporting needs"):
        from export.bundle.writer import require_target, write_form
        from export.decoder import export as graphs

    options, path = DecoderOptions(storage, precision, ops, pixels), (out or Path("dist")) / names.DECODER_ONNX
    source = graphs.find_decoder(bundle, prior)
    target = require_target(source, options, into, force=force) if into else None
    if target is None:
        refuse_existing([path], force)  # before work that takes time
    exported = graphs.export_compared(source, options, data, compared, tuning(tune_seconds) if tune_seconds else None)
    if target is not None:
        path = target.folder / write_form(exported, target).file
    else:
        write_atomically(path, exported.model, force=force)
    say(f"{path}: {path.stat().st_size:,} bytes; {exported.summary()}")


def tuning(seconds: float, *, enlarger: bool = False) -> Callable[..., Any]:
    """The tuning of an int8 form, with a progress bar; refuses what it lacks before any work."""
    with needs_extra("train", "tuning needs"):
        from edgegrain.metrics.lpips import LPIPS
        from edgegrain.metrics.weights import find_metric_weights
        from edgegrain.training.int8 import tune_int8
        from edgegrain.training.super_resolution.int8 import add_int8_form

    lpips = LPIPS(find_metric_weights(faces=False)).requires_grad_(False)

    def tune(found: Any, data: Any) -> Any:
        with progress_bar("tuning") as show:
            return (add_int8_form if enlarger else tune_int8)(found, data, seconds, lpips, show)

    return tune


@export.command(cls=Documented)
def enlarger(
    source: Annotated[str, typer.Argument(metavar="SOURCE")],
    into: Annotated[str, typer.Option("--into", metavar="BUNDLE")],
    data: Annotated[Path | None, typer.Option(exists=True, file_okay=False)] = None,
    tune_seconds: Annotated[float, typer.Option(min=0)] = 0,
    version: str | None = None,
    force: ForceOption = False,
) -> None:
    """Add a trained enlarger to a bundle, which then restores its payloads at 2 times the size, and at 4 times if the
    enlarger was trained for that too.

    --force replaces the enlarger that the bundle has, with both of its sizes. The graphs of a run are compared with
    torch first; those of another bundle are copied, and manifest and model card then state that bundle's licence for
    them. The bundle's LR contract stays, so this works for every payload there is.

    \b
    Examples:
      edgegrain export enlarger runs/enlarge-faces-256-x4 --into faces
      edgegrain export enlarger runs/enlarge-faces-256-x4 --into faces --force --version 1.1.0
      edgegrain export enlarger faces --into my-bundles/my-faces
      edgegrain export enlarger faces --into faces --force --data FACES_1024 --tune-seconds 3600

    Args:
        source: Folder of a run of an enlarge-... recipe, its super_resolution.safetensors, or another bundle, by name
            or folder.
        into: Name or folder of the bundle.
        data: Folder of pictures of the enlarged size, for --tune-seconds.
        tune_seconds: Add its form in int8, and tune the weights of both forms for so long on --data; 3600 on one core
            are enough. The bundle's decoder has that form. Needs edgegrain[train] and 'edgegrain metrics fetch'.
        version: New version of the bundle, such as 1.1.0 [default: the one it has].
    """
    refuse_options({"--data, --tune-seconds": (data is None) != (not tune_seconds)}, "pass both or neither")
    with needs_extra("export", "exporting needs"):
        from export.bundle.enlarger import enlarger_files, require_enlargeable, require_int8_decoder, write_enlarger

    target = require_enlargeable(into, force=force)
    if tune_seconds:
        require_int8_decoder(target)
    tune = tuning(tune_seconds, enlarger=True) if tune_seconds else None
    found = enlarger_files(source, target.hr)
    files = write_enlarger(found, target, version=version)
    say(f"{', '.join(map(str, files))}: {found.summary}")
    if tune is not None:
        say(", ".join(map(str, tune(target.folder, data))))


@export.command(cls=Documented)
def bundle(
    folder: Annotated[Path, typer.Argument(exists=True)],
    out: Annotated[Path, typer.Option("--out", "-o")],
    version: str | None = None,
    domain: str | None = None,
    data_licence: str = "",
    formats: str | None = None,
    prior: Annotated[
        str | None,
        typer.Option(help=f"GRAIN, GLEAN: the generator, a fetched prior or a file [default: {DEFAULT_PRIOR}]."),
    ] = None,
    lr: Annotated[int | None, typer.Option(min=1)] = None,
    reduction: str | None = None,
    force: Annotated[bool, typer.Option("--force")] = False,
) -> None:
    """Write the bundle of trained weights: encoder, decoder, coder tables, manifest, model card.

    The family (GRAIN, IRN, GLEAN, GCFSR) is read from the weight file. Exports are compared with torch before anything
    is written. Bundles with the same LR contract read each other's payloads.

    \b
    Examples:
      edgegrain export bundle zoo/photos-x4 --out bundles/photos-x4
      edgegrain export bundle zoo/gcfsr-faces-256 --lr 16 --out bundles/gcfsr-faces-256-lr16

    Args:
        folder: Folder of trained weights (in zoo/, or of a run), or the weight file in it.
        out: Folder of the bundle; its name becomes the bundle's id.
        version: Version of the bundle [default: 1.0.0].
        domain: What the pictures show [default: faces, or that of the bundle whose decoder the weights need;
            photographs for IRN].
        data_licence: Licence of the training pictures, for the manifest [default: that of edgegrain's own training
            pictures for the domain, or not stated].
        formats: Formats of the encoder, comma-separated: tflite, coreml, onnx [default: all; without coreml for IRN].
        lr: GCFSR: side of the LRs [default: a 16th of the picture's].
        reduction: GLEAN, GCFSR: the encoder, area or bicubic [default: as in training].
        force: Replace the bundle if it exists.
    """
    with needs_extra("export", "exporting needs"):
        from export.bundle.grain import write_zoo_bundle
        from export.bundle.writer import UNSTATED
        from export.encoder import parse_formats

    chosen = None if formats is None else parse_formats(formats)
    licence = {**UNSTATED, "data": data_licence} if data_licence else None
    choices = {"version": version, "domain": domain, "prior": prior, "reduction": reduction, "lr": lr}
    written = write_zoo_bundle(folder, out, force=force, licence=licence, formats=chosen, **choices)
    size, flips = sum(entry.size for entry in written.manifest.files.values()), written.encoder_flips
    say(
        f"{out}: {size:,} bytes; LR contract {written.manifest.lr_contract_id.hex()[:8]}; "
        + ("" if flips is None else f"the encoder differs from torch in {flips:g} of a million LR bytes, ")
        + f"the decoder differs from torch by at most {written.decoder.largest_difference:.1e}"
    )


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
    manifest = load_manifest(find_bundle(bundle))
    wanted = {names.GOLDEN, names.ENCODER_ONNX, names.ENCODER_TFLITE, names.ENCODER_COREML}  # the last is a folder
    wanted |= {rate.coder for rate in manifest.rates}
    kept = [name for name in sorted(manifest.files) if name.partition("/")[0] in wanted]
    phones = {names.ENCODER_TFLITE, names.ENCODER_COREML} - {name.partition("/")[0] for name in kept}
    if phones:
        advice = "wheels hold none for phones; pass the bundle of a clone, or make them with 'edgegrain export encoder'"
        say(f"warning: bundle {manifest.id} has no {', no '.join(sorted(phones))}: {advice}", err=True)
    files = {f"bundle/{name}": manifest.open_file(name) for name in kept}
    files[f"bundle/{MANIFEST}"] = (manifest.folder / MANIFEST).read_bytes()
    described = {"bundle": manifest.id, "contract": manifest.lr_contract_id.hex()[:8]}
    text = Path(__file__).with_name("device_kit.md").read_text(encoding="utf-8")
    files["README.md"] = text.format(hr=manifest.hr, lr=manifest.lr, **described).encode("utf-8")
    refuse_existing((out / name for name in files), force)
    for name, data in files.items():
        write_atomically(out / name, data, force=force)
    size = sum(map(len, files.values()))
    result = {"folder": out, "bundle": manifest.id, "bytes": size, "files": [out / name for name in files]}
    text = f"{len(files)} files, {size / 1e6:.1f} MB, in {out}; start with {out / 'README.md'}"
    report(result, text, as_json=json_output)


def device_report(
    out: Annotated[Path, typer.Argument(metavar="[OUT]")] = Path("device-report.json"),
    bundle: BundleOption = "faces",
    device: Annotated[str, typer.Option("--device")] = "",
    runs: Annotated[int, typer.Option("--runs", min=1)] = 50,
    force: ForceOption = False,
    json_output: JsonOption = False,
) -> None:
    """Prove exact encoding on this computer, and measure it.

    Runs the golden vectors of a bundle on every installed runtime (ONNX Runtime, LiteRT, on macOS Core ML) and writes
    device-report.json. Exit code 1 if a runtime computes other bytes. docs/devices.md lists the reports so far.

    \b
    Examples:
      edgegrain device-report
      edgegrain device-report mine.json --device "Raspberry Pi 5"

    Args:
        out: File to write.
        device: Name of this computer [default: its processor].
        runs: Pictures to encode per runtime.
    """
    from export.proof.report import installed_runtimes, measure

    refuse_existing([out], force)
    manifest = verify_bundle(find_bundle(bundle))  # the runtimes load its files by their paths
    reports = [measure(runtime, manifest, device, runs) for runtime in installed_runtimes(manifest.folder)]
    write_atomically(out, (json.dumps(reports, indent=1) + "\n").encode(), force=force)
    lines = []
    for runtime in reports:
        threads = f", threads: {runtime['threads']}" if runtime["threads"] else ""
        state = f"differs in {', '.join(runtime['failed'])}" if runtime["failed"] else "exact"
        lines.append(f"{runtime['runtime']}{threads}: {state}, {runtime['encode_ms']['median']:.1f} ms")
    report(reports, *lines, f"written to {out}", as_json=json_output)
    if any(runtime["failed"] for runtime in reports):
        raise typer.Exit(1)
