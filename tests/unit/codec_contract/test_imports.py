"""The contract needs numpy and Pillow only; its errors have one base class, and name the extra that is missing."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

import codec_contract
from codec_contract import errors

FOLDER = Path(codec_contract.__file__).parent
MODULES = sorted(".".join(path.relative_to(FOLDER.parent).with_suffix("").parts) for path in FOLDER.rglob("[a-z]*.py"))


def run(code: str) -> str:
    return subprocess.check_output([sys.executable, "-c", code], text=True, cwd=FOLDER.parent)


def test_the_contract_needs_numpy_and_pillow_only() -> None:
    modules = run(
        "import importlib, json, sys\nbefore = set(sys.modules)\n"
        f"for name in {MODULES!r}: importlib.import_module(name)\n"
        "print(json.dumps(sorted({name.split('.')[0] for name in set(sys.modules) - before})))"
    )
    allowed = {"codec_contract", "numpy", "PIL", *sys.stdlib_module_names}
    # Compiled parts register their Cython runtime under names of their own; Pillow uses defusedxml if there.
    assert {name for name in json.loads(modules) if name not in allowed and "cython" not in name} <= {"defusedxml"}


def test_payloads_are_read_without_pillow() -> None:
    code = "import sys, codec_contract.payload, codec_contract.bundle.manifest; print('PIL' in sys.modules)"
    assert run(code).strip() == "False"


def test_one_base_class_catches_every_error() -> None:
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, Exception)]
    assert len(kinds) > 8 and all(issubclass(kind, errors.EdgegrainError) for kind in kinds)


@pytest.mark.parametrize("error", [errors.EdgegrainError, errors.ExportError])
def test_a_missing_module_names_its_extra(error: type[errors.EdgegrainError], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    message = r"^exporting needs onnx, which is not installed; install: pip install 'edgegrain\[export\]'$"
    with pytest.raises(error, match=message) as raised, errors.needs_extra("export", "exporting needs", error):
        import onnx  # noqa: F401
    assert raised.type is error
