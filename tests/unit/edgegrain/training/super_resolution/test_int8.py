"""A bundle's enlarger in int8, near the pictures of float32 and with its weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from codec_contract.bundle.manifest import load_manifest, verify_bundle
from codec_contract.pixels import network_input, pictures_of
from edgegrain.training.int8 import RoundedDecoder, train_rounded
from edgegrain.training.super_resolution import int8 as int8_enlarger
from edgegrain.training.super_resolution.int8 import enlarged_windows, int8_files, int8_graph, take_weights
from edgegrain.training.super_resolution.recipes import SUPER_RESOLUTION_RECIPES
from export.bundle.enlarger import EnlargerFiles, enlarger_graphs, find_enlarger, write_enlarger
from export.decoder.int8 import Int8Decoder
from server_decoder.enlarger_session import EnlargerSession
from server_decoder.super_resolution import SuperResolution, SuperResolutionConfig, notch_filter
from tests.pictures import encoded, noise
from tests.tiny_bundle import HR, add_cuda_form, quantizing_decoder, write_tiny_bundle
from tests.unit.server_decoder.test_super_resolution import shaken

SIDE = 32
CONFIG = SuperResolutionConfig(widths=(16, 24), down=(1, 1), up=(2,), fine_widths=(16,), fine_blocks=(2,))


@pytest.fixture(scope="module")
def network() -> SuperResolution:
    return shaken(CONFIG)


@pytest.fixture(scope="module")
def restored() -> np.ndarray:
    """Smooth squares: a network whose weights are random adds little to them."""
    coarse = np.random.default_rng(0).integers(40, 216, (6, 3, 3, 3), np.uint8)
    return np.ascontiguousarray(coarse.repeat(11, 1).repeat(11, 2)[:, :SIDE, :SIDE])


@pytest.fixture(scope="module")
def graph(network: SuperResolution, restored: np.ndarray) -> Int8Decoder:
    return int8_graph(network, restored)


@pytest.fixture(scope="module")
def float32(network: SuperResolution, graph: Int8Decoder) -> tuple[bytes, ...]:
    return enlarger_graphs(network, SIDE, graph.gains)


@pytest.fixture(scope="module")
def files(graph: Int8Decoder, float32: tuple[bytes, ...]) -> tuple[bytes, ...]:
    return int8_files(graph, float32, SIDE)


@torch.no_grad()
def expected(network: SuperResolution, restored: np.ndarray) -> list[np.ndarray]:
    """What the network makes in float32."""
    steps = network.forward_steps(torch.from_numpy(network_input(restored)))
    return [pictures_of(notch_filter(step.picture).numpy()) for step in steps]


def test_pictures_are_near_those_of_float32(
    network: SuperResolution, restored: np.ndarray, files: tuple[bytes, ...], float32: tuple[bytes, ...]
) -> None:
    session, exact = EnlargerSession(files, SIDE, weights=float32), EnlargerSession(float32, SIDE)
    for factor, wanted in zip((2, 4), expected(network, restored), strict=True):
        apart = session.enlarge(restored, factor).astype(float) - wanted
        assert 0 < np.std(apart) < 0.12 * wanted.std() and np.abs(apart.mean((0, 1, 2))).max() < 0.02 * wanted.std()
        assert np.abs(exact.enlarge(restored, factor) - wanted.astype(float)).mean() < 0.5  # of rounded weights


def test_large_weights_are_held_once(files: tuple[bytes, ...], float32: tuple[bytes, ...]) -> None:
    held = onnx.load_model_from_string(float32[0]).graph.initializer
    shared = {item.name for item in held if item.name.endswith(".int8")}
    own = onnx.load_model_from_string(files[0]).graph.initializer
    outside = {item.name.replace(".own", ".int8") for item in own if item.data_location == onnx.TensorProto.EXTERNAL}
    assert len(shared) > 1 and shared <= outside
    assert {entry.value for item in own for entry in item.external_data if entry.key == "location"} == {
        "enlarger_x2.onnx"
    }


def test_every_convolution_but_the_first_and_the_filter_is_of_levels(files: tuple[bytes, ...]) -> None:
    for model, others in zip(files, (1, 0), strict=True):
        nodes = [node for node in onnx.load_model_from_string(model).graph.node if not node.name.startswith("end.")]
        near = {name for node in nodes if node.op_type == "DequantizeLinear" for name in node.output}
        convolutions = [node for node in nodes if node.op_type == "Conv"]
        assert len(convolutions) > 2 and sum(not set(node.input) <= near for node in convolutions) == others


def test_training_brings_windows_nearer(
    network: SuperResolution, restored: np.ndarray, graph: Int8Decoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(int8_enlarger, "WINDOW", 24)
    monkeypatch.setattr(int8_enlarger, "MARGIN", 4)
    monkeypatch.setattr("edgegrain.training.int8.time.monotonic", iter(range(1000)).__next__)
    model = RoundedDecoder(onnx.load_model_from_string(graph.int8), enlarges=True)
    wanted = expected(network, restored)
    originals = [wanted[index % 2][index] for index in range(6)]  # as large as one or both
    rng = np.random.default_rng(0)
    batch = enlarged_windows(rng, model, restored, wanted, originals)
    assert [part.shape[-1] for parts in batch for part in parts[:2]] == [32, 32, 64, 64]
    assert len(batch[0]) == 3 and len(batch[1]) in (2, 3)
    shown: list[str] = []

    def distance() -> float:
        with torch.no_grad():
            pictures = model(torch.from_numpy(network_input(restored)))[::2]
        pairs = zip(pictures, wanted, strict=True)
        return float(sum(np.abs(pictures_of(picture.numpy()) - large.astype(float)).mean() for picture, large in pairs))

    before = distance()
    train_rounded(
        model,
        lambda rng: enlarged_windows(rng, model, restored, wanted, originals),
        80.0,
        lambda a, b: (a - b).square().mean((1, 2, 3)),  # too small for AlexNet
        lambda _done, line: shown.append(line),
        rate=0.2,
    )
    assert distance() < before and len(shown) == 79
    after = RoundedDecoder(onnx.load_model_from_string(model.store(graph.int8)), enlarges=True)
    square = torch.from_numpy(network_input(restored[:1]))
    with torch.no_grad():
        for one, other in zip(model(square)[::2], after(square)[::2], strict=True):
            assert (one - other).abs().mean() < 0.06 * one.std()


@torch.no_grad()
def test_the_network_takes_the_weights_of_the_graph(graph: Int8Decoder, restored: np.ndarray) -> None:
    """Without the rounding of values both are the same function, but for what the first convolution sees outside."""
    network, model = (
        SuperResolution(CONFIG).eval(),
        RoundedDecoder(onnx.load_model_from_string(graph.int8), enlarges=True),
    )
    take_weights(network, graph)
    values = torch.from_numpy(network_input(restored))
    model.rounds = False
    for made, step in zip(model(values)[::2], network.forward_steps(values), strict=True):
        assert (made - step.picture).abs().mean() < 2e-3
    levels = onnx.load_model_from_string(enlarger_graphs(network, SIDE, graph.gains)[0]).graph.initializer
    wanted = {item.name: item.raw_data for item in onnx.load_model_from_string(graph.float32).graph.initializer}
    found = {item.name: item.raw_data for item in levels if item.name.endswith(".int8")}
    assert found and all(wanted[name] == data for name, data in found.items())


def test_a_window_is_a_part_of_the_picture(graph: Int8Decoder, restored: np.ndarray) -> None:
    model = RoundedDecoder(onnx.load_model_from_string(graph.int8), enlarges=True)
    square = torch.from_numpy(network_input(restored[:1]))
    with torch.no_grad():
        whole, part = model(square)[::2], model(square, (slice(4, 28), slice(6, 30)), SIDE)[::2]
    for factor, one, other in zip((2, 4), whole, part, strict=True):
        inner = slice(6 * factor, -6 * factor)
        torch.testing.assert_close(
            other[..., inner, inner], one[..., 10 * factor : 22 * factor, 12 * factor : 24 * factor]
        )


def test_a_bundle_gets_the_form(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, recipe = write_tiny_bundle(tmp_path / "enlarging"), SUPER_RESOLUTION_RECIPES["smoke-enlarge"]
    add_cuda_form(folder, quantizing_decoder(), precision="int8", name="int8")
    network = shaken(recipe.network)
    models = enlarger_graphs(network, HR)
    write_enlarger(EnlargerFiles(models, {"config": recipe.as_dict()}), load_manifest(folder))
    for index, side in enumerate((HR, 2 * HR, 4 * HR)):
        (tmp_path / f"{index}.png").write_bytes(encoded(noise(side, side)))
    monkeypatch.setattr(int8_enlarger, "WINDOW", HR)
    monkeypatch.setattr("edgegrain.training.int8.time.monotonic", iter(range(1000)).__next__)
    shown: list[str] = []
    paths = int8_enlarger.add_int8_form(
        folder, tmp_path, 4.0, lambda a, b: (a - b).square().mean((1, 2, 3)), lambda _done, line: shown.append(line)
    )
    manifest = verify_bundle(folder)
    assert manifest.enlarger is not None and len(shown) == 3
    assert [path.name for path in paths] == [*manifest.enlarger.files, *manifest.enlarger.int8_files]
    found, squares = find_enlarger(folder), np.full((1, HR, HR, 3), 99, np.uint8)
    tuned = found.network().state_dict()
    assert all(0 < (tuned[name] - kept).abs().mean() < 0.3 for name, kept in network.heads.named_parameters("heads"))
    assert found.training["derived"] == "tuned for 4 s on 3 pictures"
    near, exact = (
        session.enlarge(squares, 4).astype(float)
        for session in (EnlargerSession(found.int8, HR, weights=found.models), EnlargerSession(found.models, HR))
    )
    assert near.shape == (1, 4 * HR, 4 * HR, 3) and np.abs(near - exact).mean() < 0.1 * exact.std()


def test_a_network_of_one_doubling(restored: np.ndarray) -> None:
    network = shaken(CONFIG.cut(1))
    graph = int8_graph(network, restored)
    take_weights(network, graph)
    (float32,) = models = enlarger_graphs(network, SIDE, graph.gains)
    (wanted,) = expected(network, restored)
    near = EnlargerSession(int8_files(graph, models, SIDE), SIDE, weights=[float32]).enlarge(restored, 2)
    assert 0 < np.std(near - wanted.astype(float)) < 0.12 * wanted.std()
