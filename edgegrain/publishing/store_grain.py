"""Store the trained weights of a GRAIN run in a folder of the zoo.

`export.bundle.grain_bundle` makes a bundle of the folder and a generator, and a later run can start from it.
"""

from __future__ import annotations

from pathlib import Path
from typing import cast

from codec_contract.bundle.file_names import CODER_TABLES, ENCODER_WEIGHTS
from codec_contract.errors import EdgegrainError, ExistsError
from codec_contract.files import write_atomically
from edge_encoder.integer_network import save_integer_network
from edgegrain.pictures.progress import Progress
from edgegrain.publishing.fit_coder import fit_tables
from edgegrain.publishing.kept_parts import kept_decoder, kept_encoder
from edgegrain.publishing.publish_grain import CODER_PICTURES, encode
from edgegrain.publishing.run_source import integer_encoder, open_run, run_folder
from edgegrain.training.data import packed_pictures
from export.bundle.writer import tables_in
from export.decoder.sources import TRAINED
from server_decoder.grain.grain import Grain, GrainConfig
from server_decoder.grain.rrdb_decoder import RRDBDecoder
from server_decoder.grain.weights import save_trained


def store_trained(checkpoint: Path, folder: Path, prior: str | Path | None = None, *, data: Path | None = None,
                  exclude: tuple[str, ...] = (), encoder_of: Path | None = None, force: bool = False,
                  report: Progress | None = None) -> Path:
    """Write a run's trained weights, integer encoder and coder tables into a folder of the zoo.

    Weights are float16; those of a decoder without generator are int8 where they are large, as in its bundle.

    Args:
        checkpoint: the run's folder or checkpoint.
        folder: the folder to write, usually in ``zoo/``.
        prior: the generator's file or name, if the run has one.
        data: training pictures whose LRs the coder's tables are fitted to; None leaves the tables out, or those in the
            folder as they are.
        exclude: name patterns left out, as in training.
        encoder_of: folder of the bundle whose encoder and coder are taken.
        force: replace the files, and remove those that the run does not have.
        report: called while pictures are read and encoded.

    Raises:
        EdgegrainError: without ``data`` there are no tables for the step of the run's levels.
        BundleError: the run's encoder is not that of ``encoder_of``.
        ExistsError: the folder holds such files and ``force`` is false.
    """
    _refuse_to_replace(folder, force)
    run = open_run(checkpoint, prior)
    model, compact = run.average.decoder, run.recipe.stage == "1"
    if compact:
        model = _invertible_only(model.decoder if isinstance(model, Grain) else model)
    kept = kept_encoder(run, encoder_of) if encoder_of is not None else None
    network = integer_encoder(run) if run.recipe.correction and kept is None else None
    tables = None
    if data is None and kept is None and tables_in(folder).step != run.recipe.lr_step:
        raise EdgegrainError(f"the run's levels have a step of {run.recipe.lr_step}, which the coder's tables state; "
                             "pass the training pictures (--data), to which they are fitted")
    if data is not None and kept is None:
        pictures = packed_pictures(run_folder(checkpoint), data, exclude, run.recipe.encoder.hr, report)
        tables = fit_tables(encode(run.average, pictures, CODER_PICTURES, mirrored=True, report=report),
                            level_step=run.recipe.lr_step)
    folder.mkdir(parents=True, exist_ok=True)
    path = save_trained(cast(Grain, model), folder / TRAINED, history=run.stages, compact=compact, force=force)
    if kept is not None:
        for name in (ENCODER_WEIGHTS, CODER_TABLES):
            write_atomically(folder / name, kept.open_file(name), force=force)
        return path
    if network is not None:
        save_integer_network(network, folder / ENCODER_WEIGHTS, force=force)
    else:  # of a run that had an encoder
        (folder / ENCODER_WEIGHTS).unlink(missing_ok=True)
    if tables is not None:
        write_atomically(folder / CODER_TABLES, tables.to_json(), force=force)
    return path


def store_around(checkpoint: Path, folder: Path, decoder_of: Path, prior: str | Path | None = None, *,
                 force: bool = False) -> Path:
    """Write the codes and the fusion of a run that was trained around the decoder of a bundle into a folder of the zoo.

    The file names the bundle, whose encoder, coder and invertible decoder are used. Large weights are int8.

    Args:
        checkpoint: the run's folder or checkpoint.
        folder: the folder to write, usually in ``zoo/``.
        decoder_of: folder of the bundle whose encoder and invertible decoder the run kept.
        prior: the generator's file or name.
        force: replace the files, and remove encoder and tables of another run.

    Raises:
        BundleError: encoder or decoder are not those of ``decoder_of``.
        ExistsError: the folder holds such files and ``force`` is false.
    """
    _refuse_to_replace(folder, force)
    run = open_run(checkpoint, prior)
    kept = kept_decoder(run, decoder_of)
    folder.mkdir(parents=True, exist_ok=True)
    path = save_trained(cast(Grain, run.average.decoder), folder / TRAINED, history=run.stages, kept=kept,
                        compact=True, force=force)
    for name in (ENCODER_WEIGHTS, CODER_TABLES):  # of another decoder, in place of which the bundle's count now
        (folder / name).unlink(missing_ok=True)
    return path


def _refuse_to_replace(folder: Path, force: bool) -> None:
    """Raise `ExistsError` before the work, which takes minutes."""
    for name in (TRAINED, ENCODER_WEIGHTS, CODER_TABLES):
        if (folder / name).exists() and not force:
            raise ExistsError(folder / name)


def _invertible_only(decoder: RRDBDecoder) -> Grain:
    """GRAIN without generator, codes and fusion ([GRAIN] Table 2)."""
    model = Grain(GrainConfig(decoder.config))
    model.decoder.load_state_dict(decoder.state_dict())
    return model
