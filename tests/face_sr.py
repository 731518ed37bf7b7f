"""Tiny GLEANs and GCFSRs with random weights in a zoo's layout, all of whose weights matter."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from codec_contract.lr_coder.coder_tables import CoderTables
from edgegrain.papers.face_sr.bundle import GCFSR_WEIGHTS, GLEAN_WEIGHTS, save_face_sr
from edgegrain.papers.gcfsr.network import GCFSR, GCFSRConfig
from edgegrain.papers.glean.network import GLEAN, GLEANConfig
from server_decoder.grain.grain import PriorConfig
from server_decoder.stylegan2.networks import TINY_64, StyleGAN2, save_stylegan2
from tests.unit.edgegrain.conftest import shaken

GCFSR_TINY = GCFSRConfig(32, 8, channel_base=128, channel_max=16, code_width=12, code_channels=6)
BANK_TINY = replace(TINY_64, size=32)
GLEAN_TINY = GLEANConfig(PriorConfig("stylegan2", BANK_TINY), 8, rrdb=1, width=8, growth=4, head=8, widest=8)
TRAINING: dict[str, Any] = {"config": {"reduction": "area"}, "pictures_seen": 1234}


def store_gcfsr(folder: Path, seed: int = 0) -> Path:
    """A folder with ``gcfsr.safetensors`` and ``coder.json``."""
    folder.mkdir(parents=True)
    with torch.random.fork_rng(devices=[]):
        network = shaken(GCFSR, GCFSR_TINY, 0.1, seed)
    save_face_sr(network, folder / GCFSR_WEIGHTS, training=TRAINING)
    (folder / "coder.json").write_bytes(CoderTables.default().to_json())
    return folder


def store_glean(folder: Path, seed: int = 0) -> tuple[Path, Path]:
    """A folder with ``glean.safetensors``, and the file of its bank."""
    folder.mkdir(parents=True)
    bank = folder / "bank.safetensors"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        prior = StyleGAN2(BANK_TINY)
        network = shaken(lambda config: GLEAN(config, prior), GLEAN_TINY, 0.02, seed)
        with torch.no_grad():
            network.to_rgb[-1].weight.mul_(0.2)  # so that pictures are mostly within [-1, 1]
    save_stylegan2(bank, prior, metadata={"origin": "random numbers", "licence": "none needed"})
    save_face_sr(network, folder / GLEAN_WEIGHTS, training=TRAINING)
    return folder, bank
