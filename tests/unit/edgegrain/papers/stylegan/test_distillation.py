"""Distillation: the student takes the teacher's codes, approaches its pictures, and is stored as a prior."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from codec_contract.errors import EdgegrainError, ModelError
from edgegrain.papers.stylegan import distillation as distil_run
from edgegrain.papers.stylegan.distillation import (
    DISTILLATION_RECIPES,
    STUDENT,
    adopt_teacher,
    band_loss,
    random_teacher,
)
from edgegrain.papers.stylegan.training import start_run as start_prior
from edgegrain.training import run as training_run
from edgegrain.training.family import RunOptions
from edgegrain.training.run import train
from server_decoder.grain.grain import PRESETS
from server_decoder.mobile_stylegan import MOBILE_STYLEGAN_256, MobileStyleGAN, MobileStyleGANConfig, inverse_haar
from server_decoder.prior_store import load_prior
from server_decoder.stylegan2.networks import StyleGAN2, StyleGAN2Config, save_stylegan2
from tests.unit.edgegrain.conftest import rows, same
from tests.unit.edgegrain.papers.stylegan.test_training import SMOKE as PRIOR_SMOKE

SMOKE = DISTILLATION_RECIPES["smoke-mobile"]
SMALL = replace(SMOKE, student=replace(SMOKE.student, size=32), adversarial=None)
BOUND = 15.7  # dB to the teacher: half-way between the untrained student's 14.5 and the trained one's 17.0


def test_the_student_comes_closer_to_its_teacher_than_an_untrained_one(tmp_path: Path) -> None:
    save_stylegan2(tmp_path / "teacher.safetensors", teacher := random_teacher(SMALL))
    options = RunOptions(teacher=tmp_path / "teacher.safetensors")
    untrained = train(SMALL, tmp_path / "untrained", options, pictures=0)
    trained = train(SMALL, tmp_path / "trained", options, pictures=400)
    assert untrained["psnr"] < BOUND < trained["psnr"]
    assert trained["skipped"] == 0

    student = load_prior(tmp_path / "trained" / STUDENT, SMALL.student)
    codes = student.broadcast(student.map(torch.randn(2, 32)))
    average = distil_run.load_run(tmp_path / "trained", teacher).average
    torch.testing.assert_close(student(codes).picture, average.generator(codes).picture)


@pytest.mark.usefixtures("unevaluated")
def test_the_adversarial_loss_joins_on_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training_run, "LOG_EVERY", 1)
    discriminator = replace(SMOKE.adversarial.discriminator, size=32)
    adversarial = replace(SMOKE.adversarial, begins=0.6, discriminator=discriminator)
    train(replace(SMALL, batch=4, adversarial=adversarial), tmp_path, pictures=20)
    logged = rows(tmp_path, "bands")
    assert ["adversarial" in row for row in logged] == [False, False, False, True, True]  # from 0.6 of the run on
    assert ["discriminator" in row for row in logged] == [False, True, True, True, True]  # it begins earlier


def test_the_mapping_network_is_the_teachers() -> None:
    teacher = random_teacher(SMALL)
    student = MobileStyleGAN(SMALL.student)
    adopt_teacher(student, teacher)
    z = torch.randn(4, 32)
    torch.testing.assert_close(student.map(z), teacher.map(z), atol=1e-6, rtol=1e-5)
    assert torch.equal(student.mean_code, teacher.mean_code)
    assert torch.equal(student.input, teacher.constant)
    assert torch.equal(student.blocks[0].conv2.noise, teacher.layers[2].noise)
    assert not any(parameter.requires_grad for parameter in student.mapping.parameters())


@pytest.mark.parametrize(("head", "codes"), [("wavelet", 6), ("rgb", 7)])
def test_codes_agree_from_the_coarsest_on_and_every_resolution_has_a_picture(head: str, codes: int) -> None:
    student = MobileStyleGAN(replace(SMALL.student, head=head))
    teacher = random_teacher(SMALL)
    assert student.code_count == codes
    given = torch.randn(2, codes, 32)
    pictures = distil_run.Student(student)(given)
    assert [picture.shape[-1] for picture in pictures] == [8, 16, 32]  # each has a target of its own
    result = distil_run.teacher_codes(given, teacher.code_count)
    assert result.shape == (2, 8, 32)
    assert torch.equal(result[:, :codes], given)
    assert torch.equal(result[:, -1], given[:, -1])
    # What a code steers in the student it steers in the teacher, but for the student's wavelet head.
    assert student.code_resolutions[:5] == teacher.code_resolutions[:5]


@pytest.mark.usefixtures("unevaluated")
def test_a_run_resumes_from_its_weights(tmp_path: Path) -> None:
    teacher = random_teacher(SMALL)
    train(SMALL, tmp_path, pictures=16)
    stored = distil_run.load_run(tmp_path, teacher)
    assert (stored.pictures, stored.recipe) == (16, SMALL)
    train(SMALL, tmp_path, pictures=16, resume=True)
    assert same(distil_run.load_run(tmp_path, teacher).model, stored.model)
    assert train(SMALL, tmp_path, pictures=32, resume=True)["pictures"] == 32
    with pytest.raises(ModelError, match="another teacher"):
        distil_run.load_run(tmp_path, random_teacher(replace(SMALL, seed=2)))


def test_teachers_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    student = MobileStyleGAN(SMALL.student)
    with pytest.raises(ModelError, match="mapping layers"):
        adopt_teacher(student, StyleGAN2(StyleGAN2Config(32, 512, 32, 16, 2)))
    for recipe, options, message in (
        (DISTILLATION_RECIPES["mobile-256"], RunOptions(weights=tmp_path), "pass --teacher"),
        (DISTILLATION_RECIPES["mobile-256"], RunOptions(weights=tmp_path, teacher="none"), "no prior 'none'"),
        (replace(SMALL, lpips=1.0), RunOptions(), "--weights"),
    ):
        with pytest.raises(EdgegrainError, match=message):
            train(recipe, tmp_path, options)


def test_a_teachers_file_gives_its_discriminator_if_that_fits(tmp_path: Path) -> None:
    run = start_prior(PRIOR_SMOKE)
    path = tmp_path / "teacher.safetensors"
    recipe = replace(SMALL, student=MobileStyleGANConfig(16, "rgb", 256, 16, 16, 2))
    save_stylegan2(path, run.average, run.discriminator)
    teacher, discriminator = distil_run.load_teacher(recipe, str(path))
    assert teacher.config == run.recipe.network
    assert discriminator is not None and torch.equal(discriminator.score.weight, run.discriminator.score.weight)
    save_stylegan2(path, run.average, force=True)
    assert distil_run.load_teacher(recipe, str(path))[1] is None


def test_the_recipes() -> None:
    """What the recipe for 256 x 256 makes fits GRAIN's preset of that size."""
    assert DISTILLATION_RECIPES["mobile-256"].student == MOBILE_STYLEGAN_256 == PRESETS["grain-256-lr16"].prior.network


def test_the_loss_is_of_the_bands_that_a_generator_makes() -> None:
    bands = torch.randn(2, 12, 4, 4)  # `inverse_haar` doubles an orthonormal transform's
    loss = band_loss(inverse_haar(0.5 * bands), torch.zeros(2, 3, 8, 8))
    torch.testing.assert_close(loss, bands.abs().mean() + bands.square().mean())


def test_a_constant_difference_lies_in_the_average_band_and_a_larger_target_is_averaged() -> None:
    target = torch.randn(2, 3, 32, 32)
    picture = torch.nn.functional.avg_pool2d(target, 4)
    assert float(band_loss(picture, target)) == pytest.approx(0, abs=1e-6)
    # 0.25 in every pixel is 0.5 in ll and nothing in the other three quarters of the bands.
    assert float(band_loss(picture + 0.25, target)) == pytest.approx((0.5 + 0.25) / 4, abs=1e-5)
