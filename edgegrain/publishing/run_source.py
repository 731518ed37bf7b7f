"""Load a training run of GRAIN in the form in which it is evaluated, compared and published."""

from __future__ import annotations

from pathlib import Path

from codec_contract.errors import BundleError
from edge_encoder.integer_network import IntegerNetwork
from edge_encoder.lowering import box_network, lower
from edge_encoder.twin import BoxMean, EncoderTwin
from edgegrain.training.checkpoint import checkpoint_path
from edgegrain.training.grain.model import GrainRun, load_run, read_recipe
from edgegrain.training.prior_files import recipe_prior
from export.bundle.encoder_part import EncoderPart, exact_encoder
from export.decoder.decoder_options import WeightStorage
from export.decoder.sources import DecoderSource
from server_decoder.grain.grain import Grain, GrainConfig
from server_decoder.grain.rrdb_decoder import RRDBDecoder


def run_source(checkpoint: Path, prior: str | Path | None = None) -> DecoderSource:
    """The averaged weights of a run: the decoder in evaluation mode, the encoder lowered to its integers.

    Args:
        checkpoint: the run's folder or checkpoint.
        prior: the generator's file or name, ignored if the run has none; None for the published one.

    Raises:
        EdgegrainError: the checkpoint is damaged, or the generator is missing or another one.
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

    Raises:
        EdgegrainError: the checkpoint is damaged, the generator is missing or another one, or one is given to a run
            without generator.
    """
    return load_run(checkpoint, recipe_prior(read_recipe(checkpoint), prior))


def run_folder(checkpoint: Path) -> Path:
    """The folder of a run, given by its folder or checkpoint."""
    return checkpoint_path(checkpoint).resolve().parent


def integer_encoder(run: GrainRun) -> IntegerNetwork:
    """The averaged encoder as integers; the box mean for a run without learned correction.

    Raises:
        BundleError: the encoder is the paper's float network.
    """
    encoder = run.average.encoder
    if isinstance(encoder, BoxMean):
        return box_network(encoder.hr, encoder.lr)
    if isinstance(encoder, EncoderTwin):
        return lower(encoder)
    raise BundleError("the encoder of this run is the paper's float network, which has no integers; publish the "
                      "run as a bundle, without --if-better, --trained-only and --encoder-of")


def encoder_part(run: GrainRun) -> EncoderPart:
    """The averaged encoder as the part of a bundle: its integers, or the paper's float network.

    Raises:
        ExportError: a bound of the exact encoder cannot be proven.
    """
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
