"""Serve replicas of the service with Ray Serve until Ctrl-C or SIGTERM; settings are variables EDGEGRAIN_SERVE_...

    python examples/ray_serve.py 2          # on this machine only
    python examples/ray_serve.py 8 auto     # on a running cluster
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from fastapi import FastAPI

from edgegrain.batch import ray_cluster
from edgegrain.service.app import create_app
from edgegrain.service.observability import configure_logs
from edgegrain.service.settings import Settings

CORES = 1  # per replica


def main(replicas: int, address: str | None = None) -> None:
    settings = Settings(threads=CORES)

    def build() -> FastAPI:  # runs in every replica
        configure_logs(settings.log_level)
        app = create_app(settings)
        started = app.router.lifespan_context

        @asynccontextmanager
        async def warmed(app: FastAPI) -> AsyncIterator[None]:  # Ray sends requests once this yields
            async with started(app), asyncio.timeout(settings.start_timeout) as limit:
                while app.state.service.not_ready():
                    await asyncio.sleep(0.05)
                limit.reschedule(None)
                yield

        app.router.lifespan_context = warmed
        return app

    os.environ.setdefault("RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S", "20")  # 5 s can be too short on a busy machine
    with ray_cluster(address, cpus=replicas * CORES, show_logs=True):
        from ray import serve  # `ray_cluster` prepares its environment

        signal.signal(signal.SIGTERM, signal.default_int_handler)
        serve.start(http_options={"host": settings.host, "port": settings.port})
        service = serve.deployment(
            serve.ingress(build)(), name="edgegrain", num_replicas=replicas, ray_actor_options={"num_cpus": CORES},
            max_ongoing_requests=settings.queue_size + settings.compress_queue_size)  # the replica's queues refuse
        with suppress(KeyboardInterrupt):
            serve.run(service.bind(), name="edgegrain", blocking=True)
        serve.delete("edgegrain")  # the replicas answer what they have accepted


if __name__ == "__main__":
    main(int(sys.argv[1]), *sys.argv[2:])
