"""TFLite's file format, through the schema that LiteRT ships."""

from __future__ import annotations

from typing import Any

from codec_contract.errors import ExportError

SIGNATURE = "serving_default"
PER_CHANNEL_DEQUANTIZE = 5
"""The version of DEQUANTIZE that takes a scale per channel."""
MIN_RUNTIME = b"2.7.0".ljust(16, b"\0")
"""The first TensorFlow Lite with that version, as files state it."""


def tflite_schema() -> Any:
    """The module with the format's classes.

    Raises:
        ExportError: LiteRT is not installed.
    """
    try:
        from ai_edge_litert import schema_py_generated
    except ImportError as error:
        raise ExportError(f"TFLite export needs LiteRT ({error}); pip install 'edgegrain[export]'") from error
    return schema_py_generated


def unpack(flatbuffer: bytes) -> Any:
    """The file as the schema's ``ModelT``."""
    return tflite_schema().ModelT.InitFromPackedBuf(flatbuffer, 0)


def pack(model: Any) -> bytes:
    """The schema's ``ModelT`` as a file."""
    import flatbuffers

    builder = flatbuffers.Builder(1 << 20)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())
