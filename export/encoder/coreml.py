"""The encoder as a Core ML program (iOS 16, macOS 13): an RGB picture in, ``lr`` int32 ``[1, 3, lr, lr]`` out.

Core ML takes no uint8 arrays. The input is an RGB image without scale or bias, so a CVPixelBuffer's bytes enter as
whole numbers 0...255; the output is an int32 array, so no pixel format or colour matching comes between the program
and the payload. Load it with ``MLModelConfiguration.computeUnits = .cpuOnly``: float16 arithmetic is not exact.

The exact encoder's weights are stored as int8 with a power of two per channel (``constexpr_affine_dequantize``, since
iOS 16); Core ML turns them back into the same float32 numbers.
"""

from __future__ import annotations

import json
import logging
import tempfile
import uuid
import warnings
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from codec_contract.errors import ExportError
from codec_contract.files import replace_folder
from codec_contract.onnx_runtime import captured_stderr
from edge_encoder.integer_network import INPUT
from export.encoder import graph as g
from export.encoder.graph import OUTPUT, EncoderGraph, int8_parts


def write_coreml(graph: EncoderGraph, path: Path) -> None:
    """Write the program as a package folder ``PATH.mlpackage``, complete or not at all, in place of an earlier one."""
    with captured_stderr() as said:
        coremltools = _coremltools()
        try:
            model = _convert(coremltools, graph)
        except Exception as error:  # a failing pass may raise any exception
            raise ExportError(f"coremltools could not convert {graph.name}: {error}\n{said()[-2000:]}") from error
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.stem}.") as folder:
        written = Path(folder) / path.name
        with captured_stderr():
            model.save(str(written))
        _make_reproducible(written)
        replace_folder(written, path)


def _make_reproducible(package: Path) -> None:
    """Name the package's parts by their path instead of at random, and make them readable for all."""
    manifest = package / "Manifest.json"
    document = json.loads(manifest.read_text())
    entries = document["itemInfoEntries"]
    names = {old: str(uuid.uuid5(uuid.NAMESPACE_URL, entry["path"])) for old, entry in entries.items()}
    document["itemInfoEntries"] = {names[old]: entry for old, entry in entries.items()}
    document["rootModelIdentifier"] = names[document["rootModelIdentifier"]]
    manifest.write_text(json.dumps(document, indent=4, sort_keys=True) + "\n")
    for file in package.rglob("*"):
        file.chmod(0o755 if file.is_dir() else 0o644)


def _convert(ct: Any, graph: EncoderGraph) -> Any:
    mb, types = ct.converters.mil.Builder, ct.converters.mil.mil.types
    shape = (1, 3, graph.hr, graph.hr)

    @mb.program(input_specs=[mb.TensorSpec(shape=shape, dtype=types.fp32)], opset_version=ct.target.iOS16)
    def program(image: Any) -> Any:
        return mb.cast(x=graph.run(image, partial(_operation, mb)), dtype="int32", name=OUTPUT)

    converted = ct.convert(
        program,
        convert_to="mlprogram",
        minimum_deployment_target=ct.target.iOS16,
        compute_precision=ct.precision.FLOAT32,
        compute_units=ct.ComputeUnit.CPU_ONLY,
        skip_model_load=True,
        inputs=[ct.ImageType(name=INPUT, shape=shape, color_layout=ct.colorlayout.RGB)],
        outputs=[ct.TensorType(name=OUTPUT, dtype=np.int32)],
    )
    converted.short_description = f"edgegrain encoder {graph.name}: RGB {graph.hr} x {graph.hr} to LR levels 0...255"
    converted.input_description[INPUT] = f"RGB picture, {graph.hr} x {graph.hr}"
    converted.output_description[OUTPUT] = f"LR levels 0...255, [1, RGB, {graph.lr}, {graph.lr}]"
    converted.user_defined_metadata.pop("com.github.apple.coremltools.conversion_date", None)
    return converted


def _operation(mb: Any, node: g.Node, inputs: list[Any]) -> Any:
    x, name = inputs[0], node.name.replace(".", "_")
    match node:
        case g.Conv():
            (top, left, bottom, right), weight = node.padding, node.weight
            if parts := int8_parts(weight):
                integers, scale, zeros = parts[0], parts[1].ravel(), np.zeros(len(weight), np.int8)
                stored: dict[str, Any] = {"quantized_data": integers, "zero_point": zeros, "scale": scale}
                weight = mb.constexpr_affine_dequantize(**stored, axis=np.int32(0), name=f"{name}_weight")
            layout: dict[str, Any] = {"strides": list(node.strides), "pad_type": "custom"}
            layout |= {"pad": [top, bottom, left, right], "groups": node.groups}
            return mb.conv(x=x, weight=weight, bias=node.bias, **layout, name=name)
        case g.Add() | g.Multiply():
            return (mb.add if isinstance(node, g.Add) else mb.mul)(x=x, y=inputs[1], name=name)
        case g.Floor() | g.Sigmoid() | g.Exp():  # mb has the same names
            return getattr(mb, type(node).__name__.lower())(x=x, name=name)
        case g.Clip():
            return mb.clip(x=x, alpha=0.0, beta=node.high, name=name)
        case g.Scale():
            y = mb.mul(x=x, y=np.float32(node.factor), name=f"{name}_scaled" if node.offset else name)
            return mb.add(x=y, y=np.float32(node.offset), name=name) if node.offset else y
        case g.LeakyRelu():
            return mb.leaky_relu(x=x, alpha=node.slope, name=name)
        case g.Concat():
            return mb.concat(values=inputs, axis=1, name=name)


def _coremltools() -> Any:
    """coremltools without its warnings about versions of packages that are not converted here."""
    logging.getLogger("coremltools").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            import coremltools
        except ImportError as error:
            raise ExportError(
                f"Core ML export needs coremltools ({error}); pip install 'edgegrain[export]' (up to "
                "Python 3.13), or leave it out with --formats tflite,onnx"
            ) from error
    return coremltools
