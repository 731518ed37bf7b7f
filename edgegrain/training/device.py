"""The device of a training or a search: the CPU or CUDA, with the types and layouts that it computes fast in."""

from __future__ import annotations

import torch
from torch import nn

from codec_contract.errors import DeviceError

DEVICES = ("auto", "cpu", "cuda")


def choose_device(name: str) -> torch.device:
    """The device of a name; ``auto`` is CUDA if it is available.

    Raises:
        DeviceError: the name is unknown, or CUDA is requested and not available.
    """
    if name not in DEVICES:
        raise DeviceError(f"unknown device {name!r}; expected one of {', '.join(DEVICES)}")
    if name == "cuda" and not torch.cuda.is_available():
        raise DeviceError("no CUDA device is available to PyTorch; use --device cpu or auto")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


def mixed_precision(device: torch.device, wanted: bool = True) -> torch.autocast:
    """Autocast to bfloat16 for convolutions and matrix products if the device computes in it, else float32.

    A CPU that has no instructions for bfloat16 (Intel before 2020, AMD before Zen 4) emulates it: forward and backward
    pass of GRAIN's fusion at 256x256 then took 1.9 times as long as in float32 (one core of an Intel Xeon of 2017).
    """
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


def convolution_layout(device: torch.device) -> torch.memory_format:
    """The faster layout of feature maps and kernels for forward and backward pass.

    Channels-last where convolutions can compute in bfloat16. In float32 on a CPU, both passes of `FACES_256_LR16_FINE`
    take 8.4 s in that layout and 5.8 s contiguous (batch of 4, one thread of an AMD EPYC with AVX2).
    """
    return torch.channels_last if has_bfloat16(device) else torch.contiguous_format


def to_device(network: nn.Module, device: torch.device, *, convolutional: bool = False) -> None:
    """Move a network to a device, a convolutional one in the device's `convolution_layout`."""
    network.to(device)
    if convolutional:
        network.to(memory_format=convolution_layout(device))  # type: ignore[call-overload]  # torch's stubs lack it
