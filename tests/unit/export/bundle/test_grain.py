"""GRAIN's whole decoder as one graph, with both kinds of generator: equal to torch, and back from bundle and zoo."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

import sdk
from benchmarks.speed.random_decoder import random_decoder
from codec_contract.bundle import find as paths
from codec_contract.bundle.manifest import load_manifest
from codec_contract.errors import BundleError, ExportError, ModelError
from codec_contract.lr_coder.coder_tables import CoderTables
from edge_encoder import integer_network
from export.decoder import DecoderOptions, WeightStorage
from export.decoder import export as decoder_export
from export.decoder.export import TRAINED, bundle_decoder, compare_decoder, export_decoder, find_decoder, real_lrs
from export.decoder.graph import is_int8, load_parameters, round_weights
from server_decoder.decoder_session import DecoderSession
from server_decoder.grain.grain import PRESETS, Grain, save_trained
from server_decoder.mobile_stylegan import MobileStyleGAN, save_mobile_stylegan
from tests.networks import random_network
from tests.tiny_bundle import refresh_manifest, write_tiny_bundle
from tests.unit.edgegrain.cli.conftest import Shell
from tests.unit.edgegrain.conftest import same


@pytest.fixture(scope="module")
def stylegan2() -> tuple[Grain, bytes]:
    """The model with its weights rounded, and its graph."""
    decoder = random_decoder("grain-smoke").decoder
    return decoder, export_decoder(decoder, 16, DecoderOptions(WeightStorage.float16))


@pytest.fixture(scope="module")
def mobile() -> tuple[Grain, bytes]:
    decoder = random_decoder("grain-smoke-mobile").decoder
    return decoder, export_decoder(decoder, 16, DecoderOptions(WeightStorage.compact))


def lrs(count: int = 3) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, 16, 16, 3), np.uint8)


def weights_of(model: bytes, kind: int) -> dict[str, onnx.TensorProto]:
    tensors = onnx.load_model_from_string(model).graph.initializer
    return {tensor.name: tensor for tensor in tensors if tensor.data_type == kind}


@pytest.fixture
def shell(capsys: pytest.CaptureFixture[str]) -> Shell:
    return Shell(capsys, "export")


@pytest.mark.parametrize("kind", ["stylegan2", "mobile"])
def test_one_graph_equals_torch_at_any_batch(kind: str, request: pytest.FixtureRequest) -> None:
    decoder, model = request.getfixturevalue(kind)
    result = compare_decoder(model, decoder, lrs())
    assert result.largest_difference < 2e-5 and result.psnr > 100
    assert result.lrs == 3 and result.differing_bytes < 0.01
    compare_decoder(model, decoder, lrs(1))


@pytest.mark.parametrize(("base", "refused"), [(20.0, False), (0.0, True)])
def test_only_seen_values_count(
    base: float, refused: bool, mobile: tuple[Grain, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beyond [-1, 1] a picture is white: there float32 itself differs from float64 by more than the tolerance."""
    _, model = mobile
    values = np.full((1, 3, 64, 64), base, np.float32)
    monkeypatch.setattr(DecoderSession, "run", lambda *_, **__: values + np.float32(2e-4))
    decoder = Constant(torch.from_numpy(values))
    if refused:
        with pytest.raises(ExportError, match="differs from torch by 0.0002"):
            compare_decoder(model, decoder, lrs(1))
    else:
        assert compare_decoder(model, decoder, lrs(1)).largest_difference == 0


class Constant(torch.nn.Module):
    """Restores the same picture of every LR."""

    def __init__(self, picture: torch.Tensor) -> None:
        super().__init__()
        self.picture = picture

    def forward(self, lr: torch.Tensor) -> torch.Tensor:
        return self.picture.expand(len(lr), -1, -1, -1)


@torch.no_grad()
def test_the_fusion_has_an_effect_on_what_is_compared(stylegan2: tuple[Grain, bytes]) -> None:
    decoder, model = stylegan2
    x = torch.rand(1, 3, 16, 16) * 2 - 1
    output, without = decoder.forward_all(x), decoder.forward_all(x, prior_gain=0.0)
    for other in (output.invertible, without.final):
        assert (output.final - other).abs().max() > 0.01
    changed = Grain(decoder.config).eval()
    changed.load_state_dict(decoder.state_dict())
    changed.codes.codes[2].bias += 1
    with pytest.raises(ExportError, match="differs from torch"):
        compare_decoder(model, changed, lrs(1))


@torch.no_grad()
@pytest.mark.parametrize("kind", ["stylegan2", "mobile"])
def test_the_whole_decoder_comes_back_from_its_graph(kind: str, request: pytest.FixtureRequest) -> None:
    decoder, model = request.getfixturevalue(kind)
    torch.manual_seed(9)
    loaded = Grain(decoder.config).eval()
    load_parameters(loaded, onnx.load_model_from_string(model))
    x = torch.rand(2, 3, 16, 16) * 2 - 1
    torch.testing.assert_close(loaded(x), decoder(x), atol=1e-5, rtol=1e-4)  # two builds: other rounding
    for unneeded in (loaded.forward_all(x).style, loaded.prior.map(torch.randn(1, 32))):  # marked, not random
        assert unneeded.isnan().all()
    assert same(loaded.trained_state(), decoder.trained_state())


def test_compact_storage_holds_large_weights_as_int8(mobile: tuple[Grain, bytes]) -> None:
    decoder, model = mobile
    int8 = weights_of(model, onnx.TensorProto.INT8)
    large = [name for name, tensor in decoder.state_dict().items() if is_int8(tensor.shape)]
    assert set(int8) == {f"{name}.int8" for name in large if not name.startswith("prior.mapping")}
    assert {name.split(".")[0] for name in int8} == {"decoder", "codes", "prior"}  # the smoke fusion is small
    halves, fusion = weights_of(model, onnx.TensorProto.FLOAT16), decoder.fusion.named_parameters(prefix="fusion")
    assert {f"{name}.float16" for name, _ in fusion if name.endswith("weight")} <= set(halves)


def write_bundle(folder: Path, decoder: Grain, model: bytes) -> Path:
    return write_tiny_bundle(folder, decoder=model, architecture=decoder.config.as_dict())


@torch.no_grad()
def test_a_bundle_says_what_its_decoder_is(stylegan2: tuple[Grain, bytes], tmp_path: Path) -> None:
    decoder, model = stylegan2
    root = write_bundle(tmp_path, decoder, model)
    source = find_decoder(root)
    assert source.name == "tiny-64-lr16" and source.network.architecture == "box" and source.step == 1
    x = torch.rand(1, 3, 16, 16) * 2 - 1
    torch.testing.assert_close(source.decoder(x), decoder(x), atol=1e-5, rtol=1e-4)  # two builds: other rounding
    fields = json.loads((root / "manifest.json").read_text())
    refresh_manifest(root, decoder={**fields["decoder"], "architecture": {"kind": "grain", "prior": None}})
    with pytest.raises(BundleError, match="describes no decoder"):
        bundle_decoder(load_manifest(root))


def test_lrs_of_a_decoder_are_those_of_payloads(stylegan2: tuple[Grain, bytes], tmp_path: Path) -> None:
    root = write_bundle(tmp_path, *stylegan2)
    (root / "coder.json").write_bytes(replace(CoderTables.default(), step=7).to_json())
    refresh_manifest(root)
    square = np.random.default_rng(0).integers(0, 256, (1, 64, 64, 3), np.uint8)
    found = find_decoder(root).encode(square)
    assert np.array_equal(found[0], sdk.Codec(root).compress(square[0]).lr) and (found % 7 == 0).all()
    (root / "encoder.safetensors").unlink()  # as of a bundle with a float encoder
    refresh_manifest(root)
    assert np.array_equal(find_decoder(root).encode(square), found)


def test_a_bundle_comes_before_the_zoo(
    stylegan2: tuple[Grain, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoder, model = stylegan2
    root = write_bundle(tmp_path / "bundles", decoder, model)
    zoo = tmp_path / "zoo"
    save_trained(Grain(replace(decoder.config, prior=None, codes=None, fusion=None)), zoo / root.name / TRAINED)
    assert find_decoder(root, zoo=zoo).manifest is not None
    assert find_decoder(root.name, zoo=zoo).manifest is None
    with pytest.raises(BundleError, match="no bundle"):  # another folder of that name
        find_decoder(tmp_path / "elsewhere" / root.name, zoo=zoo)
    monkeypatch.setattr(paths, "bundle_roots", lambda: (tmp_path / "bundles",))
    assert find_decoder(root.name, zoo=zoo).manifest is not None


@torch.no_grad()
def test_the_zoo_is_rebuilt_with_its_generator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config, zoo, file = PRESETS["grain-smoke-mobile"], tmp_path / "zoo", tmp_path / "prior.safetensors"
    prior = MobileStyleGAN(config.prior.network)
    save_mobile_stylegan(prior, file)
    model = Grain(config, prior).eval()
    save_trained(model, zoo / "faces-64" / TRAINED)
    source = find_decoder("faces-64", file, zoo=zoo)
    assert source.name == "faces-64" and (source.network.hr, source.network.lr) == (64, 16) and source.step == 1
    x = torch.rand(1, 3, 16, 16) * 2 - 1
    torch.testing.assert_close(source.decoder.forward_all(x).style, model.forward_all(x).style, atol=1e-2, rtol=0)
    (zoo / "faces-64" / "coder.json").write_bytes(replace(CoderTables.default(), step=7).to_json())
    assert find_decoder("faces-64", file, zoo=zoo).step == 7
    monkeypatch.chdir(zoo / "faces-64")
    assert find_decoder(".", file).name == "faces-64"
    with pytest.raises(ModelError, match="there is no prior"):
        find_decoder(".", tmp_path / "none.safetensors")
    round_weights(prior, compact=True)  # as training does
    compact = Grain(replace(config, prior=replace(config.prior, compact=True)), prior)
    save_trained(compact, zoo / "compact" / TRAINED)
    assert same(find_decoder(zoo / "compact", file).decoder.prior, prior)
    save_trained(Grain(replace(config, prior=PRESETS["grain-smoke"].prior)), zoo / "other" / TRAINED)
    with pytest.raises(ModelError, match="StyleGAN2"):
        find_decoder(zoo / "other", file)
    with pytest.raises(BundleError, match="no bundle 'nowhere'"):
        find_decoder("nowhere", zoo=zoo)


def test_an_encoder_beside_zoo_weights_makes_the_lrs(tmp_path: Path) -> None:
    model = Grain(replace(PRESETS["grain-smoke"], prior=None, codes=None, fusion=None))
    save_trained(model, tmp_path / TRAINED)
    network = random_network(64, 16, seed=3)
    integer_network.save_integer_network(network, tmp_path / "encoder.safetensors")
    assert find_decoder(tmp_path).network.architecture == network.architecture


def test_real_lrs_begin_with_pictures() -> None:
    source = random_decoder("grain-smoke")
    found = real_lrs(source.network, [], 1)
    assert found.shape == (1, 16, 16, 3) and found.dtype == np.uint8
    assert np.array_equal(found, real_lrs(source.network, [], 8)[:1])


def test_the_command_states_the_difference(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mobile: tuple[Grain, bytes], shell: Shell
) -> None:
    arguments = ("decoder", "--bundle", write_bundle(tmp_path, *mobile), "--out", tmp_path / "dist")
    monkeypatch.setattr(decoder_export, "export_decoder", lambda decoder, lr, options: mobile[1])
    printed = shell.ok(*arguments, "--storage", "compact")
    assert "PSNR 1" in printed and "largest difference from torch on 8 LRs" in printed
    assert (tmp_path / "dist" / "decoder.onnx").read_bytes() == mobile[1]
    monkeypatch.setattr(decoder_export, "export_decoder", None)  # refused before the work
    shell.fails("decoder.onnx exists", *arguments)


def test_an_unknown_configuration_is_refused() -> None:
    with pytest.raises(ExportError, match="grain-1024-lr16-paper"):
        random_decoder("grain-9000")
