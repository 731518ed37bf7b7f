"""``edgegrain doctor``: check the installation."""

from __future__ import annotations

import dataclasses
from typing import Annotated

import typer

from edgegrain.cli.options import BUNDLE_HELP, DeviceChoice, JsonOption
from edgegrain.cli.output import print_json


def doctor(
    bundle: Annotated[
        str | None, typer.Option("--bundle", "-b", help=f"{BUNDLE_HELP} [default: all that are installed].")
    ] = None,
    device: Annotated[DeviceChoice, typer.Option(help="Device to test the decoder on.")] = DeviceChoice.cpu,
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
    """
    from codec_contract.bundle.paths import bundle_roots, find_bundle, installed_bundles
    from edgegrain.installation.checks import Check, check_bundle, check_installation

    checks: list[Check] = []

    def report(check: Check) -> None:
        checks.append(check)
        if not json_output:
            typer.echo(f"{check.state:<8} {check.name}: {check.detail}")

    for check in check_installation():
        report(check)
    folders = list(installed_bundles().values()) if bundle is None else [find_bundle(bundle)]
    if not folders:
        report(Check("bundles", "broken", f"no bundle is installed; searched {', '.join(map(str, bundle_roots()))}"))
    for folder in folders:
        for check in check_bundle(folder, device.value):
            report(check)

    broken = sum(check.state == "broken" for check in checks)
    if json_output:
        print_json({"checks": [dataclasses.asdict(check) for check in checks], "broken": broken})
    else:
        typer.echo(f"{broken} of {len(checks)} checks failed" if broken else "all is well")
    if broken:
        raise typer.Exit(1)
