"""Synthetic pictures are those of their codes, and the same for the same seed."""

from __future__ import annotations

import pytest
import torch

from edgegrain.training.grain.synthetic import SyntheticBatch, synthetic_faces
from server_decoder.mobile_stylegan.generator import MobileStyleGAN, MobileStyleGANConfig

CONFIG = MobileStyleGANConfig(16, "wavelet", 256, 8, code_width=8, mapping_layers=1)


@pytest.fixture(scope="module")
def prior() -> MobileStyleGAN:
    torch.manual_seed(0)
    prior = MobileStyleGAN(CONFIG).eval().requires_grad_(False)
    prior.mean_code.normal_()
    return prior


def draw(prior: MobileStyleGAN, count: int, seed: int, **options: object) -> SyntheticBatch:
    pictures, codes = zip(*synthetic_faces(prior, count, seed, **options), strict=True)  # type: ignore[arg-type]
    return SyntheticBatch(torch.cat(pictures), torch.cat(codes))


def test_pictures_are_those_of_the_codes(prior: MobileStyleGAN) -> None:
    sizes = [len(batch.pictures) for batch in synthetic_faces(prior, 10, 1, batch=4)]
    assert sizes == [4, 4, 2]
    faces = draw(prior, 10, 1, batch=4)
    assert faces.pictures.shape == (10, 3, 16, 16) and faces.codes.shape == (10, prior.code_count, 8)
    torch.testing.assert_close(faces.pictures, prior(faces.codes).picture.clamp(-1, 1))
    assert faces.pictures.abs().max() <= 1 and not faces.pictures.requires_grad


def test_deterministic_per_seed(prior: MobileStyleGAN) -> None:
    first, again, other = (draw(prior, 6, seed) for seed in (1, 1, 2))
    assert torch.equal(first.codes, again.codes) and torch.equal(first.pictures, again.pictures)
    assert (first.codes - other.codes).abs().max() > 0.1


def test_truncation(prior: MobileStyleGAN) -> None:
    whole, half, none = (draw(prior, 6, 1, psi_range=(psi, psi)).codes - prior.mean_code for psi in (1.0, 0.5, 0.0))
    torch.testing.assert_close(half, 0.5 * whole)
    assert none.abs().max() == 0
    distances = (draw(prior, 64, 1, psi_range=(0.5, 0.95)).codes - prior.mean_code)[:, 0].norm(dim=1)
    whole_distances = (draw(prior, 64, 1, psi_range=(1.0, 1.0)).codes - prior.mean_code)[:, 0].norm(dim=1)
    psi = distances / whole_distances
    assert 0.5 <= psi.min() < 0.6 and 0.85 < psi.max() <= 0.95


def test_mixing_exchanges_the_later_layers(prior: MobileStyleGAN) -> None:
    plain = draw(prior, 8, 1, mixing=0.0).codes
    assert (plain == plain[:, :1]).all()
    mixed = draw(prior, 8, 1, mixing=1.0).codes
    assert torch.equal(mixed[:, 0], plain[:, 0])
    changes = (mixed[:, 1:] != mixed[:, :-1]).any(dim=2).sum(dim=1)
    assert (changes == 1).all()  # one crossover each
    share = (draw(prior, 400, 1, mixing=0.5, batch=400).codes.std(dim=1) > 1e-6).any(dim=1).float().mean()
    assert 0.4 < share < 0.6


def test_bfloat16_keeps_codes_and_type(prior: MobileStyleGAN, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_bf16": True}, raising=False)
    full, low = draw(prior, 4, 1), draw(prior, 4, 1, dtype=torch.bfloat16)
    assert torch.equal(full.codes, low.codes) and low.pictures.dtype == torch.float32
    assert 0 < (full.pictures - low.pictures).abs().max() < 0.2
