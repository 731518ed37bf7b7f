"""``edgegrain publish``: make a bundle of a training run, enter its evaluation, fit coder tables, upload it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from codec_contract.bundle.find import find_bundle
from codec_contract.errors import EdgegrainError, needs_extra
from codec_contract.lr_coder.coder_tables import MAX_HIDDEN_LAYERS, MAX_STEP, MAX_WIDTH
from edgegrain.cli.files import refuse_existing
from edgegrain.cli.options import DEFAULT_PRIOR, Documented, ForceOption, refuse_options
from edgegrain.cli.output import progress_bar, report, say
from export.decoder import WeightStorage

INITIAL_VERSION = "1.0.0"
WIDTHS, STEPS = "128,128", 8000  # those of edgegrain.publishing.fit_coder, without importing torch for --help

_HELP = "Turn training runs into bundles, and upload bundles to the Hugging Face Hub."
publish = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help=_HELP)


@publish.command(cls=Documented)
def run(
    run: Path,
    out: Annotated[Path, typer.Option("--out", "-o", file_okay=False)],
    data: Annotated[Path | None, typer.Option(exists=True, file_okay=False)] = None,
    bundle_id: Annotated[str, typer.Option("--id")] = "",
    version: str = INITIAL_VERSION,
    domain: str = "",
    data_licence: str = "",
    exclude: list[str] | None = None,
    prior: str = "",
    storage: WeightStorage | None = None,
    trained_only: Annotated[bool, typer.Option("--trained-only")] = False,
    encoder_of: str = "",
    mix: Annotated[float, typer.Option(min=0, max=1)] = 1.0,
    force: ForceOption = False,
) -> None:
    """Make a bundle of a training run.

    The family of networks is read from the run. A GRAIN run becomes a bundle, or with --trained-only a folder of the
    zoo. A run of GLEAN or GCFSR becomes a folder of the zoo with compact weights and coder tables. 'edgegrain export
    bundle' makes bundles of such folders and of IRN runs.

    \b
    Examples:
      edgegrain publish run runs/one --data FACES --out my-bundles/my-faces
      edgegrain publish run runs/final --data FACES --out my-bundles/my-faces --force --version 1.1.0 \\
          --encoder-of my-bundles/my-faces
      edgegrain publish run runs/glean --data FACES --out zoo/glean-faces-256-lr16

    Args:
        run: Folder of the training run, or its last.safetensors; of GLEAN and GCFSR also the weights.
        out: Folder of the bundle; of GLEAN and GCFSR the folder for the weights, as in zoo/.
        data: Training pictures; the coder's tables are fitted to their LRs. Needed for a bundle; without it a folder of
            GLEAN or GCFSR keeps its tables.
        bundle_id: Id of the bundle [default: the folder's name].
        version: Version of the bundle.
        domain: Subject of the pictures [default: as in the run's recipe].
        data_licence: Licence of the training pictures [default: that of our faces, for the domain faces].
        exclude: Name patterns left out, as in training.
        prior: Generator, if the run has one: name of a fetched prior, or a file [default: the published one].
        storage: Storage of the decoder's weights [default: compact (large ones as int8) with a generator, else
            float16].
        trained_only: Write only the trained weights, for the zoo: no generator, no exports.
        encoder_of: Bundle (name or folder) whose encoder the run kept; its encoder and coder files are reused.
        mix: Part of the run's decoder in a mean of its weights and those of --encoder-of's decoder.
    """
    with needs_extra("export,train", "publishing needs"):
        from edgegrain.papers.face_sr.bundle import store
        from edgegrain.publishing import publish
        from edgegrain.training.checkpoint import CHECKPOINT
        from export.bundle.writer import UNSTATED

    family = publish.run_family(run)
    excluded = tuple(exclude or ())
    of_bundles = {"--id": bundle_id, "--version": version != INITIAL_VERSION, "--domain": domain}
    of_bundles |= {"--data-licence": data_licence, "--storage": storage, "--mix": mix < 1}
    if family == "irn":
        command = f"edgegrain export bundle {run} --out {out}"
        raise EdgegrainError(f"{run} is an IRN run, which needs no publishing; make its bundle with: {command}")
    if family == "face_sr":
        refuse_options({**of_bundles, "--encoder-of": encoder_of}, "not for a run of GLEAN and GCFSR; leave it out")
        weights_of = run.parent if run.name == CHECKPOINT else run
        written = store(weights_of, out, prior=prior or DEFAULT_PRIOR, data=data, exclude=excluded, force=force)
        say(f"{written}: {written.stat().st_size:,} bytes")
        return
    if trained_only:
        refuse_options(of_bundles, "is for a bundle; leave it out with --trained-only")
    refuse_options({"--data": data is None and not trained_only}, "a GRAIN run needs its training pictures")
    lacking = "the coder's tables are fitted to the training pictures; pass their folder, or the bundle whose encoder "
    refuse_options({"--data": data is None and not encoder_of}, f"{lacking}the run kept (--encoder-of)")
    refuse_options({"--mix": mix < 1 and not encoder_of}, "needs the bundle to mix with; pass --encoder-of")
    kept = find_bundle(encoder_of) if encoder_of else None
    common: dict[str, Any] = {"prior": prior or None, "exclude": excluded, "encoder_of": kept, "force": force}
    if trained_only or data is None:
        with progress_bar() as show:
            stored = publish.store_trained(run, out, data=data, report=show, **common)
        say(str(stored))
        return
    licence = {**UNSTATED, "data": data_licence} if data_licence else None
    stated: dict[str, Any] = {"bundle_id": bundle_id or out.resolve().name, "version": version, "domain": domain}
    stated |= {"licence": licence, "storage": storage, "mix": mix}
    with progress_bar() as show:
        summary = publish.publish_run(run, data, out, report=show, **stated, **common)
    report(summary, as_json=True)


@publish.command(cls=Documented)
def card(bundle: str, evaluation: Annotated[Path, typer.Option(exists=True, dir_okay=False)]) -> None:
    """Enter an evaluation into a bundle's manifest and model card.

    \b
    Examples:
      edgegrain publish card my-bundles/my-faces --evaluation report/my-faces-1.0.0.json

    Args:
        bundle: Name or folder of the bundle.
        evaluation: JSON summary of edgegrain evaluate.
    """
    with needs_extra("export,train", "publishing needs"):
        from edgegrain.publishing.model_card import enter_evaluation
        from export.bundle.writer import writable_bundle

    say(*enter_evaluation(writable_bundle(bundle).folder, evaluation).splitlines())


@publish.command(cls=Documented)
def coder(
    lrs: Annotated[Path, typer.Argument(exists=True, dir_okay=False)],
    out: Annotated[Path, typer.Argument(dir_okay=False)],
    widths: str = WIDTHS,
    steps: Annotated[int, typer.Option(min=1)] = STEPS,
    level_step: Annotated[int, typer.Option(min=1, max=MAX_STEP)] = 1,
    held_out: Annotated[int, typer.Option(min=1)] = 500,
    force: ForceOption = False,
) -> None:
    """Fit the LR coder's tables; every tenth LR is held out and reported on.

    Tables are part of an LR contract: replacing those of a published bundle makes its payloads unreadable.

    \b
    Examples:
      edgegrain publish coder LRS.npy coder.json
      edgegrain publish coder LRS.npy coder.json --widths 32,32
      edgegrain publish coder LRS.npy coder.json --level-step 3

    Args:
        lrs: LRs, uint8 [N, h, w, 3] as .npy.
        out: The coder.json to write.
        widths: Units of the hidden layers, comma-separated.
        steps: Training steps per channel.
        level_step: Store LR levels as multiples of this, for fewer bytes; the decoder is trained with the same --set
            lr_step.
        held_out: Number of held-out LRs to code and report on.
    """
    hidden = _numbers(widths)
    if not hidden or min(hidden) < 1:
        raise typer.BadParameter(f"{widths!r} is no list of positive numbers, such as 128,128", param_hint="--widths")
    if max(hidden) > MAX_WIDTH or len(hidden) > MAX_HIDDEN_LAYERS:
        wrong = f"coder tables have at most {MAX_HIDDEN_LAYERS} hidden layers of {MAX_WIDTH} values, got {widths}"
        raise typer.BadParameter(wrong, param_hint="--widths")
    refuse_existing([out], force)  # before the work, not after it
    with needs_extra("export,train", "publishing needs"):
        from codec_contract.files import write_atomically
        from edgegrain.publishing.fit_coder import fit_and_report, load_lrs

    loaded = load_lrs(lrs)
    with progress_bar() as show:
        found = fit_and_report(loaded, hidden, steps, held_out, level_step, show)
    data = found.tables.to_json()
    write_atomically(out, data, force=force)
    say(
        f"{out}: {len(data)} bytes, fitted to {found.fitted_to} LRs; means of {found.held_out} held-out LRs:",
        f"  coded          {found.coded:8.1f} bytes",
    )
    for name, size in found.lossless.items():
        say(f"  {name}  {size:8.1f} bytes; coded is {100 * found.coded / size:.1f} %")


def _numbers(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        return []


@publish.command(cls=Documented)
def rates(
    bundle: str,
    steps: str,
    data: Annotated[Path, typer.Option(exists=True, file_okay=False)],
    finest: Annotated[int | None, typer.Option(min=1, max=MAX_STEP)] = None,
    exclude: list[str] | None = None,
    force: ForceOption = False,
) -> None:
    """Give a bundle further rates: the same LRs with finer or coarser levels, for more or fewer bytes.

    Each is an LR contract of its own, with coder tables. The decoder must have been trained with these steps (--set
    lr_steps), except for those finer than --finest. 'edgegrain bundles quality BUNDLE NAME --step STEP' names one.

    \b
    Examples:
      edgegrain publish rates my-bundles/my-faces 1,3,4,6,9,13,19,28,40 --data FACES --finest 2

    Args:
        bundle: Id, alias, folder or hf:// name of the bundle.
        steps: Steps of the LR's levels, ascending, such as 1,3,4,6,9,13,19.
        data: Training pictures, to whose LRs the coder's tables are fitted.
        finest: Finest step that the decoder was trained with; it is told this for finer levels [default: as stated
            before, else 1].
        exclude: Name patterns left out, as in training.
    """
    wanted = _numbers(steps)
    if not wanted or wanted != sorted(set(wanted)) or not 1 <= wanted[0] <= wanted[-1] <= MAX_STEP:
        raise typer.BadParameter(f"{steps!r} are no ascending numbers from 1 to {MAX_STEP}", param_hint="STEPS")
    with needs_extra("export,train", "publishing needs"):
        from edgegrain.publishing.fit_coder import add_rates
        from export.bundle.writer import writable_bundle
        from sdk.payload import coder_tables
        from server_decoder.decoder_session import STEP, DecoderSession

    target = writable_bundle(bundle)
    if target.further_rates and not force:
        lost = f"bundle {target.id} has further rates, whose payloads would become unreadable"
        raise EdgegrainError(f"{lost}; pass --force to replace them")
    if (own := coder_tables(target).step) in wanted:
        raise EdgegrainError(f"bundle {target.id} has levels in steps of {own}; further rates have others")
    if STEP not in DecoderSession(target.open_file(str(target.decoder["file"]))).controls:
        say(f"the decoder of bundle {target.id} is not told the step; was it trained with lr_steps?", err=True)
    with progress_bar() as show:
        written = add_rates(target, data, wanted, finest=finest, exclude=tuple(exclude or ()), report=show)
    say(*(f"{rate.coder}: LR contract {rate.prefix}" for rate in written.further_rates))


@publish.command("hub", cls=Documented)
def upload_to_hub(
    bundle: str,
    repository: Annotated[str, typer.Argument(metavar="OWNER/NAME")],
    upload: Annotated[bool, typer.Option("--upload")] = False,
    licence: str = "",
    private: Annotated[bool, typer.Option("--private")] = False,
    revision: str = "main",
    message: str = "",
) -> None:
    """Upload a bundle to the Hugging Face Hub.

    Prints what would be uploaded: the files of the manifest and the model card, which gets the metadata that the Hub
    reads. --upload uploads it, in one commit. 'hf auth login' or HF_TOKEN gives access.

    \b
    Examples:
      edgegrain publish hub my-bundles/my-faces owner/my-faces
      edgegrain publish hub my-bundles/my-faces owner/my-faces --upload

    Args:
        bundle: Id, alias, folder or hf:// name of the bundle.
        repository: Repository of the Hub.
        upload: Upload; without it, only print what would be.
        licence: The weights' licence as the Hub calls it, such as apache-2.0 [default: that in the card's head, else
            other, with a link to the card].
        private: Create the repository as a private one.
        revision: Branch, created if it is missing.
        message: Message of the commit [default: id and version].
    """
    with needs_extra("hub", "publishing to the Hub needs"):
        from codec_contract.bundle import hub
        from edgegrain.publishing import upload as uploads

    target = f"hf://{repository}@{revision}"
    hub.parse_hub_name(target)
    manifest, head, uploaded = uploads.prepare(find_bundle(bundle), repository, licence)
    message = message or f"Bundle {manifest.id} {manifest.version}"
    sizes = {name: len(file) if isinstance(file, bytes) else file.stat().st_size for name, file in uploaded.items()}
    say(
        f"bundle {manifest.id} {manifest.version}, verified -> {target}",
        f"commit {message!r}, {len(sizes)} files, {sum(sizes.values()) / 1e6:.1f} MB:",
        *(f"  {size:>13,}  {name}" for name, size in sorted(sizes.items())),
        hub.licence_text(manifest.licence),
        "head of the model card:",
        *head.splitlines(),
    )
    if upload:
        commit = uploads.upload(uploaded, repository, revision, private=private, message=message)
        say(f"uploaded: hf://{repository}@{commit}")
    else:
        say("nothing was uploaded; --upload uploads this")
