"""Graphs with the ops of ``com.edgegrain`` on onnx's reference evaluator: the ops as
`server_decoder.cuda_ops.reference` defines them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import onnx
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun

from codec_contract.pixels import dequantize, quantize
from server_decoder.cuda_ops import reference
from server_decoder.cuda_ops.library import DOMAIN

Results = tuple[np.ndarray, ...]


def run_reference_graph(model: onnx.ModelProto, feeds: Mapping[str, np.ndarray]) -> np.ndarray:
    """The first output; ops of ``com.edgegrain`` compute in float64 and round once."""
    found: Any = ReferenceEvaluator(model, new_ops=_OPS).run(None, dict(feeds))
    return np.asarray(found[0])


def _op(name: str, compute: Callable[..., Any], typed: bool = True) -> type[OpRun]:
    """The op; ``typed``: with results in the type of its first input."""
    def run(self: OpRun, *inputs: np.ndarray | None, **_: Any) -> Results:
        attributes = {item.name: onnx.helper.get_attribute_value(item) for item in self.onnx_node.attribute
                      if item.name != "channels_last"}  # always 1
        results = compute(*inputs, **{key: value.decode() if isinstance(value, bytes) else value
                                      for key, value in attributes.items()})
        results = results if isinstance(results, tuple) else (results,)
        if typed:
            results = tuple(part.astype(inputs[0].dtype) for part in results)
        # With one output, an op with a style gives the modulated result alone.
        return results if len(self.onnx_node.output) == 2 else results[-1:]

    return type(name, (OpRun,), {"op_domain": DOMAIN, "_run": run})


def _dense_block(x: np.ndarray, outer: np.ndarray | None, *parts: np.ndarray, **attributes: float) -> np.ndarray:
    half = len(parts) // 2
    return reference.dense_block(x, outer, parts[:half], parts[half:], **attributes)


def _dequantize(lr: np.ndarray, *, to: int) -> np.ndarray:
    return dequantize(lr.astype(np.float64)).astype(onnx.helper.tensor_dtype_to_np_dtype(to))


def _factors(style: np.ndarray, squares: np.ndarray | None = None, norm: np.ndarray | None = None, **attributes: Any
             ) -> Results:
    given: dict[str, Any] = {name: value for name, value in (("squares", squares), ("norm", norm)) if value is not None}
    return reference.modulation_factors(style, **given, **attributes)


_OPS = [
    _op("FusedConv", reference.fused_conv), _op("DenseBlock", _dense_block), _op("Upsample", reference.upsample),
    _op("ModulationFactors", _factors), _op("FilteredBiasAct", reference.filtered_bias_act),
    _op("UpFirDn2d", reference.upfirdn2d), _op("InverseHaar", reference.inverse_haar),
    _op("DequantizeLR", _dequantize, typed=False), _op("QuantizePicture", quantize, typed=False)]
