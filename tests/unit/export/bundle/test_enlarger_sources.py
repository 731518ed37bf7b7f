"""The enlarger of a bundle: copied into another bundle, and trained on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from codec_contract.bundle.manifest import load_manifest, verify_bundle
from codec_contract.errors import BundleError
from edgegrain.cli.main import app
from edgegrain.training.super_resolution.recipes import SUPER_RESOLUTION_RECIPES
from edgegrain.training.super_resolution.trainer import start_run
from export.bundle.enlarger import write_enlarger
from export.bundle.enlarger_graphs import enlarger_graphs
from export.bundle.enlarger_sources import find_enlarger
from server_decoder.super_resolution.network import SuperResolution
from tests.tiny_bundle import HR, refresh_manifest, write_tiny_bundle

SMOKE = SUPER_RESOLUTION_RECIPES["smoke-enlarge"]


@pytest.fixture(scope="module")
def network() -> SuperResolution:
    torch.manual_seed(1)
    network = SuperResolution(SMOKE.network).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_((parameter + 0.01 * torch.randn_like(parameter)).half())
    return network


@pytest.fixture(scope="module")
def models(network: SuperResolution) -> tuple[bytes, ...]:
    return enlarger_graphs(network, HR)


@pytest.fixture
def enlarging(tmp_path: Path, models: tuple[bytes, ...]) -> Path:
    folder = write_tiny_bundle(tmp_path / "enlarging")
    write_enlarger(models, load_manifest(folder), {"config": SMOKE.as_dict(), "pictures_seen": 5})
    return folder


def copy(capture: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str]:
    with pytest.raises(SystemExit) as leaving:
        app(["export", "enlarger", *map(str, arguments)])
    output = capture.readouterr()
    return int(leaving.value.code or 0), " ".join((output.out + output.err).split())


def test_another_bundle_gets_the_same_files(tmp_path: Path, enlarging: Path, models: tuple[bytes, ...],
                                            capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_tiny_bundle(tmp_path / "other")
    status, printed = copy(capsys, enlarging, "--into", folder)
    source = load_manifest(enlarging)
    origin = f"{source.id} {source.version}"
    assert status == 0 and printed.endswith(f"enlarger_x4.onnx: those of {origin}"), printed
    manifest = verify_bundle(folder)
    assert manifest.sides == (HR, 2 * HR, 4 * HR)
    assert tuple(manifest.open_file(f"enlarger_x{factor}.onnx") for factor in (2, 4)) == models
    training = json.loads((folder / "manifest.json").read_bytes())["enlarger"]["training"]
    assert training == {"config": json.loads(json.dumps(SMOKE.as_dict())), "pictures_seen": 5, "part_of": origin}


def test_the_licence_goes_along(tmp_path: Path, enlarging: Path, models: tuple[bytes, ...],
                                capsys: pytest.CaptureFixture[str]) -> None:
    refresh_manifest(enlarging, licence={"weights": "Research only.", "data": "Faces."})
    stated = f"that of {load_manifest(enlarging).id} 1.0.0. Weights: Research only. Data: Faces."
    own = {"weights": "Apache-2.0", "data": "none"}
    source = enlarging
    for target in (write_tiny_bundle(tmp_path / "other"), write_tiny_bundle(tmp_path / "third")):  # and a copy of it
        assert copy(capsys, source, "--into", target)[0] == 0
        manifest = verify_bundle(target)
        assert manifest.licence == {**own, "enlarger": stated}
        assert manifest.open_file("README.md").decode() == f"A bundle for tests.\n\nEnlarger inside: {stated}\n"
        source = target
    write_enlarger(models[:1], load_manifest(source), {})  # of a run
    manifest = verify_bundle(source)
    assert manifest.licence == own and manifest.open_file("README.md") == b"A bundle for tests.\n"


def test_a_run_begins_with_the_enlarger_of_a_bundle(enlarging: Path, network: SuperResolution) -> None:
    run = start_run(SMOKE, str(enlarging))
    wanted = network.state_dict()
    for found in (run.model, run.average):
        torch.testing.assert_close(found.state_dict(), wanted, rtol=0, atol=0)


def test_a_network_without_its_last_doubling(tmp_path: Path, network: SuperResolution, models: tuple[bytes, ...]
                                             ) -> None:
    folder = write_tiny_bundle(tmp_path)
    write_enlarger(models[:1], load_manifest(folder), {"config": SMOKE.as_dict()})
    found = find_enlarger(folder).network()
    assert found.config.factors == (2,)
    picture = torch.rand(1, 3, HR, HR) * 2 - 1
    with torch.no_grad():
        torch.testing.assert_close(found(picture), network(picture, 2))


def test_what_does_not_fit_is_refused(tmp_path: Path, enlarging: Path, models: tuple[bytes, ...],
                                      capsys: pytest.CaptureFixture[str]) -> None:
    status, printed = copy(capsys, tmp_path / "nothing", "--into", write_tiny_bundle(tmp_path / "target"))
    assert status == 1 and "nothing is neither the run of an enlarger nor a bundle with one: there is no" in printed
    larger = find_enlarger(enlarging)
    with pytest.raises(Exception, match=f"takes pictures of {HR}x{HR}, the bundle restores {2 * HR}x{2 * HR}"):
        larger.require_side(2 * HR)
    refresh_manifest(enlarging, enlarger={"files": ["enlarger_x2.onnx", "enlarger_x4.onnx"]})
    with pytest.raises(BundleError, match="does not describe its enlarger's network .'config'"):
        find_enlarger(enlarging).network()
    other = write_tiny_bundle(tmp_path / "not_a_network")
    write_enlarger([b"no graph"], load_manifest(other), {})
    status, printed = copy(capsys, other, "--into", write_tiny_bundle(tmp_path / "unchanged"))
    assert status == 1 and "the enlarger cannot be loaded" in printed
    assert load_manifest(tmp_path / "unchanged" / "tiny-64-lr16").enlarger is None
