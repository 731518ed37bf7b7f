"""Options of commands that can use a service."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from sdk.remote.remote_codec import RemoteCodec

RemoteOption = Annotated[
    str | None,
    typer.Option("--remote", metavar="URL",
                 help="Use the service at this address, for instance http://host:8000."),
]
TokenOption = Annotated[
    str | None, typer.Option("--token", envvar="EDGEGRAIN_TOKEN", help="Bearer token for the service.")
]


def open_remote(url: str, token: str | None) -> RemoteCodec:
    """A client of the service; `ServiceError` if the address is invalid or the extra ``remote`` is not installed."""
    import sdk

    return sdk.connect(url, token=token)
