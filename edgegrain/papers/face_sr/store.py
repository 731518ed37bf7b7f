"""Store a training run of GLEAN or GCFSR in a folder of the zoo, from which ``edgegrain export bundle`` makes bundles.

Large weights are stored as int8. The coder's tables are fitted to reductions of the training pictures; fitted to the
same reductions of the same pictures they are equal, so that both networks can share an LR contract.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
from rich.progress import track

from codec_contract.bundle.file_names import CODER_TABLES
from codec_contract.errors import ExistsError
from codec_contract.files import write_atomically
from codec_contract.lr_coder.coder_tables import CoderTables
from edge_encoder.integer_network import run_reference
from edgegrain.papers.face_sr.bundle import USUAL_FACTOR, find_face_sr_weights
from edgegrain.papers.face_sr.reductions import REDUCTIONS
from edgegrain.papers.face_sr.weights import (
    GCFSR_WEIGHTS,
    GLEAN_WEIGHTS,
    load_gcfsr,
    load_glean,
    read_config,
    read_training,
    save_gcfsr,
    save_glean,
)
from edgegrain.papers.gcfsr.network import GCFSRConfig
from edgegrain.pictures.stored_pictures import read_square, stored_pictures
from edgegrain.publishing.fit_coder import fit_tables
from export.decoder.sources import described_prior
from server_decoder.prior_store import DEFAULT_PRIOR


def store(weights: Path, folder: Path, *, prior: str | Path = DEFAULT_PRIOR, coder: Path | None = None,
          data: Path | None = None, exclude: tuple[str, ...] = (), force: bool = False) -> Path:
    """Write a compact copy of a ``glean.safetensors`` or ``gcfsr.safetensors``, and the coder's tables.

    Args:
        weights: the file, or a folder that holds one.
        folder: the folder to write.
        prior: GLEAN's bank, as `load_prior` takes it.
        coder: tables to copy into ``coder.json``.
        data: without ``coder``: training pictures that the tables are fitted to. Without both, tables in the folder
            stay as they are.
        exclude: name patterns left out, as in training.
        force: replace the files.

    Returns:
        The path of the written weights.

    Raises:
        ExistsError: the folder holds a file that would be written and ``force`` is false.
        ModelError: the weights are missing or damaged, or GLEAN's bank is missing or another one.
        EdgegrainError: there are no pictures, or ``coder`` holds no tables. No file is written or replaced then.
    """
    path = find_face_sr_weights(weights)
    config, training = read_config(path), read_training(path)
    if isinstance(config, GCFSRConfig):
        name, save = GCFSR_WEIGHTS, partial(save_gcfsr, load_gcfsr(path))
    else:
        name, save = GLEAN_WEIGHTS, partial(save_glean, load_glean(path, described_prior(config.prior, prior)))
    for written in (name, CODER_TABLES) if coder or data else (name,):
        if (folder / written).exists() and not force:  # before fitting, which takes minutes
            raise ExistsError(folder / written)
    tables = _tables(path, coder, data, exclude)
    folder.mkdir(parents=True, exist_ok=True)
    target = save(folder / name, training=training, compact=True, force=force)
    if tables is not None:
        write_atomically(folder / CODER_TABLES, tables.to_json(), force=force)
    return target


def fit_reduction_tables(weights: Path, data: Path, *, exclude: tuple[str, ...] = (), count: int = 4000,
                         steps: int = 6000) -> CoderTables:
    """Coder tables for the reductions that a network was trained on; for GCFSR the reduction to a 16th.

    Args:
        weights: as for `store`.
        data: training pictures.
        exclude: name patterns left out, as in training.
        count: number of pictures that the tables are fitted to.
        steps: optimizer steps for each channel.

    Raises:
        ModelError: the weights are missing or damaged.
        EdgegrainError: there are no pictures.
    """
    path = find_face_sr_weights(weights)
    config = read_config(path)
    hr, lr = ((config.size, config.size // USUAL_FACTOR) if isinstance(config, GCFSRConfig)
              else (config.prior.size, config.lr))
    reduce = REDUCTIONS[(read_training(path).get("config") or {}).get("reduction", "area")](hr, lr)
    stored = stored_pictures(data, exclude)
    chosen = np.sort(np.random.default_rng(0).permutation(len(stored))[:count])
    lrs = [run_reference(reduce, read_square(stored[index], hr)[None])[0]
           for index in track(chosen, description="reducing")]
    return fit_tables(lrs, steps=steps)


def _tables(weights: Path, coder: Path | None, data: Path | None, exclude: tuple[str, ...]) -> CoderTables | None:
    if coder is not None:
        return CoderTables.from_json(coder.read_bytes())
    return None if data is None else fit_reduction_tables(weights, data, exclude=exclude)
