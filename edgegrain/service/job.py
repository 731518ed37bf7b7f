"""`Job`: a picture or payload on its way through a queue and a worker, and the answers that it can get."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, get_args

from codec_contract.errors import EdgegrainError

Verb = Literal["restore", "compress"]
VERBS: tuple[Verb, ...] = get_args(Verb)

Reason = Literal["full", "late", "overtaken", "starting", "timeout"]
"""Reason of a refusal, a label of the metrics: ``full``, the queue is full; ``late``, on arrival the job is expected to
miss its deadline; ``overtaken``, it is expected to miss it only after it was queued; ``timeout``, its deadline has
passed; ``starting``, any of these cases while no worker is ready."""


class BatchKey(NamedTuple):
    """Jobs with equal keys can share a batch: they run through the same networks, and take about equally long.

    A scene, which is a batch of its own, has ``faces``; a picture all of whose faces are compressed has 1.
    """

    verb: Verb
    bundle: str
    seed: int = 0
    enlargement: int = 1
    faces: int = 0

    @property
    def kind(self) -> str:
        """The verb; for scenes, which are timed apart, another name."""
        return f"{self.verb} scene" if self.faces else self.verb


class WorkerLost(Exception):
    """The worker process died, hung, or sent an invalid answer.

    Attributes:
        retry_after: whole seconds after which another worker should be ready.
    """

    retry_after = 1


class Refused(Exception):
    """A job is not served: its queue is full, or it cannot meet its deadline.

    Attributes:
        reason: a `Reason`.
        retry_after: whole seconds after which a repetition should be accepted.
    """

    def __init__(self, reason: Reason, retry_after: int) -> None:
        super().__init__(f"refused ({reason}), retry after {retry_after} s")
        self.reason: Reason = reason
        self.retry_after = retry_after


class Done(NamedTuple):
    """The result of a job: its bytes, and the seconds of its stages."""

    data: bytes
    seconds: dict[str, float]


Answer = Done | EdgegrainError | WorkerLost | Refused


@dataclass(eq=False)
class Job:
    """A picture or payload in a queue.

    Attributes:
        key: jobs with the same key can share a batch.
        data: the payload or picture file.
        options: fields of the engine's options.
        deadline: loop time at which its request times out.
        pixels: pixels of its result, which bound the memory of a batch.
        answer: `Done`, the `EdgegrainError` of this item, `WorkerLost` or `Refused`; cancelled when the client
            disconnects.
        queued: loop time at which it was queued.
        charged: its part of the expected seconds of its batch, once it has left the queue.
    """

    key: BatchKey
    data: bytes
    options: dict[str, Any]
    deadline: float
    pixels: int
    answer: asyncio.Future[Answer]
    queued: float = field(default=0.0)
    charged: float = field(default=0.0)

    def settle(self, answer: Answer) -> None:
        """Set the answer, unless the request has ended."""
        if not self.answer.done():
            self.answer.set_result(answer)
