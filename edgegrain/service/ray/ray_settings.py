"""How the service is laid out on Ray."""

from __future__ import annotations

import re
from dataclasses import dataclass

from codec_contract.errors import ServiceError


@dataclass(frozen=True)
class RayOptions:
    """Replicas of the application, and what each of them takes.

    Attributes:
        min_replicas: that are always there; 0 lets an idle service vanish until the next request.
        max_replicas: at most so many; Ray adds and removes replicas by the requests that are under way.
        cpus: cores reserved for a replica.
        gpus: reserved for a replica; 0.25 lets four share one.
        address: of a running Ray cluster, ``"auto"`` for the one of this machine; None starts Ray here, for this
            machine alone.
    """

    min_replicas: int = 1
    max_replicas: int = 1
    cpus: float = 1.0
    gpus: float = 0.0
    address: str | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.min_replicas <= self.max_replicas or self.max_replicas < 1:
            raise ServiceError(
                f"there are to be {self.min_replicas} to {self.max_replicas} replicas; at least one, and the first "
                "number not above the second")
        if self.cpus <= 0 or self.gpus < 0:
            raise ServiceError(f"a replica takes more than 0 cores and no negative part of a GPU, got {self.cpus:g} "
                               f"and {self.gpus:g}")


def parse_replicas(text: str) -> tuple[int, int]:
    """``"2"`` as (2, 2), ``"1:8"`` as (1, 8); `ServiceError` for anything else."""
    found = re.fullmatch(r"(\d{1,4})(?::(\d{1,4}))?", text)
    if found is None:
        raise ServiceError(f"replicas are written as a number or as MIN:MAX, for instance 2 or 1:8, not as {text!r}")
    return int(found[1]), int(found[2] or found[1])
