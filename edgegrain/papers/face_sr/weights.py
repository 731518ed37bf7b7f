"""Weight files of GLEAN and GCFSR.

GLEAN's bank is frozen and not in the file: the header names its hash, and readers provide the bank.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from codec_contract.errors import ModelError
from edgegrain.papers.gcfsr.network import GCFSR, GCFSRConfig
from edgegrain.papers.gcfsr.network import KIND as GCFSR_KIND
from edgegrain.papers.glean.network import GLEAN, GLEANConfig
from edgegrain.papers.glean.network import KIND as GLEAN_KIND
from server_decoder import weight_file
from server_decoder.generative_prior import GenerativePrior, prior_digest
from server_decoder.weight_file import WeightKind, fill_network, read_header, read_record, save_network

GLEAN_WEIGHTS = "glean.safetensors"
GCFSR_WEIGHTS = "gcfsr.safetensors"
"""Names of the files in the folder of a run and of the zoo."""
_CONFIG, _TRAINING, _BANK = "config", "training", "bank_sha256"
_PRIOR = "prior."
_CONFIGS: dict[str, type[GLEANConfig] | type[GCFSRConfig]] = {GLEAN_KIND: GLEANConfig, GCFSR_KIND: GCFSRConfig}
Config = TypeVar("Config")


def _parser(kind: str, parse: Callable[[Mapping[str, Any]], Config]) -> Callable[[Mapping[str, Any]], Config]:
    def checked(fields: Mapping[str, Any]) -> Config:
        if fields["kind"] != kind:
            raise ValueError(f"it holds a {fields['kind']}, expected a {kind}")
        return parse(fields)
    return checked


_GLEAN = WeightKind("GLEAN", _CONFIG, _parser(GLEAN_KIND, GLEANConfig.from_dict))
_GCFSR = WeightKind("GCFSR", _CONFIG, _parser(GCFSR_KIND, GCFSRConfig.from_dict))
_EITHER: WeightKind[GLEANConfig | GCFSRConfig] = WeightKind(
    "GLEAN and no GCFSR", _CONFIG, lambda fields: _CONFIGS[fields["kind"]].from_dict(fields))


def trained_state(network: GLEAN | GCFSR) -> dict[str, Tensor]:
    """The state dict without GLEAN's bank."""
    return {name: tensor for name, tensor in network.state_dict().items() if not name.startswith(_PRIOR)}


def save_glean(network: GLEAN, path: str | Path, *, training: Mapping[str, Any] | None = None,
               dtype: torch.dtype = torch.float16, compact: bool = False, force: bool = False) -> Path:
    """Write a GLEAN without its bank, whose hash the header names.

    Args:
        network: to write.
        path: of the new file.
        training: read back by `read_training`; plain JSON values.
        dtype: of the stored weights.
        compact: store the large ones as int8 (`write_weights`).
        force: replace the file if it exists.

    Raises:
        ModelError: a weight does not fit ``dtype``.
        ExistsError: the file exists and ``force`` is false.
    """
    return save_network(path, _GLEAN, network.config.as_dict(), trained_state(network), dtype=dtype, compact=compact,
                        force=force, records={_TRAINING: dict(training or {})},
                        entries={_BANK: prior_digest(network.prior)})


def load_glean(path: str | Path, prior: GenerativePrior) -> GLEAN:
    """The network that `save_glean` wrote around its bank, weights in float32, in evaluation mode.

    Args:
        path: the file.
        prior: the bank, as `read_config(path).prior` describes it.

    Raises:
        ModelError: the file holds no GLEAN, its weights do not fit its configuration, or the bank is another.
    """
    config = weight_file.read_config(path, _GLEAN)
    with _GLEAN.reading(path):
        bank = read_header(path)[_BANK]
    if prior_digest(prior) != bank:
        raise ModelError(f"{path} was trained with the bank of SHA-256 {bank[:16]}..., the given one has "
                         f"{prior_digest(prior)[:16]}...; pass the generator that it describes, cut and rounded alike")
    network = GLEAN(config, prior)
    fill_network(network, path, _GLEAN, without=_PRIOR)
    return network.eval()


def save_gcfsr(network: GCFSR, path: str | Path, *, training: Mapping[str, Any] | None = None,
               dtype: torch.dtype = torch.float16, compact: bool = False, force: bool = False) -> Path:
    """Write a GCFSR. Arguments and errors as in `save_glean`."""
    return save_network(path, _GCFSR, network.config.as_dict(), network.state_dict(), dtype=dtype, compact=compact,
                        force=force, records={_TRAINING: dict(training or {})})


def load_gcfsr(path: str | Path) -> GCFSR:
    """The network that `save_gcfsr` wrote, weights in float32, in evaluation mode.

    Raises:
        ModelError: the file holds no GCFSR, or its weights do not fit its configuration.
    """
    network = GCFSR(weight_file.read_config(path, _GCFSR))
    fill_network(network, path, _GCFSR)
    return network.eval()


def read_config(path: str | Path) -> GLEANConfig | GCFSRConfig:
    """The configuration in a file's header; its class tells the kind of network.

    Raises:
        ModelError: the file holds neither.
    """
    return weight_file.read_config(path, _EITHER)


def read_training(path: str | Path) -> dict[str, Any]:
    """The training record in a file's header; empty if there is none.

    Raises:
        ModelError: the file cannot be read.
    """
    return dict(read_record(path, _EITHER, _TRAINING, {}))
