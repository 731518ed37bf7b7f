"""Options that several commands share, each with one name and one meaning."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from typer.core import TyperCommand

from codec_contract.bundle.find import Quality
from codec_contract.errors import ImageError
from codec_contract.fit import MAX_PHOTO_PIXELS, MAX_PIXELS, Fit, Size, parse_size

DEFAULT_PRIOR = "mobile-stylegan-ffhq"
"""`server_decoder.prior_store.DEFAULT_PRIOR`, without importing torch for --help."""
SEARCH_SIZE = "it is the size of a search; add --refine 40"
"""What is wrong with --refine-size alone."""

Device = Literal["cpu", "cuda"]
PictureFormat = Literal["png", "jpg", "webp"]

BundleOption = Annotated[str, typer.Option("--bundle", "-b", help="Id, alias, folder or hf:// name of the bundle.")]
OutOption = Annotated[str | None, typer.Option("--out", "-o", metavar="PATH")]
DeviceOption = Annotated[Device, typer.Option(help="Device of the decoder, without fallback to the other one.")]
FitOption = Annotated[
    Fit | None,
    typer.Option(
        help="Encode the whole picture: pad keeps its aspect, stretch fills the square, crop takes the centre."
    ),
]
AlignOption = Annotated[
    bool, typer.Option(help="Encode the largest face; --no-align: the whole picture, as --fit pad does.")
]
ForceOption = Annotated[bool, typer.Option("--force", help="Replace files that exist.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the results as JSON.")]
MarkOption = Annotated[
    bool, typer.Option(help="Write into the pictures that they are generated; see docs/generated_marks.md.")
]
MaxBytesOption = Annotated[
    int | None,
    typer.Option(min=1, help="Largest payload: each picture gets the best quality that fits, up to --quality."),
]
MetricWeightsOption = Annotated[
    Path | None,
    typer.Option(
        exists=True, file_okay=False, help="Folder of the metric weights [default: those of 'edgegrain metrics fetch']."
    ),
]
MaxMegapixelsOption = Annotated[
    float | None,
    typer.Option(
        min=0.001,
        max=268,
        help="Largest picture that is read or made [default: "
        f"{MAX_PHOTO_PIXELS / 1e6:.0f} to read, {MAX_PIXELS / 1e6:.1f} to make].",
    ),
]
QualityOption = Annotated[
    Quality | None, typer.Option(help="Take this rate; 'edgegrain bundles' lists them [default: the bundle's own].")
]
RefineOption = Annotated[
    int,
    typer.Option(
        metavar="STEPS",
        min=0,
        max=10_000,
        help="Search for an LR that restores better, at no more bytes, or "
        "in --max-bytes; 40 steps take about 15 seconds a picture; needs 'edgegrain metrics fetch'; docs/qualities.md.",
    ),
]
RefineSizeOption = Annotated[
    int,
    typer.Option(
        metavar="PIXELS",
        min=0,
        help="For --refine: size at which the pictures will be seen, such as 512 or 1024; 0: the decoder's.",
    ),
]
RemoteOption = Annotated[
    str | None,
    typer.Option(
        metavar="URL",
        parser=lambda url: url.rstrip("/").removesuffix("/v1"),
        help="Use the service at this address, such as http://host:8000.",
    ),
]
SizeOption = Annotated[
    str,
    typer.Option(
        metavar="[original|native|PIXELS]",
        help="original: the original's size, as sharp as the bundle can; "
        "native: the decoder's own resolution; PIXELS: the longest side, such as 1024; "
        "edgegrain info names the largest.",
    ),
]
TokenOption = Annotated[str | None, typer.Option(envvar="EDGEGRAIN_TOKEN", help="Bearer token for the service.")]


class Documented(TyperCommand):
    """A command whose function describes its parameters at the end of the docstring: ``NAME: TEXT`` below ``Args:``."""

    def __init__(self, name: str, *, params: list[Any], help: str, **further: Any) -> None:
        text, _, arguments = help.partition("\n\nArgs:\n")
        described = dict(re.findall(r"^ {4}(\w+): (.+(?:\n {8}.+)*)", arguments, re.MULTILINE))
        for parameter in params:
            if parameter.name in described:
                parameter.help = " ".join(described[parameter.name].split())
        super().__init__(name, params=params, help=text, **further)


def max_pixels_of(megapixels: float | None, default: int = MAX_PIXELS) -> int:
    """The limit in pixels that ``--max-megapixels`` sets."""
    return default if megapixels is None else int(megapixels * 1e6)


def size_of(option: str) -> Size:
    """The size that ``--size`` names; `typer.BadParameter` if it names none."""
    try:
        return parse_size(option)
    except ImageError as error:
        raise typer.BadParameter(str(error), param_hint="--size") from error


def refuse_options(given: Mapping[str, object], why: str) -> None:
    """Raise `typer.BadParameter` with the options that are given, if any."""
    if wrong := ", ".join(option for option, value in given.items() if value):
        raise typer.BadParameter(why, param_hint=wrong)
