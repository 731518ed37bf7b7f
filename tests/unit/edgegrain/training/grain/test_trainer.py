"""Training of GRAIN's stages, and their evaluation."""

from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from PIL import Image

from codec_contract.errors import EdgegrainError, ModelError
from codec_contract.lr_coder.coder_tables import rounded
from codec_contract.pixels import dequantize, quantize
from edge_encoder.integer_network import load_integer_network
from edgegrain.pictures.packed import random_pictures
from edgegrain.publishing.publish import has_encoder
from edgegrain.training import losses
from edgegrain.training import run as training_run
from edgegrain.training.adversarial import AdversarialConfig, AdversarialLoss, ProjectedConfig, ProjectedDiscriminator
from edgegrain.training.checkpoint import CHECKPOINT, save_checkpoint
from edgegrain.training.data import rounded_levels
from edgegrain.training.distributed import Distributed
from edgegrain.training.family import NONE, RunOptions
from edgegrain.training.grain import rate
from edgegrain.training.grain import trainer as grain_trainer
from edgegrain.training.grain.model import load_run
from edgegrain.training.grain.recipes import GRAIN_RECIPES, GrainRecipe
from edgegrain.training.grain.start import recipe_prior, start_run
from edgegrain.training.grain.trainer import GrainTrainer, draw_window, evaluate
from edgegrain.training.losses import LossWeights, MetricNetworks
from edgegrain.training.run import train
from sdk import Codec
from server_decoder.generative_prior import Window
from server_decoder.grain.grain import PRESETS
from tests.unit.edgegrain.conftest import rows, same

SMOKE = GRAIN_RECIPES["smoke-stage1"]
WITH_LPIPS = replace(SMOKE, loss=LossWeights(identity=0.0))
WITH_REGIONS = LossWeights(region_gain=3.0, lpips=0.5, regions=0.3, identity=0.0)
PROJECTED = AdversarialConfig("hinge", ratio=0.5, discriminator=ProjectedConfig(8), r1=0.0)


def begun(recipe: GrainRecipe, networks: MetricNetworks = NONE, pictures: np.ndarray | None = None) -> GrainTrainer:
    """The trainer of a new run, on random pictures."""
    run = start_run(recipe, None, recipe_prior(recipe, None))
    run.adversarial = AdversarialLoss(recipe.adversarial) if recipe.adversarial is not None else None
    pictures = random_pictures(8, 64, 0) if pictures is None else pictures
    return GrainTrainer(run, Distributed(torch.device("cpu")), networks, pictures, pictures)


def test_with_lpips_the_loss_falls_below_what_an_untrained_decoder_reaches(
    faces: Path, shared_weights: Path, tmp_path: Path
) -> None:
    options = RunOptions(data=faces, weights=shared_weights)
    untrained = train(WITH_LPIPS, tmp_path / "untrained", options, pictures=0)
    trained = train(WITH_LPIPS, tmp_path / "run", options, pictures=160)
    assert untrained["psnr"] < 14 < trained["psnr"]  # a decoder that says mid-grey stays below 14 dB on these
    assert trained["lpips_alex"] < 0.9 * untrained["lpips_alex"]
    assert "lpips" in rows(tmp_path / "run", "loss")[-1]
    assert (tmp_path / "run" / "samples.png").is_file()


@pytest.mark.usefixtures("unevaluated")
def test_a_decoder_grows_and_is_trained_with_a_projected_discriminator(
    faces: Path, shared_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training_run, "LOG_EVERY", 1)
    train(SMOKE, tmp_path / "small", RunOptions(data=faces), pictures=16)
    scales = tuple(replace(scale, residual=scale.residual + 1) for scale in SMOKE.decoder.scales)
    larger = replace(SMOKE.decoder, upsampling="bilinear", scales=scales)
    recipe = replace(
        SMOKE, trains=("decoder",), decoder=larger, grows=True, jitter=True, loss=WITH_REGIONS, adversarial=PROJECTED
    )
    options = RunOptions(data=faces, weights=shared_weights, init_from=tmp_path / "small")
    train(recipe, tmp_path / "run", options, pictures=8)
    train(recipe, tmp_path / "run", options, pictures=16, resume=True)
    stored, begun = load_run(tmp_path / "run"), load_run(tmp_path / "small")
    assert stored.recipe.decoder == larger
    weight, before = (run.average.decoder.conv_first.weight for run in (stored, begun))
    torch.testing.assert_close(weight, before, atol=0.03, rtol=0)  # eight steps from where it began
    assert same(stored.average.encoder, begun.average.encoder)
    assert stored.adversarial is not None and isinstance(stored.adversarial.discriminator, ProjectedDiscriminator)
    terms = rows(tmp_path / "run", "loss")[-1]
    assert {"l1", "lpips", "regions", "adversarial", "discriminator"} <= set(terms)
    without_adversarial = terms["l1"] + 0.5 * terms["lpips"] + 0.3 * terms["regions"]
    assert terms["loss"] == pytest.approx(without_adversarial, rel=0.02)


@pytest.fixture
def stepped(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, float]]:
    """The step of the levels, and the next random number, after each step of a trainer."""
    found: list[tuple[int, float]] = []
    step = GrainTrainer.step

    def stepping(trainer: GrainTrainer, progress: float) -> dict[str, torch.Tensor]:
        terms = step(trainer, progress)
        found.append((trainer.run.model.lr_step, float(torch.rand(()))))
        return terms

    monkeypatch.setattr(GrainTrainer, "step", stepping)
    return found


def test_a_decoder_learns_several_steps_of_the_levels(
    faces: Path, tmp_path: Path, stepped: list[tuple[int, float]]
) -> None:
    first = start_run(replace(SMOKE, lr_step=2), None)
    save_checkpoint(tmp_path / "first", first)
    several = replace(SMOKE, lr_step=2, lr_steps=(2, 8, 40), trains=("decoder",))
    run = start_run(several, tmp_path / "first")
    x = torch.randint(0, 256, (2, 3, 64, 64)).float()
    with torch.no_grad():  # what is new begins without effect
        assert torch.allclose(run.model(x).picture, first.average(x).picture, atol=1e-6)
    assert run.recipe.invertible.step == 2

    result = train(several, tmp_path / "run", RunOptions(data=faces, init_from=tmp_path / "first"), pictures=48)
    assert {step for step, _ in stepped} == {2, 8, 40} and {"psnr", "psnr_step_8", "psnr_step_40"} <= result.keys()
    trained = load_run(tmp_path / "run").average
    with torch.no_grad():
        assert torch.allclose(trained(x).picture, first.average(x).picture, atol=1e-6)  # it learns the others alone
        trained.lr_step = first.average.lr_step = 40
        assert not torch.allclose(trained(x).picture, first.average(x).picture, atol=1e-3)


def test_a_run_that_grows_may_train_another_encoder(tmp_path: Path) -> None:
    small = start_run(SMOKE, None)
    save_checkpoint(tmp_path, small)
    wider = replace(SMOKE.encoder, channels=(8, 24))  # type: ignore[type-var]
    run = start_run(replace(SMOKE, grows=True, encoder=wider), tmp_path)
    assert run.recipe.encoder == wider
    assert torch.equal(run.model.decoder.conv_first.weight, small.model.decoder.conv_first.weight)
    for kept in (replace(SMOKE, encoder=wider), replace(SMOKE, grows=True, encoder=wider, trains=("decoder",))):
        assert start_run(kept, tmp_path).recipe.encoder == SMOKE.encoder


@pytest.mark.usefixtures("unevaluated")
def test_an_encoder_with_more_blocks_begins_with_the_lr_of_the_trained_one(tmp_path: Path) -> None:
    train(SMOKE, tmp_path, pictures=24)
    trained = load_run(tmp_path).average
    deeper = replace(SMOKE.encoder, blocks=(2, 3))
    run = start_run(replace(SMOKE, grows=True, encoder=deeper), tmp_path)
    assert run.recipe.encoder == deeper
    picture = torch.randint(0, 256, (2, 3, 64, 64)).float()
    lr, _ = run.model.encode(picture)
    assert torch.equal(lr, trained.encode(picture)[0])
    assert not torch.equal(lr, torch.nn.functional.avg_pool2d(picture, 4).add(0.5).floor())
    lr.square().mean().backward()
    gradient = run.model.get_parameter("encoder.stages.1.2.project.weight").grad
    assert gradient is not None and gradient.abs().sum() > 0


def test_the_control_learns_without_an_encoder(tmp_path: Path) -> None:
    result = train(replace(SMOKE, correction=False), tmp_path / "run", pictures=160)
    assert result["psnr"] > 17
    assert not any(name.startswith("encoder.") for name in load_run(tmp_path / "run").model.state_dict())


@pytest.mark.usefixtures("unevaluated")
def test_a_run_resumes_from_its_weights_alone(tmp_path: Path) -> None:
    run = tmp_path / "run"
    train(SMOKE, run, pictures=8)
    with pytest.raises(FileExistsError, match="--resume"):
        train(SMOKE, run, pictures=16)
    train(SMOKE, run, RunOptions(init_from=tmp_path / "gone"), pictures=16, resume=True)  # nothing is read of that
    stored = load_run(run)
    assert stored.pictures == 16
    assert stored.recipe == SMOKE
    assert not torch.equal(stored.model.decoder.conv_first.weight, stored.average.decoder.conv_first.weight)


@pytest.mark.usefixtures("unevaluated")
def test_a_run_is_resumed_by_its_own_recipe_only(tmp_path: Path) -> None:
    """Other stages or parts would train it under its own name, and without its rate model it could not be read."""
    run = tmp_path / "run"
    train(SMOKE, run, pictures=4)
    for other, message in (
        (replace(SMOKE, trains=("decoder",)), "the recipe trains=decoder; resume with the"),
        (replace(SMOKE, loss=replace(SMOKE.loss, rate=0.1)), "has loss.rate=0.0, the recipe loss.rate=0.1"),
        (replace(SMOKE, lr_step=3), "has lr_step=1, the recipe lr_step=3; .*--set lr_step=1"),
        (replace(SMOKE, correction=False), "has correction=True"),
        (GRAIN_RECIPES["smoke-stage3"], "has stage=1, .* --init-from"),
    ):
        with pytest.raises(EdgegrainError, match=message):
            train(other, run, pictures=8, resume=True)
    assert load_run(run).pictures == 4


@pytest.mark.usefixtures("unevaluated")
def test_sessions_of_a_run_draw_different_random_numbers(tmp_path: Path, stepped: list[tuple[int, float]]) -> None:
    for last in (8, 16):
        train(SMOKE, tmp_path / "run", pictures=last, resume=last > 8)
    assert len({number for _, number in stepped}) == 4


def test_the_rate_model_has_a_learning_rate_of_its_own() -> None:
    trainer = begun(replace(SMOKE, loss=replace(SMOKE.loss, rate=0.05)))
    trainer.steps = 10**6  # behind the warm-up
    trainer.step(0.0)
    rates = [optimizer.param_groups[0]["lr"] for optimizer in trainer.optimizers]
    assert rates == pytest.approx([SMOKE.learning_rate, rate.LEARNING_RATE])


def test_identity_joins_on_time() -> None:
    networks = MetricNetworks(None, lambda pictures: pictures.mean((2, 3)))  # type: ignore[arg-type, return-value]
    trainer = begun(replace(SMOKE, identity_from=0.5, loss=LossWeights(lpips=0.0)), networks)
    assert ["identity" in trainer.step(progress) for progress in (0.4, 0.5)] == [False, True]


def test_a_run_can_begin_with_a_bundle(default_bundle: Path, repository: Path) -> None:
    """Its first restoration is the bundle's own, and its encoder counts as the bundle's."""
    recipe = GRAIN_RECIPES["stage1-faces-256-lr16-fine-on"]
    run = start_run(recipe, default_bundle)
    rgb = np.array(Image.open(repository / "edgegrain" / "demo" / "portrait.jpg").convert("RGB"))
    codec = Codec(default_bundle, form="default")
    payload = codec.compress(rgb)
    x = torch.from_numpy(rgb).permute(2, 0, 1)[None].float()
    with torch.no_grad():
        levels, _ = run.model.encoder(x)
        picture = run.model(x).picture
    lr = levels[0].permute(1, 2, 0).numpy().astype(np.uint8)
    np.testing.assert_array_equal(rounded(lr, run.recipe.lr_step), payload.lr)
    restored = quantize(picture[0].permute(1, 2, 0).numpy()).astype(int)
    assert np.abs(restored - np.asarray(codec.restore(payload))).max() <= 1
    assert run.recipe.batch == recipe.batch
    assert run.history[0]["pictures"] > 0
    network = load_integer_network(default_bundle / "encoder.safetensors")
    assert has_encoder(run.model, network)
    with torch.no_grad():
        run.model.encoder.stem.weight[0] *= 1.5
    assert not has_encoder(run.model, network)


@pytest.mark.parametrize("name", ["smoke-stage2", "smoke-stage3", "smoke-final"])
@pytest.mark.usefixtures("unevaluated")
def test_only_what_a_stage_trains_changes(name: str, tmp_path: Path) -> None:
    """The generator least of all ([GRAIN] 3.5: fixed all the time)."""
    recipe = GRAIN_RECIPES[name]
    prior = recipe_prior(recipe, None)
    weights = {name: tensor.clone() for name, tensor in prior.state_dict().items()}
    train(recipe, tmp_path / "first", pictures=0)
    before = load_run(tmp_path / "first", prior).model
    train(recipe, tmp_path / "first", pictures=12, resume=True)
    after = load_run(tmp_path / "first", prior).model
    moved = [part for part in before.parts() if not same(before.parts()[part], after.parts()[part])]
    assert list(before.parts()) == ["encoder", "decoder", "codes", "fusion"] and moved == list(recipe.trains)
    assert same(prior, weights)
    assert all(parameter.grad is None for parameter in prior.parameters())


def test_codes_are_compared_for_synthetic_pictures_only(monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = begun(replace(GRAIN_RECIPES["smoke-stage2"], synthetic=0.5, batch=4))
    found: list[torch.Tensor] = []
    trainer.run.model.register_forward_hook(lambda module, args, out: found.append(out.codes))
    code_loss = Mock(wraps=losses.code_loss)
    monkeypatch.setattr(losses, "code_loss", code_loss)
    trainer.step(0.5)
    assert torch.equal(code_loss.call_args.args[1], found[0][2:])


def test_stage_2_generates_and_compares_windows(shared_weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a part of the steps; the original's window is the restored one's, and losses on places wait for the others."""
    recipe = replace(GRAIN_RECIPES["smoke-stage2"], loss=WITH_REGIONS, adversarial=PROJECTED, lpips_shift=1.0)
    recipe = replace(recipe, decoder=PRESETS["grain-smoke-mobile"], synthetic=0.0, batch=2, window=48)
    rng = np.random.default_rng(0)
    windows = [draw_window(recipe, rng) for _ in range(200)]
    assert 30 < windows.count(None) < 70
    assert {(window.top, window.left) for window in windows if window} == {(y, x) for y in (0, 16) for x in (0, 16)}
    assert draw_window(replace(recipe, window=0), rng) is None

    trainer = begun(recipe, MetricNetworks.load(shared_weights, torch.device("cpu"), needed=True))
    judged: list[torch.Tensor] = []
    batch = torch.from_numpy(random_pictures(2, 64, seed=0)).permute(0, 3, 1, 2).float()
    monkeypatch.setattr(trainer, "_draw", lambda: (batch, None))
    trainer.run.adversarial.update_discriminator = lambda made, real, _: (
        judged.append(real) or {"made": torch.tensor(made.shape[-1])}
    )
    for window, part in ((Window(0, 16, 48), batch[..., :48, 16:]), (None, batch)):
        monkeypatch.setattr(grain_trainer, "draw_window", lambda *_, window=window: window)
        terms = trainer.step(0.5)
        torch.testing.assert_close(judged[-1], dequantize(part))
        assert int(terms["made"]) == (48 if window else 64)
        assert ("regions" in terms) == (window is None) and {"l1", "lpips", "adversarial"} <= set(terms)


def test_the_discriminator_takes_no_synthetic_picture_for_real() -> None:
    recipe = replace(GRAIN_RECIPES["smoke-final"], synthetic=0.5)
    trainer = begun(recipe, pictures=np.full((4, 64, 64, 3), 255, np.uint8))  # white
    compared: list[tuple[torch.Tensor, torch.Tensor]] = []
    adversarial = trainer.run.adversarial
    adversarial.generator_loss = lambda made, real: compared.append((made, real)) or made.mean()
    adversarial.update_discriminator = lambda made, real, _: compared.append((made, real)) or {}
    trainer.step(0.9)
    assert len(compared) == 2
    for made, real in compared:
        assert len(made) == len(real) == recipe.batch // 2 and bool((real == 1).all())


def test_an_encoder_that_is_kept_rounds_from_the_first_step() -> None:
    """Noise replaces rounding only while the encoder is trained, and until ``noise_until``."""
    both = "encoder", "decoder"
    for trains, progress, noisy in ((both[1:], 0.0, False), (both, 0.0, True), (both, 0.4, True), (both, 0.5, False)):
        trainer, seen = begun(replace(SMOKE, trains=trains, noise_until=0.5)), []
        trainer.run.model.decoder.register_forward_hook(lambda module, args, out, seen=seen: seen.append(args[0]))
        trainer.step(progress)
        levels = (seen[0] + 1) * 127.5
        distance = (levels - levels.round()).abs().max()
        assert distance > 0.1 if noisy else distance < 1e-3


def test_jitter_changes_what_the_encoder_sees() -> None:
    seen: list[torch.Tensor] = []
    for jitters in (False, True):
        trainer = begun(replace(SMOKE, jitter=jitters))
        trainer.run.model.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
        trainer.step(0.0)
    plain, jittered = seen
    assert plain.shape == jittered.shape
    assert (jittered - plain).flatten(1).abs().amax(1).min() > 0  # no picture is what it was


def test_the_recipe_sets_how_often_lpips_has_an_offset(monkeypatch: pytest.MonkeyPatch) -> None:
    picture_loss, random_offset = Mock(wraps=losses.picture_loss), Mock(return_value=(1, 2))
    monkeypatch.setattr(losses, "picture_loss", picture_loss)
    monkeypatch.setattr(losses, "random_offset", random_offset)
    begun(replace(SMOKE, lpips_shift=0.3)).step(0.5)
    random_offset.assert_called_once_with(0.3)
    assert picture_loss.call_args.kwargs["offset"] == (1, 2)


def test_a_step_with_a_gradient_that_is_not_finite_changes_nothing() -> None:
    trainer = begun(SMOKE)
    run = trainer.run
    hook = run.model.decoder.head[-1].register_forward_hook(lambda module, args, out: out * float("nan"))
    before = {name: tensor.clone() for name, tensor in run.model.state_dict().items()}
    assert float(trainer.step(0.1)["skipped"]) == 1
    assert same(run.model, before)
    hook.remove()
    trainer.step(0.1)
    assert trainer.skipped == 1
    assert not torch.equal(run.model.decoder.conv_first.weight, before["decoder.conv_first.weight"])


def test_what_is_missing_is_named(faces: Path, tmp_path: Path) -> None:
    with pytest.raises(EdgegrainError, match="--weights"):
        train(WITH_LPIPS, tmp_path / "a", RunOptions(data=faces), pictures=8)
    with pytest.raises(EdgegrainError, match="--data"):
        train(replace(SMOKE, random_pictures=0), tmp_path / "b", pictures=8)
    with pytest.raises(EdgegrainError, match="--init-from"):
        start_run(replace(GRAIN_RECIPES["smoke-stage3"], random_pictures=0), None)
    with pytest.raises(EdgegrainError, match="does not train the encoder.* --init-from"):
        start_run(GRAIN_RECIPES["stage1-faces-256-lr16-fine"], None)
    with pytest.raises(EdgegrainError, match="--prior"):
        train(SMOKE, tmp_path / "c", pictures=4)
        start_run(GRAIN_RECIPES["smoke-stage2"], tmp_path / "c")
    with pytest.raises(ModelError, match="not a training checkpoint"):
        (tmp_path / CHECKPOINT).write_bytes(b"nothing")
        load_run(tmp_path)


@torch.no_grad()
def test_a_final_picture_is_compared_with_its_parts() -> None:
    recipe = GRAIN_RECIPES["smoke-final"]
    model = start_run(recipe, None, recipe_prior(recipe, None)).average.eval()
    pictures = np.random.default_rng(3).integers(0, 256, (2, 64, 64, 3), np.uint8)
    lpips = Mock(side_effect=lambda a, b: (a - b).abs().mean((1, 2, 3)))
    lpips.off_grid = lambda a, b: 2 * (a - b).abs().mean((1, 2, 3))
    found = evaluate(model, pictures, MetricNetworks(lpips))
    x = torch.from_numpy(pictures).permute(0, 3, 1, 2).float()
    restored = [dequantize(rounded_levels(model(x, output=name).picture)) for name in ("invertible", "style")]
    invertible, style = (float((picture - dequantize(x)).abs().mean()) for picture in restored)
    assert found["lpips_alex_style"] == pytest.approx(style, abs=2e-4)
    # A new fusion adds nothing to the invertible picture.
    for name in ("lpips_alex", "lpips_alex_without_prior", "lpips_alex_invertible"):
        assert found[name] == pytest.approx(invertible, abs=2e-4), name
    assert found["lpips_alex_off_grid"] == pytest.approx(2 * found["lpips_alex"], abs=2e-4)
    assert abs(style - invertible) > 0.01
    assert set(evaluate(start_run(SMOKE, None).average.eval(), pictures, NONE)) == {"psnr"}


@pytest.mark.parametrize(("channels", "has_saturation"), [(1, False), (3, True)])
@torch.no_grad()
def test_grey_pictures_have_no_saturation_to_compare(channels: int, has_saturation: bool) -> None:
    model = start_run(replace(SMOKE, loss=replace(SMOKE.loss, rate=0.1)), None).average.eval()
    pictures = np.random.default_rng(3).integers(0, 256, (2, 64, 64, channels), np.uint8)
    found = evaluate(model, np.broadcast_to(pictures, (2, 64, 64, 3)).copy(), NONE)
    assert "lr_bytes" in found and ("lr_saturation" in found) == has_saturation
