"""``edgegrain bundles``: list the installed bundles."""

from __future__ import annotations

import dataclasses
from typing import Annotated

import typer

from edgegrain.cli.output import JsonOption, print_json


def bundles(
    verify: Annotated[bool, typer.Option("--verify", help="Also check size and SHA-256 of every file.")] = False,
    json_output: JsonOption = False,
) -> None:
    """List the installed bundles.

    \b
    Examples:
      edgegrain bundles
      edgegrain bundles --verify
      edgegrain bundles --json
    """
    import sdk
    from codec_contract.bundle.manifest import verify_bundle
    from codec_contract.bundle.paths import bundle_roots

    found = sdk.bundles()
    if verify:
        for bundle in found:
            verify_bundle(bundle.folder)
    if json_output:
        print_json([{**dataclasses.asdict(bundle), "verified": verify} for bundle in found])
        return
    if not found:
        typer.echo(f"no bundles are installed (looked in {', '.join(map(str, bundle_roots()))})")
    for bundle in found:
        names = ", ".join([bundle.id, *bundle.aliases])
        typer.echo(f"{names}, version {bundle.version}{', every file verified' if verify else ''}")
        sizes = f"{bundle.hr} x {bundle.hr} pixels <-> LR {bundle.lr} x {bundle.lr}"
        typer.echo(f"  {bundle.domain}, {bundle.codec}: {sizes}")
        typer.echo(f"  LR contract {bundle.lr_contract_id[:8]}, {bundle.size / 1e6:.1f} MB in {bundle.folder}")
        for name, control in bundle.controls.items():
            typer.echo(f"  control {name}: {control}")
        for what, licence in bundle.licence.items():
            typer.echo(f"  licence of {what}: {licence}")
