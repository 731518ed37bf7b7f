"""The contract needs numpy and Pillow only, and its errors have one base class."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import codec_contract
from codec_contract import errors

FOLDER = Path(codec_contract.__file__).parent
MODULES = sorted(".".join(path.relative_to(FOLDER.parent).with_suffix("").parts) for path in FOLDER.rglob("[a-z]*.py"))


def test_the_contract_needs_numpy_and_pillow_only() -> None:
    code = (
        "import importlib, json, sys\n"
        "before = set(sys.modules)\n"
        f"for name in {MODULES!r}: importlib.import_module(name)\n"
        "print(json.dumps(sorted({name.split('.')[0] for name in set(sys.modules) - before})))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=FOLDER.parent
    )
    allowed = {"codec_contract", "numpy", "PIL", *sys.stdlib_module_names}
    # Compiled parts register their Cython runtime under names of their own; Pillow uses defusedxml if there.
    foreign = {name for name in json.loads(result.stdout) if name not in allowed and "cython" not in name}
    assert foreign <= {"defusedxml"}


def test_payloads_are_read_without_pillow() -> None:
    code = "import sys, codec_contract.payload, codec_contract.bundle.manifest; print('PIL' in sys.modules)"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=FOLDER.parent
    )
    assert result.stdout.strip() == "False"


@pytest.mark.parametrize(
    "kind",
    [
        errors.PayloadError,
        errors.ImageError,
        errors.BundleError,
        errors.ExportError,
        errors.DeviceError,
        errors.ServiceError,
        errors.QuantizationError,
    ],
)
def test_one_base_class_catches_every_error(kind: Any) -> None:
    with pytest.raises(errors.EdgegrainError, match="what went wrong"):
        raise kind("what went wrong")


def test_every_module_says_what_it_is_for() -> None:
    assert all(path.read_text().startswith('"""') for path in FOLDER.rglob("*.py"))
