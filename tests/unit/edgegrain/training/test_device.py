"""The device by its name, and the types and layouts that it computes fast in."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from codec_contract.errors import DeviceError
from edgegrain.training.device import choose_device, convolution_layout, has_bfloat16, mixed_precision, to_device


@pytest.mark.parametrize(("capabilities", "expected"), [
    ({"avx2": True, "avx512_bf16": False, "amx_bf16": False}, False), ({"avx512_bf16": False, "amx_bf16": True}, True),
    ({"architecture": "arm64", "bf16": True}, True), ({"architecture": "riscv"}, True)])
def test_bfloat16_only_where_the_cpu_computes_in_it(monkeypatch: pytest.MonkeyPatch, capabilities: dict[str, object],
                                                    expected: bool) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    cpu, layer = torch.device("cpu"), nn.Linear(4, 4)
    assert has_bfloat16(cpu) == expected
    with mixed_precision(cpu):
        assert layer(torch.ones(1, 4)).dtype == (torch.bfloat16 if expected else torch.float32)
    with mixed_precision(cpu, wanted=False):
        assert layer(torch.ones(1, 4)).dtype == torch.float32


@pytest.mark.parametrize("supported", [True, False])
def test_bfloat16_only_where_the_gpu_computes_in_it(monkeypatch: pytest.MonkeyPatch, supported: bool) -> None:
    """Before compute capability 8.0 it is emulated."""
    monkeypatch.setattr(torch.cuda, "is_bf16_supported",
                        lambda including_emulation=True: including_emulation or supported)
    assert has_bfloat16(torch.device("cuda")) == supported


def test_an_older_pytorch_tells_nothing_of_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    assert has_bfloat16(torch.device("cpu"))


@pytest.mark.parametrize(("bfloat16", "layout"), [(True, torch.channels_last), (False, torch.contiguous_format)])
def test_convolutional_networks_get_the_faster_layout(bfloat16: bool, layout: torch.memory_format,
                                                      monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgegrain.training.device.has_bfloat16", lambda device: bfloat16)
    cpu = torch.device("cpu")
    network, other = nn.Conv2d(4, 4, 3), nn.Conv2d(4, 4, 3)
    to_device(network, cpu, convolutional=True)
    to_device(other, cpu)
    assert convolution_layout(cpu) is layout
    assert network.weight.is_contiguous(memory_format=layout)
    assert other.weight.is_contiguous()


def test_devices_are_chosen_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_device("auto") == choose_device("cpu") == torch.device("cpu")
    with pytest.raises(DeviceError, match="no CUDA device"):
        choose_device("cuda")
    with pytest.raises(DeviceError, match="auto, cpu, cuda"):
        choose_device("tpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert choose_device("auto") == choose_device("cuda") == torch.device("cuda")
