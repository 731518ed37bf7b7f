"""Find out if a run of GRAIN kept the encoder, or encoder and invertible decoder, of a published bundle.

A published encoder is frozen: another encoder makes another LR contract, and stored payloads keep needing the first. A
run that kept it (all stages after the first do) is published with that bundle's encoder, coder tables and golden
vectors, byte for byte.
"""

from __future__ import annotations

from pathlib import Path

import torch

from codec_contract.bundle.file_names import CODER_TABLES, ENCODER_WEIGHTS
from codec_contract.bundle.manifest import Manifest, load_manifest
from codec_contract.errors import BundleError
from codec_contract.lr_coder.coder_tables import CoderTables
from edge_encoder.integer_network import IntegerNetwork, integer_digest, load_integer_network
from edge_encoder.lowering import box_network, lower, raise_twin
from edge_encoder.twin import BoxMean, EncoderTwin
from edgegrain.training.grain.model import Autoencoder, GrainRun
from export.decoder.sources import decoder_hash, invertible_decoder
from server_decoder.grain.grain import Grain
from server_decoder.grain.weights import KeptDecoder


def kept_encoder(run: GrainRun, encoder_of: Path) -> Manifest:
    """The bundle whose encoder a run kept, with the step of its levels.

    Raises:
        BundleError: there is no such bundle, or the run has another encoder or step.
    """
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
    """The bundle whose encoder and invertible decoder a run with a generator kept.

    Raises:
        BundleError: as `kept_encoder`, the run trained no codes, or it has another invertible decoder.
    """
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
