"""Tuning a decoder's int8 form: its pictures approach those of float32, which stays."""

import itertools
from dataclasses import replace

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

from codec_contract.pixels import network_input
from edgegrain.training.int8 import RoundedDecoder, detail, tune_int8
from export.decoder import DecoderOptions, WeightStorage
from export.decoder.export import export_decoder
from export.decoder.graph import INT8
from export.decoder.int8 import OWN, Int8Decoder, int8_decoder
from server_decoder.decoder_session import DecoderSession
from server_decoder.grain.rrdb_decoder import DecoderConfig, RRDBDecoder, Scale
from tests.unit.edgegrain.conftest import shaken
from tests.unit.export.decoder.test_graph import run

CONFIG = DecoderConfig(
    (Scale(8, 24, rrdb=1, growth=12), Scale(16, 24, residual=2), Scale(32, 16, residual=1), Scale(64, 16, residual=1)),
    "bilinear",
    (8,),
)
LRS = np.random.default_rng(0).integers(60, 200, (16, 8, 8, 3), np.uint8)


def pair_of(config: DecoderConfig, lrs: np.ndarray = LRS) -> Int8Decoder:
    decoder = shaken(RRDBDecoder, config, 0.01)
    return int8_decoder(export_decoder(decoder, 8, DecoderOptions(WeightStorage.compact)), lrs)


@pytest.fixture(scope="module")
def pair() -> Int8Decoder:
    return pair_of(CONFIG)


def test_computes_what_the_runtime_does(pair: Int8Decoder) -> None:
    model = onnx.load_model_from_string(pair.int8)
    with torch.no_grad():
        ours = RoundedDecoder(model)(torch.from_numpy(network_input(LRS)))[0].numpy()
    theirs, float32 = (
        run(model, torch.from_numpy(network_input(LRS))),
        run(onnx.load_model_from_string(pair.float32), torch.from_numpy(network_input(LRS))),
    )
    # Values halfway between two levels fall on either side, and what follows is as far apart as roundings are.
    assert np.std(ours - theirs) < 1.5 * np.std(theirs - float32)
    assert np.std(ours - float32) == pytest.approx(np.std(theirs - float32), rel=0.1)


def test_what_is_stored_untrained_is_the_same() -> None:
    config = DecoderConfig((Scale(8, 24, residual=1), Scale(16, 32)), "bilinear", ())  # the widened head is large
    pair = pair_of(config)
    before = onnx.load_model_from_string(pair.int8)
    after = onnx.load_model_from_string(RoundedDecoder(before).store(pair.int8))
    for one, other in zip(before.graph.initializer, after.graph.initializer, strict=True):
        np.testing.assert_allclose(
            numpy_helper.to_array(one), numpy_helper.to_array(other), rtol=1e-6, atol=1, err_msg=one.name
        )


@pytest.mark.parametrize("config", [CONFIG, replace(CONFIG, step=2)], ids=["one step", "several steps"])
def test_a_window_is_a_part_of_the_picture(config: DecoderConfig) -> None:
    model = RoundedDecoder(onnx.load_model_from_string(pair_of(config).int8))
    lr = torch.from_numpy(network_input(LRS[:1]))
    with torch.no_grad():
        (whole,), (part,) = model(lr), model(lr, (slice(6, 30), slice(4, 28)), 32)
    torch.testing.assert_close(part[..., 12:-12, 12:-12], whole[..., 24:48, 20:44])


def test_detail_is_none_of_a_ramp() -> None:
    ramp = torch.arange(8.0).expand(1, 3, 8, 8)
    assert detail(ramp).abs().max() < 1e-6
    spot = torch.zeros(1, 3, 5, 5)
    spot[0, 1, 2, 2] = 1
    assert detail(spot)[0, 1, 1, 1] == pytest.approx(0.75)


def test_pictures_come_nearer_and_shared_weights_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgegrain.training.int8.time.monotonic", itertools.count().__next__)  # a second a step
    narrow = (LRS // 4 + 96).astype(np.uint8)  # ranges that are too small for the LRs
    pair = pair_of(CONFIG, narrow)
    shown: list[float] = []
    tuned = tune_int8(
        pair,
        LRS,
        120.0,
        lambda a, b: (a - b).square().mean((1, 2, 3)),  # too small for AlexNet
        lambda done, _line: shown.append(done),
    )

    def distance(decoder: Int8Decoder) -> float:
        wanted = DecoderSession(pair.float32).decode(LRS).astype(float)
        with torch.no_grad():
            (made,) = RoundedDecoder(onnx.load_model_from_string(decoder.int8))(torch.from_numpy(network_input(LRS)))
        return float(np.abs((made.permute(0, 2, 3, 1).numpy() + 1) * 127.5 - wanted).mean())

    assert distance(tuned) < 0.93 * distance(pair)
    assert shown == sorted(shown) and len(shown) == 119
    assert tuned.float32 == pair.float32
    before, after = (
        {item.name: item.raw_data for item in onnx.load_model_from_string(model).graph.initializer}
        for model in (pair.int8, tuned.int8)
    )
    own, shared = ([name for name in before if name.endswith(end)] for end in (OWN, INT8))
    assert len(own) == 9 and all(before[name] != after[name] for name in own)
    assert shared and all(before[name] == after[name] for name in shared)
