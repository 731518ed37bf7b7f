"""IRN as files: the encoder's graph, the decoder with an optional z, the bundle of both."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from PIL import Image

import sdk
from codec_contract.bundle.manifest import load_manifest, verify_bundle
from codec_contract.errors import ExportError, ImageError, PayloadError
from codec_contract.lr_coder.coder_tables import CoderTables
from codec_contract.payload import encode_payload
from codec_contract.pixels import network_input, pictures_of
from edge_encoder.contract_id import lr_contract_id
from edge_encoder.encoder_session import EncoderSession
from edgegrain.papers.bundle_parts import compare_encoder
from edgegrain.papers.irn import bundle as irn_bundle
from edgegrain.papers.irn.bundle import irn_digest, irn_graph, irn_lrs, load_irn, save_irn, write_irn_bundle
from edgegrain.papers.irn.network import IRN, IRNConfig, Upscaler
from export.encoder.onnx import onnx_model
from export.encoder.torch_graph import torch_encoder
from export.proof.inputs import smooth_pictures
from export.proof.prove import export_proven
from sdk import codec as sdk_codec
from sdk.generated_mark import ALTERED, EDITED
from sdk.tiles import decode_tiles, encode_tiles
from server_decoder.decoder_session import DecoderSession
from tests.unit.edgegrain.cli.conftest import Shell
from tests.unit.edgegrain.conftest import shaken

TILE, OVERLAP = 64, 32
CONFIG = IRNConfig(blocks=(1, 2), growth=8, z_std=0.02)


def stored(config: IRNConfig) -> IRN:
    """A network that does something, with weights as they are stored."""
    return shaken(IRN, config, 0.01).half().float()


@pytest.fixture(scope="module")
def irn() -> IRN:
    return stored(CONFIG)


@pytest.fixture(scope="module")
def bundle(irn: IRN, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("irn")
    weights = save_irn(irn, folder / "irn.safetensors", training={"crops_seen": 7})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(irn_bundle, "TILE", TILE)
        patch.setattr(irn_bundle, "TILE_OVERLAP", OVERLAP)
        write_irn_bundle(weights, folder / "tiny-x4", formats=("onnx",))
    return folder / "tiny-x4"


@pytest.fixture(scope="module")
def codec(bundle: Path) -> sdk.Codec:
    return sdk.Codec(bundle, threads=1)


@pytest.mark.parametrize(
    ("changes", "side", "name"),
    [({}, TILE, "irn-x4-b1-2-g8"), ({"scale": 3}, 63, "irn-x9-b1-2-g8")],
    ids=["haar", "trained transforms"],
)
def test_the_encoders_graph_computes_what_the_network_does(changes: dict[str, Any], side: int, name: str) -> None:
    irn, tiles = stored(replace(CONFIG, **changes)), np.stack(smooth_pictures(3, side))
    graph, expected = irn_graph(irn, side), irn_lrs(irn, tiles)
    assert (graph.hr, graph.lr, graph.exact, graph.name) == (side, side // irn.config.factor, False, name)
    session = EncoderSession(onnx_model(graph).SerializeToString())
    for encode in torch_encoder(graph, onednn=True), session.encode:
        assert compare_encoder(encode, tiles, expected) < 2000
    with pytest.raises(ExportError, match="levels"):
        compare_encoder(lambda rgb: 255 - expected, tiles, expected)
    with pytest.raises(ExportError, match="downscaled by"):
        irn_graph(irn, side - 1)


def test_every_format_agrees_up_to_flips(irn: IRN, tmp_path: Path) -> None:
    report = export_proven(irn_graph(irn, TILE), tmp_path, source="a test", inputs=8)
    assert {"encoder.tflite", "encoder.onnx", "encoder.mlpackage"} == set(report["files"])
    for row in report["runtimes"]:
        assert row["largest_step"] <= 1 and row["differing_bytes"] < 0.005 * row["bytes_compared"]


def test_the_decoder_takes_z_or_does_without(irn: IRN, bundle: Path) -> None:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(load_manifest(bundle).open_file("decoder.onnx"), options)
    assert [item.name for item in session.get_inputs()] == ["lr"]
    lr, z = torch.rand(3, 3, 16, 16) * 2 - 1, 0.02 * torch.randn(3, 45, 16, 16)
    with torch.no_grad():
        likeliest, drawn = Upscaler(irn)(lr).numpy(), Upscaler(irn)(lr, z).numpy()
    assert np.abs(likeliest - drawn).max() > 0.05
    assert np.abs(session.run(["hr"], {"lr": lr.numpy()})[0] - likeliest).max() < 1e-4
    assert np.abs(session.run(["hr"], {"lr": lr.numpy(), "z": z.numpy()})[0] - drawn).max() < 1e-4


def test_a_bundle_describes_itself(irn: IRN, bundle: Path) -> None:
    manifest = verify_bundle(bundle)
    assert (manifest.id, manifest.codec, manifest.hr, manifest.lr) == ("tiny-x4", "irn", 64, 16)
    assert (manifest.factor, manifest.tile_overlap) == (4, 8)
    assert manifest.decoder["controls"] == ["seed"] and manifest.encoder["exact"] is False
    assert irn_digest(load_irn(bundle / "irn.safetensors")) == irn_digest(irn)
    assert manifest.lr_contract_id == lr_contract_id(irn_digest(irn), manifest.preprocessing, CoderTables.default())
    assert "7 crops" in (bundle / "README.md").read_text()


@pytest.mark.parametrize("size", [(131, 90), (64, 64), (33, 1), (3, 80)])
def test_pictures_of_any_size_come_back_in_it(codec: sdk.Codec, size: tuple[int, int]) -> None:
    rgb = np.resize(smooth_pictures(1, 64)[0], (size[1], size[0], 3))
    payload = codec.compress(rgb)
    assert payload.header.lr_width == -(-size[0] // 4) and payload.header.lr_height == -(-size[1] // 4)
    assert payload.original_size == size
    restored = codec.restore(payload)
    assert restored.size == size
    of_batch = np.asarray(codec.restore_batch([payload, bytes(payload)])[1]).astype(int)
    assert np.abs(of_batch - np.asarray(restored)).max() <= 1  # a float network at another batch size
    assert codec.compress_batch([rgb]) == [payload]


def test_a_bare_lr_gives_a_picture_that_is_not_cut(codec: sdk.Codec) -> None:
    payload = codec.compress(np.resize(smooth_pictures(1, 64)[0], (30, 81, 3)))
    whole, cut = (np.asarray(codec.restore(source)).astype(int) for source in (np.array(payload.lr), payload))
    assert whole.shape == (32, 84, 3) and np.abs(whole[:30, :81] - cut).max() <= 1


def test_tiles_leave_no_seams(irn: IRN, bundle: Path) -> None:
    """Tile by tile gives the same as the whole picture at once, to a level; without overlap it would not."""
    manifest, rgb = load_manifest(bundle), smooth_pictures(1, 192, seed=3)[0]
    encoder = EncoderSession(manifest.open_file("encoder.onnx"))
    decoder = DecoderSession(manifest.open_file("decoder.onnx"))
    with torch.no_grad():
        lr = irn_lrs(irn, rgb[None])[0]
        whole = pictures_of(Upscaler(irn)(torch.from_numpy(network_input(lr[None]))).numpy())[0].astype(int)
    assert np.abs(encode_tiles(encoder, manifest, rgb).astype(int) - lr).max() <= 1
    assert np.abs(decode_tiles(decoder, manifest, lr) - whole).max() <= 2
    assert np.abs(decode_tiles(decoder, replace(manifest, tile_overlap=0), lr) - whole).max() > 20


def test_a_seed_changes_the_picture_alike_everywhere(codec: sdk.Codec) -> None:
    payload = codec.compress(smooth_pictures(1, 160, seed=5)[0])
    pictures = [np.asarray(codec.restore(payload, seed=seed)).astype(int) for seed in (None, 1, 1, 2)]
    likeliest, one, again, other = pictures
    assert np.abs(one - again).max() <= 1  # decoded twice by a float network
    assert 0.5 < np.abs(one - other).mean() < 25 and np.abs(one - likeliest).mean() > 0.5
    terms = [sdk.read_mark(codec.restore(payload, seed=seed)) for seed in (None, 0)]
    assert [mark and mark.source_type for mark in terms] == [ALTERED, EDITED]
    with pytest.raises(ImageError, match="0 to 4294967295"):
        codec.restore(payload, seed=-1)


def test_the_command_takes_a_seed(
    bundle: Path, codec: sdk.Codec, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = codec.compress(smooth_pictures(1, 96, seed=5)[0]).save(tmp_path / "me.grain")
    for seed in (1, 2):
        out = tmp_path / f"{seed}.png"
        Shell(capsys).ok("restore", path, "--bundle", bundle, "--seed", seed, "--out", out)
        found, wanted = np.asarray(Image.open(out)).astype(int), np.asarray(codec.restore(path, seed=seed)).astype(int)
        assert np.abs(found - wanted).max() <= 1  # decoded twice by a float network


def test_what_does_not_belong_to_the_bundle_is_refused(codec: sdk.Codec) -> None:
    with pytest.raises(ImageError, match="leave fit out"):
        codec.compress(smooth_pictures(1, 64)[0], fit="crop")
    payload = codec.compress(smooth_pictures(1, 64)[0])
    for source in payload, np.array(payload.lr):
        with pytest.raises(ImageError, match="more than 100"):
            codec.restore(source, max_pixels=100)
    with pytest.raises(PayloadError, match="contract"):
        sdk.Codec("faces").restore(payload)
    with pytest.raises(ImageError, match="without a seed"):
        sdk.Codec("faces").restore(sdk.Codec("faces").compress(smooth_pictures(1, 64)[0], align=False), seed=1)


def test_a_picture_too_large_for_a_payload_is_not_encoded(codec: sdk.Codec, monkeypatch: pytest.MonkeyPatch) -> None:
    factor = codec.bundle.hr // codec.bundle.lr
    monkeypatch.setattr(sdk_codec, "MAX_LARGE_LR_PIXELS", 100)
    monkeypatch.setattr(sdk_codec, "encode_tiles", None)
    with pytest.raises(ImageError, match=f"takes up to {100 * factor**2}; reduce it"):
        codec.compress(np.zeros((10 * factor, 10 * factor + 1, 3), np.uint8))


def test_a_forged_lr_size_is_refused(codec: sdk.Codec) -> None:
    contract = bytes.fromhex(codec.bundle.lr_contract_id)
    lr, tables = np.zeros((17, 16, 3), np.uint8), CoderTables.default()
    forged = encode_payload(lr, contract_id=contract, tables=tables, original_size=(64, 64))
    with pytest.raises(PayloadError, match="LR of 16 x 17, bundle tiny-x4 works with 16 x 16"):
        codec.restore(forged)
