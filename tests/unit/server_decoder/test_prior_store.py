"""Priors of both kinds are found by name or path, and loaded; their hash is that of their weights on every CPU."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from codec_contract.errors import ModelError
from server_decoder.generative_prior import GenerativePrior, prior_digest
from server_decoder.mobile_stylegan import MobileStyleGAN, MobileStyleGANConfig, save_mobile_stylegan
from server_decoder.prior_store import DEFAULT_PRIOR, find_prior, load_prior, prior_folder, prior_licence
from server_decoder.stylegan2.networks import StyleGAN2, StyleGAN2Config, save_stylegan2

MOBILE = MobileStyleGANConfig(32, "wavelet", 256, 8, code_width=8, mapping_layers=1)
STYLEGAN2 = StyleGAN2Config(16, 64, 8, code_width=8, mapping_layers=1)


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("EDGEGRAIN_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_folder(monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    assert prior_folder() == cache / "priors"
    monkeypatch.delenv("EDGEGRAIN_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    assert prior_folder() == Path("/xdg/edgegrain/priors")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert prior_folder() == Path.home() / ".cache" / "edgegrain" / "priors"


def test_finding(cache: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="mobile-stylegan-ffhq is not in .*; run: edgegrain prior fetch$"):
        find_prior(DEFAULT_PRIOR)
    for name in ("cats", "../escape", "a" * 300):
        with pytest.raises(ModelError, match=f"there is no prior '{name}'.*fetch downloads mobile-stylegan-ffhq"):
            find_prior(name)
    path = save_mobile_stylegan(MobileStyleGAN(MOBILE), cache / "priors" / f"{DEFAULT_PRIOR}.safetensors")
    assert find_prior(DEFAULT_PRIOR) == path
    mine = tmp_path / "mine.bin"
    mine.write_bytes(b"")
    assert find_prior(mine) == mine


def test_loading_both_kinds(tmp_path: Path) -> None:
    mobile, stylegan2 = tmp_path / "mobile.safetensors", tmp_path / "stylegan2.safetensors"
    save_mobile_stylegan(MobileStyleGAN(MOBILE), mobile, {8: nn.Conv2d(8, 3, 1)})
    save_stylegan2(stylegan2, StyleGAN2(STYLEGAN2))
    for path, kind, config in ((mobile, MobileStyleGAN, MOBILE), (stylegan2, StyleGAN2, STYLEGAN2)):
        prior = load_prior(path, config)
        assert isinstance(prior, kind) and prior.code_count == 6 and not prior.training
        assert not any(parameter.requires_grad for parameter in prior.parameters())
        shorter = load_prior(path, size=8)
        picture = shorter(torch.zeros(1, shorter.code_count, 8)).picture
        assert shorter.size == 8 and picture.shape == (1, 3, 8, 8)
    save_file({"x": torch.zeros(1)}, tmp_path / "x.safetensors")
    (tmp_path / "text").write_text("hello")
    for path, config, message in (
        (mobile, STYLEGAN2, "is not a StyleGAN2 "),
        (stylegan2, MOBILE, "is not a MobileStyleGAN "),
        (tmp_path / "x.safetensors", None, r"not a prior \(format None\); edgegrain convert --from stylegan2-"),
        (tmp_path / "text", None, "no safetensors file"),
    ):
        with pytest.raises(ModelError, match=message):
            load_prior(path, config)


def test_a_file_says_whose_it_is(tmp_path: Path) -> None:
    path = tmp_path / "mobile.safetensors"
    save_mobile_stylegan(MobileStyleGAN(MOBILE), path, metadata={"origin": "a package", "licence": "research only"})
    assert prior_licence(path) == "a package: research only"
    save_mobile_stylegan(MobileStyleGAN(MOBILE), path, force=True)
    assert prior_licence(path) == "origin not stated: licence not stated"


@torch.no_grad()
@pytest.mark.parametrize(
    ("make", "measured"),
    [
        (lambda: StyleGAN2(STYLEGAN2), {"mean_code"}),
        (lambda: MobileStyleGAN(MOBILE), {"mean_code"}),
        (lambda: MobileStyleGAN(replace(MOBILE, head="rgb")), {"mean_code", "head.weight", "head.bias"}),
    ],
)
def test_hash_covers_everything_but_what_is_measured(make: Callable[[], GenerativePrior], measured: set[str]) -> None:
    prior = make()
    before = prior_digest(prior)
    assert prior.measured == measured
    for name, tensor in prior.state_dict().items():
        kept = tensor.clone()
        tensor.add_(1e-3)
        assert (prior_digest(prior) == before) == (name in measured), name
        tensor.copy_(kept)
    assert prior_digest(prior) == before
