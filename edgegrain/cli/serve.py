"""``edgegrain serve``: the decoder as an HTTP service."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from codec_contract.errors import ServiceError
from edgegrain.cli.restore import DeviceChoice

LIBRARIES = ("fastapi", "uvicorn", "pydantic", "pydantic_settings", "prometheus_client", "python_multipart")


def serve(
    bundle: Annotated[
        list[str] | None,
        typer.Option("--bundle", "-b", help="Id, alias or folder of a bundle to serve; may be repeated [default: "
                     "faces]."),
    ] = None,
    host: Annotated[
        str | None, typer.Option(help="Address to listen on; 0.0.0.0 for all [default: 127.0.0.1].")
    ] = None,
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="Port; 0 takes a free one and logs it [default: 8000].")
    ] = None,
    device: Annotated[
        DeviceChoice | None, typer.Option(help="Where decoders run; never another than asked for [default: cpu].")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, max=64, help="Worker processes; each holds every bundle [default: 1].")
    ] = None,
    threads: Annotated[
        int | None, typer.Option(min=1, help="Threads of a worker's networks on the CPU [default: all cores].")
    ] = None,
    queue: Annotated[
        int | None, typer.Option(min=1, help="Pictures that may wait; more are refused with 503 [default: 128].")
    ] = None,
    deadline: Annotated[
        float | None, typer.Option(min=0.001, max=600, help="Seconds after which a request gets 503 [default: 10].")
    ] = None,
    on_ray: Annotated[
        bool, typer.Option("--ray", help="Serve with Ray Serve: several replicas of the whole service; docs/ray.md.")
    ] = False,
    ray_replicas: Annotated[
        str, typer.Option(metavar="N|MIN:MAX", help="Replicas under --ray; MIN:MAX follows the requests.")
    ] = "1",
    ray_cpus: Annotated[float, typer.Option(min=0.01, help="Cores that a replica reserves under --ray.")] = 1,
    ray_gpus: Annotated[
        float, typer.Option(min=0, help="GPUs that a replica reserves under --ray; 0.25 lets four share one.")
    ] = 0,
    ray_address: Annotated[
        str | None,
        typer.Option(help="A running Ray cluster (auto, HOST:PORT) for --ray [default: Ray is started here, for this "
                     "machine alone]."),
    ] = None,
    show_settings: Annotated[
        bool, typer.Option("--show-settings", help="Print every setting with its variable and meaning, and exit.")
    ] = False,
) -> None:
    """Serve payloads to pictures over HTTP.

    Requests are gathered into batches. Logs are JSON lines on stderr. SIGTERM and Ctrl-C end it in order: not ready
    first, then whatever was accepted is answered, then exit status 0.

    Every setting is also a variable EDGEGRAIN_SERVE_<NAME>; options win. Without EDGEGRAIN_SERVE_TOKENS anybody who
    reaches the address may call: set tokens before listening on more than this machine.

    \b
    Examples:
      edgegrain serve
      edgegrain serve --bundle faces --bundle my-bundle/ --device cuda
      EDGEGRAIN_SERVE_TOKENS=$(openssl rand -hex 32) edgegrain serve --host 0.0.0.0
      edgegrain serve --show-settings
      edgegrain serve --ray --ray-replicas 1:4
      edgegrain serve --ray --ray-replicas 4 --device cuda --ray-gpus 0.25

    \b
    Then, elsewhere:
      curl -H 'Content-Type: application/vnd.edgegrain' --data-binary @me.grain -o me.png http://host:8000/v1/restore
      edgegrain restore me.grain --remote http://host:8000
      http://host:8000/docs, /health/ready and /metrics
    """
    try:
        from pydantic import ValidationError

        from edgegrain.service.ray.ray_server import serve_on_ray
        from edgegrain.service.ray.ray_settings import RayOptions, parse_replicas
        from edgegrain.service.settings import Settings
        from edgegrain.service.uvicorn_server import serve
    except ModuleNotFoundError as error:
        if error.name not in LIBRARIES:
            raise
        raise ServiceError(
            f"serving needs {error.name}, which is not installed; install: pip install 'edgegrain[server]'"
        ) from error
    given: dict[str, Any] = {
        "bundles": tuple(bundle) if bundle else None, "host": host, "port": port,
        "device": None if device is None else device.value, "workers": workers, "threads": threads,
        "queue_size": queue, "deadline": deadline}
    try:
        settings = Settings(**{name: value for name, value in given.items() if value is not None})
    except ValidationError as error:
        raise ServiceError("; ".join(
            f"setting {'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors())) from error
    if show_settings:
        typer.echo("\n".join(_lines(settings)))
        return
    if not on_ray:
        serve(settings)
        return
    least, most = parse_replicas(ray_replicas)
    serve_on_ray(settings, RayOptions(least, most, ray_cpus, ray_gpus, ray_address))


def _lines(settings: Any) -> list[str]:
    """Variable, value and meaning of every setting; secrets stay hidden."""
    from edgegrain.service.settings import ENVIRONMENT_PREFIX

    lines = []
    for name, field in type(settings).model_fields.items():
        value = getattr(settings, name)
        text = ",".join(map(str, value)) if isinstance(value, tuple) else "" if value is None else str(value)
        lines.append(f"{ENVIRONMENT_PREFIX}{name.upper()}={text}\n  {field.description}")
    return lines
