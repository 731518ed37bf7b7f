"""Devices, memory and processes of a run."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.multiprocessing as multiprocessing
from torch import nn

from codec_contract.errors import DeviceError
from edgegrain.training.distributed import Distributed, choose_device, has_bfloat16, mixed_precision, start_distributed


@pytest.mark.parametrize(
    ("capabilities", "expected"),
    [
        ({"avx2": True, "avx512_bf16": False, "amx_bf16": False}, False),
        ({"avx512_bf16": False, "amx_bf16": True}, True),
        ({"architecture": "arm64", "bf16": True}, True),
        ({"architecture": "riscv"}, True),
    ],
)
def test_bfloat16_only_where_the_cpu_computes_in_it(
    monkeypatch: pytest.MonkeyPatch, capabilities: dict[str, object], expected: bool
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    cpu, layer = torch.device("cpu"), nn.Linear(4, 4)
    assert has_bfloat16(cpu) == expected
    for wanted in (True, False):
        with mixed_precision(cpu, wanted):
            assert layer(torch.ones(1, 4)).dtype == (torch.bfloat16 if expected and wanted else torch.float32)


@pytest.mark.parametrize("supported", [True, False])
def test_bfloat16_only_where_the_gpu_computes_in_it(monkeypatch: pytest.MonkeyPatch, supported: bool) -> None:
    """Before compute capability 8.0 it is emulated."""
    monkeypatch.setattr(
        torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation or supported
    )
    assert has_bfloat16(torch.device("cuda")) == supported


@pytest.mark.parametrize(("bfloat16", "layout"), [(True, torch.channels_last), (False, torch.contiguous_format)])
def test_convolutional_networks_get_the_faster_layout(
    bfloat16: bool, layout: torch.memory_format, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgegrain.training.distributed.has_bfloat16", lambda device: bfloat16)
    distributed, network, other = Distributed(torch.device("cpu")), nn.Conv2d(4, 4, 3), nn.Conv2d(4, 4, 3)
    distributed.move([network], convolutional=True)
    distributed.move([other])
    assert distributed.layout is layout
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


FAULTS = """
import resource
from edgegrain.training.distributed import keep_freed_memory

def pages():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        b"\1" * (1 << 26)  # 16384 pages
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

usual, kept, _ = pages(), keep_freed_memory(), pages()
print(kept, pages(), usual)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's allocator")
def test_later_arrays_take_the_memory_of_earlier_ones() -> None:
    found = subprocess.check_output([sys.executable, "-c", FAULTS], text=True).split()
    assert found[0] == "True" and int(found[1]) < 16384 and int(found[2]) >= 10 * 16384


def work(rank: int, port: int, folder: str) -> None:
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2"}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    with start_distributed("cpu") as distributed:
        torch.manual_seed(rank)
        layer = nn.Linear(2, 1)
        distributed.move([layer])
        parameters = list(layer.parameters())
        parameters[0].grad = torch.full((1, 2), float(rank + 1))
        parameters[1].grad = torch.full((1,), 10.0 * rank)
        distributed.average_gradients(parameters)
        agreed, gradients = distributed.agree(0.25 * (rank + 1), rank == 1), [p.grad for p in parameters]
        torch.save((layer.weight.detach(), gradients, agreed, distributed.first), f"{folder}/{rank}.pt")
        distributed.wait()


@pytest.mark.skipif(not torch.distributed.is_available(), reason="this PyTorch has no torch.distributed")
def test_processes_share_weights_gradients_and_the_end(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    multiprocessing.spawn(work, (port, str(tmp_path)), nprocs=2)
    states = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2)]
    assert torch.equal(states[0][0], states[1][0])
    for rank, (_, gradients, agreed, first) in enumerate(states):
        assert [gradient.flatten().tolist() for gradient in gradients] == [[1.5, 1.5], [5.0]]
        assert agreed == (0.5, True) and first == (rank == 0)


def test_processes_and_sessions_have_seeds_of_their_own() -> None:
    one, two = (Distributed(torch.device("cpu"), rank, 2) for rank in (0, 1))
    assert one.seed(3, 0) == 3
    assert len({process.seed(3, pictures) for process in (one, two) for pictures in (0, 800)}) == 4
