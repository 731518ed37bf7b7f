"""The engine agrees with the SDK, and the error of one item does not affect the others."""

from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
from PIL import Image

from codec_contract.errors import DeviceError, DeviceMemoryError, ImageError, PayloadError, ServiceError
from edgegrain.service.engine import CompressOptions, Engine, RestoreOptions
from server_decoder.decoder_session import DecoderSession
from tests.pictures import encoded
from tests.pretended_cuda import CUDA, PretendedCuda
from tests.service_harness import pixels, raw_payloads
from tests.tiny_bundle import add_cuda_form, quantizing_decoder, write_tiny_bundle

BUNDLE = "tiny-64-lr16"


@pytest.fixture(scope="module")
def engine(tiny_bundle: Path) -> Engine:
    return Engine([tiny_bundle], threads=1, batch_sizes=(1, 2, 4), max_pixels=100_000, max_photo_pixels=90_000)


def test_a_form_is_served(tmp_path: Path) -> None:
    folder = write_tiny_bundle(tmp_path)
    add_cuda_form(folder, quantizing_decoder())
    payloads = raw_payloads(folder, 2)
    made = []
    for form in ("auto", "fused"):
        engine = Engine([folder], threads=1, batch_sizes=(1, 2), decoder_form=form)  # type: ignore[arg-type]
        engine.warm_up()
        pictures = engine.restore(BUNDLE, payloads, [RestoreOptions()] * 2)
        made.append((engine._codecs[BUNDLE].running_decoder.file, pictures))
    assert [file for file, _ in made] == ["decoder.onnx", "decoder_cuda.onnx"]
    for default, cuda in zip(made[0][1], made[1][1], strict=True):
        np.testing.assert_array_equal(pixels(cuda), pixels(default))


def test_decoders_replay_graphs_unless_told_not_to(pretended_cuda: PretendedCuda, tiny_bundle: Path) -> None:
    for graphs in (True, False):
        Engine([tiny_bundle], device="cuda", threads=1, graphs=graphs)
        chains = [chain for _, chain in pretended_cuda.started[-2:] if chain[0][0] == CUDA]
        assert [chain[0][1]["enable_cuda_graph"] for chain in chains] == [str(int(graphs))]


def test_a_bad_item_does_not_touch_the_others(engine: Engine, tiny_bundle: Path) -> None:
    payloads = raw_payloads(tiny_bundle, 4)
    damaged = [payloads[0], payloads[1][:-1], *raw_payloads(tiny_bundle, 1, size=(1000, 1000)), payloads[3]]
    outcomes = engine.restore(BUNDLE, damaged, [RestoreOptions()] * 4)
    assert isinstance(outcomes[1], PayloadError) and isinstance(outcomes[2], ImageError)
    alone = engine.restore(BUNDLE, [payloads[3]], [RestoreOptions()])
    assert outcomes[3] == alone[0] and isinstance(outcomes[0], bytes)
    nothing = engine.restore(BUNDLE, [b"", b"x" * 30], [RestoreOptions()] * 2)
    assert all(isinstance(item, PayloadError) for item in nothing)
    bad, good = engine.compress(BUNDLE, [b"no picture", encoded(Image.new("RGB", (8, 8)))], [CompressOptions()] * 2)
    assert isinstance(bad, ImageError) and isinstance(good, bytes)


def test_batches_are_padded_to_their_sizes(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    decode = DecoderSession.decode
    monkeypatch.setattr(DecoderSession, "decode", lambda self, lr, **_: sizes.append(len(lr)) or decode(self, lr))
    engine = Engine([tiny_bundle], threads=1, batch_sizes=(1, 4))
    taken = engine.warm_up()
    assert sizes == [1]  # on a CPU
    assert [item[:3] for item in taken] == [("compress", BUNDLE, 1), ("restore", BUNDLE, 1)]
    assert all(0 < item[3] < 60 for item in taken)
    payloads = raw_payloads(tiny_bundle, 3)
    outcomes = engine.restore(BUNDLE, payloads, [RestoreOptions()] * 3)
    assert sizes == [1, 4] and len({bytes(item) for item in outcomes}) == 3  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("raised", "kind"),
    [(DeviceError("no memory"), DeviceError), (MemoryError(), DeviceMemoryError), (ZeroDivisionError(), ServiceError)],
)
def test_failures_are_outcomes_and_do_not_end_the_process(
    engine: Engine, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch, raised: Exception, kind: type[Exception]
) -> None:
    fail = Mock(side_effect=raised)
    monkeypatch.setattr(DecoderSession, "decode", fail)
    outcomes = engine.restore(BUNDLE, [*raw_payloads(tiny_bundle, 2), b"bad"], [RestoreOptions()] * 3)
    assert [type(item) for item in outcomes] == [kind, kind, PayloadError]
    if kind is DeviceMemoryError:  # a transient problem; the picture is intact
        monkeypatch.setattr("PIL.ImageFile.ImageFile.load", fail)
        (outcome,) = engine.compress(BUNDLE, [encoded(Image.new("RGB", (8, 8)))], [CompressOptions()])
        assert isinstance(outcome, DeviceMemoryError) and "not enough memory" in str(outcomes[0])
