"""Checkpoints of other projects: tensors are read, program code is refused."""

from __future__ import annotations

import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

from codec_contract.errors import ModelError
from edgegrain.papers.tensor_map import read_tensors


def test_reads_nested_tensors_by_name(tmp_path: Path) -> None:
    path = tmp_path / "plain.pt"
    torch.save({"net": {"weight": torch.ones(2), "steps": 3}, "bias": torch.zeros(1)}, path)
    assert {name: list(tensor) for name, tensor in read_tensors(path).items()} == {"net.weight": [1, 1], "bias": [0]}


class Harm:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder: Path) -> None:
        self.folder = str(folder)

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, (self.folder,)


@pytest.mark.parametrize(("kind", "reason"), [
    ("archive", r"contains program code \(posix\.mkdir\) and was refused"),
    ("legacy", r"contains program code \(posix\.mkdir\) and was refused"),
    (2, r"contains program code \(posix\.mkdir\) and was refused"),
    (4, "is a pickle that can contain program code and was refused"),
])
def test_program_code_is_refused_without_advice_to_run_it(kind: str | int, reason: str, tmp_path: Path) -> None:
    path, content = tmp_path / "weights.pkl", {"weight": Harm(tmp_path / "harm")}
    if isinstance(kind, int):
        path.write_bytes(pickle.dumps(content, protocol=kind))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=kind == "archive")
    with pytest.raises(ModelError, match=reason) as refusal:
        read_tensors(path)
    assert "weights_only" not in str(refusal.value) and "trusted" not in str(refusal.value)
    assert not (tmp_path / "harm").exists()


def test_other_files_are_named_for_what_they_are(tmp_path: Path) -> None:
    whole, cut, text = (tmp_path / name for name in ("whole.pt", "cut.pt", "text.pt"))
    empty, absent = tmp_path / "empty.pt", tmp_path / "absent.pt"
    torch.save({"weight": torch.ones(2)}, whole)
    cut.write_bytes(whole.read_bytes()[:-80])
    text.write_text("hello")
    empty.touch()
    for path, reason in ((cut, "failed reading zip archive"), (text, "damaged, or no torch file"),
                         (empty, "the file is empty"), (absent, "No such file or directory")):
        with pytest.raises(ModelError, match=reason):
            read_tensors(path)


def test_no_more_is_read_than_the_file_has(tmp_path: Path) -> None:
    plain, packed, repeated = tmp_path / "plain.pt", tmp_path / "packed.pt", tmp_path / "repeated.pt"
    torch.save({"weight": torch.zeros(1_000_000)}, plain)
    with zipfile.ZipFile(plain) as archive, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as deflated:
        for name in archive.namelist():
            deflated.writestr(name, archive.read(name))
    torch.save({"weight": torch.zeros(1).expand(1 << 40)}, repeated)
    assert read_tensors(plain)["weight"].shape == (1_000_000,) and packed.stat().st_size < 10_000
    for path in (packed, repeated):
        with pytest.raises(ModelError, match="claims .* bytes of tensors and has .*; it is damaged or forged"):
            read_tensors(path)
