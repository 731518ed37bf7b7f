"""Commands of the papers: ``edgegrain convert``, ``models`` and ``retouch``."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from codec_contract.errors import needs_extra
from codec_contract.fit import Fit
from edgegrain.cli import options
from edgegrain.cli.files import RETOUCHED_SUFFIX, STDOUT, existing_source, plan_jobs, refuse_sources
from edgegrain.cli.options import refuse_options
from edgegrain.cli.output import report
from edgegrain.cli.restore import restore_file

Source = Literal["grain", "irn", "irn-plus", "glean", "gcfsr", "stylegan2-nvidia", "stylegan2-rosinality"]
"""Layout of the files; `edgegrain.papers.convert.SOURCES`, without importing torch for --help."""
Reduction = Literal["area", "bicubic"]
"""Encoder of GLEAN's and GCFSR's bundles; `edgegrain.papers.face_sr.bundle.REDUCTIONS`, as above."""


def convert(
    files: Annotated[list[Path], typer.Argument(exists=True, dir_okay=False)],
    source: Annotated[Source, typer.Option("--from")],
    out: Annotated[Path, typer.Option("--out", "-o")],
    lr: Annotated[int | None, typer.Option(min=1)] = None,
    domain: str | None = None,
    reduction: Reduction | None = None,
    force: options.ForceOption = False,
    json_output: options.JsonOption = False,
) -> None:
    """Convert checkpoints that authors published into a bundle or a prior.

    Every tensor of a file must be known: one that is missing, unknown or of another shape is an error that names it.
    Only tensors and plain values are read; a file with program code is refused. The decoder's export is compared with
    torch before the bundle is written. --json lists every tensor with its old and new name.

    \b
    Files (docs/papers.md has more):
      grain                  invRRDB_model.pt, codeStyleGAN_model.pt, Fusion_model.pt, and for the mean code
                             stylegan2-ffhq-config-f.pt
      irn                    IRN_x2.pth, IRN_x3.pth, IRN_x4.pth or IRN_x8.pth
      irn-plus               IRN+_x4.pth; only its name tells it from an IRN
      glean                  glean_ffhq_16x_*.pth and others of mmediting and mmagic
      gcfsr                  the 1024 model or the blind 512 model
      stylegan2-rosinality   stylegan2-ffhq-config-f.pt and others
      stylegan2-nvidia       NVIDIA's networks saved as plain tensors

    \b
    Examples:
      edgegrain convert --from irn IRN_x4.pth --out bundles/irn-x4
      edgegrain convert --from grain invRRDB_model.pt codeStyleGAN_model.pt Fusion_model.pt \\
          stylegan2-ffhq-config-f.pt --out bundles/grain-1024
      edgegrain convert --from gcfsr gcfsr_1024.pth --lr 32 --out bundles/gcfsr-x32
      edgegrain convert --from stylegan2-rosinality stylegan2-ffhq-config-f.pt --out ffhq.safetensors
      edgegrain compress me.jpg --bundle bundles/grain-1024

    Args:
        files: Checkpoints, .pt, .pth or .safetensors.
        source: Layout of the files.
        out: Folder of the bundle, whose name becomes its id; for a StyleGAN2 the safetensors file.
        lr: gcfsr: side of the LRs [default: a 16th of the picture's].
        domain: glean: domain of its training pictures [default: faces].
        reduction: glean, gcfsr: the encoder [default: bicubic, as in the papers].
    """
    foreign = lr is not None and source != "gcfsr"
    refuse_options({"--lr": foreign}, f"LRs of {source} have the size that the checkpoint fixes")
    refuse_options({"--domain": domain is not None and source != "glean"}, f"{source} has one domain")
    foreign = reduction is not None and source not in ("glean", "gcfsr")
    refuse_options({"--reduction": foreign}, f"{source} has an encoder of its own, or none")
    with needs_extra("export", "converting needs"):
        from edgegrain.papers.convert import Options
        from edgegrain.papers.convert import convert as convert_files

    done = convert_files(source, files, out, Options(lr, domain or "faces", force, reduction or "bicubic"))
    networks = ", ".join(f"{name} {count:,}" for name, count in done.parameters.items())
    lines = [f"{done.path}: {done.source}, parameters: {networks}"]
    if (found := done.decoder_beside_torch) is not None:
        lines.append(f"the exported decoder differs from torch by at most {found.largest_difference:.1e}")
    report(asdict(done), *lines, as_json=json_output)


def models(json_output: options.JsonOption = False) -> None:
    """List architectures with parameters and operations.

    Operations are counted for one picture, in MACs: one multiplication with its addition.

    \b
    Examples:
      edgegrain models
      edgegrain models --json
    """
    with needs_extra("eval", "models needs"):
        from edgegrain.papers.models import models as all_models

    found = all_models()
    width = max(len(model.name) for model in found)
    lines = [f"{'name':<{width}}  M parameters       GMAC  parts: M parameters / GMAC"]
    for model in found:
        parts = [f"{name} {part.parameters / 1e6:.2f} / {part.macs / 1e9:.2f}" for name, part in model.parts.items()]
        sums = f"{model.parameters / 1e6:12.2f}  {model.macs / 1e9:9.2f}"
        lines.append(f"{model.name:<{width}}  {sums}  {', '.join(parts)}")
    report([model.as_dict() for model in found], *lines, as_json=json_output)


def retouch(
    edited: Annotated[Path, typer.Argument(parser=existing_source)],
    original: Annotated[Path | None, typer.Option(exists=True, dir_okay=False)] = None,
    out: Annotated[str | None, typer.Option("--out", "-o", metavar="PATH")] = None,
    bundle: options.BundleOption = "faces",
    fit: Fit = "pad",
    feather: Annotated[float | None, typer.Option(min=0, max=1000)] = None,
    threshold: Annotated[int, typer.Option(min=1, max=255)] = 16,
    strength: float | None = None,
    max_megapixels: options.MaxMegapixelsOption = None,
    device: options.DeviceOption = "cpu",
    mark: options.MarkOption = True,
    force: options.ForceOption = False,
    json_output: options.JsonOption = False,
) -> None:
    """Turn a crude edit of a face into a realistic one by reducing and restoring the picture.

    The face should fill the square as in the bundle's training pictures.

    \b
    Examples:
      edgegrain retouch edited.png --original me.png --bundle bundles/glean-faces-256-lr16
      edgegrain retouch edited.png                   restores the whole picture

    Args:
        edited: The edited picture; - for standard input.
        original: The picture before the edit; its unedited parts are kept.
        out: The picture to write, or a folder; - for standard output [default: NAME.retouched.png; of standard input,
            -].
        fit: As for 'compress'.
        feather: Pixels over which the restored region fades into the original [default: a 64th of the longest side].
        threshold: Smallest difference in levels of an edited pixel.
        strength: For bundles with that control.
    """
    import sdk

    (job,) = plan_jobs([edited], out, wanted=frozenset(), result_suffix=RETOUCHED_SUFFIX).items
    if original is not None:
        refuse_sources([job.target], [original])
    codec, limit = sdk.Codec(bundle, device), options.max_pixels_of(max_megapixels)
    given: dict[str, Any] = {"fit": fit, "feather": feather, "threshold": threshold, "strength": strength, "mark": mark}
    row = restore_file(job, lambda source: sdk.retouch(codec, source, original, max_pixels=limit, **given), force)
    row = {"edited": row["payload"], "picture": row["picture"], "width": row["width"], "height": row["height"]}
    report(
        row,
        f"{row['edited']} -> {row['picture']}: {row['width']} x {row['height']} pixels",
        as_json=json_output,
        err=job.target == STDOUT,
    )
