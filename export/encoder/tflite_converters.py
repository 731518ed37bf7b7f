"""Converters from an encoder graph to a TFLite file. All files have the same interface; the proof compares any."""

from __future__ import annotations

import enum
from importlib import import_module
from pathlib import Path

from codec_contract.errors import ExistsError, ExportError
from codec_contract.files import write_atomically
from codec_contract.native_output import captured_stderr
from export.encoder.graph import EncoderGraph
from export.encoder.tflite_converted import finished
from export.encoder.tflite_emitter import tflite_bytes


class TfliteConverter(enum.StrEnum):
    """Program that writes the TFLite file."""

    direct = "direct"
    onnx2tf = "onnx2tf"
    tensorflow = "tensorflow"


def write_tflite(graph: EncoderGraph, path: str | Path, *, force: bool = False,
                 converter: TfliteConverter = TfliteConverter.direct) -> Path:
    """Convert and write the encoder; its signature ``serving_default`` maps ``image`` to ``lr``.

    Raises:
        ExportError: the converter is not installed, or cannot convert the graph.
        ExistsError: the file exists and ``force`` is false.
    """
    if Path(path).exists() and not force:  # before minutes of conversion, not after
        raise ExistsError(path)
    return write_atomically(path, converted(graph, converter), force=force)


def converted(graph: EncoderGraph, converter: TfliteConverter) -> bytes:
    """The TFLite file of a graph, as bytes. A converter's output is shown only if it fails.

    Raises:
        ExportError: the converter is not installed, or fails; the message has the end of its output.
    """
    if converter is TfliteConverter.direct:
        return tflite_bytes(graph)
    module = import_module(f"export.encoder.tflite_{converter.name}")
    with captured_stderr() as said:
        try:
            return finished(module.convert(graph), graph)
        except ExportError:
            raise
        except Exception as error:  # a failing pass may raise any exception
            raise ExportError(f"{converter} could not convert {graph.name}: {error}\n{said()[-2000:]}") from error
