"""The LR contract id: a hash over everything that determines the bytes of an LR and of its payload.

Bundles with the same id read each other's payloads. The decoder is deliberately not part of it, so that a better
decoder still reads stored payloads.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from codec_contract.errors import BundleError
from codec_contract.lr_coder.coder_tables import CoderTables

QUANTIZATION_RULE = "level = floor((value + 1) * 127.5 + 0.5) clipped to 0..255"


def canonical_json(value: Any) -> bytes:
    """JSON with sorted keys, no spaces, ASCII only, no NaN: the same bytes for equal values."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode("ascii")


def lr_contract_id(encoder_digest: bytes, preprocessing: Mapping[str, Any], coder_tables: CoderTables) -> bytes:
    """The 32-byte id of an LR contract; a payload carries its first four bytes.

    Args:
        encoder_digest: 32 bytes, ``edge_encoder.integer_network.integer_digest`` of the integer network.
        preprocessing: the manifest's ``preprocessing`` object (JSON values, no floats needed).
        coder_tables: the tables the body is coded with.
    """
    if len(encoder_digest) != 32:
        raise BundleError(f"the encoder digest has 32 bytes, got {len(encoder_digest)}")
    record = {
        "contract": "edgegrain LR contract 1",
        "encoder": encoder_digest.hex(),
        "preprocessing": dict(preprocessing),
        "quantization": QUANTIZATION_RULE,
        "coder": coder_tables.digest().hex(),
    }
    try:
        text = canonical_json(record)
    except (TypeError, ValueError) as error:
        raise BundleError(f"the preprocessing record must be plain JSON: {error}") from None
    return hashlib.sha256(text).digest()
