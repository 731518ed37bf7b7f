"""From a run of GLEAN or GCFSR to the zoo: compact weights, fitted tables, and a bundle can be made of both."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from codec_contract.errors import EdgegrainError
from codec_contract.lr_coder.coder_tables import CoderTables
from edgegrain.papers.face_sr import bundle as store_face_sr
from edgegrain.papers.face_sr.bundle import fit_reduction_tables, load_gcfsr, load_glean, read_training, store
from edgegrain.pictures.packed import random_pictures
from server_decoder.prior_store import load_prior
from tests.face_sr import GLEAN_TINY, TRAINING, store_gcfsr, store_glean


def test_a_gcfsr_is_stored_with_the_tables_that_are_named(tmp_path: Path) -> None:
    run = store_gcfsr(tmp_path / "run")
    path = store(run, tmp_path / "zoo")
    assert path == tmp_path / "zoo" / "gcfsr.safetensors"
    assert read_training(path) == TRAINING
    picture = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(2)) * 2 - 1
    with torch.no_grad():
        before, after = (load_gcfsr(each)(picture, torch.full((1,), 0.25)) for each in (run / path.name, path))
    assert (before - after).abs().max() < 0.05 * before.abs().max()
    assert not (tmp_path / "zoo" / "coder.json").exists()
    store(run, tmp_path / "zoo", coder=run / "coder.json", force=True)
    assert (tmp_path / "zoo" / "coder.json").read_bytes() == (run / "coder.json").read_bytes()


def test_tables_that_are_not_written_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, tables = store_gcfsr(tmp_path / "run"), tmp_path / "zoo" / "coder.json"
    tables.parent.mkdir()
    tables.write_bytes(b"kept")
    monkeypatch.setattr(store_face_sr, "fit_reduction_tables", lambda *_, **__: pytest.fail("fitted in vain"))
    for given in ({"coder": run / "coder.json"}, {"data": tmp_path}):
        with pytest.raises(FileExistsError, match=r"coder\.json exists"):
            store(run, tables.parent, **given)
    assert list(tables.parent.iterdir()) == [tables]
    path = store(run, tables.parent)
    with pytest.raises(FileExistsError, match=r"gcfsr\.safetensors exists"):
        store(run, tables.parent)
    assert path.is_file() and tables.read_bytes() == b"kept"


def test_a_damaged_file_of_tables_leaves_weights_and_tables_as_they_were(tmp_path: Path) -> None:
    zoo = tmp_path / "zoo"
    store(store_gcfsr(tmp_path / "old"), zoo, coder=tmp_path / "old" / "coder.json")
    before = {path: path.read_bytes() for path in zoo.iterdir()}
    run = store_gcfsr(tmp_path / "run", seed=1)
    (tmp_path / "empty").mkdir()
    (run / "coder.json").write_bytes(b"no tables")
    for given in ({"coder": run / "coder.json"}, {"data": tmp_path / "empty"}):
        with pytest.raises(EdgegrainError):
            store(run, zoo, force=True, **given)
    assert {path: path.read_bytes() for path in zoo.iterdir()} == before


def test_a_glean_keeps_its_bank_outside(tmp_path: Path) -> None:
    run, bank = store_glean(tmp_path / "run")
    path = store(run, tmp_path / "zoo", prior=bank)
    prior = load_prior(bank, GLEAN_TINY.prior.network, size=GLEAN_TINY.prior.size)
    lr = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(2)) * 2 - 1
    with torch.no_grad():
        before, after = load_glean(run / path.name, prior)(lr), load_glean(path, prior)(lr)
    assert (before - after).std() < 0.1 * before.std()
    with pytest.raises(FileExistsError):
        store(run, tmp_path / "zoo", prior=bank)


def test_tables_are_fitted_to_the_reductions_of_training_pictures(tmp_path: Path) -> None:
    run, _ = store_glean(tmp_path / "run")
    (tmp_path / "data").mkdir()
    for index, picture in enumerate(random_pictures(6, 64, seed=3)):
        Image.fromarray(np.asarray(picture)).save(tmp_path / "data" / f"{index}.png")
    tables = fit_reduction_tables(run, tmp_path / "data", exclude=("5*",), count=4, steps=8)
    assert isinstance(tables, CoderTables)
    assert tables.to_json() == fit_reduction_tables(run, tmp_path / "data", exclude=("5*",), count=4, steps=8).to_json()
    assert tables.to_json() != CoderTables.default().to_json()
