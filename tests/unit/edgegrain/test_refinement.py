"""The search with a decoder that enlarges bilinearly and no loss but the absolute error: seconds, no weights."""

import copy
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

import sdk
from codec_contract.bundle.manifest import load_manifest
from codec_contract.errors import BundleError, ImageError
from codec_contract.lr_coder.coder import encode_lr
from codec_contract.lr_coder.coder_tables import CoderTables
from codec_contract.payload import parse_payload
from codec_contract.pixels import dequantize
from edgegrain import refinement
from edgegrain.refinement import RefiningCodec, rate_model
from edgegrain.training.losses import LossWeights
from sdk.payload import decode_payload_lr
from server_decoder.super_resolution import SuperResolution, SuperResolutionConfig
from tests.tiny_bundle import HR, LR, write_tiny_bundle
from tests.unit.edgegrain.cli.conftest import Shell, shell

__all__ = ["shell"]


class Bilinear(nn.Module):
    """LRs in [-1, 1] to pictures, as a bundle's decoder."""

    def forward(self, lr: Tensor, step: Tensor | None = None) -> Tensor:
        return F.interpolate(lr, scale_factor=HR // LR, mode="bilinear")


class Constant(Bilinear):
    """Restores the same picture of every LR."""

    def forward(self, lr: Tensor, step: Tensor | None = None) -> Tensor:
        return super().forward(0 * lr)


@pytest.fixture
def without_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgegrain.training.losses.find_metric_weights", lambda weights, faces: None)


@pytest.fixture
def bilinear(without_weights: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refinement, "bundle_decoder", lambda manifest: Bilinear())


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_bundle(tmp_path_factory.mktemp("bundles"))


@pytest.fixture(scope="module")
def picture(portrait: np.ndarray) -> np.ndarray:
    """A face, uint8 ``[HR, HR, 3]``."""
    return np.asarray(Image.fromarray(portrait).resize((HR, HR), Image.Resampling.LANCZOS))


def error(lr: np.ndarray, picture: np.ndarray) -> float:
    """Mean absolute error of the enlarged LR, in levels."""
    enlarged = Bilinear()(torch.from_numpy(lr.astype(np.float32)).permute(2, 0, 1)[None])
    return (enlarged[0].permute(1, 2, 0) - torch.from_numpy(picture.astype(np.float32))).abs().mean().item()


@pytest.mark.usefixtures("bilinear")
class TestSearch:
    def test_it_restores_better_at_no_more_bytes(self, bundle: Path, picture: np.ndarray) -> None:
        plain, codec = sdk.Codec(bundle), RefiningCodec(bundle, steps=30)
        start, found = plain.compress(picture), codec.compress(picture)
        assert len(found) <= len(start)
        assert error(found.lr, picture) < 0.97 * error(start.lr, picture)
        assert np.abs(found.lr.astype(int) - start.lr).max() < 64
        assert plain.can_restore(found)
        np.testing.assert_array_equal(decode_payload_lr(parse_payload(found), load_manifest(bundle)), found.lr)
        np.testing.assert_array_equal(plain.restore(found), codec.restore(found))
        again = copy.copy(codec)
        assert isinstance(again, RefiningCodec) and again._steps == 30

    def test_levels_in_steps(self, tmp_path: Path, picture: np.ndarray) -> None:
        folder = write_tiny_bundle(tmp_path, step=5)
        start, found = sdk.Codec(folder).compress(picture), RefiningCodec(folder, steps=30).compress(picture)
        assert len(found) <= len(start) and error(found.lr, picture) < error(start.lr, picture)
        assert set((found.lr % 5).ravel().tolist()) == {0}

    def test_a_picture_is_searched_once_and_always_gets_the_same_payload(
        self, bundle: Path, picture: np.ndarray
    ) -> None:
        parts: list[float] = []
        codec = RefiningCodec(bundle, steps=4)
        codec.report = parts.append
        first = codec.compress(picture)
        assert parts == [0.25, 0.5, 0.75, 1.0] and codec.compress(picture) == first and len(parts) == 4
        again = RefiningCodec(bundle, steps=4)
        torch.manual_seed(7)
        before = torch.random.get_rng_state()
        assert again.compress(picture) == first
        assert torch.equal(torch.random.get_rng_state(), before)

    def test_a_batch_is_its_pictures(self, bundle: Path, picture: np.ndarray) -> None:
        codec = RefiningCodec(bundle, steps=2)
        pictures = [picture, picture[:, ::-1].copy()]
        assert codec.compress_batch(pictures, "crop") == [codec.compress(each, "crop") for each in pictures]
        with pytest.raises(ImageError, match="picture 1"):
            codec.compress_batch([picture, b"no picture"])

    @pytest.mark.parametrize("factor", [2, 4])
    def test_at_larger_sizes(
        self, factor: int, tmp_path: Path, portrait: np.ndarray, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The loss is that of the enlarged pictures alone: their errors shrink."""
        folder = write_tiny_bundle(tmp_path, doublings=2)
        nothing = LossWeights(l1=0, lpips=0, identity=0, lr=0)
        for name, losses in ("FACES", nothing), ("PICTURES", nothing), ("ENLARGED", replace(nothing, l1=1)):
            monkeypatch.setattr(refinement, name, losses)
        network = SuperResolution(SuperResolutionConfig((8, 8), (1, 1), (1,), (8,), (1,)))  # new: bilinear
        monkeypatch.setattr(refinement, "find_enlarger", lambda bundle: SimpleNamespace(network=lambda: network))
        large = np.asarray(Image.fromarray(portrait).resize((factor * HR, factor * HR), Image.Resampling.LANCZOS))
        start, found = (
            codec(folder, **options).compress(large)
            for codec, options in ((sdk.Codec, {}), (RefiningCodec, {"steps": 30, "size": factor * HR}))
        )
        assert len(found) <= len(start)

        def enlarged_error(lr: np.ndarray) -> float:
            picture = Bilinear()(dequantize(torch.from_numpy(lr.astype(np.float32)).permute(2, 0, 1)[None]))
            wanted = dequantize(torch.from_numpy(large.astype(np.float32)).permute(2, 0, 1)[None])
            with torch.no_grad():
                return (network(picture, factor) - wanted).abs().mean().item()

        assert enlarged_error(found.lr) < 0.98 * enlarged_error(start.lr)
        codec = RefiningCodec(folder, steps=1, size=factor * HR)
        with pytest.raises(TypeError, match="that `fit` of this codec prepares"):
            codec.compress_fitted(sdk.Codec(folder).fit(large))

    def test_a_limit_of_bytes(self, bundle: Path, picture: np.ndarray) -> None:
        """Above the encoder's bytes more detail fits, below them less, and far below nothing."""
        start = len(sdk.Codec(bundle).compress(picture))
        found = {
            limit: RefiningCodec(bundle, steps=30, max_bytes=limit).compress(picture)
            for limit in (start - 8, start, start + 40)
        }
        assert all(len(payload) <= limit for limit, payload in found.items())
        assert len(found[start + 40]) > start
        errors = [error(payload.lr, picture) for payload in found.values()]
        assert errors[0] > errors[2] and errors[1] > errors[2]
        with pytest.raises(ImageError, match="fits into 20 bytes"):
            RefiningCodec(bundle, steps=3, max_bytes=20).compress(picture)

    def test_refusals(self, bundle: Path) -> None:
        with pytest.raises(BundleError, match="restores squares of 64 pixels, none of 128"):
            RefiningCodec(bundle, size=2 * HR)


@pytest.mark.usefixtures("without_weights")
def test_if_no_lr_is_better_the_encoders_stays(
    bundle: Path, picture: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(refinement, "bundle_decoder", lambda manifest: Constant())
    assert RefiningCodec(bundle, steps=6).compress(picture) == sdk.Codec(bundle).compress(picture)


@pytest.mark.usefixtures("without_weights")
def test_other_decoders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="describes no decoder of a known kind"):
        RefiningCodec(write_tiny_bundle(tmp_path))


@pytest.mark.usefixtures("bilinear")
class TestCommand:
    def test_compress(self, shell: Shell, bundle: Path, picture: np.ndarray, tmp_path: Path) -> None:
        path = tmp_path / "me.png"
        Image.fromarray(picture).save(path)
        (row,) = shell.json("compress", path, "--bundle", bundle, "--refine", 5)["done"]
        payload = RefiningCodec(bundle, steps=5).compress(path)
        assert row["bytes"] == len(payload) and (tmp_path / "me.grain").read_bytes() == payload
        limit = len(sdk.Codec(bundle).compress(picture)) + 40
        shell.ok("compress", path, "--bundle", bundle, "--refine", 30, "--max-bytes", limit, "--force")
        payload = RefiningCodec(bundle, steps=30, max_bytes=limit).compress(path)
        assert (tmp_path / "me.grain").read_bytes() == payload and limit - 40 < len(payload) <= limit

    def test_what_does_not_go_together(self, shell: Shell, tmp_path: Path) -> None:
        path, remote = tmp_path / "me.png", ("--remote", "http://localhost:1")
        path.touch()
        shell.fails("add --refine 40", "compress", path, "--refine-size", 512, status=2)
        shell.fails("the service does not refine", "compress", path, "--refine", 5, *remote, status=2)

    def test_what_is_missing_is_named(
        self, shell: Shell, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = tmp_path / "me.png"
        path.touch()
        monkeypatch.setitem(sys.modules, "edgegrain.refinement", None)
        shell.fails("pip install 'edgegrain[train]'", "compress", path, "--bundle", bundle, "--refine", 5)


@pytest.mark.parametrize("noise", [0.5, 6.0])
def test_the_rate_is_the_length_of_the_body(noise: float) -> None:
    y, x = np.mgrid[:16, :16]
    smooth = np.stack([90 + 5 * x, 60 + 4 * y, 200 - 3 * x - 2 * y], -1)
    lr = np.clip(np.rint(smooth + np.random.default_rng(0).normal(0, noise, smooth.shape)), 0, 255).astype(np.uint8)
    tables = CoderTables.default()
    levels = torch.from_numpy(lr).permute(2, 0, 1)[None].float().requires_grad_()
    bits = levels.numel() * rate_model(tables, 16)(levels)
    assert bits.item() / 8 == pytest.approx(len(encode_lr(lr, tables)), rel=0.01, abs=2)
    (gradient,) = torch.autograd.grad(bits, levels)
    assert gradient.isfinite().all() and gradient.abs().max() > 0.01
