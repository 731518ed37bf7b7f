"""``edgegrain serve``: the HTTP service."""

from __future__ import annotations

import os
from typing import Annotated, Any

import typer

from codec_contract.errors import ServiceError, needs_extra
from edgegrain.cli.options import Device
from edgegrain.cli.output import say


def serve(
    bundle: Annotated[list[str] | None, typer.Option("--bundle", "-b")] = None,
    host: str | None = None,
    port: Annotated[int | None, typer.Option(min=0, max=65535)] = None,
    device: Device | None = None,
    workers: Annotated[int | None, typer.Option(min=1, max=64)] = None,
    threads: Annotated[int | None, typer.Option(min=1)] = None,
    show_settings: Annotated[bool, typer.Option("--show-settings")] = False,
) -> None:
    """Restore and compress pictures over HTTP.

    Requests are gathered into batches. Logs are JSON lines on stderr. SIGTERM and Ctrl-C shut down gracefully:
    readiness is turned off, accepted requests are answered, and the exit status is 0.

    Every setting is also a variable EDGEGRAIN_SERVE_<NAME>; options take precedence. Without EDGEGRAIN_SERVE_TOKENS
    the service answers every client that reaches it: set tokens before listening on other addresses than 127.0.0.1.

    \b
    Examples:
      edgegrain serve
      edgegrain serve --bundle faces --bundle my-bundle/ --device cuda
      EDGEGRAIN_SERVE_TOKENS=$(openssl rand -hex 32) edgegrain serve --host 0.0.0.0
      edgegrain serve --show-settings

    \b
    Clients:
      curl -H 'Content-Type: application/vnd.edgegrain' --data-binary @me.grain -o me.png http://host:8000/v1/restore
      edgegrain restore me.grain --remote http://host:8000
      http://host:8000/openapi.json, /health/ready and /metrics

    Args:
        bundle: Id, alias, folder or hf:// name of the bundle to serve; repeat it for several [default: those of
            qualities small and medium].
        host: Address to listen on; 0.0.0.0 for all [default: 127.0.0.1].
        port: Port; 0 picks a free one and logs it [default: 8000].
        device: Device of the decoders, without fallback to the other one [default: cpu].
        workers: Worker processes; each holds every bundle [default: 1].
        threads: Threads of a worker's networks on the CPU [default: all cores].
        show_settings: Print every setting with its variable and description, and exit.
    """
    with needs_extra("server", "serving needs", ServiceError):
        from pydantic import ValidationError

        from edgegrain.service.app import serve
        from edgegrain.service.settings import ENVIRONMENT_PREFIX, Settings, check_variables
    given: dict[str, Any] = {"host": host, "port": port, "device": device, "workers": workers, "threads": threads}
    given["bundles"] = bundle or None
    try:
        settings = Settings(**{name: value for name, value in given.items() if value is not None})
    except ValidationError as error:
        found = [
            (".".join(map(str, item["loc"])), item["msg"].removeprefix("Value error, ")) for item in error.errors()
        ]
        raise ServiceError("; ".join(f"setting {name}: {message}" for name, message in found)) from error
    if not show_settings:
        check_variables(os.environ)
        serve(settings)
        return
    for name, field in Settings.model_fields.items():
        value = getattr(settings, name)  # secrets are masked
        text = ",".join(map(str, value)) if isinstance(value, tuple) else "" if value is None else str(value)
        say(f"{ENVIRONMENT_PREFIX}{name.upper()}={text}", f"  {field.description}")
