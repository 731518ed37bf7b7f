"""Weight files of GLEAN and GCFSR, and folders of the zoo from their runs."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from codec_contract.errors import BundleError, EdgegrainError, ModelError
from codec_contract.lr_coder.coder_tables import CoderTables
from edgegrain.papers.face_sr import bundle as store_face_sr
from edgegrain.papers.face_sr.bundle import load_face_sr, read_config, read_training, save_face_sr, store
from edgegrain.papers.gcfsr.network import GCFSR
from edgegrain.papers.glean.network import GLEAN, GLEANConfig
from server_decoder.generative_prior import prior_digest
from server_decoder.grain.grain import PriorConfig
from server_decoder.prior_store import load_prior
from server_decoder.stylegan2.networks import TINY_64
from server_decoder.weight_file import read_header
from tests.face_sr import GCFSR_TINY, TRAINING, store_gcfsr, store_glean
from tests.face_sr import GLEAN_TINY as STORED_GLEAN
from tests.unit.edgegrain.conftest import same

GLEAN_TINY = GLEANConfig(PriorConfig("stylegan2", TINY_64), 16, rrdb=1, width=8, growth=4, head=8, widest=8)


def test_glean_is_restored_around_its_bank(tmp_path: Path) -> None:
    network = GLEAN(GLEAN_TINY).eval()
    bank = {f"prior.{name}": tensor for name, tensor in network.prior.state_dict().items()}
    network.load_state_dict({name: tensor.half() for name, tensor in network.state_dict().items()} | bank)
    path = save_face_sr(network, tmp_path / "glean.safetensors", {"pictures": 3})
    assert not any(name.startswith("prior.") for name in load_file(path))
    assert read_header(path)["bank_sha256"] == prior_digest(network.prior)
    lr = torch.rand(2, 3, 16, 16) * 2 - 1
    with torch.no_grad():
        # Two builds: other rounding.
        torch.testing.assert_close(load_face_sr(path, network.prior)(lr), network(lr), atol=1e-5, rtol=1e-4)
    assert read_config(path) == GLEAN_TINY and read_training(path) == {"pictures": 3}
    with pytest.raises(ModelError, match="trained with the bank"):
        load_face_sr(path, GLEAN_TINY.prior.build())


def test_gcfsr_is_restored_in_half_precision(tmp_path: Path) -> None:
    network = GCFSR(GCFSR_TINY).eval()
    path = save_face_sr(network, tmp_path / "gcfsr.safetensors", {})
    assert read_config(path) == GCFSR_TINY and read_training(path) == {}
    assert same(load_face_sr(path), network.half().float())


@pytest.mark.parametrize("lr", [6, 16])
def test_gcfsr_takes_lrs_that_it_was_trained_for(lr: int) -> None:
    with pytest.raises(BundleError, match=f"1 to 8 pixels wide, a power of two, got {lr}"):
        store_face_sr.sizes(GCFSR_TINY, lr)


def test_files_of_something_else_are_refused(tmp_path: Path) -> None:
    save_file(GCFSR(GCFSR_TINY).state_dict(), tmp_path / "plain.safetensors")
    for read in (load_face_sr, read_config):
        with pytest.raises(ModelError, match="holds no GLEAN and no GCFSR"):
            read(tmp_path / "plain.safetensors")


def test_a_gcfsr_is_stored_in_eight_bits(tmp_path: Path) -> None:
    run = store_gcfsr(tmp_path / "run")
    path = store(run, tmp_path / "zoo")
    assert path == tmp_path / "zoo" / "gcfsr.safetensors"
    assert read_training(path) == TRAINING
    picture = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(2)) * 2 - 1
    with torch.no_grad():
        before, after = (load_face_sr(each)(picture, torch.full((1,), 0.25)) for each in (run / path.name, path))
    assert (before - after).abs().max() < 0.05 * before.abs().max()
    assert not (tmp_path / "zoo" / "coder.json").exists()


def test_tables_stay_as_they_are_unless_others_are_fitted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, tables = store_gcfsr(tmp_path / "run"), tmp_path / "zoo" / "coder.json"
    tables.parent.mkdir()
    tables.write_bytes(b"kept")
    monkeypatch.setattr(store_face_sr, "fit_reduction_tables", lambda *_, **__: pytest.fail("fitted in vain"))
    with pytest.raises(FileExistsError, match=r"coder\.json exists"):
        store(run, tables.parent, data=tmp_path)
    assert list(tables.parent.iterdir()) == [tables]
    assert store(run, tables.parent).is_file() and tables.read_bytes() == b"kept"
    monkeypatch.undo()
    with pytest.raises(EdgegrainError, match="no pictures"):
        store(run, tables.parent, data=tables.parent, force=True)
    assert tables.read_bytes() == b"kept"


def test_a_glean_keeps_its_bank_outside(tmp_path: Path) -> None:
    run, bank = store_glean(tmp_path / "run")
    path = store(run, tmp_path / "zoo", prior=bank)
    prior = load_prior(bank, STORED_GLEAN.prior.network, size=STORED_GLEAN.prior.size)
    lr = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(2)) * 2 - 1
    with torch.no_grad():
        before, after = load_face_sr(run / path.name, prior)(lr), load_face_sr(path, prior)(lr)
    assert (before - after).std() < 0.1 * before.std()


def test_tables_are_fitted_to_the_reductions_of_training_pictures(faces: Path, tmp_path: Path) -> None:
    path = store_glean(tmp_path / "run")[0] / "glean.safetensors"
    tables, again = (store_face_sr.fit_reduction_tables(path, faces, ("p1*",), count=4, steps=8) for _ in range(2))
    assert tables.to_json() == again.to_json() != CoderTables.default().to_json()
