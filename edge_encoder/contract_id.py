"""The LR contract id: a hash over everything that determines the bytes of an LR and of its payload, and its check.

Bundles with the same id read each other's payloads. The decoder is deliberately not part of it, so that a better
decoder still reads stored payloads.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any

from codec_contract.bundle.manifest import ENCODER_WEIGHTS, Manifest
from codec_contract.errors import BundleError
from codec_contract.lr_coder.coder_tables import CoderTables
from edge_encoder.integer_network import integer_digest, load_integer_network


def lr_contract_id(encoder_digest: bytes, preprocessing: Mapping[str, Any], coder_tables: CoderTables) -> bytes:
    """The 32-byte id of an LR contract, of which a payload carries the first two bytes; `integer_digest` and the
    manifest's ``preprocessing`` object, JSON values without floats, say what the encoder computes."""
    record = {
        "contract": "edgegrain LR contract 1",
        "encoder": encoder_digest.hex(),
        "preprocessing": dict(preprocessing),
        "quantization": "level = floor((value + 1) * 127.5 + 0.5) clipped to 0..255",
        "coder": coder_tables.digest().hex(),
    }
    try:
        text = json.dumps(record, sort_keys=True, separators=(",", ":"), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise BundleError(f"the preprocessing record must be plain JSON: {error}") from None
    return hashlib.sha256(text.encode("ascii")).digest()


def check_contract_id(manifest: Manifest) -> bool:
    """Recompute a bundle's LR contract ids and compare them with the manifest's; False if they cannot be recomputed:
    the bundle has a float encoder, or safetensors is not installed."""
    if ENCODER_WEIGHTS not in manifest.files or find_spec("safetensors") is None:
        return False
    network = load_integer_network(manifest.open_file(ENCODER_WEIGHTS))
    digest = integer_digest(network)
    for rate in manifest.rates:
        tables = CoderTables.from_json(manifest.open_file(rate.coder))
        found = lr_contract_id(digest, manifest.preprocessing, tables)
        if found != rate.lr_contract_id:
            stated = f"the manifest of bundle {manifest.id} states LR contract {rate.lr_contract_id.hex()}"
            problem = f"{stated}, but its encoder, preprocessing and coder tables have {found.hex()}"
            raise BundleError(f"{problem}: its payloads would be taken for those of other bundles; export it again")
    return True
