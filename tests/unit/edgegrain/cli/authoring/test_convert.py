"""``edgegrain convert``: bundles and priors that work, from files in the authors' layouts."""

from pathlib import Path
from typing import Any, get_args

import numpy as np
import onnxruntime
import pytest
import torch
from safetensors.torch import load

import sdk
from codec_contract.bundle.manifest import verify_bundle
from edgegrain.cli.authoring.papers import Source
from edgegrain.papers.convert import AUTHORS, SOURCES
from edgegrain.papers.face_sr.checkpoints import load_gcfsr_checkpoint
from edgegrain.papers.gcfsr.network import GCFSRUpscaler
from edgegrain.papers.irn import bundle as irn_bundle
from export.decoder.export import bundle_decoder
from export.decoder.graph import round_weights
from server_decoder.prior_store import load_prior
from tests.official_checkpoints import gcfsr_file, glean_file, grain_files, irn_state, irn_x3_state
from tests.unit.edgegrain.cli.conftest import Shell
from tests.unit.edgegrain.conftest import same
from tests.unit.edgegrain.papers.stylegan import test_checkpoints as checkpoints


@pytest.fixture
def shell(capsys: pytest.CaptureFixture[str]) -> Shell:
    return Shell(capsys, "convert", "--from")


def converted(shell: Shell, folder: Path, source: str, files: dict[str, Any], *options: object) -> tuple[Path, Any]:
    for name, content in files.items():
        torch.save(content, folder / name)
    out = folder / f"{source}-bundle"
    return out, shell.json(source, *(folder / name for name in files), "--out", out, *options)


def there_and_back(bundle: Path, size: tuple[int, int]) -> np.ndarray:
    picture = np.random.default_rng(0).integers(0, 256, (*size[::-1], 3), np.uint8)
    codec = sdk.Codec(bundle)
    restored = codec.restore(codec.compress(picture, align=False))
    assert restored.size == size
    return np.asarray(restored)


def test_grain(shell: Shell, tmp_path: Path) -> None:
    bundle, report = converted(shell, tmp_path, "grain", grain_files())
    manifest = verify_bundle(bundle)
    assert (manifest.codec, manifest.hr, manifest.lr, manifest.encoder["exact"]) == ("grain", 64, 16, False)
    assert [entry["file"] for entry in manifest.training["converted_from"]] == list(grain_files())
    assert there_and_back(bundle, (50, 40)).std() > 0
    assert report["decoder_beside_torch"]["largest_difference"] < 1e-4
    assert report["files"][2]["names"]["state_dict3.se4.fc1.weight"] == "fusion.attention.squeeze.weight"
    decoder = bundle_decoder(manifest)  # what the export kept
    assert decoder.config.fusion.base == "none"  # type: ignore[union-attr]


@pytest.fixture
def small_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(irn_bundle, "TILE", 64)
    monkeypatch.setattr(irn_bundle, "TILE_OVERLAP", 16)


@pytest.mark.usefixtures("small_tiles")
def test_irn(shell: Shell, tmp_path: Path) -> None:
    bundle, report = converted(shell, tmp_path, "irn", {"IRN_x4.pth": irn_state((1, 1))})
    manifest = verify_bundle(bundle)
    assert (manifest.codec, manifest.factor, manifest.licence) == ("irn", 4, AUTHORS["irn"])
    assert report["source"] == "irn"
    assert there_and_back(bundle, (70, 33)).std() > 0
    assert "operations.0.haar_weights" in report["files"][0]["unused"]


@pytest.mark.usefixtures("small_tiles")
def test_irn_plus_of_3x(shell: Shell, tmp_path: Path) -> None:
    bundle, report = converted(shell, tmp_path, "irn-plus", {"IRN_x3.pth": irn_x3_state()})
    manifest = verify_bundle(bundle)
    assert (report["source"], manifest.codec, manifest.licence) == ("irn-plus", "irn_plus", AUTHORS["irn"])
    assert (manifest.factor, manifest.hr, manifest.tile_overlap) == (3, 63, 5)
    assert there_and_back(bundle, (70, 33)).std() > 0


def test_glean(shell: Shell, tmp_path: Path) -> None:
    bundle, report = converted(shell, tmp_path, "glean", {"glean.pth": glean_file()}, "--domain", "cats")
    manifest = verify_bundle(bundle)
    assert (manifest.codec, manifest.domain, manifest.hr, manifest.lr) == ("glean", "cats", 32, 8)
    assert manifest.encoder["architecture"] == "bicubic-32-8"
    assert "exact bicubic reduction" in manifest.open_file("README.md").decode()
    assert there_and_back(bundle, (32, 32)).std() > 0
    assert set(report["parameters"]) == {"network", "prior"}


@torch.no_grad()
def test_gcfsr(shell: Shell, tmp_path: Path) -> None:
    bundle, _ = converted(shell, tmp_path, "gcfsr", {"gcfsr.pth": gcfsr_file()}, "--lr", 8, "--reduction", "area")
    manifest = verify_bundle(bundle)
    assert (manifest.hr, manifest.lr, manifest.decoder["controls"]) == (64, 8, ["strength"])
    assert manifest.encoder["architecture"] == "box-64-8" and manifest.decoder["strength"]["default"] == 8
    assert there_and_back(bundle, (64, 64)).std() > 0
    assert manifest.decoder["architecture"]["rounded"] is True
    session = onnxruntime.InferenceSession(manifest.open_file("decoder.onnx"))
    decoder = GCFSRUpscaler(load_gcfsr_checkpoint(tmp_path / "gcfsr.pth")[0], 8)
    round_weights(decoder, compact=False)
    lr = torch.rand(2, 3, 8, 8) * 2 - 1
    for strength in (None, torch.tensor([24.0]), torch.tensor([4.0, 60.0])):
        feeds = {"lr": lr.numpy()} | ({} if strength is None else {"strength": strength.numpy()})
        np.testing.assert_allclose(session.run(None, feeds)[0], decoder(lr, strength).numpy(), atol=1e-4)
    assert (decoder(lr) - decoder(lr, torch.tensor([64.0]))).abs().max() > 0.01


@pytest.mark.parametrize(
    ("source", "other"), [("stylegan2-rosinality", "stylegan2-nvidia"), ("stylegan2-nvidia", "stylegan2-rosinality")]
)
def test_stylegan2(shell: Shell, tmp_path: Path, source: str, other: str) -> None:
    content: Any = checkpoints.rosinality_file()
    if source == "stylegan2-nvidia":
        content = {"G_ema": checkpoints.nvidia_generator(), "D": checkpoints.nvidia_discriminator()}
    torch.save(content, tmp_path / "file.pt")
    out = tmp_path / "prior.safetensors"
    assert shell.ok(source, tmp_path / "file.pt", "--out", out).startswith(f"{out}: {source}, parameters: generator ")
    assert load_prior(out, size=32).code_count == 8
    written = load(out.read_bytes())
    out.write_bytes(b"other")
    shell.fails("--force", source, tmp_path / "file.pt", "--out", out)
    assert out.read_bytes() == b"other"
    shell.ok(source, tmp_path / "file.pt", "--out", out, "--force")
    assert same(load(out.read_bytes()), written)
    shell.fails("holds no StyleGAN2 in the", other, tmp_path / "file.pt", "--out", tmp_path / "other.safetensors")


@pytest.mark.parametrize(("name", "said"), [("taken", "--force"), ("My_Faces", "'My_Faces' is no valid id of")])
def test_a_folder_is_refused_before_the_work(shell: Shell, tmp_path: Path, name: str, said: str) -> None:
    (tmp_path / "irn.pth").write_bytes(b"not read")
    (tmp_path / "taken").mkdir()
    shell.fails(said, "irn", tmp_path / "irn.pth", "--out", tmp_path / name)
    assert not list((tmp_path / "taken").iterdir())


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["irn", "--lr", "8"], 2, "LRs of irn have the size"),
        (["grain", "--domain", "cats"], 2, "grain has one domain"),
        (["irn", "--reduction", "area"], 2, "irn has an encoder of its own"),
        (["esrgan"], 2, "esrgan"),
        (["irn", "{file}"], 1, "irn is converted from one file, got 2"),
    ],
)
def test_wrong_usage(shell: Shell, tmp_path: Path, arguments: list[str], status: int, message: str) -> None:
    path = tmp_path / "irn.pth"
    torch.save(irn_state(), path)
    words = [item.format(file=path) for item in arguments]
    shell.fails(message, *words, path, "--out", tmp_path / "out", status=status)
    assert not (tmp_path / "out").exists()


def test_the_command_knows_every_source() -> None:
    assert get_args(Source) == tuple(SOURCES)
