"""Weight files: round trips in all storage types, and one kind of error for everything that does not fit."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from codec_contract.errors import ModelError
from server_decoder.weight_file import (
    WeightKind,
    described_network,
    fill_network,
    is_compact,
    read_config,
    read_header,
    read_record,
    read_weights,
    save_network,
)


def width(fields: Mapping[str, Any]) -> int:
    return int(fields["width"])


KIND = WeightKind("linear layer", "linear", width, {"format": "linear-1"}, "save one first")


def test_a_network_is_restored_with_its_records(tmp_path: Path) -> None:
    layer, again, path = nn.Linear(3, 3), nn.Linear(3, 3), tmp_path / "a.safetensors"
    more = {"records": {"training": {"steps": 7}}, "entries": {"licence": "none"}}
    save_network(path, KIND, {"width": 3}, layer.state_dict(), dtype=torch.float32, **more)
    assert read_config(path, KIND) == 3
    assert read_record(path, KIND, "training", {}) == {"steps": 7} and read_record(path, KIND, "history", []) == []
    described = {"format": "linear-1", "linear": '{"width": 3}'}
    assert read_header(path) == {**described, "training": '{"steps": 7}', "licence": "none"}
    fill_network(again, path, KIND)
    assert torch.equal(again.weight, layer.weight) and torch.equal(again.bias, layer.bias)
    with pytest.raises(FileExistsError):
        save_network(path, KIND, {"width": 3}, layer.state_dict())


def test_parts_are_read_without_the_frozen_one(tmp_path: Path) -> None:
    network, layer = nn.ModuleDict({"frozen": nn.Linear(2, 2), "trained": nn.Linear(2, 2)}), nn.Linear(2, 2)
    before = network["frozen"].weight.clone()
    state = {name: tensor + 1 for name, tensor in network.state_dict().items()}
    trained = {name: tensor for name, tensor in state.items() if name.startswith("trained.")}
    whole, part = tmp_path / "whole", tmp_path / "part"
    for path, tensors in ((whole, state), (part, trained)):
        save_network(path, KIND, {"width": 2}, tensors, dtype=torch.float32)
    fill_network(network, part, KIND, without="frozen.")
    assert torch.equal(network["frozen"].weight, before)
    assert torch.equal(network["trained"].weight, state["trained.weight"])
    assert torch.equal(read_weights(whole, KIND, "trained.")["weight"], network["trained"].weight)
    with pytest.raises(ModelError, match="missing .*unknown"):
        fill_network(layer, whole, KIND)
    with pytest.raises(ModelError, match=r"unknown \['frozen"):
        fill_network(network, whole, KIND, without="frozen.")


@pytest.mark.parametrize(
    "header",
    [
        {},
        {"linear": '{"width": 3}'},
        {"format": "linear-2", "linear": '{"width": 3}'},
        {"format": "linear-1"},
        {"format": "linear-1", "linear": "{"},
        {"format": "linear-1", "linear": '{"height": 3}'},
    ],
)
def test_files_of_another_kind_are_refused(tmp_path: Path, header: dict[str, str]) -> None:
    save_file({"weight": torch.zeros(1)}, tmp_path / "a.safetensors", header)
    with pytest.raises(ModelError, match=r"a\.safetensors holds no linear layer \(.*\); save one first"):
        read_config(tmp_path / "a.safetensors", KIND)


@pytest.mark.parametrize("name", ["noise", "absent"])
def test_unreadable_files_are_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "noise").write_bytes(b"noise")
    for read in (
        lambda path: read_config(path, KIND),
        lambda path: read_record(path, KIND, "training", {}),
        lambda path: fill_network(nn.Linear(1, 1), path, KIND),
    ):
        with pytest.raises(ModelError, match="holds no linear layer"):
            read(tmp_path / name)


def test_large_weights_may_be_stored_in_eight_bits(tmp_path: Path) -> None:
    matrix = torch.randn(64, 64) * torch.logspace(-3, 2, 64)[:, None]
    others = {"kernel": torch.randn(8, 4, 3, 3), "zeros": torch.zeros(64, 64), "bias": torch.randn(5000)}
    state = {"matrix": matrix, **others}
    path, plain, again = (tmp_path / f"{name}.safetensors" for name in ("compact", "plain", "again"))
    save_network(path, KIND, {}, state, compact=True)
    read = read_weights(path, KIND)
    assert set(read) == set(state)
    largest = matrix.abs().amax(1, keepdim=True)
    assert ((read["matrix"] - matrix).abs() <= largest * (0.5 / 127 + 1e-6)).all()
    assert not torch.equal(read["matrix"], matrix)
    for name in others:  # small kernels and vectors stay float16
        assert torch.equal(read[name], state[name].half().float())
    save_network(plain, KIND, {}, state)
    assert path.stat().st_size < plain.stat().st_size - 2 * 64 * 64 + 2 * 64 * 4 + 1000
    assert is_compact(path) and not is_compact(plain)
    save_network(again, KIND, {}, read, compact=True)
    assert torch.equal(read_weights(again, KIND)["matrix"], read["matrix"])  # what was rounded stays


@pytest.mark.parametrize(
    ("value", "compact", "message"),
    [(math.nan, True, "not finite"), (math.inf, False, "not finite"), (1e5, False, "does not fit torch.float16")],
)
def test_weights_that_cannot_be_stored_are_refused(tmp_path: Path, value: float, compact: bool, message: str) -> None:
    state = {"matrix": torch.full((64, 64), value)}  # large enough for int8
    with pytest.raises(ModelError, match=f"'matrix' .*{message}"):
        save_network(tmp_path / "a.safetensors", KIND, {}, state, compact=compact)
    assert not list(tmp_path.iterdir())


def test_a_file_holds_what_its_header_describes(tmp_path: Path) -> None:
    path = save_network(tmp_path / "a.safetensors", KIND, {"width": 3}, nn.Linear(3, 3).state_dict())
    with pytest.raises(ModelError, match="does not fit the sizes in its header"):
        fill_network(nn.Linear(2, 2), path, KIND)
    assert described_network(path, lambda: nn.Linear(3, 3)).weight.device.type == "cpu"
    with pytest.raises(ModelError, match="describes a network of 10,000,100,000 weights and has"):
        described_network(path, lambda: nn.Linear(100_000, 100_000))


def test_scales_cannot_enlarge_a_tensor(tmp_path: Path) -> None:
    tensors = {"weight": torch.zeros(9, 1, dtype=torch.int8), "weight.int8_scale": torch.ones(1, 9)}
    save_file(tensors, tmp_path / "a.safetensors", metadata={})
    with pytest.raises(ModelError, match="holds no linear layer"):
        read_weights(tmp_path / "a.safetensors", KIND)
