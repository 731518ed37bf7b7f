"""Two processes: equal weights at the start, mean gradients, one decision about the end."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest
import torch
import torch.multiprocessing as multiprocessing
from torch import nn

from edgegrain.pictures.writing import InUseError
from edgegrain.training.distributed import Distributed, start_distributed
from edgegrain.training.run_folder import claim_run_folder


def work(rank: int, port: int, folder: str) -> None:
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1",
                   "MASTER_PORT": str(port)}
    with start_distributed("cpu") as distributed:
        with start_distributed("cpu") as again, claim_run_folder(again, "smoke", Path(folder, f"run{rank}")) as run:
            with pytest.raises(InUseError), claim_run_folder(again, "smoke", run):
                pass
        torch.manual_seed(rank)
        layer = nn.Linear(2, 1)
        distributed.share(layer)
        parameters = list(layer.parameters())
        parameters[0].grad = torch.full((1, 2), float(rank + 1))
        parameters[1].grad = torch.full((1,), 10.0 * rank)
        distributed.average_gradients(parameters)
        progress, stop = distributed.agree(0.25 * (rank + 1), rank == 1)
        torch.save({"weight": layer.weight.detach(), "gradients": [p.grad for p in parameters], "progress": progress,
                    "stop": stop, "first": distributed.first, "run": run.name}, f"{folder}/{rank}.pt")
        distributed.wait()


@pytest.mark.skipif(not torch.distributed.is_available(), reason="this PyTorch has no torch.distributed")
def test_processes_share_weights_gradients_and_the_end(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    multiprocessing.spawn(work, (port, str(tmp_path)), nprocs=2)
    one, two = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2))
    assert torch.equal(one["weight"], two["weight"])
    for state in (one, two):
        assert torch.equal(state["gradients"][0], torch.full((1, 2), 1.5))
        assert torch.equal(state["gradients"][1], torch.full((1,), 5.0))
        assert (state["progress"], state["stop"]) == (0.5, True)
    assert (one["first"], two["first"]) == (True, False)
    assert one["run"] == two["run"] == "run0"


def test_one_process_needs_no_other() -> None:
    with start_distributed("auto") as distributed:
        assert distributed.first
        assert distributed.agree(0.3, False) == (0.3, False)


def test_processes_and_sessions_have_seeds_of_their_own() -> None:
    one, two = (Distributed(torch.device("cpu"), rank, 2) for rank in (0, 1))
    assert one.seed(3, 0) == 3
    assert len({process.seed(3, pictures) for process in (one, two) for pictures in (0, 800)}) == 4
