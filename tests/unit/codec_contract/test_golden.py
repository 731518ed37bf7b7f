"""The pinned bytes of the contract; a failure here means stored payloads or other clients would break."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from codec_contract.lr_coder.coder_tables import CoderTables
from codec_contract.oriented_square import OrientedSquare
from codec_contract.payload import encode_payload
from tests.golden import regenerate_contract
from tests.payload_bytes import decode_payload, version_1

GOLDEN = Path(__file__).resolve().parents[2] / "golden"
FOLDER = GOLDEN / "contract"
PAYLOADS = json.loads((FOLDER / "payloads.json").read_text())


def test_the_default_tables_are_the_pinned_ones() -> None:
    assert CoderTables.default().digest().hex() == PAYLOADS["tables_sha256"]


@pytest.mark.parametrize("case", PAYLOADS["payloads"], ids=lambda case: case["file"])
def test_stored_payloads_are_read_and_written_again(case: Any) -> None:
    """Those of version 1 are not written any more."""
    data = (FOLDER / case["file"]).read_bytes()
    contract_id = bytes.fromhex(PAYLOADS["contract_id"])
    tables = CoderTables.default()
    lr, header = decode_payload(data, contract_id=contract_id, tables=tables)
    assert [*header.lr_size, *header.original_size] == case["lr_size"] + case["original_size"]
    assert (header.version, header.coding, header.fit) == (case["version"], case["coding"], case["fit"])
    assert header.square == (OrientedSquare(*case["square"]) if case["square"] else None)
    assert hashlib.sha256(lr.tobytes()).hexdigest() == case["lr_sha256"]
    listed = {name: kind for name, kind, *_ in (*regenerate_contract.OLD_PAYLOADS, *regenerate_contract.PAYLOADS)}
    kind = listed[case["file"].removesuffix(".grain")]
    assert np.array_equal(lr, regenerate_contract.golden_lr(kind, *case["lr_size"]))
    claims = {"original_size": header.original_size, "fit": header.fit, "square": header.square}
    written = encode_payload(lr, contract_id=contract_id, tables=tables, coding=header.coding, **claims)
    assert (written if header.version == 2 else version_1(written, contract_id)) == data


def test_golden_files_are_computed_again() -> None:
    assert regenerate_contract.golden_files() == {path.name: path.read_bytes() for path in FOLDER.iterdir()}


def test_the_documented_examples_are_payloads() -> None:
    text = (GOLDEN.parents[1] / "docs" / "payload.md").read_text()
    lengths = []
    for example, fit, square in [(1, "pad", None), (2, "align", OrientedSquare(1280, 800, 800, 600))]:
        lines = [line[4:] for line in text.split("## Example")[example].splitlines() if line.startswith("    ")]
        # The hex digits of a line come before two spaces and what they mean.
        data = bytes.fromhex("".join(line.split("  ")[0] for line in lines))
        lr, header = decode_payload(data, contract_id=bytes.fromhex("3f1c"), tables=CoderTables.default())
        assert lr.reshape(-1, 3).tolist() == [[245, 65, 226], [214, 23, 153], [94, 11, 80], [19, 224, 67]]
        assert (header.original_width, header.original_height, header.fit) == (640, 480, fit)
        assert header.square == square and (square is None or square.side == 250)
        lengths.append(len(data))
    assert lengths == [25, 33]
