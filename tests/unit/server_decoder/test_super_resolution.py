"""The enlarger: its cost, its start, windows that equal the whole picture, and the notch filter."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from codec_contract.errors import ModelError
from edgegrain.papers.models import super_resolution_model
from server_decoder.generative_prior import Window
from server_decoder.super_resolution import (
    SuperResolution,
    SuperResolutionConfig,
    coordinates,
    load_super_resolution,
    notch_filter,
    read_training,
    save_super_resolution,
)

SMALL = SuperResolutionConfig(widths=(8, 12), down=(1, 1), up=(1,), fine_widths=(6,), fine_blocks=(2,))


def shaken(config: SuperResolutionConfig = SMALL) -> SuperResolution:
    """A network whose heads are not zero."""
    torch.manual_seed(0)
    network = SuperResolution(config).eval()
    with torch.no_grad():
        for head in network.heads:
            nn.init.normal_(head.weight, std=0.1)
    return network


def random_picture(count: int = 1, side: int = 32) -> Tensor:
    return torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(1)) * 2 - 1


@pytest.mark.parametrize(("factor", "most"), [(2, 25e9), (4, 45e9)])
def test_the_published_shape_is_within_its_budget(factor: int, most: float) -> None:
    """4 MB are 4 M parameters in int8."""
    model = super_resolution_model(factor)
    assert 0.8 * most < model.macs <= most and 3e6 < model.parameters <= 4e6


@torch.no_grad()
def test_a_new_network_is_the_bilinear_enlargement() -> None:
    network, picture = SuperResolution(SMALL).eval(), random_picture(2)
    twice = F.interpolate(picture, (64, 64), mode="bilinear", align_corners=False)
    assert torch.equal(network(picture, 2), twice)
    assert torch.equal(network(picture, 4), F.interpolate(twice, (128, 128), mode="bilinear", align_corners=False))
    changed = shaken()
    assert (changed(picture, 2) - twice).abs().mean() > 0.01
    constant = torch.full((1, 3, 16, 16), 0.25)  # far from the edges a pixel changes by its coordinates only
    assert (changed(constant, 2)[..., 8, 8] - changed(constant, 2)[..., 8, 20]).abs().max() > 1e-4


@torch.no_grad()
def test_features_of_a_new_network_have_a_deviation_of_about_1() -> None:
    network, picture = SuperResolution().eval(), F.interpolate(random_picture(1, 8), (32, 32), mode="bilinear")
    features = network.coarse(picture)
    half = network.fine[0](features)
    assert 0.4 < features.std() < 2 and 0.4 < half.std() < 2


@torch.no_grad()
def test_windows_equal_the_whole_picture() -> None:
    network, picture = shaken(), random_picture(2, 48)
    windows = [[Window(0, 0, 16), Window(17, 13, 16)], [Window(32, 5, 16), Window(32, 32, 16)]]
    for factor, sides in ((2, [32]), (4, [32, 64])):
        steps, whole = network.forward_windows(picture, windows, factor), network(picture, factor)
        assert [step.shape[-1] for step in steps] == sides
        expected = torch.stack(
            [
                whole[index, :, factor * top : factor * (top + size), factor * left : factor * (left + size)]
                for index, of_picture in enumerate(windows)
                for top, left, size in of_picture
            ]
        )
        torch.testing.assert_close(steps[-1], expected, atol=1e-5, rtol=0)
    twice, found = network.forward_whole_and_windows(picture, windows)
    assert torch.equal(twice, network(picture, 2))
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


def test_margins_count_every_convolution() -> None:
    # x4: bilinear 1 and, at twice the size, mix 1 + blocks 4 + head 1.
    assert (SMALL.margin(1), SMALL.margin(2)) == (1, 4)
    assert SuperResolutionConfig().margin(2) == 5


def test_coordinates_run_from_edge_to_edge() -> None:
    found = coordinates(torch.zeros(2, 3, 4, 8))
    assert found.shape == (1, 2, 4, 8)
    assert (found[0, 0, 0, 3], found[0, 0, 3, 3], found[0, 1, 2, 0], found[0, 1, 2, 7]) == (-1, 1, -1, 1)


def test_wrong_inputs_are_refused() -> None:
    only_2 = SuperResolutionConfig((8,), (1,), (), (), ())
    for config, width, factor, message in (
        (SMALL, 31, 2, "multiples of 2"),
        (SMALL, 32, 3, "by 2 or 4, not by 3"),
        (only_2, 32, 4, "by 2, not by 4"),
    ):
        with pytest.raises(ModelError, match=message):
            SuperResolution(config)(torch.zeros(1, 3, width, 32), factor)
    for wrong, message in (({"down": (1, 1)}, "4 widths need 4"), ({"fine_blocks": (1, 1)}, "fine scales")):
        with pytest.raises(ValueError, match=message):
            SuperResolutionConfig(**wrong)


@torch.no_grad()
def test_a_weight_file_holds_the_network_and_its_training(tmp_path: Path) -> None:
    network, picture = shaken(), random_picture()
    path = save_super_resolution(
        network, tmp_path / "super_resolution.safetensors", training={"pictures_seen": 7}, dtype=torch.float32
    )
    for place in (path, tmp_path):  # the file, the folder of a run
        loaded = load_super_resolution(place)
        assert loaded.config == SMALL and torch.equal(loaded(picture), network(picture))
        assert read_training(place) == {"pictures_seen": 7}
    (tmp_path / "noise").write_bytes(b"noise")
    with pytest.raises(ModelError, match="no super-resolution network"):
        load_super_resolution(tmp_path / "noise")


SIDE, EDGE = 128, 32
"""Of the pictures, and the width of the edge that is not compared, in pixels."""


def wave(rows: float, columns: float) -> Tensor:
    """``[1, 3, SIDE, SIDE]`` of amplitude 1 with this many cycles per pixel."""
    line = torch.arange(SIDE, dtype=torch.float64)
    phase = 2 * torch.pi * (rows * line[:, None] + columns * line)
    return torch.stack([torch.cos(phase + shift) for shift in (0.3, 1.1, 2.0)])[None].float()


def inside(picture: Tensor) -> Tensor:
    return picture[..., EDGE:-EDGE, EDGE:-EDGE]


@pytest.mark.parametrize(
    ("rows", "columns", "least", "most"),
    [
        (1 / 2, 0, 0, 0),
        (0, 1 / 4, 0, 0),
        (1 / 4, 1 / 4, 0, 0),
        (1 / 4, 1 / 2, 0, 0),
        (3 / 4, 1 / 4, 0, 0),
        (1 / 8, 0, 1, 1),
        (3 / 8, 1 / 8, 1, 1),
        (1 / 64, 0, 0.99, 1.01),
        (1 / 3, 1 / 5, 0.99, 1.01),
        (1 / 5, 0, 0.95, 1.05),
    ],
)
def test_waves_of_2_and_4_pixels_are_removed_and_others_stay(
    rows: float, columns: float, least: float, most: float
) -> None:
    picture = inside(wave(rows, columns))
    found = inside(notch_filter(wave(rows, columns)))
    kept = (found * picture).sum() / picture.pow(2).sum()
    assert picture.abs().max() > 0.5 and least - 1e-4 < kept < most + 1e-4
    assert most or found.abs().max() < 1e-5


def test_colours_that_change_linearly_stay() -> None:
    line = torch.linspace(-1, 1, SIDE)
    picture = (0.5 * line[:, None] - 0.3 * line).expand(2, 3, SIDE, SIDE)
    torch.testing.assert_close(inside(notch_filter(picture)), inside(picture), atol=1e-5, rtol=0)
    constant = torch.full((1, 3, 16, 16), 0.7)  # also at its edges, and smaller than the filter
    torch.testing.assert_close(notch_filter(constant), constant, atol=1e-6, rtol=0)
