"""The check that the LR contract id in a bundle's manifest is that of its encoder, preprocessing and coder tables."""

from __future__ import annotations

from importlib.util import find_spec

from codec_contract.bundle.contract_id import lr_contract_id
from codec_contract.bundle.manifest import CODER_TABLES, ENCODER_WEIGHTS, Manifest
from codec_contract.errors import BundleError
from codec_contract.lr_coder.coder_tables import CoderTables
from edge_encoder.integer_network import integer_digest, load_integer_network


def check_contract_id(manifest: Manifest) -> bool:
    """Recompute a bundle's LR contract id and compare it with the manifest's.

    Returns:
        False if it cannot be recomputed: the bundle has a float encoder, or safetensors is not installed.
    """
    if ENCODER_WEIGHTS not in manifest.files or find_spec("safetensors") is None:
        return False
    network = load_integer_network(manifest.open_file(ENCODER_WEIGHTS))
    tables = CoderTables.from_json(manifest.open_file(CODER_TABLES))
    found = lr_contract_id(integer_digest(network), manifest.preprocessing, tables)
    if found != manifest.lr_contract_id:
        raise BundleError(
            f"the manifest of bundle {manifest.id} states LR contract {manifest.lr_contract_id.hex()}, but its "
            f"encoder, preprocessing and coder tables have {found.hex()}: its payloads would be taken for those of "
            "other bundles; export it again")
    return True
