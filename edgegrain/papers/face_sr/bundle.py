"""Bundles of GLEAN and GCFSR: an exact reduction on the phone, the network on the server.

Bundles with the same LR contract (sizes, reduction, coder tables) read each other's payloads, so an LR may be sent once
and restored by either network.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
from rich.progress import track
from torch import nn

from codec_contract.bundle.find import LARGEST_STRENGTH, SMALLEST_STRENGTH, STRENGTH
from codec_contract.bundle.manifest import CODER_TABLES
from codec_contract.errors import BundleError, ExistsError, ExportError, ModelError
from codec_contract.exact_square import cubic
from codec_contract.files import write_atomically
from codec_contract.lr_coder.coder_tables import CoderTables
from edge_encoder.integer_network import INPUT, IntegerConv, IntegerNetwork, run_reference
from edge_encoder.twin import box_network
from edgegrain.papers.bundle_parts import write_compared
from edgegrain.papers.gcfsr.network import GCFSR, RGB, GCFSRConfig, GCFSRUpscaler
from edgegrain.papers.gcfsr.network import KIND as GCFSR_KIND
from edgegrain.papers.glean.network import GLEAN, GLEANConfig
from edgegrain.papers.glean.network import KIND as GLEAN_KIND
from export.bundle import grain, writer
from export.decoder.export import described_prior
from export.decoder.graph import add_optional_input, decoder_graph, round_weights, store_half
from export.encoder.graph import FORMATS
from export.proof.inputs import smooth_pictures
from server_decoder import weight_file
from server_decoder.generative_prior import GenerativePrior, prior_digest
from server_decoder.prior_store import DEFAULT_PRIOR, prior_licence

GLEAN_WEIGHTS, GCFSR_WEIGHTS = "glean.safetensors", "gcfsr.safetensors"  # in the folder of a run and of the zoo
USUAL_FACTOR = 16  # from the picture's side to a GCFSR bundle's LR, unless another is chosen
FaceSR = GLEAN | GCFSR
_BANK, _PRIOR = "bank_sha256", "prior."
_CONFIGS: dict[str, type[GLEANConfig] | type[GCFSRConfig]] = {GLEAN_KIND: GLEANConfig, GCFSR_KIND: GCFSRConfig}
_KIND: weight_file.WeightKind[GLEANConfig | GCFSRConfig] = weight_file.WeightKind(
    "GLEAN and no GCFSR", "config", lambda fields: _CONFIGS[fields["kind"]].from_dict(fields)
)


def weight_name(network: FaceSR) -> str:
    """Name of the network's file."""
    return GLEAN_WEIGHTS if isinstance(network, GLEAN) else GCFSR_WEIGHTS


def save_face_sr(
    network: FaceSR, path: Path, training: Mapping[str, Any], *, compact: bool = False, force: bool = False
) -> Path:
    """Write a network, of GLEAN's bank the hash; ``training``, plain JSON values, is read back by `read_training`."""
    config, records = network.config.as_dict(), {"training": dict(training)}
    bank = {_BANK: prior_digest(network.prior)} if isinstance(network, GLEAN) else {}
    state = {name: tensor for name, tensor in network.state_dict().items() if not name.startswith(_PRIOR)}
    return weight_file.save_network(
        path, _KIND, config, state, records=records, entries=bank, compact=compact, force=force
    )


def load_face_sr(path: str | Path, prior: GenerativePrior | str | Path | None = None) -> FaceSR:
    """The network in a file; ``prior``: GLEAN's bank, or as `load_prior` takes it, None for the published one."""
    config = read_config(path)
    if isinstance(config, GCFSRConfig):
        network: FaceSR = weight_file.described_network(path, lambda: GCFSR(config))
        weight_file.fill_network(network, path, _KIND)
        return network.eval()
    bank = prior if isinstance(prior, GenerativePrior) else described_prior(config.prior, prior or DEFAULT_PRIOR)
    with _KIND.reading(path):
        expected = weight_file.read_header(path)[_BANK]
    if (found := prior_digest(bank)) != expected:
        raise ModelError(
            f"{path} was trained with the bank of SHA-256 {expected[:16]}..., the given one has {found[:16]}...; "
            "pass the generator that it describes, cut and rounded alike"
        )
    network = weight_file.described_network(path, lambda: GLEAN(config, bank))
    weight_file.fill_network(network, path, _KIND, without=_PRIOR)
    return network.eval()


def read_config(path: str | Path) -> GLEANConfig | GCFSRConfig:
    """The configuration in a file's header; its class tells the kind of network."""
    return weight_file.read_config(path, _KIND)


def read_training(path: str | Path) -> dict[str, Any]:
    """The training record in a file's header; empty if there is none."""
    return dict(weight_file.read_record(path, _KIND, "training", {}))


def sizes(config: GLEANConfig | GCFSRConfig, lr: int | None = None) -> tuple[int, int]:
    """Sides of picture and LR. ``lr``: that of a GCFSR's LRs; None for a `USUAL_FACTOR`-th of the picture's."""
    if isinstance(config, GLEANConfig):
        if lr not in (None, config.lr):
            raise ExportError(f"this GLEAN takes LRs of {config.lr}; leave lr out")
        return config.prior.size, config.lr
    lr = lr or config.size // USUAL_FACTOR
    if lr & (lr - 1) or not SMALLEST_STRENGTH <= config.size / lr <= LARGEST_STRENGTH:
        raise BundleError(
            f"LRs of this network are {max(1, config.size / LARGEST_STRENGTH):g} to "
            f"{config.size / SMALLEST_STRENGTH:g} pixels wide, a power of two, got {lr}"
        )
    return config.size, lr


def write_face_sr_bundle(
    weights: Path,
    folder: Path,
    *,
    lr: int | None = None,
    prior: str | Path | None = None,
    reduction: str | None = None,
    version: str = writer.FIRST_VERSION,
    domain: str = "faces",
    licence: Mapping[str, str] | None = None,
    formats: Sequence[str] = tuple(FORMATS),
    force: bool = False,
) -> writer.WrittenBundle:
    """Write the bundle of a weight file, with the tables of a ``coder.json`` beside. ``lr``: of a GCFSR; ``prior``: of
    a GLEAN, whose licence is added; ``reduction``: by default the one that the network was trained on."""
    writer.refuse_to_replace(folder, force, version=version)
    training = read_training(weights)
    reduction = reduction or _reduction(training)
    if reduction not in REDUCTIONS:
        raise ExportError(f"unknown reduction {reduction!r}; expected one of {', '.join(REDUCTIONS)}")
    writer.require_bundle_formats(formats)
    network, licence = load_face_sr(weights, prior), dict(licence or writer.usual_licence(domain))
    if isinstance(network, GLEAN):
        licence["prior"] = prior_licence(prior or DEFAULT_PRIOR)
    elif prior is not None:
        raise ExportError(f"{weights} holds a GCFSR, which takes no --prior")
    fields = {"training": training, "licence": licence, "domain": domain, "version": version}
    tables = writer.tables_in(weights.parent)
    return write_bundle_of(network, folder, reduction, lr, tables=tables, formats=formats, force=force, **fields)


def write_bundle_of(
    network: FaceSR, folder: Path, reduction: str, lr: int | None, **described: Any
) -> writer.WrittenBundle:
    """Write the bundle of a network, whose weights are rounded; ``described``: as in `write_compared`."""
    hr, lr = sizes(network.config, lr)
    kind, decoder, controls, strength = GLEAN_KIND, cast(nn.Module, network), {}, ""
    if isinstance(network, GCFSR):
        kind, decoder = GCFSR_KIND, GCFSRUpscaler(network, lr)
        if not network.config.blind:
            controls = {STRENGTH: {"range": [SMALLEST_STRENGTH, LARGEST_STRENGTH], "default": hr / lr}}
            strength = " `strength`, 4 to 64, controls how much detail is hallucinated."
    encoder = REDUCTIONS[reduction](hr, lr)
    round_weights(decoder.eval().requires_grad_(False), compact=False)
    graph = store_half(decoder_graph(decoder, lr))
    for name in controls:
        add_optional_input(graph, name, [f"{name}_batch"])
    lrs = run_reference(encoder, np.stack(smooth_pictures(writer.COMPARED, hr)))
    summary = f"{kind.upper()}, {hr} x {hr} from an exact {reduction} reduction to {lr} x {lr}.{strength}"
    fields = {"architecture": network.config.as_dict(), "controls": tuple(controls), "inputs": controls, **described}
    part, model = writer.exact_encoder(encoder), bytes(graph.SerializeToString())
    return write_compared(folder, kind, part, decoder, model, lrs, summary, **fields)


def store(
    weights: Path,
    folder: Path,
    *,
    prior: str | Path = DEFAULT_PRIOR,
    data: Path | None = None,
    exclude: tuple[str, ...] = (),
    force: bool = False,
) -> Path:
    """Write a compact copy of a weight file to the zoo; ``coder.json`` gets tables fitted to the pictures ``data``, or
    stays as it is. The same reductions of the same pictures give equal tables, so that networks share a contract."""
    path = grain.weight_file(weights)
    network = load_face_sr(path, prior)
    for written in (path.name, CODER_TABLES) if data else (path.name,):
        if (folder / written).exists() and not force:  # before fitting, which takes minutes
            raise ExistsError(folder / written)
    tables = fit_reduction_tables(path, data, exclude) if data is not None else None
    folder.mkdir(parents=True, exist_ok=True)
    target = save_face_sr(network, folder / path.name, read_training(path), compact=True, force=force)
    if tables is not None:
        write_atomically(folder / CODER_TABLES, tables.to_json(), force=force)
    return target


def fit_reduction_tables(
    weights: Path, data: Path, exclude: tuple[str, ...], count: int = 4000, steps: int = 6000
) -> CoderTables:
    """Coder tables for the reductions that a network was trained on; for GCFSR the reduction to a 16th."""
    from edgegrain.pictures.stored_pictures import list_pictures, read_square  # bundles are written without them
    from edgegrain.publishing.fit_coder import fit_tables

    hr, lr = sizes(read_config(weights))
    reduce = REDUCTIONS[_reduction(read_training(weights))](hr, lr)
    stored = list_pictures(data, exclude)
    chosen = np.sort(np.random.default_rng(0).permutation(len(stored))[:count])
    pictures = (read_square(stored[index], hr) for index in track(chosen, description="reducing"))
    return fit_tables([run_reference(reduce, picture[None])[0] for picture in pictures], steps=steps)


def _reduction(training: Mapping[str, Any]) -> str:
    return str((training.get("config") or {}).get("reduction", "area"))


_WHITE = 255
_WEIGHT_MAX = 127
_CUT = ((0, 0), (3, 0), (1, 0), (0, 1), (0, 3))
"""Taps that the edge cuts off at the left and at the right, in half factors, by kind: inner, first, second, last but
one, last sample."""
_CHOICE = np.array([(2, 0, 0, 0, 2), (0, -2, 0, 0, 0), (-2, 2, 0, 0, 0), (0, 0, 0, 2, -2), (0, 0, 0, -2, 0)], np.int8)
"""In halves, the five taps by kind: a neighbour at that place must exist (2), must not exist (-2), or does not matter.
"""


def bicubic_network(hr: int, lr: int) -> IntegerNetwork:
    """Antialiased bicubic reduction from ``hr`` to ``lr`` as an integer network; GLEAN and GCFSR define their LR so.

    Pillow's filter for an integer factor f: taps of Keys' kernel, stretched by f and cut at the edge, with weights that
    sum to 1; first along the rows, rounded to integers, then along the columns. A convolution has the same weights
    everywhere, but the first two and the last two samples of a line, where the edge cuts taps off, need others. So all
    five kinds are computed for every sample, with zeros outside, and one is selected:

        kinds    conv [5 x 3, 4f], stride f     inner, first, second, last but one, last
        white    conv with no weights           255 everywhere
        choice   depthwise 5 taps of white, + kinds
                                                the taps give 0 where a kind applies, else -255 or less, so that the
                                                clamp gives 0; white ends at the edge, which reveals a sample's position
        row      1 x 1                          the sum over kinds

    Weights are int8 over a power of two, so a level may differ by one from Pillow's, whose weights have 22 bits.
    """
    factor = hr // lr if lr else 0
    if lr < 4 or hr % lr or factor % 2 or not 2 <= factor <= 64:  # smaller: a sample would be near both edges
        raise BundleError(
            "the exact bicubic reduction makes LRs of at least 4 pixels by an even factor from 2 to 64, "
            f"got {hr} to {lr}"
        )
    across = _pass("across", INPUT, factor, vertical=False)
    down = _pass("down", across[-1].name, factor, vertical=True)
    return IntegerNetwork(f"bicubic-{hr}-{lr}", hr, lr, (*across, *down))


def _weights(factor: int) -> np.ndarray:
    """``[5, 4 * factor]``: the weights of every kind of sample; each row sums to 1."""
    taps = 4 * factor
    weights = np.tile(cubic((np.arange(taps) + 0.5) / factor - 2), (len(_CUT), 1))
    for kind, (left, right) in enumerate(_CUT):
        weights[kind, : left * factor // 2] = 0
        weights[kind, taps - right * factor // 2 :] = 0
    return weights / weights.sum(1, keepdims=True)


def _quantized(weights: np.ndarray) -> tuple[np.ndarray, int]:
    """int8 weights and the largest shift; they sum to 2^shift, so that plain areas stay; those that lost most gain."""
    shift = int(np.floor(np.log2((_WEIGHT_MAX + 1) / weights.max())))
    exact = weights * 2.0**shift
    whole = np.round(exact).clip(-_WEIGHT_MAX, _WEIGHT_MAX)
    while missing := round(2.0**shift - whole.sum()):
        step = np.sign(missing)
        room = (np.abs(whole + step) <= _WEIGHT_MAX) & (exact != 0)
        whole[np.argmax(np.where(room, step * (exact - whole), -np.inf))] += step
    return whole.astype(np.int8), shift


def _pass(name: str, source: str, factor: int, *, vertical: bool) -> list[IntegerConv]:
    """One direction: kinds, white, choice and their sum."""

    def along(weight: np.ndarray) -> np.ndarray:  # [O, I, taps] -> [O, I, *, *]
        return np.ascontiguousarray(weight[..., None] if vertical else weight[..., None, :])

    def around(zeros: int) -> tuple[int, int, int, int]:
        return (zeros, 0, zeros, 0) if vertical else (0, zeros, 0, zeros)

    kinds, channels = len(_CUT), len(_CUT) * RGB
    none, one, black = np.zeros(channels, np.int32), np.ones(channels, np.int32), np.zeros((channels, 1, 1, 1), np.int8)
    taps, shifts = zip(*map(_quantized, _weights(factor)), strict=True)
    weight = np.zeros((kinds, RGB, RGB, 4 * factor), np.int8)
    weight[:, range(RGB), range(RGB)] = np.stack(taps)[:, None]
    weight, shift = along(weight.reshape(channels, RGB, -1)), np.repeat(np.array(shifts, np.int32), RGB)
    stride, outside = (factor, 1) if vertical else (1, factor), around(3 * factor // 2)  # of the first and last sample
    choice = along(np.repeat(_CHOICE, RGB, 0)[:, None])
    missing = -_WHITE * np.repeat(_CHOICE.clip(0).sum(1, dtype=np.int32), RGB)  # of neighbours that must exist
    chosen = np.zeros((RGB, kinds, RGB, 1, 1), np.int8)
    chosen[range(RGB), :, range(RGB)] = 2
    all_kinds, white, one_kind = (f"{name}.{layer}" for layer in ("kinds", "white", "choice"))
    return [
        IntegerConv(all_kinds, source, weight, none, shift, stride, outside),
        IntegerConv(white, all_kinds, black, one * 2 * _WHITE, one, groups=channels),
        IntegerConv(one_kind, white, choice, missing, one, padding=around(2), groups=channels, skip=all_kinds),
        IntegerConv(name, one_kind, chosen.reshape(RGB, channels, 1, 1), none[:RGB], one[:RGB]),
    ]


REDUCTIONS: dict[str, Callable[[int, int], IntegerNetwork]] = {"area": box_network, "bicubic": bicubic_network}
"""Name -> the encoder from ``hr`` to ``lr``."""
