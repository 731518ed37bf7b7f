"""The LR contract id changes with everything that determines an LR's bytes, and with nothing else."""

from __future__ import annotations

import dataclasses
import hashlib
import json

import numpy as np
import pytest

from codec_contract.bundle.contract_id import canonical_json, lr_contract_id
from codec_contract.errors import EdgegrainError
from codec_contract.lr_coder.coder_tables import CoderTables

ENCODER = hashlib.sha256(b"encoder").digest()
PREPROCESSING = {"resize": "pillow-bilinear-22bit-width-first", "fit_default": "pad", "pad": "edge"}


def test_the_id_is_the_hash_of_the_written_record() -> None:
    tables = CoderTables.default()
    record = (
        '{"coder":"' + tables.digest().hex() + '","contract":"edgegrain LR contract 1","encoder":"' + ENCODER.hex()
        + '","preprocessing":{"fit_default":"pad","pad":"edge","resize":"pillow-bilinear-22bit-width-first"},'
        + '"quantization":"level = floor((value + 1) * 127.5 + 0.5) clipped to 0..255"}')
    assert lr_contract_id(ENCODER, PREPROCESSING, tables) == hashlib.sha256(record.encode()).digest()


def test_order_of_keys_does_not_matter() -> None:
    reordered = dict(reversed(PREPROCESSING.items()))
    tables = CoderTables.default()
    assert lr_contract_id(ENCODER, reordered, tables) == lr_contract_id(ENCODER, PREPROCESSING, tables)


def test_everything_that_fixes_the_bytes_changes_it() -> None:
    tables = CoderTables.default()
    first, second, third = tables.channels
    weight = third.output.weight.copy()
    weight[0, 0] += 1
    output = dataclasses.replace(third.output, weight=weight)
    nudged = CoderTables((first, second, dataclasses.replace(third, output=output)))
    ids = {
        lr_contract_id(ENCODER, PREPROCESSING, tables), lr_contract_id(ENCODER, PREPROCESSING, nudged),
        lr_contract_id(ENCODER, {**PREPROCESSING, "pad": "black"}, tables),
        lr_contract_id(bytes(32), PREPROCESSING, tables)}
    assert len(ids) == 4


def test_refusals() -> None:
    with pytest.raises(EdgegrainError, match="32 bytes, got 4"):
        lr_contract_id(b"abcd", PREPROCESSING, CoderTables.default())
    with pytest.raises(EdgegrainError, match="JSON"):
        lr_contract_id(ENCODER, {"pad": np.float32(1)}, CoderTables.default())


def test_canonical_json_is_ascii_and_compact() -> None:
    assert canonical_json({"b": "ä", "a": [1, True, None]}) == rb'{"a":[1,true,null],"b":"\u00e4"}'
    assert json.loads(canonical_json({"b": "ä"})) == {"b": "ä"}
