"""A run's decoder and encoder, as evaluations and comparisons take them."""

from __future__ import annotations

from pathlib import Path

from edge_encoder.lowering import box_network, lower
from edge_encoder.twin import EncoderTwin
from edgegrain.training.grain.checkpoint import Run, load_run, read_config
from edgegrain.training.prior_files import load_prior
from export.decoder.sources import DecoderSource
from server_decoder.grain.grain import Grain, GrainConfig


def run_source(checkpoint: Path, prior: str | Path | None = None) -> DecoderSource:
    """The averaged weights of a run: the decoder in evaluation mode, the encoder lowered to its integers.

    Args:
        checkpoint: the run's folder or checkpoint.
        prior: the generator's file or name, if the run has one; None for the published one.

    Raises:
        EdgegrainError: the checkpoint is damaged, or the generator is absent or another.
    """
    config = read_config(checkpoint)
    has_prior = isinstance(config.decoder, GrainConfig) and config.decoder.prior is not None
    run = load_run(checkpoint, load_prior(config, prior) if has_prior else None)
    return source_of(run, checkpoint.name)


def source_of(run: Run, name: str) -> DecoderSource:
    """Likewise of a run that is loaded already."""
    encoder, decoder = run.average.encoder, run.average.decoder.eval()
    network = lower(encoder) if isinstance(encoder, EncoderTwin) else box_network(run.config.encoder)
    if isinstance(decoder, Grain) and run.config.stage == "1":  # it had the generator for its pictures
        decoder = decoder.decoder
    return DecoderSource(name, decoder, network)
