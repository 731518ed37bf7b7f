"""Payloads of earlier releases: their contracts are known by name and agree with the changelog."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from codec_contract.bundle.contract_id import lr_contract_id
from codec_contract.bundle.manifest import load_manifest
from codec_contract.bundle.paths import DEFAULT_BUNDLE
from codec_contract.errors import PayloadError
from codec_contract.lr_coder.coder_tables import CoderTables
from codec_contract.payload import encode_payload, parse_header, require_contract
from codec_contract.published_contracts import PUBLISHED, published_by
from edge_encoder.integer_network import integer_digest, load_integer_network
from sdk import inspect

ROOT = Path(__file__).resolve().parents[3]


def test_they_are_those_of_the_changelog() -> None:
    rows = re.findall(r"^\| (?:[\d.]+|next) \| [\d–-]+ \| (\S+) \| `([a-z0-9-]+)` ([\d.]+) \| `([0-9a-f]{8})` ",
                      (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert {contract for *_, contract in rows} == {name for name, one in PUBLISHED.items() if one.root == "bundles"}
    for commit, bundle, version, contract in rows:
        assert PUBLISHED[contract].bundles.startswith(bundle) and version in PUBLISHED[contract].bundles
        if version == PUBLISHED[contract].bundles.split()[-1] and commit != "–":
            assert commit == f"`{PUBLISHED[contract].commit}`"
    installed = load_manifest(ROOT / "bundles" / DEFAULT_BUNDLE)
    name, *versions = PUBLISHED[installed.lr_contract_id.hex()[:8]].bundles.split()
    assert (name, versions[-1]) == (installed.id, installed.version)


def test_those_of_the_zoo_are_known() -> None:
    preprocessing = load_manifest(ROOT / "bundles" / DEFAULT_BUNDLE).preprocessing
    folders = [path.parent for path in sorted((ROOT / "zoo").glob("*/encoder.safetensors"))]
    assert len(folders) >= 3
    for folder in folders:
        tables = CoderTables.from_json((folder / "coder.json").read_bytes())
        network = load_integer_network(folder / "encoder.safetensors")
        contract = lr_contract_id(integer_digest(network), preprocessing, tables)
        found = PUBLISHED[contract.hex()[:8]]
        assert (found.bundles.split()[0], found.commit, found.root) == (folder.name, "", "zoo")
        assert published_by(contract) == (
            f"that of {found.bundles} (folder zoo/{folder.name} of edgegrain; make the bundle with: edgegrain export "
            f"bundle zoo/{folder.name} --version {found.bundles.split()[-1]} --out bundles/{folder.name})")


def test_a_payload_of_an_earlier_release_says_where_its_bundle_is() -> None:
    contract = bytes.fromhex("cd03eaa6")
    payload = encode_payload(np.zeros((16, 16, 3), np.uint8), contract_id=contract, tables=CoderTables.default(),
                             original_size=(256, 256))
    where = "that of faces-256-lr16 0.4.0 (folder bundles/faces-256-lr16 of edgegrain's commit ee1dee6)"
    assert published_by(contract) == where and inspect(payload).published == where
    with pytest.raises(PayloadError, match=re.escape(f"LR contract cd03eaa6, {where}; available: none")):
        require_contract(parse_header(payload), [])
    assert published_by(bytes(4)) == ""
