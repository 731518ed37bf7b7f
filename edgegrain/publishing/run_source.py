"""Load a training run of GRAIN in the form in which it is evaluated, compared and published.

A published encoder is frozen: another encoder makes another LR contract, and stored payloads keep needing the first. A
run that kept it (all stages after the first do) is published with that bundle's encoder, coder tables and golden
vectors, byte for byte.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors import SafetensorError

from codec_contract.bundle.manifest import CODER_TABLES, ENCODER_WEIGHTS, Manifest, load_manifest
from codec_contract.errors import BundleError, ModelError
from codec_contract.lr_coder.coder_tables import CoderTables
from edge_encoder.integer_network import IntegerNetwork, integer_digest, load_integer_network
from edge_encoder.lowering import box_network, lower, raise_twin
from edge_encoder.twin import BoxMean, EncoderTwin
from edgegrain.training.checkpoint import checkpoint_path
from edgegrain.training.grain.model import Autoencoder, GrainRun, load_run, read_recipe
from edgegrain.training.prior_files import recipe_prior
from edgegrain.training.super_resolution.trainer import FAMILY as SUPER_RESOLUTION
from export import papers
from export.bundle.additions import decoder_hash
from export.bundle.writer import EncoderPart, exact_encoder
from export.decoder import WeightStorage
from export.decoder.export import DecoderSource, invertible_decoder
from server_decoder.grain.grain import Grain, GrainConfig, KeptDecoder
from server_decoder.grain.rrdb_decoder import RRDBDecoder
from server_decoder.weight_file import read_header

GRAIN = "grain"


def run_source(checkpoint: Path, prior: str | Path | None = None) -> DecoderSource:
    """The averaged weights of a run: the decoder in evaluation mode, the encoder lowered to its integers.

    Args:
        checkpoint: the run's folder or checkpoint.
        prior: the generator's file or name, ignored if the run has none; None for the published one.
    """
    return source_of(open_run(checkpoint, needed_prior(checkpoint, prior)), checkpoint.name)


def needed_prior(checkpoint: Path, prior: str | Path | None) -> str | Path | None:
    """``prior``, or None for a run without generator."""
    recipe = read_recipe(checkpoint)
    has_prior = isinstance(recipe.decoder, GrainConfig) and recipe.decoder.prior is not None
    return prior if has_prior else None


def source_of(run: GrainRun, name: str) -> DecoderSource:
    """The same as `run_source` for a run that is already loaded."""
    return DecoderSource(name, final_decoder(run), integer_encoder(run), step=run.recipe.lr_step)


def open_run(checkpoint: Path, prior: str | Path | None = None) -> GrainRun:
    """A run with its generator, if it has one.

    Args:
        checkpoint: the run's folder or checkpoint.
        prior: the generator's file or name; None for the published one.
    """
    return load_run(checkpoint, recipe_prior(read_recipe(checkpoint), prior))


def run_folder(checkpoint: Path) -> Path:
    """The folder of a run, given by its folder or checkpoint."""
    return checkpoint_path(checkpoint).resolve().parent


def integer_encoder(run: GrainRun) -> IntegerNetwork:
    """The averaged encoder as integers; the box mean for a run without learned correction."""
    encoder = run.average.encoder
    if isinstance(encoder, BoxMean):
        return box_network(encoder.hr, encoder.lr)
    if isinstance(encoder, EncoderTwin):
        return lower(encoder)
    raise BundleError("the encoder of this run is the paper's float network, which has no integers; publish the "
                      "run as a bundle, without --if-better, --trained-only and --encoder-of")


def encoder_part(run: GrainRun) -> EncoderPart:
    """The averaged encoder as the part of a bundle: its integers, or the paper's float network."""
    encoder = run.average.encoder
    if isinstance(encoder, BoxMean | EncoderTwin):
        return exact_encoder(integer_encoder(run))
    part: EncoderPart = encoder.bundle_part()  # type: ignore[operator]  # a float encoder
    return part


def decoder_storage(decoder: RRDBDecoder | Grain, wanted: WeightStorage | None = None) -> WeightStorage:
    """Storage of a decoder's weights in a bundle; by default compact (large ones as int8) with a generator, else
    float16."""
    return wanted or (WeightStorage.compact if isinstance(decoder, Grain) else WeightStorage.float16)


def final_decoder(run: GrainRun) -> RRDBDecoder | Grain:
    """The averaged decoder in evaluation mode; of stage 1 without the generator that made its training pictures."""
    decoder = run.average.decoder.eval()
    return decoder.decoder if isinstance(decoder, Grain) and run.recipe.stage == "1" else decoder


def kept_encoder(run: GrainRun, encoder_of: Path) -> Manifest:
    """The bundle whose encoder a run kept, with the step of its levels."""
    source = load_manifest(encoder_of)
    step = CoderTables.from_json(source.open_file(CODER_TABLES)).step
    if step != run.recipe.lr_step:
        raise BundleError(f"bundle {source.id} stores LR levels in steps of {step}, the run had lr_step="
                          f"{run.recipe.lr_step}; publish it without --encoder-of, under an id of its own")
    if not has_encoder(run.average, load_integer_network(source.open_file(ENCODER_WEIGHTS))):
        raise BundleError(f"the run's encoder is not that of bundle {source.id}: its weights moved, or it began with "
                          "another; publish it without --encoder-of, under an id of its own")
    return source


def kept_decoder(run: GrainRun, decoder_of: Path) -> KeptDecoder:
    """The bundle whose encoder and invertible decoder a run with a generator kept."""
    source, model = kept_encoder(run, decoder_of), run.average.decoder
    if not isinstance(model, Grain) or run.recipe.stage == "1":
        raise BundleError("the run trained no codes; publish it without --decoder-of")
    wanted, found = invertible_decoder(source).state_dict(), model.decoder.state_dict()
    if wanted.keys() != found.keys() or not all(torch.equal(tensor, found[name]) for name, tensor in wanted.items()):
        raise BundleError(f"the run's invertible decoder is not that of bundle {source.id}: its weights moved, or it "
                          "began with another; publish it without --decoder-of")
    return KeptDecoder(source.id, source.version, decoder_hash(source))


def has_encoder(model: Autoencoder, network: IntegerNetwork) -> bool:
    """True if a model's encoder is the published one.

    It is if it lowers to the same integers, or if it was raised from them: a raised twin computes the same LRs, but
    lowers to weights of another scale where the published ones left a bit unused.
    """
    twin = model.encoder
    if isinstance(twin, BoxMean):
        return integer_digest(box_network(twin.hr, twin.lr)) == integer_digest(network)
    if not isinstance(twin, EncoderTwin):
        return False
    if twin.config.name != network.architecture:
        return False
    raised = raise_twin(network, twin.config).state_dict()
    return integer_digest(lower(twin)) == integer_digest(network) or all(
        torch.equal(tensor, raised[name]) for name, tensor in twin.state_dict().items())


def run_family(run: Path) -> str:
    """The family of a run, given by its folder, its checkpoint or its weights: `GRAIN`, or one of `papers.WEIGHTS`.
    """
    path = checkpoint_path(run)
    if run.is_dir():
        path = next((run / name for name in papers.WEIGHTS if (run / name).is_file()), path)
    try:
        header = read_header(path)
        config = json.loads(header.get("config", "{}"))
        kind = config.get("kind") or config.get("network", {}).get("kind")
    except (OSError, SafetensorError, ValueError, AttributeError) as error:
        raise ModelError(f"{path} is not a checkpoint of a training run ({error})") from error
    by_kind = {weights.name.lower(): weights.family for weights in papers.WEIGHTS.values()}
    family = header.get("family") or by_kind.get("irn" if "irn" in header else kind, GRAIN)
    if family == SUPER_RESOLUTION:
        raise ModelError(f"{path} is a checkpoint of an enlarger, not of a codec; add it to a bundle with 'edgegrain "
                         "export enlarger'")
    if family not in (GRAIN, *by_kind.values()):
        raise ModelError(f"{path} is a checkpoint of {family}, not of a codec; its weights are a prior for --prior")
    return family
