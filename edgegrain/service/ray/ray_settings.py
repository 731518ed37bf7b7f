"""`RayOptions`: replicas of the service on Ray and their resources."""

from __future__ import annotations

import re
from dataclasses import dataclass

from codec_contract.errors import ServiceError


@dataclass(frozen=True)
class RayOptions:
    """Number of replicas of the application, and the resources of each.

    Attributes:
        min_replicas: replicas that always run; with 0 an idle service stops until the next request.
        max_replicas: most replicas; Ray scales with the number of requests in progress.
        cpus: cores reserved per replica.
        gpus: GPUs reserved per replica; 0.25 lets four share one.
        address: address of a running Ray cluster, ``"auto"`` for that of this machine; None starts Ray on this machine
            only.
    """

    min_replicas: int = 1
    max_replicas: int = 1
    cpus: float = 1.0
    gpus: float = 0.0
    address: str | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.min_replicas <= self.max_replicas or self.max_replicas < 1:
            raise ServiceError(
                f"got {self.min_replicas} to {self.max_replicas} replicas; the maximum is at least 1, the minimum "
                "from 0 to the maximum")
        if self.cpus <= 0 or self.gpus < 0:
            raise ServiceError(f"a replica reserves more than 0 cores and at least 0 GPUs, got {self.cpus:g} and "
                               f"{self.gpus:g}")


def parse_replicas(text: str) -> tuple[int, int]:
    """``"2"`` as (2, 2), ``"1:8"`` as (1, 8); `ServiceError` for anything else."""
    found = re.fullmatch(r"(\d{1,4})(?::(\d{1,4}))?", text)
    if found is None:
        raise ServiceError(f"replicas are written as a number or as MIN:MAX, for instance 2 or 1:8, not as {text!r}")
    return int(found[1]), int(found[2] or found[1])
