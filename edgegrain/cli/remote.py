"""Options of commands that can use a service."""

from __future__ import annotations

from typing import Annotated

import typer

RemoteOption = Annotated[
    str | None,
    typer.Option("--remote", metavar="URL",
                 help="Use the service at this address, for instance http://host:8000."),
]
TokenOption = Annotated[
    str | None, typer.Option("--token", envvar="EDGEGRAIN_TOKEN", help="Bearer token for the service.")
]
