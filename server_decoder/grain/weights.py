"""Weight files of GRAIN: everything that was trained, without the frozen prior. If codes and fusion were trained around
the frozen decoder of a bundle, the file may leave that decoder out and name the bundle.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from codec_contract.errors import ModelError
from server_decoder import weight_file
from server_decoder.generative_prior import GenerativePrior, prior_digest
from server_decoder.grain.grain import Grain, GrainConfig
from server_decoder.grain.rrdb_decoder import RRDBDecoder
from server_decoder.weight_file import WeightKind, read_record, read_weights, save_network

_KIND = WeightKind("trained GRAIN model", "grain", GrainConfig.from_dict)
_HISTORY = "history"
_KEPT = "decoder_of"
_PRIOR = "prior_sha256"
_DECODER = "decoder."

History = Sequence[Mapping[str, Any]]
"""The stages that made the weights, ``{"stage": ..., "pictures": ...}`` each."""


@dataclass(frozen=True)
class KeptDecoder:
    """The invertible decoder of a bundle, which codes and fusion were trained around.

    Attributes:
        bundle: its id.
        version: its version.
        sha256: of its decoder's file, in hex.
    """

    bundle: str
    version: str
    sha256: str


def save_trained(model: Grain, path: str | Path, *, history: History = (), kept: KeptDecoder | None = None,
                 dtype: torch.dtype = torch.float16, compact: bool = False, force: bool = False) -> Path:
    """Write everything that was trained; the prior, which readers have or can download, is left out, but named by its
    digest.

    Args:
        model: the decoder.
        path: of the new file.
        history: read back by `read_history`.
        kept: the bundle whose invertible decoder the model has; its weights are left out.
        dtype: of the stored weights.
        compact: store the large ones as int8 (`write_weights`).
        force: replace the file if it exists.
    """
    records: dict[str, Any] = {_HISTORY: list(history)}
    state = model.trained_state()
    if model.prior is not None:
        records[_PRIOR] = prior_digest(model.prior)
    if kept is not None:
        records[_KEPT] = asdict(kept)
        state = {name: tensor for name, tensor in state.items() if not name.startswith(_DECODER)}
    return save_network(path, _KIND, model.config.as_dict(), state, records=records, dtype=dtype, compact=compact,
                        force=force)


def read_config(path: str | Path) -> GrainConfig:
    """The configuration in a file's header."""
    return weight_file.read_config(path, _KIND)


def read_history(path: str | Path) -> tuple[dict[str, Any], ...]:
    """The stages in a file's header; none if it has no such entry."""
    return tuple(read_record(path, _KIND, _HISTORY, []))


def read_kept(path: str | Path) -> KeptDecoder | None:
    """The bundle whose invertible decoder a file leaves out; None if the file has its own."""
    with _KIND.reading(path):
        record = read_record(path, _KIND, _KEPT, None)
        return None if record is None else KeptDecoder(**record)


def load_trained(path: str | Path, prior: GenerativePrior | None = None, decoder: RRDBDecoder | None = None) -> Grain:
    """The model whose weights `save_trained` wrote.

    Args:
        path: the file.
        prior: the generator; random weights when None.
        decoder: the invertible decoder, for files that leave it out (`read_kept`).
    """
    config = read_config(path)
    try:
        model = Grain(config, prior)
    except ValueError as error:
        raise ModelError(f"{path} describes a model whose parts do not fit: {error}") from error
    kept = read_kept(path)
    if kept is not None and decoder is None:
        raise ModelError(f"{path} needs the invertible decoder of bundle {kept.bundle} {kept.version}")
    wanted = read_record(path, _KIND, _PRIOR, None)  # files of edgegrain 0.6 and earlier do not name it
    if wanted is not None and prior is not None and prior_digest(prior) != wanted:
        raise ModelError(f"{path} was trained with another generator, with the digest {wanted[:16]}; name that one "
                         "(--prior)")
    with _KIND.reading(path):
        state = read_weights(path)
        if kept is not None and decoder is not None:
            state |= {_DECODER + name: tensor for name, tensor in decoder.state_dict().items()}
        model.load_trained_state(state)
    return model.eval()
