"""A missing optional library names the extra that installs it."""

from __future__ import annotations

import sys

import pytest

from codec_contract.errors import EdgegrainError, ExportError, needs_extra


@pytest.mark.parametrize("error", [EdgegrainError, ExportError])
def test_a_missing_module_names_its_extra(error: type[EdgegrainError], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    message = r"^exporting needs onnx, which is not installed; install: pip install 'edgegrain\[export\]'$"
    with pytest.raises(error, match=message) as raised, needs_extra("export", "exporting needs", error):
        import onnx  # noqa: F401
    assert raised.type is error
