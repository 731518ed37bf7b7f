"""Export of one encoder to several formats."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from codec_contract.errors import ExistsError, ExportError
from edge_encoder import bounds
from edge_encoder.integer_network import IntegerNetwork
from export.encoder.coreml_emitter import write_coreml
from export.encoder.graph import FORMATS, EncoderGraph, TfliteConverter, exact_graph
from export.encoder.onnx_emitter import write_onnx
from export.encoder.tflite_converters import write_tflite

_WRITERS: dict[str, Callable[..., Path]] = {"tflite": write_tflite, "coreml": write_coreml, "onnx": write_onnx}


def export_encoder(encoder: IntegerNetwork | EncoderGraph, out_dir: str | Path,
                   formats: Sequence[str] = tuple(FORMATS), force: bool = False,
                   progress: Callable[[str], None] | None = None,
                   tflite_converter: TfliteConverter = TfliteConverter.direct) -> dict[str, Path]:
    """Write an encoder in several formats.

    Args:
        encoder: the integer network (its bounds are proven first) or a graph.
        out_dir: folder for ``encoder.tflite``, ``encoder.mlpackage``, ``encoder.onnx``; created if missing.
        formats: some of ``tflite``, ``coreml``, ``onnx``.
        force: replace files that exist.
        progress: called with every file's name before it is written.
        tflite_converter: what writes ``encoder.tflite``.

    Returns:
        Format -> path.
    """
    require_formats(formats)
    if isinstance(encoder, IntegerNetwork):
        bounds.prove(encoder)
        encoder = exact_graph(encoder)
    paths = {kind: Path(out_dir) / FORMATS[kind] for kind in FORMATS if kind in formats}
    for path in paths.values():
        if path.exists() and not force:
            raise ExistsError(path)
    for kind, path in paths.items():
        if progress:
            progress(path.name)
        options = {"converter": tflite_converter} if kind == "tflite" else {}
        _WRITERS[kind](encoder, path, force=force, **options)
    return paths


def require_formats(formats: Sequence[str]) -> None:
    """Raise `ExportError` unless there is at least one format and all are known."""
    unknown = sorted(set(formats) - set(FORMATS))
    if unknown or not formats:
        raise ExportError(f"unknown format {', '.join(unknown) or '(none)'}; choose from {', '.join(FORMATS)}")


def parse_formats(text: str) -> tuple[str, ...]:
    """The formats of a comma-separated list such as ``"tflite, onnx"``; `ExportError` as of `require_formats`."""
    formats = tuple(part.strip() for part in text.split(",") if part.strip())
    require_formats(formats)
    return formats
