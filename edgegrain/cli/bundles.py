"""``edgegrain bundles``: list and describe bundles, download those of the Hugging Face Hub, name a bundle's rate."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

import typer

import sdk
from codec_contract.bundle import find
from codec_contract.bundle.hub import cached_hub_bundles, find_hub_bundle
from codec_contract.bundle.manifest import Rate, load_manifest, verify_bundle
from codec_contract.errors import BundleError
from edge_encoder.contract_id import check_contract_id
from edgegrain.cli.options import Documented, JsonOption
from edgegrain.cli.output import report, say
from sdk.installed_bundles import bundle_info, readable_manifests
from sdk.payload import coder_tables

VerifyOption = Annotated[bool, typer.Option("--verify", help="Also check size and SHA-256 of every file.")]

bundles = typer.Typer(invoke_without_command=True, rich_markup_mode=None)


@bundles.callback()
def _list(context: typer.Context, verify: VerifyOption = False, json_output: JsonOption = False) -> None:
    """List the installed bundles, and those downloaded from the Hugging Face Hub."""
    if context.invoked_subcommand is not None:
        return
    cached = {folder: name for name, folder in cached_hub_bundles().items()}
    found = [*sdk.bundles(), *map(bundle_info, readable_manifests(cached))]
    if not found and not json_output:
        say(f"no bundles are installed (looked in {', '.join(map(str, find.bundle_roots()))})")
    _print(found, verify, json_output, cached)
    if len(found) < len(find.installed_bundles()) + len(cached):  # a warning said why
        raise typer.Exit(1)


@bundles.command(cls=Documented)
def show(
    names: Annotated[list[str], typer.Argument(metavar="BUNDLE...")],
    verify: VerifyOption = False,
    json_output: JsonOption = False,
) -> None:
    """Describe bundles, installed or not: sizes, LR contract, quality, licences.

    \b
    Examples:
      edgegrain bundles show faces
      edgegrain bundles show my-bundles/my-faces --verify

    Args:
        names: Ids, aliases, folders or hf:// names of bundles.
    """
    _print([bundle_info(load_manifest(find.find_bundle(name))) for name in names], verify, json_output, {})


@bundles.command()
def fetch(
    names: Annotated[list[str], typer.Argument(metavar="hf://OWNER/NAME[@REVISION]...", help="Bundles of the Hub.")],
    json_output: JsonOption = False,
) -> None:
    """Download bundles of the Hugging Face Hub, for later use without a network.

    Bundles that are in the cache already are verified; altered ones are downloaded again. Prints their folders. The
    cache is 'hub' in edgegrain's cache folder, which $EDGEGRAIN_CACHE moves.

    \b
    Examples:
      edgegrain bundles fetch hf://owner/name
      edgegrain bundles fetch hf://owner/name@v1 hf://owner/other
      EDGEGRAIN_CACHE=/srv/cache edgegrain bundles fetch hf://owner/name
    """
    folders = [find_hub_bundle(name, verify=True, check=check_contract_id) for name in names]
    rows = [{"name": name, "folder": folder} for name, folder in zip(names, folders, strict=True)]
    report(rows, *map(str, folders), as_json=json_output)


@bundles.command(cls=Documented)
def quality(bundle: str, name: find.Quality, step: Annotated[int, typer.Option(min=0)] = 0) -> None:
    """Name a bundle's rate, so that compress --quality and --max-bytes can choose it.

    Only the manifest changes: payloads stay valid. Among the installed bundles of a domain, each name should occur
    once.

    \b
    Examples:
      edgegrain bundles quality my-bundles/my-faces small
      edgegrain bundles quality my-bundles/my-faces tiny --step 13

    Args:
        bundle: Id or folder of a bundle.
        name: Name of its rate among the bundles of its domain.
        step: The further rate of this step of the levels (publish rates); 0: its own.
    """
    from export.bundle.writer import change_bundle, read_record, writable_bundle

    target = writable_bundle(bundle)
    record = read_record(target.folder)
    rates = [record]
    if step:
        further = record.get("rates", [])
        rates = [rate for rate in further if coder_tables(target, Rate(b"", rate["file"])).step == step]
    if not rates:
        raise BundleError(f"bundle {target.id} has no rate of step {step}")
    rates[0]["quality"] = name
    change_bundle(target.folder, record, {})
    say(f"{target.id}: quality {name}")


def _with_bytes(quality: str, domain: str) -> str:
    typical = find.TYPICAL_BYTES.get(quality) if domain == "faces" else None
    return f"{quality} (about {typical:,} bytes)" if typical else quality


def _print(found: list[sdk.BundleInfo], verify: bool, as_json: bool, cached: dict[Path, str]) -> None:
    """Print bundles with the names they can be opened by, which for folders of the cache are those of the Hub."""
    damaged = {}
    for bundle in found if verify else ():
        try:
            verify_bundle(bundle.folder)
        except BundleError as error:
            damaged[bundle.folder] = str(error)

    lines = []
    for bundle in found:
        names = cached.get(bundle.folder) or ", ".join([bundle.id, *bundle.aliases])
        state = ", not intact" if bundle.folder in damaged else ", every file verified" if verify else ""
        hr, lr, rates = bundle.hr, bundle.lr, len(bundle.qualities)
        lines += [
            f"{names}, version {bundle.version}{state}",
            f"  {bundle.domain}, {bundle.codec}: {hr} x {hr} pixels <-> LR {lr} x {lr}",
            f"  LR contract {bundle.lr_contract_id[:8]}, {bundle.bytes / 1e6:.1f} MB in {bundle.folder}",
        ]
        if qualities := ", ".join(_with_bytes(name, bundle.domain) for name in bundle.qualities if name):
            lines.append(f"  quality {qualities}" + f"; {rates} rates" * (rates > 1))
        if len(bundle.sides) > 1:
            lines.append(f"  restored at {', '.join(map(str, bundle.sides))} pixels")
        lines += (f"  control {name}: {control}" for name, control in bundle.controls.items())
        lines += (f"  licence of {what}: {licence}" for what, licence in bundle.licence.items())
    rows = [{**dataclasses.asdict(bundle), "verified": verify and bundle.folder not in damaged} for bundle in found]
    report(rows, *lines, as_json=as_json)
    if damaged:
        raise BundleError("; ".join(damaged.values()))
