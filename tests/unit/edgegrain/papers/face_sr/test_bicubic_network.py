"""The bicubic reduction as an integer network agrees with Pillow's, and not a byte differs between runtimes."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from codec_contract.errors import BundleError
from codec_contract.pixels import Rgb
from edge_encoder import integer_network as integer
from edge_encoder.encoder_session import EncoderSession
from edge_encoder.integer_network import integer_digest, run_reference
from edgegrain.papers.face_sr.bundle import bicubic_network
from export.encoder import export_encoder
from export.encoder.graph import FORMATS, exact_graph
from export.proof.prove import ProofJob, compare
from export.proof.report import require_exact

SIZES = [(256, 64), (256, 16), (128, 4), (64, 32), (48, 8)]


def pillow(rgb: Rgb, side: int) -> npt.NDArray[np.int64]:
    """Pillow's own reduction, width first."""
    image = Image.fromarray(rgb).resize((side, len(rgb)), Image.Resampling.BICUBIC)
    return np.asarray(image.resize((side, side), Image.Resampling.BICUBIC)).astype(np.int64)


@pytest.mark.parametrize(("hr", "lr"), SIZES)
def test_a_level_from_pillow_at_most(hr: int, lr: int, portrait: Rgb) -> None:
    rng = np.random.default_rng(0)
    face = np.asarray(Image.fromarray(portrait).resize((hr, hr)))
    noise = rng.integers(0, 256, face.shape, np.uint8), 255 * rng.integers(0, 2, face.shape, np.uint8)
    pictures = np.stack([face, 255 - face[::-1], np.rot90(face), *noise])
    expected = np.stack([pillow(picture, lr) for picture in pictures])
    steps = np.abs(run_reference(bicubic_network(hr, lr), pictures) - expected)
    assert steps.max() <= 1
    assert (steps[:3] > 0).mean() < 0.12


@settings(max_examples=40, deadline=None)
@given(blocks=st.lists(st.integers(0, 255), min_size=192, max_size=192), lr=st.sampled_from([4, 8, 16]))
def test_of_any_picture(blocks: list[int], lr: int) -> None:
    """Edges at every place, where int8 weights and two roundings do their worst."""
    rgb = np.kron(np.array(blocks, np.uint8).reshape(8, 8, 3), np.ones((8, 8, 1), np.uint8))
    assert np.abs(run_reference(bicubic_network(64, lr), rgb[None])[0] - pillow(rgb, lr)).max() <= 2


@pytest.mark.parametrize(("hr", "lr"), [*SIZES, *((4 * factor, 4) for factor in range(2, 65, 2))])
def test_a_plain_area_stays_what_it_is_to_the_edge(hr: int, lr: int) -> None:
    """Weights are int8 and sum to a power of two."""
    levels = np.array([0, 1, 77, 254, 255], np.uint8)
    pictures = np.tile(levels[:, None, None, None], (1, hr, hr, 3))
    lrs = run_reference(bicubic_network(hr, lr), pictures)
    assert (lrs == levels[:, None, None, None]).all()


def test_the_proof_holds_for_the_largest_factor() -> None:
    for hr, lr in (1024, 16), (1024, 256), (256, 4):
        bound = max(integer.prove_bound(bicubic_network(hr, lr)).values())
        assert 2**bound < integer.ACCUMULATOR_LIMIT // 2


def test_is_stored_and_read_with_its_strides(tmp_path: Path) -> None:
    network = bicubic_network(64, 8)
    integer.save_integer_network(network, tmp_path / "encoder.safetensors")
    again = integer.load_integer_network(tmp_path / "encoder.safetensors")
    assert [layer.stride for layer in again.layers] == [(1, 8), 1, 1, 1, (8, 1), 1, 1, 1]
    assert integer_digest(again) == integer_digest(network) != integer_digest(bicubic_network(128, 16))
    picture = np.random.default_rng(0).integers(0, 256, (1, 64, 64, 3), np.uint8)
    np.testing.assert_array_equal(run_reference(again, picture), run_reference(network, picture))


@pytest.mark.parametrize(("hr", "lr"), [(64, 2), (96, 32), (512, 4), (64, 64), (65, 16), (64, 0)])
def test_sizes_that_it_does_not_make(hr: int, lr: int) -> None:
    with pytest.raises(BundleError, match=f"at least 4 pixels by an even factor from 2 to 64, got {hr} to {lr}"):
        bicubic_network(hr, lr)


def test_every_runtime_computes_its_bytes(tmp_path: Path) -> None:
    network = bicubic_network(64, 8)
    graph = exact_graph(network)
    assert graph.shapes()["across.kinds"] == (15, 64, 8)
    export_encoder(graph, tmp_path, tuple(FORMATS))
    artefacts = {name: tmp_path / file for name, file in FORMATS.items()}
    results = compare(ProofJob(graph, artefacts, 20, network).run())
    require_exact(results)
    assert {result["inputs"] for result in results} == {20} and len(results) >= 8
    pictures = np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3), np.uint8)
    session = EncoderSession(artefacts["onnx"].read_bytes())
    np.testing.assert_array_equal(session.encode(pictures), run_reference(network, pictures))
