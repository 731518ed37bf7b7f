"""``python -m export.server``: a bundle's decoder as ONNX for the server, compared with torch on real LRs.

    python -m export.server --bundle faces --out dist/server
    python -m export.server --bundle faces --out dist/server --weights float16
"""

from __future__ import annotations

import datetime
import enum
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import onnx
import onnxruntime
import torch
import typer
from torch import nn

from edge_encoder import integer_network as integer
from edgegrain.contract.bundle_paths import DEFAULT_BUNDLE, find_bundle
from edgegrain.contract.errors import BundleError, EdgegrainError, ExportError
from edgegrain.contract.files import write_atomically
from edgegrain.contract.manifest import Manifest, load_manifest
from edgegrain.contract.quantization import dequantize, quantize
from export.decoder_graph import INPUT, OUTPUT, decoder_graph, load_parameters, store_half
from export.inputs import find_pictures, make_inputs
from server_decoder.grain.rrdb_decoder import DecoderConfig, RRDBDecoder
from server_decoder.runtime import DecoderSession

# float32 graphs differ from torch only in the order of summation.
TOLERANCE = 1e-4


class Weights(enum.StrEnum):
    """How the decoder's weights are stored; it computes in float32 either way."""

    float32 = "float32"
    float16 = "float16"


@dataclass(frozen=True)
class Comparison:
    """An exported decoder beside its torch module.

    Attributes:
        lrs: LR pictures decoded by both.
        largest_difference: of output values in [-1, 1].
        differing_bytes: share of the restored pictures' bytes that differ (never by more than one level).
    """

    lrs: int
    largest_difference: float
    differing_bytes: float


def bundle_decoder(manifest: Manifest) -> RRDBDecoder:
    """The torch decoder of a bundle, its weights read back from the bundle's own ONNX file.

    Raises:
        BundleError: the manifest describes another kind of decoder, or the weights do not fit.
    """
    try:
        config = DecoderConfig.from_dict(manifest.decoder["architecture"])
        name = manifest.decoder["file"]
    except (KeyError, TypeError, ValueError) as error:
        raise BundleError(f"bundle {manifest.id} does not describe an RRDB decoder ({error})") from error
    decoder = RRDBDecoder(config)
    load_parameters(decoder, onnx.load_model_from_string(manifest.open_file(name)))
    return decoder.eval()


def real_lrs(manifest: Manifest, pictures: list[Path], count: int = 8) -> np.ndarray:
    """uint8 ``[count, lr, lr, 3]``: LRs that the bundle's encoder makes of pictures (and, failing those, patterns)."""
    network = integer.load(manifest.open_file("encoder.safetensors"))
    inputs = [item.picture for item in make_inputs(network.hr, count, network=network, pictures=pictures)]
    return integer.run_reference(network, np.stack(inputs))


def compare_decoder(model: bytes, decoder: nn.Module, lrs: np.ndarray) -> Comparison:
    """Decode ``lrs`` (uint8 ``[N, h, w, 3]``) as one batch with the exported graph and one by one with torch.

    Raises:
        ExportError: the outputs differ by more than `TOLERANCE`, or a picture by more than one level.
    """
    x = np.ascontiguousarray(dequantize(lrs.astype(np.float32)).transpose(0, 3, 1, 2))  # [N, 3, h, w]
    with torch.no_grad():
        expected = torch.cat([decoder(one[None]) for one in torch.from_numpy(x)]).numpy()
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    (exported,) = session.run([OUTPUT], {INPUT: x})
    difference = float(np.abs(exported - expected).max())
    if not difference <= TOLERANCE:  # also refuses NaN
        raise ExportError(f"the exported decoder differs from torch by {difference:g}, more than {TOLERANCE:g}")
    served = DecoderSession(model).decode(lrs).astype(np.int16)
    levels = np.abs(served - quantize(expected).transpose(0, 2, 3, 1))
    if levels.max() > 1:
        raise ExportError(f"a restored picture differs from torch's by {levels.max()} levels, more than 1")
    return Comparison(len(lrs), difference, float((levels > 0).mean()))


def export_decoder(decoder: nn.Module, lr: int, weights: Weights = Weights.float32) -> bytes:
    """The serialized ONNX graph of a decoder. With float16 storage, ``decoder``'s own weights are rounded too, so
    that a comparison with it is one of graphs, not of precisions."""
    if weights is Weights.float16:
        with torch.no_grad():
            for parameter in decoder.parameters():
                parameter.copy_(parameter.half().float())
    graph = decoder_graph(decoder, lr)
    graph = store_half(graph) if weights is Weights.float16 else graph
    return bytes(graph.SerializeToString())


def main(
    bundle: Annotated[str, typer.Option(help="Name or folder of the bundle.")] = DEFAULT_BUNDLE,
    out: Annotated[Path, typer.Option(help="Folder for decoder.onnx and decoder_report.json.")] = Path("dist"),
    weights: Annotated[Weights, typer.Option(help="Storage of the weights.")] = Weights.float32,
    pictures: Annotated[Path | None, typer.Option(help="Folder of pictures to compare on.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace files that exist.")] = False,
) -> None:
    """Write a bundle's decoder as ONNX and compare it with torch on real LRs."""
    try:
        manifest = load_manifest(find_bundle(bundle))
        decoder = bundle_decoder(manifest)
        model = export_decoder(decoder, manifest.lr, weights)
        comparison = compare_decoder(model, decoder, real_lrs(manifest, find_pictures(pictures)))
        report: dict[str, Any] = {
            "bundle": manifest.id, "weights": weights.value, "bytes": len(model),
            "date": datetime.date.today().isoformat(), "torch": torch.__version__, **asdict(comparison),
        }
        write_atomically(out / "decoder.onnx", model, force=force)
        write_atomically(out / "decoder_report.json", (json.dumps(report, indent=2) + "\n").encode(), force=force)
    except (EdgegrainError, FileExistsError) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from None
    typer.echo(f"{out / 'decoder.onnx'}: {len(model):,} bytes; largest difference from torch on {comparison.lrs} LRs "
               f"{comparison.largest_difference:.1e}, {comparison.differing_bytes:.2%} of bytes differ (by one level)")


if __name__ == "__main__":
    typer.run(main)
