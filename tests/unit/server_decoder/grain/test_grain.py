"""The whole model: the paper's size, its ablations, the frozen generator, and weights without it."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from codec_contract.errors import ModelError
from edgegrain.papers.grain.rrdb_encoder import FloatEncoderConfig, RRDBEncoder
from server_decoder.generative_prior import GenerativePrior, Offsets, Synthesis
from server_decoder.grain.code_predictor import CodesConfig
from server_decoder.grain.fusion import FusionConfig
from server_decoder.grain.grain import PRIOR, Grain, GrainConfig, PriorConfig, load_trained, save_trained
from server_decoder.grain.presets import PRESETS, paper_model
from server_decoder.grain.rrdb_decoder import DecoderConfig, Scale
from server_decoder.mobile_stylegan import MOBILE_STYLEGAN_256
from server_decoder.weight_file import fill

CONFIG = PRESETS["grain-smoke"]
VARIANTS = {
    "full": CONFIG,
    "full, mobile": PRESETS["grain-smoke-mobile"],
    "invertible only": replace(CONFIG, prior=None, codes=None, fusion=None),
    "codes only": replace(CONFIG, fusion=None),
    "codes only, one scale": replace(
        CONFIG, fusion=None, codes=CodesConfig(widths=8, branch=(8, 8, 8, 8), source="coarsest")),
    "image-level fusion": replace(CONFIG, fusion=FusionConfig(kind="pictures", head=(8,))),
}


@pytest.fixture(scope="module")
def model() -> Grain:
    torch.manual_seed(0)
    return opened(Grain(CONFIG))


@torch.no_grad()
def opened(model: Grain) -> Grain:
    """A model whose fusion has an effect, as after training."""
    if model.fusion is not None:
        torch.nn.init.normal_(model.fusion.to_rgb.weight, std=0.1)
    return model


def lrs(batch: int = 2) -> Tensor:
    return torch.rand(batch, 3, 16, 16) * 2 - 1


class PlainPrior(GenerativePrior):
    """The smallest generator there is: every feature map is a linear picture of one code."""

    def __init__(self, size: int = 64, code_resolutions: tuple[int, ...] = (4, 16, 64), code_width: int = 8) -> None:
        super().__init__()
        self.size, self.code_resolutions, self.code_width = size, code_resolutions, code_width
        self.feature_channels = {4: 2, 8: 2, 16: 2, 32: 2, 64: 2}
        self.linear = torch.nn.Linear(code_width, 5)
        self.dropout = torch.nn.Dropout(0.5)  # tells whether the prior is in evaluation mode
        self.register_buffer("mean_code", torch.full((code_width,), 3.0))

    def map(self, z: Tensor) -> Tensor:
        return z

    def synthesize(self, codes: Tensor, noise: list[Tensor] | None, offsets: Offsets) -> Synthesis:
        y = self.dropout(self.linear(codes.mean(1)))[:, :, None, None]
        features = {size: y[:, :2].expand(-1, -1, size, size) for size in self.feature_channels}
        return Synthesis(y[:, 2:].expand(-1, -1, self.size, self.size), features)


@pytest.mark.parametrize(("lr", "parameters"), [(16, 82_265_557), (128, 75_458_389)])
def test_the_papers_models_make_1024_and_have_the_papers_size(lr: int, parameters: int) -> None:
    """82.27 M with the float encoder's 7.49 M at 16x16: [GRAIN] supplementary, Table 1."""
    with torch.device("meta"):
        model, encoder = Grain(paper_model(lr)), RRDBEncoder(FloatEncoderConfig(scale=(1024 // lr).bit_length() - 1))
    output = model.forward_all(torch.empty(2, 3, lr, lr, device="meta"))
    assert output.final.shape == output.style.shape == (2, 3, 1024, 1024)
    assert output.codes.shape == (2, 18, 512)
    assert list(output.f_gen) == [4 * 2**i for i in range(9)]
    assert sum(p.numel() for part in (model, encoder) for p in part.parameters()) == parameters
    assert lr != 16 or abs(parameters / 82.27e6 - 1) < 0.01


@pytest.mark.parametrize("name", VARIANTS)
def test_variants_restore(name: str) -> None:
    torch.manual_seed(1)
    config = VARIANTS[name]
    model, lr = opened(Grain(config)).eval(), lrs()
    with torch.no_grad():
        output = model.forward_all(lr)
        torch.testing.assert_close(model(lr), output.final, atol=1e-5, rtol=1e-4)
        alone = torch.cat([model(one[None]) for one in lr])
    assert output.final.shape == (2, 3, 64, 64)
    torch.testing.assert_close(alone, output.final, atol=1e-5, rtol=1e-4)
    assert (output.codes is None) == (config.prior is None) == (output.style is None)
    assert config.variant in name
    if name == "invertible only":
        assert output.final is output.invertible and not output.f_gen
    elif name == "codes only":
        assert output.final is output.style


@pytest.mark.parametrize("name", ["full", "full, mobile", "image-level fusion"])
def test_a_new_model_restores_what_the_invertible_decoder_does(name: str) -> None:
    torch.manual_seed(3)
    with torch.no_grad():
        output = Grain(VARIANTS[name]).forward_all(lrs())
    torch.testing.assert_close(output.final, output.invertible, atol=1e-5, rtol=1e-4)
    assert (output.final - output.style).abs().max() > 1e-3


@pytest.mark.parametrize("name", ["full", "full, mobile", "image-level fusion"])
def test_the_priors_gain_scales_what_the_fusion_takes_from_it(name: str) -> None:
    torch.manual_seed(4)
    model, lr = opened(Grain(VARIANTS[name])), lrs()
    with torch.no_grad():
        full, none = model.forward_all(lr), model.forward_all(lr, prior_gain=0.0)
        f_gen = {size: torch.zeros_like(feature) for size, feature in none.f_gen.items()}
        if name == "image-level fusion":
            expected = none.invertible + model.fusion(none.invertible, torch.zeros_like(none.style))
        else:
            expected = none.invertible + model.fusion(none.f_inv, f_gen)
    torch.testing.assert_close(none.final, expected)
    torch.testing.assert_close(none.style, full.style, atol=1e-5, rtol=1e-4)
    assert (full.final - none.final).abs().max() > 1e-3


def test_codes_are_offsets_from_the_mean() -> None:
    prior = PlainPrior()
    config = replace(CONFIG, prior=PriorConfig("stylegan2", replace(CONFIG.prior.network, code_width=8)))
    with pytest.raises(ModelError, match="10 codes, the one given has 64x64 and 3"):
        Grain(config, prior)
    prior.code_resolutions = config.prior.code_resolutions
    model = Grain(config, prior)
    with torch.no_grad():
        for linear in model.codes.codes:
            linear.weight.zero_()
        torch.testing.assert_close(model.forward_all(lrs()).codes, torch.full((2, 10, 8), 3.0))


@pytest.mark.parametrize("name", ["full", "image-level fusion"])
def test_the_generators_picture_can_be_the_base(name: str) -> None:
    config = VARIANTS[name]
    model = Grain(replace(config, fusion=replace(config.fusion, base="style"))).eval()
    x = lrs()
    with torch.no_grad():
        output, faded = model.forward_all(x), model.forward_all(x, prior_gain=0.0)
        torch.testing.assert_close(output.final, output.style, atol=1e-5, rtol=1e-4)
        assert (output.final - output.invertible).abs().max() > 1e-3
        torch.testing.assert_close(faded.final, faded.invertible, atol=1e-5, rtol=1e-4)
        opened(model)
        assert (model.forward_all(x).final - output.style).abs().max() > 1e-3


def test_offsets_join_what_the_codes_steer() -> None:
    torch.manual_seed(5)
    config = replace(CONFIG, codes=replace(CONFIG.codes, offsets=(8, 16)))
    model = Grain(config).eval()
    without = Grain(CONFIG, model.prior).eval()
    state = {name: tensor for name, tensor in model.trained_state().items() if ".offsets." not in name}
    without.load_state_dict(state, strict=False)
    x = lrs()
    with torch.no_grad():
        before, plain = model.forward_all(x), without.forward_all(x)
        torch.testing.assert_close(before.style, plain.style, atol=1e-5, rtol=1e-4)  # zero in a new model
        model.codes.offsets["16"].bias.fill_(0.25)
        after = model.forward_all(x)
    for side in (4, 8):
        torch.testing.assert_close(after.f_gen[side], plain.f_gen[side], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(after.f_gen[16], plain.f_gen[16] + 0.25)
    assert (after.f_gen[32] - plain.f_gen[32]).abs().max() > 0.01
    assert (after.style - plain.style).abs().max() > 0.001
    torch.testing.assert_close(after.codes, plain.codes, atol=1e-5, rtol=1e-4)


def test_offsets_of_another_shape_are_refused() -> None:
    prior = PlainPrior()
    codes = torch.zeros(1, 3, 8)
    with pytest.raises(ModelError, match="offset at 16x16 has the shape"):
        prior(codes, offsets={16: torch.zeros(1, 3, 16, 16)})
    with pytest.raises(ModelError, match="offset at 128x128"):
        prior(codes, offsets={128: torch.zeros(1, 2, 128, 128)})


def test_the_prior_never_moves() -> None:
    """[GRAIN] 3.5: the pretrained generator is fixed all the time; gradients pass through it to the codes."""
    torch.manual_seed(5)
    prior = PlainPrior(code_resolutions=CONFIG.prior.code_resolutions, code_width=32)
    model = opened(Grain(CONFIG, prior)).train()
    assert model.training and not prior.training and not prior.dropout.training
    before = {name: tensor.clone() for name, tensor in prior.state_dict().items()}
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    model(lrs()).square().mean().backward()
    optimizer.step()
    assert all(torch.equal(tensor, before[name]) for name, tensor in prior.state_dict().items())
    assert all(p.grad is None for p in prior.parameters())
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.codes.parameters())


def test_trained_weights_come_back_without_the_prior(model: Grain, tmp_path: Path) -> None:
    path = save_trained(model, tmp_path / "grain.safetensors")
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert path.stat().st_size < 2 * trained + 60_000  # float16; names and configuration
    loaded = load_trained(path, model.prior)
    assert loaded.config == CONFIG and loaded.prior is model.prior
    state = loaded.state_dict()
    for name, tensor in model.trained_state().items():
        assert torch.equal(state[name], tensor.half().float()), name
    with pytest.raises(FileExistsError):
        save_trained(model, path)
    other = copy.deepcopy(model.prior)
    with torch.no_grad():
        next(iter(other.parameters())).add_(1)
    with pytest.raises(ModelError, match="trained with another generator, with the digest [0-9a-f]{16}; .*--prior"):
        load_trained(path, other)
    assert load_trained(path).config == CONFIG  # a random generator, which is replaced


def test_wrong_weights_are_refused(model: Grain, tmp_path: Path) -> None:
    state = model.trained_state()
    with pytest.raises(ModelError, match=r"missing \['codes"):
        fill(model, {name: t for name, t in state.items() if not name.startswith("codes.")}, "w", without=PRIOR)
    with pytest.raises(ModelError, match=r"unknown \['more'\]"):
        fill(model, {**state, "more": torch.zeros(1)}, "w", without=PRIOR)
    with pytest.raises(ModelError, match=r"w does not fit .*(?s:.)*fusion\.to_rgb\.bias"):
        fill(model, {**state, "fusion.to_rgb.bias": torch.zeros(4)}, "w", without=PRIOR)
    (tmp_path / "no.safetensors").write_bytes(b"not safetensors at all")
    with pytest.raises(ModelError, match=r"no\.safetensors holds no trained GRAIN"):
        load_trained(tmp_path / "no.safetensors")
    huge = Grain(VARIANTS["invertible only"])
    with torch.no_grad():
        huge.decoder.conv_first.bias[0] = 1e6
    with pytest.raises(ModelError, match=r"decoder\.conv_first\.bias"):
        save_trained(huge, tmp_path / "huge.safetensors")


def test_configurations_survive_json() -> None:
    for config in (*PRESETS.values(), *VARIANTS.values()):
        assert GrainConfig.from_dict(json.loads(json.dumps(config.as_dict()))) == config
        assert GrainConfig.from_dict(json.loads(json.dumps(asdict(config)))) == config
    # Bundles up to 0.5.0 name an encoder here.
    assert GrainConfig.from_dict({**CONFIG.as_dict(), "encoder": "exact"}) == CONFIG


SMALLER = DecoderConfig((Scale(16, 8), Scale(32, 8)))


@pytest.mark.parametrize(("make", "error", "message"), [
    (lambda: replace(CONFIG, decoder=SMALLER), ValueError, "32x32, the prior of 64x64"),
    (lambda: replace(CONFIG, codes=None), ValueError, "needs a code predictor"),
    (lambda: replace(CONFIG, prior=None, codes=None), ValueError, "nothing to fuse"),
    (lambda: replace(CONFIG, fusion=FusionConfig(sizes=(16, 32), widths=(8, 8))), ValueError,
     "finest fusion must be at 64"),
    (lambda: PriorConfig.from_dict({"kind": "dcgan", "network": {}}), ValueError, "unknown prior"),
    (lambda: PriorConfig("stylegan2", MOBILE_STYLEGAN_256), ValueError, "StyleGAN2Config"),
    (lambda: Grain(VARIANTS["invertible only"], PlainPrior()), ModelError, "no prior"),
    (lambda: paper_model(8), ValueError, "LRs are")])
def test_impossible_configurations_are_refused(
        make: Callable[[], object], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make()
