"""Weight files of GLEAN and GCFSR: round trips, the bank outside, files of other networks refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from codec_contract.errors import ModelError
from edgegrain.papers.face_sr.bundle import (
    load_gcfsr,
    load_glean,
    read_config,
    read_training,
    save_face_sr,
)
from edgegrain.papers.gcfsr.network import GCFSR, GCFSRConfig
from edgegrain.papers.glean.network import GLEAN, GLEANConfig
from server_decoder.generative_prior import prior_digest
from server_decoder.grain.prior_config import PriorConfig
from server_decoder.stylegan2.synthesis import TINY_64
from server_decoder.weight_file import read_header, read_weights, write_weights

GLEAN_TINY = GLEANConfig(PriorConfig("stylegan2", TINY_64), 16, rrdb=1, width=8, growth=4, head=8, widest=8)
GCFSR_TINY = GCFSRConfig(32, 8, channel_base=128, channel_max=16, code_width=12, code_channels=6)


def test_glean_is_restored_around_its_bank(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = GLEAN(GLEAN_TINY).eval()
    path = save_face_sr(network, tmp_path / "glean.safetensors", training={"pictures": 3}, dtype=torch.float32)
    assert not any(name.startswith("prior.") for name in read_weights(path))
    assert read_header(path)["bank_sha256"] == prior_digest(network.prior)
    lr = torch.rand(2, 3, 16, 16) * 2 - 1
    with torch.no_grad():
        # Two builds: other rounding.
        torch.testing.assert_close(load_glean(path, network.prior)(lr), network(lr), atol=1e-5, rtol=1e-4)
    assert read_config(path) == GLEAN_TINY and read_training(path) == {"pictures": 3}
    with pytest.raises(ModelError, match="trained with the bank"):
        load_glean(path, GLEAN_TINY.prior.build())
    with pytest.raises(ModelError, match="expected a gcfsr"):
        load_gcfsr(path)
    with pytest.raises(FileExistsError):
        save_face_sr(network, path)


def test_gcfsr_is_restored_in_half_precision(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = GCFSR(GCFSR_TINY).eval()
    path = save_face_sr(network, tmp_path / "gcfsr.safetensors")
    read = load_gcfsr(path)
    assert read_config(path) == GCFSR_TINY and read_training(path) == {}
    for name, tensor in network.state_dict().items():
        assert torch.equal(read.state_dict()[name], tensor.half().float())
    with pytest.raises(ModelError, match="expected a glean"):
        load_glean(path, GLEAN_TINY.prior.build())


def test_files_of_something_else_are_refused(tmp_path: Path) -> None:
    network = GCFSR(GCFSR_TINY)
    header = {"config": json.dumps(GCFSR_TINY.as_dict())}
    state = network.state_dict()
    name = next(iter(state))
    for case, tensors, described in (
            ("missing", {key: tensor for key, tensor in state.items() if key != name}, header),
            ("shape", state, {"config": json.dumps(replace(GCFSR_TINY, code_width=8).as_dict())}),
            ("unknown", state | {"prior.more": torch.zeros(1)}, header),
            ("no header", state, {})):
        path = write_weights(tmp_path / f"{case}.safetensors", tensors, described)
        with pytest.raises(ModelError):
            load_gcfsr(path)
    (tmp_path / "noise").write_bytes(b"noise")
    for read in (load_gcfsr, read_config, read_training):
        with pytest.raises(ModelError, match="holds"):
            read(tmp_path / "noise")
    with torch.no_grad():
        network.to_codes[0].conv.weight.fill_(1e6)
    with pytest.raises(ModelError, match="does not fit"):
        save_face_sr(network, tmp_path / "large.safetensors")
