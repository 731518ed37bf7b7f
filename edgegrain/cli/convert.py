"""``edgegrain convert``: bundles and priors from checkpoints that authors published."""

from __future__ import annotations

import enum
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from codec_contract.extras import needs_extra
from edgegrain.cli.options import ForceOption, JsonOption
from edgegrain.cli.output import print_json

if TYPE_CHECKING:
    from edgegrain.papers.convert import ConversionReport
    from edgegrain.papers.tensor_map import TensorMap


class Source(enum.StrEnum):
    """Layout of the files; `edgegrain.papers.convert.SOURCES`, without importing torch for --help."""

    grain = "grain"
    irn = "irn"
    irn_plus = "irn-plus"
    glean = "glean"
    gcfsr = "gcfsr"
    stylegan2_nvidia = "stylegan2-nvidia"
    stylegan2_rosinality = "stylegan2-rosinality"


_WITHOUT_ENCODER = (Source.stylegan2_nvidia, Source.stylegan2_rosinality)


class Reduction(enum.StrEnum):
    """Encoder of GLEAN's and GCFSR's bundles; `edgegrain.papers.face_sr.bundle.REDUCTIONS`, as above."""

    area = "area"
    bicubic = "bicubic"


def convert(
    files: Annotated[
        list[Path], typer.Argument(exists=True, dir_okay=False, help="Checkpoints, .pt, .pth or .safetensors.")
    ],
    source: Annotated[Source, typer.Option("--from", help="Layout of the files.")],
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Folder of the bundle, whose name becomes its id; for a StyleGAN2 "
                           "the safetensors file.")
    ],
    lr: Annotated[
        int | None, typer.Option(min=1, help="gcfsr: side of the LRs [default: a 16th of the picture's].")
    ] = None,
    domain: Annotated[str | None, typer.Option(help="glean: domain of its training pictures [default: faces].")] = None,
    reduction: Annotated[
        Reduction | None, typer.Option(help="glean, gcfsr: the encoder [default: bicubic, as in the papers].")
    ] = None,
    formats: Annotated[
        str, typer.Option(help="Formats of the bundle's encoder, comma-separated: tflite, coreml, onnx.")
    ] = "onnx",
    force: ForceOption = False,
    json_output: JsonOption = False,
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
    """
    if lr is not None and source is not Source.gcfsr:
        raise typer.BadParameter(f"LRs of {source.value} have the size that the checkpoint fixes", param_hint="--lr")
    if domain is not None and source is not Source.glean:
        raise typer.BadParameter(f"{source.value} has one domain", param_hint="--domain")
    if reduction is not None and source not in (Source.glean, Source.gcfsr):
        raise typer.BadParameter(f"{source.value} has an encoder of its own, or none", param_hint="--reduction")
    if formats != "onnx" and source in _WITHOUT_ENCODER:
        raise typer.BadParameter(f"{source.value} makes no bundle, so no encoder", param_hint="--formats")
    with needs_extra("export", "converting needs"):
        from edgegrain.papers import convert as conversion
        from export.encoder.formats import parse_formats

    options = conversion.ConversionOptions(
        lr, domain or "faces", parse_formats(formats), force, (reduction or Reduction.bicubic).value)
    report = conversion.convert(source.value, files, out, options)
    if json_output:
        print_json(report.as_dict())
        return
    _print(report)


def _print(report: ConversionReport) -> None:
    networks = ", ".join(f"{name} {count:,}" for name, count in report.parameters.items())
    typer.echo(f"{report.path}: {report.source}, parameters: {networks}")
    for tensor_map in report.tensor_maps:
        _print_file(tensor_map)
    if report.comparison is not None:
        typer.echo(f"  the exported decoder differs from torch by at most {report.comparison.largest_difference:.1e}")


def _print_file(tensor_map: TensorMap) -> None:
    typer.echo(f"  {tensor_map.file}: {len(tensor_map.names)} tensors placed, {len(tensor_map.unused)} not used")
    parts = Counter(ours.split(".")[0] for ours in tensor_map.names.values())
    typer.echo(f"    into {', '.join(f'{name} ({count})' for name, count in parts.items())}")
    for what, reasons in (("not used", tensor_map.unused), ("not in the file", tensor_map.made)):
        for why, names in _by_reason(reasons).items():
            more = f" and {len(names) - 1} more" if len(names) > 1 else ""
            typer.echo(f"    {what}: {names[0]}{more}: {why}")


def _by_reason(reasons: Mapping[str, str]) -> dict[str, list[str]]:
    groups: dict[str, list[str]] = {}
    for name, why in reasons.items():
        groups.setdefault(why, []).append(name)
    return groups
