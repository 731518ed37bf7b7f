"""Bundles of GLEAN and GCFSR: an exact reduction on the phone, the network on the server.

Bundles with the same LR contract (sizes, reduction, coder tables) read each other's payloads, so an LR may be sent once
and restored by either network.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.progress import track
from torch import Tensor, nn

from codec_contract.bundle.find import LARGEST_STRENGTH, SMALLEST_STRENGTH, STRENGTH
from codec_contract.bundle.manifest import CODER_TABLES
from codec_contract.errors import BundleError, ExistsError, ExportError, ModelError
from codec_contract.files import write_atomically
from codec_contract.lr_coder.coder_tables import CoderTables
from edge_encoder.integer_network import IntegerNetwork, run_reference
from edge_encoder.lowering import box_network
from edgegrain.papers.face_sr.bicubic_network import bicubic_network
from edgegrain.papers.gcfsr.network import GCFSR, GCFSRConfig, GCFSRUpscaler
from edgegrain.papers.gcfsr.network import KIND as GCFSR_KIND
from edgegrain.papers.glean.network import GLEAN, GLEANConfig
from edgegrain.papers.glean.network import KIND as GLEAN_KIND
from export.bundle.card import bundle_card, usual_licence
from export.bundle.writer import (
    COMPARED,
    FIRST_VERSION,
    BundleParts,
    WrittenBundle,
    exact_encoder,
    manifest_fields,
    refuse_to_replace,
    require_bundle_formats,
    tables_in,
    write_bundle,
)
from export.decoder.export import compare_decoder, described_prior
from export.decoder.graph import add_optional_input, decoder_graph, round_weights, store_half
from export.encoder.graph import FORMATS
from export.proof.proof_inputs import smooth_pictures
from server_decoder import weight_file
from server_decoder.generative_prior import GenerativePrior, prior_digest
from server_decoder.prior_store import DEFAULT_PRIOR, prior_licence
from server_decoder.weight_file import (
    WeightKind,
    described_network,
    fill_network,
    read_header,
    read_record,
    save_network,
)

GLEAN_WEIGHTS = "glean.safetensors"
GCFSR_WEIGHTS = "gcfsr.safetensors"
"""Names of the files in the folder of a run and of the zoo."""
USUAL_FACTOR = 16
"""From the picture's side to a GCFSR bundle's LR, unless another is chosen."""
REDUCTIONS: dict[str, Callable[[int, int], IntegerNetwork]] = {"area": box_network, "bicubic": bicubic_network}
"""Name -> the encoder from ``hr`` to ``lr``."""
_TRAINING, _BANK = "training", "bank_sha256"
_PRIOR = "prior."
_CONFIGS: dict[str, type[GLEANConfig] | type[GCFSRConfig]] = {GLEAN_KIND: GLEANConfig, GCFSR_KIND: GCFSRConfig}
_KIND: WeightKind[GLEANConfig | GCFSRConfig] = WeightKind(
    "GLEAN and no GCFSR", "config", lambda fields: _CONFIGS[fields["kind"]].from_dict(fields))


def trained_state(network: GLEAN | GCFSR) -> dict[str, Tensor]:
    """The state dict without GLEAN's bank, which is frozen."""
    return {name: tensor for name, tensor in network.state_dict().items() if not name.startswith(_PRIOR)}


def save_face_sr(network: GLEAN | GCFSR, path: str | Path, *, training: Mapping[str, Any] | None = None,
                 dtype: torch.dtype = torch.float16, compact: bool = False, force: bool = False) -> Path:
    """Write a network; of GLEAN's bank only the hash.

    Args:
        network: to write.
        path: of the new file.
        training: read back by `read_training`; plain JSON values.
        dtype: of the stored weights.
        compact: store the large ones as int8 (`write_weights`).
        force: replace the file if it exists.
    """
    bank = {_BANK: prior_digest(network.prior)} if isinstance(network, GLEAN) else {}
    return save_network(path, _KIND, network.config.as_dict(), trained_state(network), dtype=dtype, compact=compact,
                        force=force, records={_TRAINING: dict(training or {})}, entries=bank)


def load_glean(path: str | Path, prior: GenerativePrior) -> GLEAN:
    """The network in a file around its bank, weights in float32, in evaluation mode."""
    config = read_config(path)
    if not isinstance(config, GLEANConfig):
        raise ModelError(f"{path} holds a {GCFSR_KIND}, expected a {GLEAN_KIND}")
    with _KIND.reading(path):
        bank = read_header(path)[_BANK]
    if prior_digest(prior) != bank:
        raise ModelError(f"{path} was trained with the bank of SHA-256 {bank[:16]}..., the given one has "
                         f"{prior_digest(prior)[:16]}...; pass the generator that it describes, cut and rounded alike")
    network = described_network(path, lambda: GLEAN(config, prior))
    fill_network(network, path, _KIND, without=_PRIOR)
    return network.eval()


def load_gcfsr(path: str | Path) -> GCFSR:
    """The network in a file, weights in float32, in evaluation mode."""
    config = read_config(path)
    if not isinstance(config, GCFSRConfig):
        raise ModelError(f"{path} holds a {GLEAN_KIND}, expected a {GCFSR_KIND}")
    network = described_network(path, lambda: GCFSR(config))
    fill_network(network, path, _KIND)
    return network.eval()


def load_face_sr(path: Path, prior: str | Path | None) -> GLEAN | GCFSR:
    """Either network; ``prior`` is GLEAN's bank as `load_prior` takes it, None for the published one."""
    config = read_config(path)
    if isinstance(config, GLEANConfig):
        return load_glean(path, described_prior(config.prior, prior or DEFAULT_PRIOR))
    return load_gcfsr(path)


def read_config(path: str | Path) -> GLEANConfig | GCFSRConfig:
    """The configuration in a file's header; its class tells the kind of network."""
    return weight_file.read_config(path, _KIND)


def read_training(path: str | Path) -> dict[str, Any]:
    """The training record in a file's header; empty if there is none."""
    return dict(read_record(path, _KIND, _TRAINING, {}))


@dataclass(frozen=True)
class Restorer:
    """A network that restores squares of ``hr`` from LRs of ``lr``.

    Attributes:
        codec: ``"glean"`` or ``"gcfsr"``.
        network: LR ``[B, 3, lr, lr]`` in [-1, 1] -> ``[B, 3, hr, hr]``; a second argument for every control.
        architecture: its configuration, plain JSON values.
        controls: name of an optional input -> its description in the manifest.
    """

    codec: str
    network: nn.Module
    hr: int
    lr: int
    architecture: Mapping[str, Any]
    controls: Mapping[str, Any] = field(default_factory=dict)


def glean_restorer(network: GLEAN) -> Restorer:
    """The restorer of a GLEAN with its bank."""
    config = network.config
    return Restorer(GLEAN_KIND, network, config.prior.size, config.lr, config.as_dict())


def gcfsr_restorer(network: GCFSR, lr: int) -> Restorer:
    """The restorer of a GCFSR for one size of LRs. Except in the blind form it has the control ``strength``."""
    config = network.config
    if lr < 1 or lr & (lr - 1) or not SMALLEST_STRENGTH <= config.size / lr <= LARGEST_STRENGTH:
        raise BundleError(f"LRs of this network are {max(1, config.size / LARGEST_STRENGTH):g} to "
                          f"{config.size / SMALLEST_STRENGTH:g} pixels wide, a power of two, got {lr}")
    described = {"range": [SMALLEST_STRENGTH, LARGEST_STRENGTH], "default": config.size / lr}
    return Restorer(GCFSR_KIND, GCFSRUpscaler(network, lr), config.size, lr, config.as_dict(),
                    {} if config.blind else {STRENGTH: described})


def write_face_sr_bundle(
    weights: Path, folder: Path, *, lr: int | None = None, prior: str | Path | None = None,
    reduction: str | None = None, version: str = FIRST_VERSION, domain: str = "faces",
    licence: Mapping[str, str] | None = None, formats: Sequence[str] = tuple(FORMATS), force: bool = False,
) -> WrittenBundle:
    """Write the bundle of a ``glean.safetensors`` or ``gcfsr.safetensors``, or of a folder that holds one and perhaps a
    ``coder.json``.

    Args:
        weights: the file or folder.
        folder: of the bundle; its name becomes the id.
        lr: side of a GCFSR bundle's LRs; None for a `USUAL_FACTOR`-th of the picture's.
        prior: GLEAN's bank, as `load_prior` takes it; None for the published one.
        reduction: a key of `REDUCTIONS`; None for the one that the network was trained on.
        version, domain: for the manifest.
        licence: of weights and data, by default `usual_licence`; the bank's is added.
        formats: of the encoder.
        force: replace a bundle that exists.
    """
    refuse_to_replace(folder, force, version=version)
    path = find_face_sr_weights(weights)
    training = read_training(path)
    reduction = reduction or (training.get("config") or {}).get("reduction", "area")
    if reduction not in REDUCTIONS:
        raise ExportError(f"unknown reduction {reduction!r}; expected one of {', '.join(REDUCTIONS)}")
    require_bundle_formats(formats)
    licence = dict(licence or usual_licence(domain))
    network = load_face_sr(path, prior)
    if isinstance(network, GCFSR):
        if prior is not None:
            raise ExportError(f"{path} holds a GCFSR, which takes no --prior")
        restorer = gcfsr_restorer(network, lr or network.config.size // USUAL_FACTOR)
    else:
        if lr not in (None, network.config.lr):
            raise ExportError(f"this GLEAN takes LRs of {network.config.lr}; leave lr out")
        licence["prior"] = prior_licence(prior or DEFAULT_PRIOR)
        restorer = glean_restorer(network)
    return write_restorer_bundle(folder, restorer, reduction, training=training, licence=licence, domain=domain,
                                 version=version, tables=tables_in(path.parent), formats=formats, force=force)


def write_restorer_bundle(
    folder: Path, restorer: Restorer, reduction: str, *, training: Mapping[str, Any], licence: Mapping[str, str],
    domain: str, tables: CoderTables, formats: Sequence[str], version: str = FIRST_VERSION,
    remarks: Sequence[str] = (), force: bool = False,
) -> WrittenBundle:
    """Export a restorer, compare it with torch and write its bundle.

    Args:
        folder: of the bundle; its name becomes the id.
        restorer: its network's weights are rounded to float16.
        reduction: a key of `REDUCTIONS`, the encoder.
        training, licence, domain, version: for the manifest.
        tables, formats: as in `BundleParts`.
        remarks: paragraphs of the model card.
        force: replace a bundle that exists.
    """
    refuse_to_replace(folder, force)
    encoder = REDUCTIONS[reduction](restorer.hr, restorer.lr)
    decoder = restorer.network.eval().requires_grad_(False)
    round_weights(decoder, compact=False)
    graph = store_half(decoder_graph(decoder, restorer.lr))
    for name in restorer.controls:
        add_optional_input(graph, name, [f"{name}_batch"])
    model = bytes(graph.SerializeToString())
    lrs = run_reference(encoder, np.stack(smooth_pictures(COMPARED, restorer.hr)))
    comparison = compare_decoder(model, decoder, lrs)
    fields = manifest_fields(
        folder.name, restorer.codec, architecture=restorer.architecture, training=training, licence=licence,
        domain=domain, version=version, controls=tuple(restorer.controls), inputs=restorer.controls)
    strength = " `strength`, 4 to 64, controls how much detail is hallucinated." if restorer.controls else ""
    summary = (f"{restorer.codec.upper()}, {restorer.hr} x {restorer.hr} from an exact {reduction} reduction to "
               f"{restorer.lr} x {restorer.lr}.{strength}")
    card = bundle_card(folder.name, summary, training, licence, remarks)
    parts = BundleParts(exact_encoder(encoder), model, tables, fields, card, formats)
    return WrittenBundle(write_bundle(folder, parts, force=force), comparison)


def find_face_sr_weights(path: Path) -> Path:
    """The file itself, or the one in a folder."""
    if not path.is_dir():
        return path
    found = [path / name for name in (GLEAN_WEIGHTS, GCFSR_WEIGHTS) if (path / name).is_file()]
    if len(found) != 1:
        raise ModelError(f"{path} holds {len(found)} of {GLEAN_WEIGHTS} and {GCFSR_WEIGHTS}, expected one of them")
    return found[0]


def store(weights: Path, folder: Path, *, prior: str | Path = DEFAULT_PRIOR, coder: Path | None = None,
          data: Path | None = None, exclude: tuple[str, ...] = (), force: bool = False) -> Path:
    """Write a compact copy of a ``glean.safetensors`` or ``gcfsr.safetensors``, and the coder's tables, to the zoo.

    Fitted to the same reductions of the same pictures tables are equal, so that both networks can share an LR contract.

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
    """
    path = find_face_sr_weights(weights)
    network = load_face_sr(path, prior)
    name = GLEAN_WEIGHTS if isinstance(network, GLEAN) else GCFSR_WEIGHTS
    for written in (name, CODER_TABLES) if coder or data else (name,):
        if (folder / written).exists() and not force:  # before fitting, which takes minutes
            raise ExistsError(folder / written)
    tables = None
    if coder is not None:
        tables = CoderTables.from_json(coder.read_bytes())
    elif data is not None:
        tables = fit_reduction_tables(path, data, exclude=exclude)
    folder.mkdir(parents=True, exist_ok=True)
    target = save_face_sr(network, folder / name, training=read_training(path), compact=True, force=force)
    if tables is not None:
        write_atomically(folder / CODER_TABLES, tables.to_json(), force=force)
    return target


def fit_reduction_tables(weights: Path, data: Path, *, exclude: tuple[str, ...] = (), count: int = 4000,
                         steps: int = 6000) -> CoderTables:
    """Coder tables for the reductions that a network was trained on; for GCFSR the reduction to a 16th."""
    from edgegrain.pictures.stored_pictures import read_square, stored_pictures  # bundles are written without them
    from edgegrain.publishing.fit_coder import fit_tables

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
