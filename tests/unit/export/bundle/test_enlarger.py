"""``edgegrain export enlarger``: graphs equal torch, and a bundle gets them without another change."""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

from codec_contract.bundle.manifest import load_manifest, verify_bundle
from codec_contract.errors import BundleError, ExportError, ModelError
from codec_contract.files import written_whole
from codec_contract.pixels import dequantize, quantize
from edgegrain.training.super_resolution.recipes import SUPER_RESOLUTION_RECIPES
from edgegrain.training.super_resolution.trainer import start_run
from export.bundle import enlarger, writer
from export.bundle.enlarger import (
    EnlargerFiles,
    compare_enlarger,
    compared_pictures,
    enlarger_files,
    enlarger_graphs,
    export_enlarger,
    find_enlarger,
    require_enlargeable,
    up_to_factor,
    write_enlarger,
)
from server_decoder.enlarger_session import EnlargerSession
from server_decoder.super_resolution import SuperResolution, SuperResolutionConfig, notch_filter, save_super_resolution
from tests.tiny_bundle import HR, refresh_manifest, write_tiny_bundle
from tests.unit.edgegrain.cli.conftest import Shell
from tests.unit.edgegrain.conftest import shaken as shaken_all
from tests.unit.server_decoder.test_super_resolution import shaken

SMALL = SuperResolutionConfig(widths=(8, 12), down=(1, 1), up=(1,), fine_widths=(6,), fine_blocks=(1,))


@pytest.fixture(scope="module")
def network() -> SuperResolution:
    """A network whose heads are not zero; its pictures exceed 0...255 in places."""
    return shaken(SMALL)


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory, network: SuperResolution) -> Path:
    path = tmp_path_factory.mktemp("run") / "super_resolution.safetensors"
    return save_super_resolution(network, path, training={"config": {"factor": 4}, "pictures_seen": 9}).parent


@pytest.fixture(scope="module")
def exported(run_folder: Path) -> EnlargerFiles:
    return export_enlarger(run_folder, 32)


@pytest.fixture
def shell(capsys: pytest.CaptureFixture[str]) -> Shell:
    return Shell(capsys, "export", "enlarger")


def test_graphs_equal_torch(network: SuperResolution, exported: EnlargerFiles) -> None:
    assert len(exported.models) == 2 and len(compared_pictures(32)) == 3
    differing = re.search(r"and [\d,]+ bytes; (\d+) of a million bytes differ from torch, by 1$", exported.summary)
    assert differing and int(differing[1]) < 1000
    session = EnlargerSession(exported.models, 32)
    pictures = compared_pictures(32)
    for factor in (2, 4):
        found = session.enlarge(pictures, factor)
        with torch.no_grad():
            values = network(torch.from_numpy(dequantize(pictures.astype(np.float32))).permute(0, 3, 1, 2), factor)
        wanted = quantize(notch_filter(values).permute(0, 2, 3, 1).numpy())
        assert np.abs(found.astype(int) - wanted).max() <= 1  # float16 storage included
        assert values.abs().max() > 1 and {0, 255} <= set(np.unique(found).tolist())  # clipped
        assert np.abs(found.astype(int) - pictures.repeat(factor, 1).repeat(factor, 2)).mean() > 5


def test_graphs_take_batches_and_hold_their_own_weights(exported: EnlargerFiles) -> None:
    models = [onnx.load_from_string(model) for model in exported.models]
    ends = [
        [
            (end.name, [size.dim_param or size.dim_value for size in end.type.tensor_type.shape.dim])
            for end in (*model.graph.input, *model.graph.output)
        ]
        for model in models
    ]
    width = SMALL.widths[0]
    assert ends == [
        [
            ("picture", ["batch", 32, 32, 3]),
            ("enlarged", ["batch", 64, 64, 3]),
            ("values", ["batch", 3, 64, 64]),
            ("features", ["batch", width, 32, 32]),
        ],
        [
            ("values", ["batch", 3, 64, 64]),
            ("features", ["batch", width, 32, 32]),
            ("enlarged", ["batch", 128, 128, 3]),
        ],
    ]
    kinds = [{tensor.name: tensor.data_type for tensor in model.graph.initializer} for model in models]
    half = onnx.TensorProto.FLOAT16
    assert kinds[0]["network.coarse.first.weight.float16"] == kinds[1]["network.fine.0.mix.weight.float16"] == half
    names = [{name.removesuffix(".float16") for name in held if name.startswith("network")} for held in kinds]
    assert not names[0] & names[1] and {name.split(".")[1] for name in names[1]} == {"fine", "heads"}
    shapes = [list(tensor.dims) for model in models for tensor in model.graph.initializer]
    assert [1, 1, 32, 1] in shapes and [1, 1, 32, 32] not in shapes  # positions: a line, not its repetition


def test_large_weights_are_stored_as_int8_and_an_untrained_factor_is_left_out(tmp_path: Path) -> None:
    network = SuperResolution(replace(SMALL, widths=(8, 24))).eval()
    path = save_super_resolution(network, tmp_path / "wide.safetensors", training={"config": {"factor": 2, "size": 32}})
    (model,) = export_enlarger(path, 32).models
    graph = onnx.load_from_string(model).graph
    stored = {tensor.name: tensor for tensor in graph.initializer}
    assert [output.name for output in graph.output] == ["enlarged"]
    assert not any(name.startswith(("network.fine", "network.heads.1")) for name in stored)
    large = {name for name, weight in network.state_dict().items() if weight.dim() > 1 and weight.numel() >= 4096}
    assert large and {name.removesuffix(".int8") for name in stored if name.endswith(".int8")} == {
        f"network.{name}" for name in large
    }
    for name in large:
        weight = network.state_dict()[name]
        levels, scale = (numpy_helper.to_array(stored[f"network.{name}{end}"]) for end in (".int8", ".scale"))
        step = weight.abs().amax(dim=(1, 2, 3), keepdim=True) / 127
        # Half a step, and the rounding to float16 of the run's file.
        assert (weight - torch.from_numpy(levels * scale)).abs().le(0.6 * step).all()


def test_another_graph_is_refused(network: SuperResolution, exported: EnlargerFiles) -> None:
    other = up_to_factor(network, 4)
    with torch.no_grad():
        other.heads[1].bias.add_(0.02)  # 2.55 levels
    with pytest.raises(ExportError, match="by 3 levels, more than 1"):
        compare_enlarger(exported.models, other, compared_pictures(32))


def test_a_bundle_gets_an_enlarger_and_keeps_its_contract(
    tmp_path: Path, run_folder: Path, shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_tiny_bundle(tmp_path)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    contract = load_manifest(folder).lr_contract_id
    printed = shell.ok(run_folder, "--into", folder)
    assert printed.startswith(f"{folder / 'enlarger_x2.onnx'}, {folder / 'enlarger_x4.onnx'}: ")
    manifest = verify_bundle(folder)  # sizes and hashes
    record = json.loads((folder / "manifest.json").read_bytes())
    assert record["enlarger"]["files"] == ["enlarger_x2.onnx", "enlarger_x4.onnx"]
    assert record["enlarger"]["training"]["pictures_seen"] == 9 and manifest.lr_contract_id == contract
    after = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert set(after) - set(before) == {"enlarger_x2.onnx", "enlarger_x4.onnx"}
    assert {name for name in before if before[name] != after[name]} == {"manifest.json"}
    shell.fails("enlarger_x2.onnx exists", run_folder, "--into", folder)
    models = tuple(after[name] for name in record["enlarger"]["files"])
    again = EnlargerFiles(models, record["enlarger"]["training"], "done")
    monkeypatch.setattr(enlarger, "export_enlarger", lambda source, side: again)
    assert shell.ok(run_folder / "super_resolution.safetensors", "--into", folder, "--force").count("\n") == 1
    assert json.loads((folder / "manifest.json").read_bytes()) == record


def test_an_interrupted_replacement_leaves_the_earlier_enlarger(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_tiny_bundle(tmp_path)
    first, second = (b"first", b"same"), (b"second", b"same")
    write_enlarger(EnlargerFiles(first, {}), load_manifest(folder))

    @contextmanager
    def interrupted(path: Path) -> Iterator[Path]:
        with written_whole(path) as temporary:
            yield temporary
            if path.name == "manifest.json":  # the last file to be renamed
                raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(writer, "written_whole", interrupted)
        write_enlarger(EnlargerFiles(second, {}), load_manifest(folder))
    assert enlarger_of(folder) == first
    paths = write_enlarger(EnlargerFiles(second, {}), load_manifest(folder))
    assert [path.name for path in paths] == [
        f"enlarger_x2-{sha256(b'second').hexdigest()[:8]}.onnx",
        "enlarger_x4.onnx",
    ]
    assert enlarger_of(folder) == second and not (folder / "enlarger_x2.onnx").exists()


def test_a_smaller_enlarger_replaces_both_files(tmp_path: Path) -> None:
    folder = write_tiny_bundle(tmp_path, doublings=2)
    write_enlarger(EnlargerFiles([b"one"], {}), require_enlargeable(str(folder), force=True), version="1.1.0")
    manifest = verify_bundle(folder)
    assert manifest.version == "1.1.0"
    with pytest.raises(BundleError, match="version"):
        write_enlarger(EnlargerFiles([b"two"], {}), manifest, version="1/1")
    assert manifest.sides == (HR, 2 * HR) and enlarger_of(folder) == (b"one",)
    assert [path.name for path in folder.glob("enlarger*")] == [*manifest.enlarger.files]


def test_tiles_take_no_enlarger(tmp_path: Path) -> None:
    folder = write_tiny_bundle(tmp_path)
    refresh_manifest(folder, preprocessing={"pad": "edge", "tile_overlap": 2})
    with pytest.raises(ExportError, match="in tiles; an enlarger takes whole squares"):
        require_enlargeable(str(folder))


def enlarger_of(folder: Path) -> tuple[bytes, ...]:
    manifest = verify_bundle(folder)
    return tuple(manifest.open_file(file) for file in manifest.enlarger.files)


def test_what_does_not_fit_is_refused(tmp_path: Path, network: SuperResolution, run_folder: Path, shell: Shell) -> None:
    folder = write_tiny_bundle(tmp_path)
    manifest = (folder / "manifest.json").read_bytes()
    path = save_super_resolution(
        network, tmp_path / "x2.safetensors", training={"config": {"factor": 2, "size": 2 * HR}}
    )
    shell.fails(f"trained on pictures of {2 * HR}x{2 * HR}, the bundle restores {HR}x{HR}", path, "--into", folder)
    shell.fails("cached as it is on the Hub", run_folder, "--into", "hf://owner/name@main")
    shell.fails(
        "neither the run of an enlarger nor a bundle with one: bundle tiny-64-lr16 has", folder, "--into", folder
    )
    assert (folder / "manifest.json").read_bytes() == manifest
    with pytest.raises(ModelError, match="by 2 or 4, not by 3"):
        up_to_factor(network, 3)


SMOKE = SUPER_RESOLUTION_RECIPES["smoke-enlarge"]


@pytest.fixture(scope="module")
def small() -> SuperResolution:
    return shaken_all(SuperResolution, SMOKE.network, 0.01, seed=1).half().float()


@pytest.fixture(scope="module")
def models(small: SuperResolution) -> tuple[bytes, ...]:
    return enlarger_graphs(small, HR)


@pytest.fixture
def enlarging(tmp_path: Path, models: tuple[bytes, ...]) -> Path:
    folder = write_tiny_bundle(tmp_path / "enlarging")
    write_enlarger(EnlargerFiles(models, {"config": SMOKE.as_dict(), "pictures_seen": 5}), load_manifest(folder))
    return folder


def test_another_bundle_gets_the_same_files(
    tmp_path: Path, enlarging: Path, models: tuple[bytes, ...], shell: Shell
) -> None:
    folder = write_tiny_bundle(tmp_path / "other")
    source = load_manifest(enlarging)
    origin = f"{source.id} {source.version}"
    assert shell.ok(enlarging, "--into", folder).endswith(f"enlarger_x4.onnx: those of {origin}\n")
    manifest = verify_bundle(folder)
    assert manifest.sides == (HR, 2 * HR, 4 * HR)
    assert tuple(manifest.open_file(f"enlarger_x{factor}.onnx") for factor in (2, 4)) == models
    training = json.loads((folder / "manifest.json").read_bytes())["enlarger"]["training"]
    assert training == {"config": json.loads(json.dumps(SMOKE.as_dict())), "pictures_seen": 5, "part_of": origin}


def test_its_form_in_int8_goes_along_and_is_replaced_with_it(
    tmp_path: Path, enlarging: Path, models: tuple[bytes, ...], shell: Shell
) -> None:
    training = {"config": SMOKE.as_dict()}
    write_enlarger(EnlargerFiles(models, training, int8=models[::-1]), load_manifest(enlarging))
    other = write_tiny_bundle(tmp_path / "refused")
    shell.fails("does not double squares of", enlarging, "--into", other)
    write_enlarger(EnlargerFiles(models, training, int8=models), load_manifest(enlarging))
    folder = write_tiny_bundle(tmp_path / "other")
    shell.ok(enlarging, "--into", folder)
    manifest = verify_bundle(folder)
    files = ("enlarger_int8_x2.onnx", "enlarger_int8_x4.onnx")
    assert manifest.enlarger is not None and manifest.enlarger.int8_files == files
    assert tuple(map(manifest.open_file, files)) == models and manifest.sides == (HR, 2 * HR, 4 * HR)
    paths = write_enlarger(EnlargerFiles(models, training, int8=(b"1", models[1])), manifest)
    assert [path.name[:16] for path in paths[2:]] == ["enlarger_int8_x2", "enlarger_int8_x4"]
    assert verify_bundle(folder).enlarger.int8_files[1] == files[1]  # type: ignore[union-attr]
    write_enlarger(EnlargerFiles(models, training), load_manifest(folder))
    assert not list(folder.glob("enlarger_int8*")) and verify_bundle(folder).enlarger.int8_files == ()  # type: ignore[union-attr]


def test_the_licence_goes_along(tmp_path: Path, enlarging: Path, models: tuple[bytes, ...], shell: Shell) -> None:
    refresh_manifest(enlarging, licence={"weights": "Research only.", "data": "Faces."})
    stated = f"that of {load_manifest(enlarging).id} 1.0.0. Weights: Research only. Data: Faces."
    own = {"weights": "Apache-2.0", "data": "none"}
    source = enlarging
    for target in (write_tiny_bundle(tmp_path / "other"), write_tiny_bundle(tmp_path / "third")):  # and a copy of it
        shell.ok(source, "--into", target)
        manifest = verify_bundle(target)
        assert manifest.licence == {**own, "enlarger": stated}
        assert manifest.enlarger.training["part_of"] == f"{load_manifest(enlarging).id} 1.0.0"  # type: ignore[union-attr]
        assert manifest.open_file("README.md").decode() == f"A bundle for tests.\n\nEnlarger inside: {stated}\n"
        source = target
    write_enlarger(EnlargerFiles(models[:1], {}), load_manifest(source))  # of a run
    manifest = verify_bundle(source)
    assert manifest.licence == own and manifest.open_file("README.md") == b"A bundle for tests.\n"


def test_a_run_begins_with_the_enlarger_of_a_bundle(enlarging: Path, small: SuperResolution) -> None:
    run = start_run(SMOKE, str(enlarging))
    wanted = small.state_dict()
    for found in (run.model, run.average):
        torch.testing.assert_close(found.state_dict(), wanted, rtol=0, atol=0)


def test_a_network_without_its_last_doubling(tmp_path: Path, small: SuperResolution, models: tuple[bytes, ...]) -> None:
    folder = write_tiny_bundle(tmp_path)
    write_enlarger(EnlargerFiles(models[:1], {"config": SMOKE.as_dict()}), load_manifest(folder))
    found = find_enlarger(folder).network()
    assert found.config.factors == (2,)
    picture = torch.rand(1, 3, HR, HR) * 2 - 1
    with torch.no_grad():
        torch.testing.assert_close(found(picture), small(picture, 2))


def test_what_cannot_be_copied_is_refused(tmp_path: Path, enlarging: Path, shell: Shell) -> None:
    shell.fails(
        "nothing is neither the run of an enlarger nor a bundle with one: there is no",
        tmp_path / "nothing",
        "--into",
        write_tiny_bundle(tmp_path / "target"),
    )
    with pytest.raises(ExportError, match=f"takes pictures of {HR}x{HR}, the bundle restores {2 * HR}x{2 * HR}"):
        enlarger_files(enlarging, 2 * HR)
    refresh_manifest(enlarging, enlarger={"files": ["enlarger_x2.onnx", "enlarger_x4.onnx"]})
    with pytest.raises(BundleError, match="describes no network of an enlarger that this release knows .'config'"):
        find_enlarger(enlarging).network()
    tuned = (enlarging, "--into", enlarging, "--force", "--tune-seconds", 5)
    shell.fails("pass both or neither", *tuned, status=2)
    shell.fails("has no decoder in int8, for whose pictures the form is; add it with", *tuned, "--data", tmp_path)
    other = write_tiny_bundle(tmp_path / "not_a_network")
    write_enlarger(EnlargerFiles([b"no graph"], {}), load_manifest(other))
    shell.fails("the enlarger cannot be loaded", other, "--into", write_tiny_bundle(tmp_path / "unchanged"))
    assert load_manifest(tmp_path / "unchanged" / "tiny-64-lr16").enlarger is None
