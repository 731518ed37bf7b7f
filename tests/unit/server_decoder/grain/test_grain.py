"""The whole model: the paper's size, its ablations, the frozen generator, and weights without it."""

import copy
import json
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import cache, partial
from pathlib import Path

import pytest
import torch
from torch import Tensor

from codec_contract.errors import ModelError
from edgegrain.papers.grain.rrdb_encoder import FloatEncoderConfig, RRDBEncoder
from server_decoder.generative_prior import GenerativePrior, Noise, Offsets, Synthesis, Window
from server_decoder.grain.code_predictor import CodesConfig
from server_decoder.grain.fusion import FusionConfig
from server_decoder.grain.grain import PRESETS, Grain, GrainConfig, PriorConfig, load_trained, paper_model, save_trained
from server_decoder.grain.rrdb_decoder import DecoderConfig, Scale
from tests.tiny_grain import TINY, TINY_MOBILE

VARIANTS = {
    "full": TINY,
    "full, mobile": TINY_MOBILE,
    "invertible only": replace(TINY, prior=None, codes=None, fusion=None),
    "codes only": replace(TINY, fusion=None),
    "codes only, one scale": replace(TINY, fusion=None, codes=CodesConfig(8, (8, 12, 64), source="coarsest")),
    "image-level fusion": replace(TINY, fusion=FusionConfig(kind="pictures", head=(8,))),
}
FUSED = pytest.mark.parametrize("name", ["full", "full, mobile", "image-level fusion"])
close = partial(torch.testing.assert_close, atol=1e-5, rtol=1e-4)


@torch.no_grad()
def opened(model: Grain) -> Grain:
    """A model whose fusion has an effect, as after training."""
    if model.fusion is not None:
        torch.nn.init.normal_(model.fusion.to_rgb.weight, std=0.1)
    return model.eval()


@cache
def model_of(name: str) -> Grain:
    """The opened model of a variant, for tests that do not change it."""
    torch.manual_seed(1)
    return opened(Grain(VARIANTS[name]))


def lrs() -> Tensor:
    return torch.rand(2, 3, 8, 8) * 2 - 1


class PlainPrior(GenerativePrior):
    """The smallest generator there is: every feature map is a linear picture of one code."""

    def __init__(self, code_resolutions: tuple[int, ...] = (4, 8, 16), code_width: int = 8) -> None:
        super().__init__()
        self.size, self.code_resolutions, self.code_width = 16, code_resolutions, code_width
        self.feature_channels = {4: 2, 8: 2, 16: 2}
        self.linear = torch.nn.Linear(code_width, 5)
        self.dropout = torch.nn.Dropout(0.5)  # tells whether the prior is in evaluation mode
        self.register_buffer("mean_code", torch.full((code_width,), 3.0))

    def map(self, z: Tensor) -> Tensor:
        return z

    def synthesize(self, codes: Tensor, noise: Noise, offsets: Offsets, window: Window | None = None) -> Synthesis:
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
@torch.no_grad()
def test_variants_restore(name: str) -> None:
    model, lr = model_of(name), lrs()
    output = model.forward_all(lr)
    close(model(lr), output.final)
    close(torch.cat([model(one[None]) for one in lr]), output.final)
    assert output.final.shape == (2, 3, 16, 16) and model.config.variant in name
    assert (output.codes is None) == (model.config.prior is None) == (output.style is None)
    if name == "invertible only":
        assert output.final is output.invertible and not output.f_gen
    elif name.startswith("codes only"):
        assert output.final is output.style


@FUSED
@torch.no_grad()
def test_a_new_model_restores_what_the_invertible_decoder_does(name: str) -> None:
    output = Grain(VARIANTS[name]).forward_all(lrs())
    close(output.final, output.invertible)
    assert (output.final - output.style).abs().max() > 1e-3


@FUSED
@torch.no_grad()
def test_the_priors_gain_scales_what_the_fusion_takes_from_it(name: str) -> None:
    model, lr = model_of(name), lrs()
    full, none = model.forward_all(lr), model.forward_all(lr, prior_gain=0.0)
    if name == "image-level fusion":
        added = model.fusion(none.invertible, torch.zeros_like(none.style))
    else:
        added = model.fusion(none.f_inv, {size: torch.zeros_like(feature) for size, feature in none.f_gen.items()})
    close(none.final, none.invertible + added)
    close(none.style, full.style)
    assert (full.final - none.final).abs().max() > 1e-3


@pytest.mark.parametrize("name", ["full", "image-level fusion"])
@torch.no_grad()
def test_the_generators_picture_can_be_the_base(name: str) -> None:
    config, x = VARIANTS[name], lrs()
    model = Grain(replace(config, fusion=replace(config.fusion, base="style"))).eval()
    output, faded = model.forward_all(x), model.forward_all(x, prior_gain=0.0)
    close(output.final, output.style)
    close(faded.final, faded.invertible)
    assert (output.final - output.invertible).abs().max() > 1e-3
    assert (opened(model).forward_all(x).final - output.style).abs().max() > 1e-3


@torch.no_grad()
def test_offsets_join_what_the_codes_steer() -> None:
    model = Grain(replace(TINY, codes=replace(TINY.codes, offsets=(8,)))).eval()
    without = Grain(TINY, model.prior).eval()
    state = {name: tensor for name, tensor in model.trained_state().items() if ".offsets." not in name}
    without.load_state_dict(state, strict=False)
    x = lrs()
    before, plain = model.forward_all(x), without.forward_all(x)
    close(before.style, plain.style)  # zero in a new model
    model.codes.offsets["8"].bias.fill_(0.25)
    after = model.forward_all(x)
    close(after.f_gen[4], plain.f_gen[4])
    close(after.f_gen[8], plain.f_gen[8] + 0.25)
    assert (after.f_gen[16] - plain.f_gen[16]).abs().max() > 0.01
    assert (after.style - plain.style).abs().max() > 0.001
    close(after.codes, plain.codes)


def test_the_prior_never_moves() -> None:
    """[GRAIN] 3.5: the pretrained generator is fixed all the time; gradients pass through it to the codes."""
    prior = PlainPrior(code_resolutions=TINY.prior.code_resolutions, code_width=32)
    model = opened(Grain(TINY, prior)).train()
    assert model.training and not prior.training and not prior.dropout.training
    before = {name: tensor.clone() for name, tensor in prior.state_dict().items()}
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    model(lrs()).square().mean().backward()
    optimizer.step()
    assert all(torch.equal(tensor, before[name]) for name, tensor in prior.state_dict().items())
    assert all(p.grad is None for p in prior.parameters())
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.codes.parameters())


def test_trained_weights_come_back_without_the_prior(tmp_path: Path) -> None:
    model = model_of("full")
    path = save_trained(model, tmp_path / "grain.safetensors")
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert path.stat().st_size < 2 * trained + 60_000  # float16; names and configuration
    loaded = load_trained(path, model.prior)
    assert loaded.config == TINY and loaded.prior is model.prior
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
    assert load_trained(path).config == TINY  # a random generator, which is replaced
    (tmp_path / "no.safetensors").write_bytes(b"not safetensors at all")
    with pytest.raises(ModelError, match=r"no\.safetensors holds no trained GRAIN"):
        load_trained(tmp_path / "no.safetensors")


def test_configurations_survive_json() -> None:
    for config in (*PRESETS.values(), *VARIANTS.values()):
        assert GrainConfig.from_dict(json.loads(json.dumps(config.as_dict()))) == config
        assert GrainConfig.from_dict(json.loads(json.dumps(asdict(config)))) == config
    # Bundles up to 0.5.0 name an encoder here.
    assert GrainConfig.from_dict({**TINY.as_dict(), "encoder": "exact"}) == TINY


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: replace(TINY, decoder=DecoderConfig((Scale(8, 8),))), ValueError, "8x8, the prior of 16x16"),
        (lambda: replace(TINY, codes=None), ValueError, "needs a code predictor"),
        (lambda: replace(TINY, prior=None, codes=None), ValueError, "nothing to fuse"),
        (lambda: replace(TINY, fusion=FusionConfig(sizes=(4, 8), widths=(8, 8))), ValueError, "fusion must be at 16"),
        (lambda: PriorConfig.from_dict({"kind": "dcgan", "network": {}}), ValueError, "unknown prior"),
        (lambda: Grain(VARIANTS["invertible only"], PlainPrior()), ModelError, "no prior"),
        (lambda: Grain(TINY, PlainPrior()), ModelError, "6 codes, the one given has 16x16 and 3"),
        (lambda: paper_model(8), ValueError, "LRs are"),
    ],
)
def test_impossible_configurations(make: Callable[[], object], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make()
