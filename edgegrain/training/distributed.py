"""Processes of a training run: one, or several that ``torchrun`` started."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import nn

from codec_contract.errors import EdgegrainError
from edgegrain.training.device import choose_device, convolution_layout, to_device

T = TypeVar("T")


@dataclass(frozen=True)
class Distributed:
    """The device of this process and its rank among ``world`` processes; rank 0 writes log and checkpoints."""

    device: torch.device
    rank: int = 0
    world: int = 1

    @property
    def first(self) -> bool:
        return self.rank == 0

    def seed(self, seed: int, pictures: int) -> int:
        """A seed that differs between processes, and between sessions of a run that has seen ``pictures``."""
        return seed + pictures + 1_000_003 * self.rank

    def average_gradients(self, parameters: list[nn.Parameter]) -> None:
        """Replace the gradients by their mean over all processes.

        Done once per step on one flat buffer instead of by DistributedDataParallel: that hooks into the module's
        forward pass, and here losses call parts of a model, several times, with double backward for R1.
        """
        if self.world == 1:
            return
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        flat = torch.cat([gradient.reshape(-1) for gradient in gradients])
        dist.all_reduce(flat)
        flat /= self.world
        for gradient, mean in zip(gradients, flat.split([gradient.numel() for gradient in gradients]), strict=True):
            gradient.copy_(mean.view_as(gradient))

    def agree(self, progress: float, stop: bool) -> tuple[float, bool]:
        """The largest progress of any process and True if any wants to stop, so that all end at the same step."""
        if self.world == 1:
            return progress, stop
        state = torch.tensor([progress, float(stop)], dtype=torch.float64, device=self.device)
        dist.all_reduce(state, dist.ReduceOp.MAX)
        return float(state[0]), bool(state[1])

    def from_first(self, make: Callable[[], T]) -> T:
        """The result of ``make``, which only the first process calls; all processes raise its error."""
        outcome: list[Any] = [None, None]
        if self.first:
            try:
                outcome[0] = make()
            except (EdgegrainError, OSError) as error:
                outcome[1] = error
        if self.world > 1:
            dist.broadcast_object_list(outcome, 0)
        result, failure = outcome
        if failure is not None:
            raise failure
        return result

    def share(self, model: nn.Module) -> None:
        """Copy weights and buffers of the first process to all others."""
        if self.world > 1:
            for tensor in [*model.parameters(), *model.buffers()]:
                dist.broadcast(tensor.data, 0)

    @property
    def layout(self) -> torch.memory_format:
        """`convolution_layout` of the device."""
        return convolution_layout(self.device)

    def move(self, networks: Iterable[nn.Module], *, convolutional: bool = False) -> None:
        """Move networks to the device, as `to_device`, and `share` them."""
        for network in networks:
            to_device(network, self.device, convolutional=convolutional)
            self.share(network)

    def wait(self) -> None:
        """Block until all processes have reached this call."""
        if self.world > 1:
            dist.barrier()


@contextlib.contextmanager
def start_distributed(name: str) -> Iterator[Distributed]:
    """Device and processes from a device name and the environment of ``torchrun`` (RANK, WORLD_SIZE, LOCAL_RANK).

    In a block of another call the processes are those of that call.
    """
    device = choose_device(name)
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world == 1:
        yield Distributed(device)
        return
    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        torch.cuda.set_device(device)
    started = dist.is_initialized()
    if not started:
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield Distributed(device, dist.get_rank(), world)
    finally:
        if not started:
            dist.destroy_process_group()
