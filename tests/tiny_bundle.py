"""A small complete bundle for tests that need any bundle, without training and without torch.

The encoder is the exact box mean (or a random exact network), the decoder repeats every LR pixel, so the restored
picture of a payload is known.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from codec_contract.bundle import find as bundle_paths
from codec_contract.bundle.find import DEFAULT_BUNDLE
from codec_contract.bundle.manifest import CODER_TABLES, ENCODER_WEIGHTS, MANIFEST
from codec_contract.fit import PREPROCESSING
from codec_contract.lr_coder.coder_tables import CoderTables
from edge_encoder import integer_network as integer
from edge_encoder.contract_id import lr_contract_id
from edge_encoder.twin import box_network
from export.bundle.writer import exact_encoder, manifest_fields, write_bundle
from tests.networks import random_network

HR, LR = 64, 16
STRENGTH_DEFAULT = 8.0


FLOATS, LEVELS = "float[b, 3, {0}, {0}]", "uint8[b, {0}, {0}, 3]"
REPEAT = """weight = Cast <to = 1> (weight16)
    copies = Conv <group = 3> ({0}, weight)
    {1} = DepthToSpace <blocksize = {2}, mode = "CRD"> (copies)"""


def model_of(text: str, weights: Mapping[str, Any] | None = None) -> bytes:
    """An ONNX model: inputs, outputs and nodes in ONNX's text format, and weights by name."""
    model = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : 18]> tiny {text}')
    held = {name: np.asarray(array) for name, array in (weights or {}).items()}
    model.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in held.items())
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString())


def repeating_decoder(hr: int = HR, lr: int = LR) -> bytes:
    """``decoder.onnx`` that repeats every pixel ``hr // lr`` times each way; its weights are stored as float16."""
    weights = {"weight16": np.ones((3 * (hr // lr) ** 2, 1, 1, 1), np.float16)}
    nodes = REPEAT.format("lr", "hr", hr // lr)
    return model_of(f"({FLOATS.format(lr)} lr) => ({FLOATS.format(hr)} hr) {{ {nodes} }}", weights)


def changed_decoder(nodes: str, weights: Mapping[str, Any], inputs: str = "") -> bytes:
    """`repeating_decoder`, and nodes that make ``hr`` of ``repeated``, with weights and inputs of their own."""
    weights = {"weight16": np.ones((3 * (HR // LR) ** 2, 1, 1, 1), np.float16), **weights}
    nodes = f"{REPEAT.format('lr', 'repeated', HR // LR)} {nodes}"
    return model_of(f"({FLOATS.format(LR)} lr{inputs}) => ({FLOATS.format(HR)} hr) {{ {nodes} }}", weights)


def quantizing_decoder() -> bytes:
    """`repeating_decoder` as a graph that quantizes: uint8 ``[b, LR, LR, 3]`` -> ``[b, HR, HR, 3]``."""
    nodes = f"""levels = Cast <to = 1> (lr)
        scaled = Div(levels, half)
        centred = Sub(scaled, one)
        values = Transpose <perm = [0, 3, 1, 2]> (centred)
        {REPEAT.format("values", "picture", HR // LR)}
        last = Transpose <perm = [0, 2, 3, 1]> (picture)
        positive = Add(last, one)
        restored = Mul(positive, half)
        shifted = Add(restored, rounding)
        whole = Floor(shifted)
        clipped = Clip(whole, least, most)
        hr = Cast <to = 2> (clipped)"""
    weights = {"weight16": np.ones((3 * (HR // LR) ** 2, 1, 1, 1), np.float16)}
    constants = {"half": 127.5, "one": 1, "rounding": 0.5, "least": 0, "most": 255}
    weights |= {name: np.float32(value) for name, value in constants.items()}
    return model_of(f"({LEVELS.format(LR)} lr) => ({LEVELS.format(HR)} hr) {{ {nodes} }}", weights)


def steered_decoder(control: str = "strength") -> bytes:
    """`repeating_decoder` plus strength / 255: each 2 of it make pictures a level brighter; so does another control."""
    nodes = f"scaled = Mul({control}, level) light = Reshape(scaled, shape) hr = Add(repeated, light)"
    own = np.full(1, STRENGTH_DEFAULT, np.float32)
    weights = {control: own, "level": np.float32(1 / 255), "shape": np.array([-1, 1, 1, 1])}
    return changed_decoder(nodes, weights, f", float[s] {control}")


def write_steered_bundle(folder: Path) -> Path:
    """A bundle with the control ``strength``, 4 to 64, by default `STRENGTH_DEFAULT`, and another LR contract."""
    root = write_tiny_bundle(folder, "steered-64-lr16", random=True, decoder=steered_decoder())
    strength = {"range": [4, 64], "default": STRENGTH_DEFAULT}
    refresh_manifest(root, decoder={**decoder_of(root), "controls": ["strength"], "strength": strength})
    return root


def convolutional_decoder() -> bytes:
    """`repeating_decoder` plus random residual blocks on the LR: a decoder that takes a few milliseconds."""
    shapes = {"first": (64, 3, 3, 3), **{f"block{index}": (64, 64, 3, 3) for index in range(4)}}
    shapes |= {"up": (64, 16, HR // LR, HR // LR), "last": (3, 16, 3, 3)}
    rng, nodes = np.random.default_rng(0), "features0 = Conv <pads = [1, 1, 1, 1]> (lr, first)"
    weights = {}
    for name, shape in shapes.items():
        gain = 0.5 if name.startswith("block") else 1.0
        weights[name] = (rng.standard_normal(shape, np.float32) * gain / np.sqrt(np.prod(shape[1:]))).astype(np.float32)
    for index in range(4):
        nodes += f"""
            bent{index} = LeakyRelu <alpha = 0.2> (features{index})
            change{index} = Conv <pads = [1, 1, 1, 1]> (bent{index}, block{index})
            features{index + 1} = Add(features{index}, change{index})"""
    nodes += f"""
        wide = ConvTranspose <strides = [{HR // LR}, {HR // LR}]> (features4, up)
        detail = Conv <pads = [1, 1, 1, 1]> (wide, last)
        hr = Add(repeated, detail)"""
    return changed_decoder(nodes, weights)


def nearest_enlarger(doublings: int, side: int = HR, kind: str = "uint8") -> list[bytes]:
    """An enlarger that repeats every pixel: takes ``[b, side, side, 3]`` of this type, a graph for each doubling."""
    models, scales = [], {"scales": np.array([1, 1, 2, 2], np.float32)}
    for step in range(doublings):
        small, large = FLOATS.format(side * 2**step), FLOATS.format(side * 2 ** (step + 1))
        outputs, made = f"{kind}[b, {side * 2 ** (step + 1)}, {side * 2 ** (step + 1)}, 3] enlarged", "values"
        inputs = f"{kind}[b, {side}, {side}, 3] picture"
        nodes = "floats = Cast <to = 1> (picture) planes = Transpose <perm = [0, 3, 1, 2]> (floats)"
        if step:
            inputs, made = f"{small} values, {small} features", "doubled"
            nodes = "planes = Mean(values, features)"
        nodes += f"""
            {made} = Resize <mode = "nearest", coordinate_transformation_mode = "asymmetric", nearest_mode = "floor">
                (planes, , scales)
            levels = Cast <to = {2 if kind == "uint8" else 1}> ({made})
            enlarged = Transpose <perm = [0, 2, 3, 1]> (levels)"""
        if step < doublings - 1:
            nodes += " features = Identity(values)"
            outputs += f", {large} values, {large} features"
        models.append(model_of(f"({inputs}) => ({outputs}) {{ {nodes} }}", scales))
    return models


def add_enlarger(root: Path, doublings: int) -> None:
    """Add a `nearest_enlarger` to a bundle."""
    files = [f"enlarger_x{2 ** (step + 1)}.onnx" for step in range(doublings)]
    for name, model in zip(files, nearest_enlarger(doublings), strict=True):
        (root / name).write_bytes(model)
    refresh_manifest(root, enlarger={"files": files})


def write_tiny_bundle(
    folder: Path,
    name: str = "tiny-64-lr16",
    *,
    random: bool = False,
    decoder: bytes | None = None,
    architecture: Mapping[str, object] | None = None,
    doublings: int = 0,
    lr: int = LR,
    step: int = 1,
) -> Path:
    """Write a complete bundle into ``folder / name`` and return that folder; a ``random`` exact network instead of the
    box mean makes another LR contract, ``architecture`` is the decoder's, ``doublings`` are those of an enlarger,
    ``step`` that of levels in payloads."""
    root, licence = folder / name, {"weights": "Apache-2.0", "data": "none"}
    network = random_network(HR, lr, seed=3) if random else replace(box_network(HR, lr), architecture="box")
    tables, described = replace(CoderTables.default(), step=step), architecture or {}
    fields = manifest_fields(name, "grain", architecture=described, training={}, licence=licence, domain="anything")
    model, card = decoder or repeating_decoder(HR, lr), "A bundle for tests.\n"
    write_bundle(root, exact_encoder(network), model, tables, fields, card, ["onnx"])
    if doublings:
        add_enlarger(root, doublings)
    return root


def contract_of(network: integer.IntegerNetwork, tables: CoderTables) -> str:
    return lr_contract_id(integer.integer_digest(network), PREPROCESSING, tables).hex()


def add_rates(root: Path, qualities: dict[int, str | None]) -> None:
    """Give a tiny bundle further rates: step of the levels -> quality."""
    network, rates = integer.load_integer_network(root / ENCODER_WEIGHTS), []
    own = CoderTables.from_json((root / CODER_TABLES).read_bytes()).step
    for step, quality in qualities.items():
        tables = replace(CoderTables.default(), step=step)
        (root / f"coder_{step}.json").write_bytes(tables.to_json())
        contract = contract_of(network, tables)
        rate = {"file": f"coder_{step}.json", "quality": quality, "lr_contract_id": contract, "finer": step < own}
        rates.append(rate)
    refresh_manifest(root, rates=rates)


def write_qualities(folder: Path, default: str = "small") -> dict[str, Path]:
    """Bundles of one domain with LRs of 8, 16 and 32 pixels, by quality; one of them is the default bundle."""
    found = {}
    for name, lr in (("tiny", 8), ("small", 16), ("medium", 32)):
        found[name] = write_tiny_bundle(folder, DEFAULT_BUNDLE if name == default else f"{name}-64-lr{lr}", lr=lr)
        refresh_manifest(found[name], quality=name)
    return found


def add_cuda_form(root: Path, model: bytes, precision: str = "float16", ops: str = "plain", name: str = "cuda") -> None:
    """Add a form, by default for CUDA, to a bundle's decoder, made from that."""
    (root / f"decoder_{name}.onnx").write_bytes(model)
    decoder = decoder_of(root)
    source = hashlib.sha256((root / decoder["file"]).read_bytes()).hexdigest()
    form = {"file": f"decoder_{name}.onnx", "precision": precision, "ops": ops, "source": source}
    refresh_manifest(root, decoder={**decoder, "forms": {name: form}})


def decoder_of(root: Path) -> dict[str, Any]:
    """The decoder as the manifest describes it."""
    return dict(json.loads((root / MANIFEST).read_text())["decoder"])


def files_of(folder: Path) -> dict[str, bytes]:
    """The files of a folder by their path in it."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def write_manifest(root: Path, fields: dict[str, object]) -> None:
    """Write ``manifest.json`` with the sizes and hashes of the files in the folder."""
    files = {name: data for name, data in sorted(files_of(root).items()) if name != MANIFEST}
    entries = {name: {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()} for name, data in files.items()}
    (root / MANIFEST).write_text(json.dumps({**fields, "files": entries}, indent=2))


def refresh_manifest(root: Path, **changes: object) -> None:
    """Rewrite the manifest after files were changed on purpose, with some fields replaced."""
    fields = json.loads((root / MANIFEST).read_text())
    write_manifest(root, {**fields, **changes})


@pytest.fixture(scope="session")
def tiny_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of bundles: the default one is tiny, a second one has another encoder."""
    root = tmp_path_factory.mktemp("bundles")
    write_tiny_bundle(root, DEFAULT_BUNDLE)
    write_tiny_bundle(root, "random-64-lr16", random=True)
    return root


@pytest.fixture
def tiny_bundles(tiny_root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Makes the bundles of `tiny_root` the installed ones."""
    monkeypatch.setattr(bundle_paths, "bundle_roots", lambda: (tiny_root,))
    return tiny_root


@pytest.fixture(scope="session")
def tiny_face_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one tiny bundle of the domain ``faces``, the default one."""
    root = tmp_path_factory.mktemp("face_bundles")
    refresh_manifest(write_tiny_bundle(root, DEFAULT_BUNDLE, doublings=1), domain="faces")
    return root


@pytest.fixture
def tiny_face_bundles(tiny_face_root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Makes the bundle of `tiny_face_root` the installed one."""
    monkeypatch.setattr(bundle_paths, "bundle_roots", lambda: (tiny_face_root,))
    return tiny_face_root
