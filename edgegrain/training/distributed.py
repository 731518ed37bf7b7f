"""Device and processes of a training run: one process, or several that ``torchrun`` started."""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import nn

from codec_contract.errors import DeviceError


def choose_device(name: str) -> torch.device:
    """The device of a name; ``auto`` is CUDA if it is available."""
    if name not in ("auto", "cpu", "cuda"):
        raise DeviceError(f"unknown device {name!r}; expected one of auto, cpu, cuda")
    if name == "cuda" and not torch.cuda.is_available():
        raise DeviceError("no CUDA device is available to PyTorch; use --device cpu or auto")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


def mixed_precision(device: torch.device, wanted: bool = True) -> torch.autocast:
    """Autocast to bfloat16 for convolutions and matrix products if the device computes in it, else float32: a CPU that
    emulates it (Intel before 2020, AMD before Zen 4) took 1.9 times as long for GRAIN's fusion."""
    return torch.autocast(device.type, torch.bfloat16, enabled=wanted and has_bfloat16(device))


def has_bfloat16(device: torch.device) -> bool:
    """True if the device has bfloat16 instructions, and for a CPU about which PyTorch has no information."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type != "cpu" or not hasattr(torch.cpu, "get_capabilities"):  # an older PyTorch
        return True
    capabilities = torch.cpu.get_capabilities()
    known = [bool(there) for name, there in capabilities.items() if "bf16" in name]
    return any(known) or not known


def keep_freed_memory() -> bool:
    """Keep freed memory in this process for later arrays, shared by all threads; False if the C library is not glibc.

    By default glibc returns every array above 32 MiB to the kernel, which then zeroes the largest feature maps of every
    step page by page: a step of ``stage2-faces-256-lr16-fine`` took 4.9 instead of 3.9 s (two threads, AMD EPYC).
    """
    if sys.platform != "linux":
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", lambda name, value: 0)  # musl has none
    # Of malloc.h: M_MMAP_MAX, M_TRIM_THRESHOLD (never), M_TOP_PAD (bytes to grow by), M_ARENA_MAX.
    return all(mallopt(name, value) == 1 for name, value in ((-4, 0), (-1, -1), (-2, 1 << 26), (-8, 1)))


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
        """Replace the gradients by their mean over all processes, on one flat buffer: DistributedDataParallel hooks
        into the forward pass, and here losses call parts of a model, several times, with double backward for R1."""
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

    @property
    def layout(self) -> torch.memory_format:
        """The faster layout of feature maps and kernels on the device: channels-last where convolutions can compute in
        bfloat16. In float32 on a CPU, `FACES_256_LR16_FINE` takes 8.4 s in that layout and 5.8 s contiguous."""
        return torch.channels_last if has_bfloat16(self.device) else torch.contiguous_format

    def move(self, networks: Iterable[nn.Module], *, convolutional: bool = False) -> None:
        """Move networks to the device, convolutional ones in its `layout`, with the first process's weights."""
        for network in networks:
            network.to(self.device)
            if convolutional:
                network.to(memory_format=self.layout)  # type: ignore[call-overload]  # torch's stubs lack it
            for tensor in [*network.parameters(), *network.buffers()] if self.world > 1 else []:
                dist.broadcast(tensor.data, 0)

    def wait(self) -> None:
        """Block until all processes have reached this call."""
        if self.world > 1:
            dist.barrier()


@contextlib.contextmanager
def start_distributed(name: str) -> Iterator[Distributed]:
    """Device and processes from a device name and the environment of ``torchrun`` (RANK, WORLD_SIZE, LOCAL_RANK)."""
    device = choose_device(name)
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world == 1:
        yield Distributed(device)
        return
    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield Distributed(device, dist.get_rank(), world)
    finally:
        dist.destroy_process_group()
