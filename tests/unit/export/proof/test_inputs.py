from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from codec_contract.errors import ExportError
from edge_encoder.integer_network import IntegerNetwork, accumulate
from export.proof import inputs as proof
from export.proof.inputs import CheckInput, boundary_counts, find_pictures, input_counts, make_inputs


def _make(network: IntegerNetwork, count: int = 50, seed: int = 0, **options: object) -> list[CheckInput]:
    return list(make_inputs(network.hr, count, network=network, seed=seed, **options))  # type: ignore[arg-type]


def test_every_kind_is_there_and_the_count_is_kept(network: IntegerNetwork) -> None:
    inputs = _make(network, 50)
    kinds = Counter(item.kind for item in inputs)
    assert len(inputs) == 50 and set(kinds) == set(proof.SHARES) and kinds == input_counts(50)
    for item in inputs:
        assert item.picture.dtype == np.uint8 and item.picture.shape == (network.hr, network.hr, 3)
    assert len({item.picture.tobytes() for item in inputs}) > 45  # hardly a repetition


@pytest.mark.parametrize("count", [1, 7, 200, 333])
def test_counts_add_up(count: int) -> None:
    assert sum(input_counts(count).values()) == count


def test_the_seed_decides_everything(network: IntegerNetwork) -> None:
    first, again, other = (_make(network, 25, seed) for seed in (1, 1, 2))
    assert all(np.array_equal(a.picture, b.picture) and a.name == b.name for a, b in zip(first, again, strict=True))
    assert any(not np.array_equal(a.picture, b.picture) for a, b in zip(first, other, strict=True))


def test_without_a_network_noise_takes_the_place_of_adversarial_inputs(network: IntegerNetwork) -> None:
    kinds = Counter(item.kind for item in make_inputs(network.hr, 50))
    assert "adversarial" not in kinds and sum(kinds.values()) == 50


def test_real_pictures_are_used_and_varied(network: IntegerNetwork, tmp_path: Path) -> None:
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (90, 120, 3), dtype=np.uint8)).save(tmp_path / "a.png")
    pictures = [item for item in _make(network, 20, pictures=find_pictures(tmp_path)) if item.kind == "picture"]
    assert len(pictures) >= 7 and all("a.png" in item.name for item in pictures)
    assert len({item.picture.tobytes() for item in pictures}) == len(pictures)


def test_a_folder_without_pictures_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no picture")
    with pytest.raises(ExportError, match="no pictures"):
        find_pictures(tmp_path)


def test_near_boundary_means_that_one_unit_changes_the_value(network: IntegerNetwork) -> None:
    layer = network.layers[0]
    picture = np.random.default_rng(3).integers(0, 256, (1, network.hr, network.hr, 3))
    acc = accumulate(layer, picture)
    shift = layer.shift.astype(np.int64)

    def value(accumulator: np.ndarray) -> np.ndarray:
        return (accumulator + (1 << (shift - 1))) >> shift

    changes = (value(acc - 1) != value(acc)) | (value(acc + 1) != value(acc))
    assert np.array_equal(proof.near_boundary(acc, layer), changes)
    assert 0 < changes.mean() < 0.5


def test_adversarial_inputs_sit_on_boundaries_where_they_aim(network: IntegerNetwork) -> None:
    rng = np.random.default_rng(5)
    noise = rng.integers(0, 256, (10, network.hr, network.hr, 3), dtype=np.uint8)
    counts, gains = [boundary_counts(network, picture) for picture in noise], {}
    for item in _make(network, 100):
        if "near boundaries" in item.name:
            layer = item.name.split(": ")[1].split()[0]
            typical = np.mean([count[layer] for count in counts])
            gains[item.name] = boundary_counts(network, item.picture)[layer] / (1 + typical)
    assert len(gains) >= 8
    stem = [gain for name, gain in gains.items() if ": stem near" in name]
    assert min(stem) > 1.5 and np.mean(list(gains.values())) > 1.2, gains


def test_extreme_inputs_reach_the_proven_bound_of_a_stem_channel(network: IntegerNetwork) -> None:
    (item,) = [item for item in _make(network, 50) if "stem channel 0 extreme" in item.name][:1]
    stem = network.layers[0]
    acc = accumulate(stem, item.picture[None].astype(np.int64))[..., 0] - stem.bias[0]
    assert acc.max() == 255 * np.maximum(stem.weight[0].astype(int), 0).sum()


def test_sides_that_no_block_divides() -> None:
    """IRN x3 takes 255 pixels."""
    inputs = list(make_inputs(255, 20))
    assert len(inputs) == 20 and all(item.picture.shape == (255, 255, 3) for item in inputs)
