"""Folders of weights that no bundle can hold: IRN-Color and IRN-Compression.

A bundle sends an LR without loss. IRN-Color has no LR, its grey picture is as large as the picture; the JPEG restorer
of IRN-Compression expects an LR with the errors of JPEG. `server_decoder.irn.pictures` runs both.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from codec_contract.bundle.file_names import IRN_WEIGHTS, MODEL_CARD
from codec_contract.errors import ExistsError, ModelError
from codec_contract.files import replace_folder, write_atomically
from export.bundle.card import bundle_card
from export.bundle.licences import AUTHORS
from export.checkpoints.checkpoint_bundles import training_record
from export.checkpoints.irn_compression import IRNCompressionCheckpoint
from export.checkpoints.tensor_map import TensorMap
from server_decoder.irn.color import IRNColor
from server_decoder.irn.weights import (
    IRN_COLOR_WEIGHTS,
    JPEG_RESTORER_WEIGHTS,
    save_irn,
    save_irn_color,
    save_jpeg_restorer,
)

_USE = "## Use"
_NO_BUNDLE = "This folder is no bundle: `edgegrain compress` and `edgegrain restore` do not take it."
_COLOR_CALLS = f"""```python
import numpy as np
from PIL import Image

from server_decoder.irn.pictures import colorize, decolorize
from server_decoder.irn.weights import load_irn_color

network = load_irn_color("{IRN_COLOR_WEIGHTS}")
grey = decolorize(network, np.asarray(Image.open("photo.png").convert("RGB")))   # uint8 [H, W]
Image.fromarray(grey).save("grey.png")                                           # without loss
picture = colorize(network, np.asarray(Image.open("grey.png")))                  # uint8 [H, W, 3]
```"""
_COMPRESSION_CALLS = f"""```python
import numpy as np
from PIL import Image

from server_decoder.irn.pictures import downscale, restore_lr, upscale
from server_decoder.irn.weights import load_irn, load_jpeg_restorer

irn, restorer = load_irn("{IRN_WEIGHTS}"), load_jpeg_restorer("{JPEG_RESTORER_WEIGHTS}")
lr = downscale(irn, np.asarray(Image.open("photo.png").convert("RGB")))          # uint8 [H / 2, W / 2, 3]
Image.fromarray(lr).save("lr.jpg", quality=90)                                   # the quality of CRM_x2_q90.pth
picture = upscale(irn, restore_lr(restorer, np.asarray(Image.open("lr.jpg"))))   # uint8 [H, W, 3]
```"""


def refuse_to_replace_weights(folder: Path, force: bool) -> None:
    """Refuse to write weights into a folder; called before the work.

    Raises:
        ExistsError: the folder exists and ``force`` is false.
        ModelError: it exists and is no folder, or holds files that are not of such a folder, a bundle's for example.
    """
    if not folder.exists():
        return
    if not force:
        raise ExistsError(folder)
    if not folder.is_dir():
        raise ModelError(f"{folder} is no folder, so it is not replaced; choose another name")
    known = {IRN_WEIGHTS, IRN_COLOR_WEIGHTS, JPEG_RESTORER_WEIGHTS, MODEL_CARD}
    if others := sorted(path.name for path in folder.iterdir() if path.name not in known):
        raise ModelError(f"{folder} holds {others[0]}{', ...' if len(others) > 1 else ''}, which would be lost, so it "
                         "is not replaced; move such files away, or choose another name")


def write_irn_color(network: IRNColor, tensor_map: TensorMap, folder: Path, *, force: bool = False) -> None:
    """Write ``irn_color.safetensors``, float32, and a README.md with licence and calls; complete or not at all.

    Raises:
        ModelError: a weight is not finite; as `refuse_to_replace_weights`.
        ExistsError: the folder exists and ``force`` is false.
    """
    training = training_record([tensor_map])
    card = bundle_card(
        folder.resolve().name, "A photograph as a grey picture of the same size and back, by invertible decolorization "
        "(IRN-Color).", training, AUTHORS["irn"], [_USE, _NO_BUNDLE, _COLOR_CALLS],
        caveat="The grey picture must be stored without loss. Colours that it does not hold are plausible, not "
               "evidence.")
    with _complete_or_absent(folder, card, force) as staging:
        save_irn_color(network, staging / IRN_COLOR_WEIGHTS, training=training, dtype=torch.float32)


def write_irn_compression(checkpoint: IRNCompressionCheckpoint, folder: Path, *, force: bool = False) -> None:
    """Write ``irn.safetensors`` and ``jpeg_restorer.safetensors``, float32, and a README.md with licence and calls.

    Errors as in `write_irn_color`.
    """
    irn_record, restorer_record = (training_record([tensor_map]) for tensor_map in checkpoint.tensor_maps)
    factor = checkpoint.irn.config.factor
    card = bundle_card(
        folder.resolve().name, f"Photographs of any size, {factor} times smaller on each side and back, by invertible "
        "rescaling (IRN), and a network that restores LRs that went through JPEG (IRN-Compression).",
        training_record(checkpoint.tensor_maps), AUTHORS["irn"], [
            _USE, f"{_NO_BUNDLE} `edgegrain convert --from irn` makes a bundle of the rescaler's checkpoint, whose "
            "payloads hold the LR without loss and need no restoration.", _COMPRESSION_CALLS])
    with _complete_or_absent(folder, card, force) as staging:
        save_irn(checkpoint.irn, staging / IRN_WEIGHTS, training=irn_record, dtype=torch.float32)
        save_jpeg_restorer(checkpoint.restorer, staging / JPEG_RESTORER_WEIGHTS, training=restorer_record,
                           dtype=torch.float32)


@contextmanager
def _complete_or_absent(folder: Path, card: str, force: bool) -> Iterator[Path]:
    """A folder with the card for the caller to fill, which takes the place of ``folder`` at the end of the block."""
    refuse_to_replace_weights(folder, force)
    folder = folder.resolve()  # a link stays
    folder.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as temporary:
        staging = Path(temporary) / folder.name
        staging.mkdir()
        write_atomically(staging / MODEL_CARD, card.encode())
        yield staging
        replace_folder(staging, folder)
