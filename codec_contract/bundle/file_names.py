"""Names of the files in a bundle's folder."""

from __future__ import annotations

from typing import Final

MANIFEST: Final = "manifest.json"
CODER_TABLES: Final = "coder.json"
ENCODER_ONNX: Final = "encoder.onnx"
ENCODER_TFLITE: Final = "encoder.tflite"
ENCODER_COREML: Final = "encoder.mlpackage"
"""A folder; the manifest lists the files in it."""
ENCODER_WEIGHTS: Final = "encoder.safetensors"
"""The integer network that the three exported encoders are made from."""
IRN_WEIGHTS: Final = "irn.safetensors"
"""The network of both directions in bundles of IRN, in folders of runs and in the zoo."""
RRDB_ENCODER_WEIGHTS: Final = "rrdb_encoder.safetensors"
"""The float encoder of converted GRAINs, in place of `ENCODER_WEIGHTS`."""
DECODER_ONNX: Final = "decoder.onnx"
"""The usual name; the manifest's ``decoder.file`` says which one a bundle has."""
GOLDEN: Final = "golden.json"
"""Inputs of the encoder and the SHA-256 of their LRs."""
MODEL_CARD: Final = "README.md"
SHARED: Final = "shared"
"""A folder next to those of bundles, with files that several of them have, named by their SHA-256."""
