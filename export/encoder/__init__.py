"""Export of one encoder to several formats; what a format needs is imported when it is written."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from codec_contract.errors import ExportError
from codec_contract.files import write_atomically
from edge_encoder.integer_network import IntegerNetwork, prove_bound
from export.encoder.graph import FORMATS, EncoderGraph, TfliteConverter, exact_graph


def export_encoder(
    encoder: IntegerNetwork | EncoderGraph,
    out_dir: str | Path,
    formats: Sequence[str] = tuple(FORMATS),
    tflite_converter: TfliteConverter = TfliteConverter.direct,
    progress: Callable[[str], None] = lambda name: None,
) -> dict[str, Path]:
    """Write an integer network, whose bounds are proven first, or a graph in several formats; returns format -> path.

    ``progress`` is called with every file's name before it is written. Existing files are refused.
    """
    require_formats(formats)
    if isinstance(encoder, IntegerNetwork):
        prove_bound(encoder)
        encoder = exact_graph(encoder)
    Path(out_dir).mkdir(parents=True, exist_ok=True)
    paths = {kind: Path(out_dir) / FORMATS[kind] for kind in FORMATS if kind in formats}
    for kind, path in paths.items():
        progress(path.name)
        if kind == "tflite":
            from export.encoder.tflite_converters import converted

            write_atomically(path, converted(encoder, tflite_converter))
        elif kind == "coreml":
            from export.encoder.coreml import write_coreml

            write_coreml(encoder, path)
        else:
            from export.encoder.onnx import onnx_model

            write_atomically(path, onnx_model(encoder).SerializeToString())
    return paths


def require_formats(formats: Sequence[str]) -> None:
    """Refuse unknown formats, and none."""
    unknown = sorted(set(formats) - set(FORMATS))
    if unknown or not formats:
        raise ExportError(f"unknown format {', '.join(unknown) or '(none)'}; choose from {', '.join(FORMATS)}")


def parse_formats(text: str) -> tuple[str, ...]:
    """The formats of a comma-separated list such as ``"tflite, onnx"``."""
    formats = tuple(part.strip() for part in text.split(",") if part.strip())
    require_formats(formats)
    return formats
