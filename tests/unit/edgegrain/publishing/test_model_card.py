"""The model card: its figures come from the evaluation, and mismatched evaluations are refused."""

import json
from pathlib import Path
from typing import Any

import pytest

from codec_contract.bundle.manifest import load_manifest
from codec_contract.errors import BundleError
from edgegrain.publishing.model_card import card_text, collect, enter_evaluation
from tests.gradient_metrics import PHOTOGRAPHS
from tests.tiny_bundle import refresh_manifest, write_tiny_bundle

SCORES = {"bytes": 571.25, "psnr": 25.456, "ssim": 0.7051, "lpips_alex": 0.1441, "lpips_vgg": 0.3132, "identity": 0.41}
SCORES |= {"dists": 0.2, "identity_mobileface": 0.35, "dists_low": 0.194, "dists_high": 0.206}
TRAINING = {"data": {"ffhq": 3739, "celebahq": 2322}, "pictures_seen": 27000, "pictures_in_set": 6061}
LICENCE = {"weights": "Research only.", "data": "FFHQ."}


def card_of(evaluation: dict[str, Any], **changed: Any) -> str:
    record = {"id": "mine", "training": TRAINING, "licence": LICENCE, "domain": "faces", "hr": 256, "lr": 16}
    return card_text({**record, "evaluation": evaluation, **changed})


def summary(bundle: str, **scores: float | None) -> dict:
    means = {bundle: {**SCORES, **scores}, "classical, best PSNR": {**SCORES, "lpips_alex": 0.39}}
    pictures = {"folder": "faces_256", "count": 60, "sha256": "aa"}
    return {"bundle": {"id": bundle}, "pictures": pictures, "means": means, "versions": {"torch": "2.13.0"}}


def test_the_card_states_the_measured_means_and_the_licence() -> None:
    evaluation = collect("mine", summary("mine"))
    card = card_of(evaluation)
    assert "| SSIM | LPIPS-Alex† | identity (dlib)† | LPIPS-VGG | DISTS | identity (MobileFace) |" in card
    assert "† a training loss of this bundle" in card
    assert "| this bundle | 571 | 25.46 | 0.705 | 0.144 | 0.410 | 0.313 | 0.200 ±0.006 | 0.350 |" in card
    assert "| classical, best PSNR | 571 | 25.46 | 0.705 | 0.390 | 0.410 | 0.313 | 0.200 ±0.006 | 0.350 |" in card
    assert "27,000 pictures seen in stage 1 (encoder and decoder), drawn from 6,061 (3739 ffhq, 2322 celebahq; " in card
    assert "Research only." in card
    assert "Generator" not in card
    assert "Generator inside: FFHQ's." in card_of(evaluation, licence={**LICENCE, "prior": "FFHQ's"})


def test_of_the_classical_codecs_the_card_keeps_the_best_of_all_with_kid_and_the_size_of_the_lr() -> None:
    """A summary as ``edgegrain evaluate`` writes it; those of earlier releases lack what is optional."""
    own = summary("mine", kid=0.0123, identity=None)
    own["means"]["WebP, best PSNR"] = SCORES
    own |= {"lr_saturation": 0.8513, "kid_features": "VGG16 relu5_3", "photographs": PHOTOGRAPHS}
    own["lr_bytes"] = {"payload": 571.2, "png": 790, "webp": 755, "jpeg-xl": 690}
    evaluation = collect("mine", own)
    assert list(evaluation["methods"]) == ["this bundle", "classical, best PSNR"]
    card = card_of(evaluation)
    assert "| identity (MobileFace) | KID |" in card
    assert "| this bundle | 571 | 25.46 | 0.705 | 0.144 | – | 0.313 | 0.200 ±0.006 | 0.350 | 0.012 |" in card
    assert "LR is 790 bytes as optimised PNG, 755 as lossless WebP, 690 as lossless JPEG XL." in card
    assert "The LR's colours have 0.85 times the mean saturation of the plain area mean." in card
    assert "KID is the kernel distance of VGG16 relu5_3" in card
    assert "of 36 photographs as people have them" in card and "0.431 (dlib; 3% above 0.6)" in card
    assert "KID" not in card_of(collect("mine", summary("mine")))


def test_eyes_mouth_and_grids_are_a_second_table() -> None:
    eyes = {"lpips_eyes": 0.31, "lpips_eyes_low": 0.30, "lpips_eyes_high": 0.32, "chroma_eyes": 4.567}
    card = card_of(collect("mine", summary("mine", **eyes, kid_mouth=0.0523, grid_8=13.83)))
    header, _, *rows = card[card.index("Eyes and mouth are fixed boxes") :].split("\n\n")[1].splitlines()
    assert header == "| method | LPIPS-VGG, eyes | KID, mouth | colour error, eyes | grid of 8 (dB) |"
    assert rows == ["| this bundle | 0.310 ±0.010 | 0.052 | 4.57 | 13.8 |", "| classical, best PSNR | – | – | – | – |"]
    assert "colour error" not in card_of(collect("mine", summary("mine")))


def test_groups_of_people_are_a_table() -> None:
    row = {"pictures": 12, "lightness": 1.26, "red": -0.3, "identity": 0.2, "years_off": 5.1, "flips": 0.25}
    groups = {"remark": "Estimated by a network.", "rows": {"glasses": row}}
    assert (
        "Estimated by a network.\n\n"
        "| group | pictures | skin L* | skin a* | skin b* | identity (MobileFace) | age (years) | age, absolute | "
        "other gender |\n|---|---:|---:|---:|---:|---:|---:|---:|---:|\n"
        "| glasses | 12 | +1.3 | -0.3 | – | 0.200 | – | 5.1 | 25% |"
    ) in card_of(collect("mine", summary("mine") | {"groups": groups}))


def test_the_card_names_every_stage_in_order_and_says_if_there_is_no_evaluation() -> None:
    stages = [{"stage": "1", "pictures": 27000}, {"stage": "2", "pictures": 9000}, {"stage": "final", "pictures": 500}]
    card = card_of({}, training={**TRAINING, "stages": stages})
    assert (
        "27,000 pictures seen in stage 1 (encoder and decoder); 9,000 pictures seen in stage 2 (codes of the "
        "generator); 500 pictures seen in the final stage"
    ) in card and "Not evaluated yet." in card


def test_the_card_of_another_domain_speaks_of_no_faces() -> None:
    own, licence = summary("mine", identity=None), {"weights": "As you like.", "data": "Own pictures."}
    card = card_of(collect("mine", own), licence=licence, domain="cats", hr=64)
    assert "A picture (cats), 64 x 64, as a viewable LR of 16 x 16 and back." in card
    assert "Mean over the 60 unseen cats of" in card and "As you like." in card
    assert not any(word in card for word in ("face is", "Identity is", "dlib,", "Research only", "FFHQ and"))
    faces = card_of({})
    assert "A picture of a face, 256 x 256, as a viewable LR of 16 x 16 and back." in faces and "old age" in faces


def test_figures_of_another_bundle_version_encoder_or_size_are_refused(tmp_path: Path) -> None:
    folder, path = write_tiny_bundle(tmp_path), tmp_path / "own.json"
    refresh_manifest(folder, training=TRAINING)
    manifest = load_manifest(folder)
    own = summary(manifest.id) | {"size": manifest.hr}
    own["bundle"] |= {"version": manifest.version, "lr_contract_id": manifest.lr_contract_id.hex()}
    path.write_text(json.dumps(own))
    assert "| this bundle |" in enter_evaluation(folder, path)
    entered = load_manifest(folder)
    for bundle, size, message in (
        ({"id": "other"}, 64, "of other, not of tiny-64-lr16"),
        ({"version": "0.5.0"}, 64, "with version 0.5.0, but the bundle has 1.0.0; evaluate it again"),
        ({"lr_contract_id": "ab" * 32}, 64, "with lr_contract_id abab"),
        ({}, 128, "the evaluation was measured at 128 pixels, but the card states figures at 64"),
    ):
        path.write_text(json.dumps({**own, "bundle": own["bundle"] | bundle, "size": size}))
        with pytest.raises(BundleError, match=message):
            enter_evaluation(folder, path)
        assert load_manifest(folder) == entered
