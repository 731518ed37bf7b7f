"""The options of commands that can let a service do the work."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from sdk.remote.remote_codec import RemoteCodec

RemoteOption = Annotated[
    str | None,
    typer.Option("--remote", metavar="URL",
                 help="Let the service at this address do the work, for instance http://host:8000."),
]
TokenOption = Annotated[
    str | None, typer.Option("--token", envvar="EDGEGRAIN_TOKEN", help="Bearer token for the service.")
]


def open_remote(url: str, token: str | None) -> RemoteCodec:
    """The service at an address; `ServiceError` if it is none, or the extra ``remote`` is not installed."""
    import sdk

    return sdk.connect(url, token=token)
