"""A small complete bundle for tests that need any bundle, without training and without torch.

The encoder is the exact box mean (or a random exact network), the decoder repeats every LR pixel, so the restored
picture of a payload is known.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from codec_contract.bundle import find as bundle_paths
from codec_contract.bundle.find import DEFAULT_BUNDLE
from codec_contract.bundle.manifest import CODER_TABLES, DECODER_ONNX, ENCODER_WEIGHTS, GOLDEN, MANIFEST, MODEL_CARD
from codec_contract.fit import PREPROCESSING
from codec_contract.lr_coder.coder_tables import CoderTables
from edge_encoder import integer_network as integer
from edge_encoder.contract_id import lr_contract_id
from edge_encoder.golden_inputs import make_golden
from edge_encoder.twin import box_network
from export.encoder import export_encoder
from tests.networks import random_network

HR, LR = 64, 16
STRENGTH_DEFAULT = 8.0


def checked(model: onnx.ModelProto) -> bytes:
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString())


def repeating_decoder(hr: int = HR, lr: int = LR) -> bytes:
    """``decoder.onnx`` that repeats every pixel ``hr // lr`` times each way; its weights are stored as float16."""
    factor = hr // lr
    nodes = [
        helper.make_node("Cast", ["weight16"], ["weight"], to=TensorProto.FLOAT),
        helper.make_node("Conv", ["lr", "weight"], ["copies"], group=3),
        helper.make_node("DepthToSpace", ["copies"], ["hr"], blocksize=factor, mode="CRD"),
    ]
    weight = numpy_helper.from_array(np.ones((3 * factor**2, 1, 1, 1), np.float16), "weight16")
    small = helper.make_tensor_value_info("lr", TensorProto.FLOAT, ["b", 3, lr, lr])
    large = helper.make_tensor_value_info("hr", TensorProto.FLOAT, ["b", 3, hr, hr])
    graph = helper.make_graph(nodes, "repeat", [small], [large], [weight])
    return checked(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8))


def changed_decoder(
    nodes: Sequence[onnx.NodeProto], weights: dict[str, np.ndarray], *inputs: onnx.ValueInfoProto
) -> bytes:
    """`repeating_decoder`, and nodes that make ``hr`` of ``repeated``, with weights and inputs of their own."""
    model = onnx.load_model_from_string(repeating_decoder())
    model.graph.node[-1].output[0] = "repeated"
    model.graph.node.extend(nodes)
    model.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in weights.items())
    model.graph.input.extend(inputs)
    return checked(model)


def quantizing_decoder() -> bytes:
    """`repeating_decoder` as a graph that quantizes: uint8 ``[b, LR, LR, 3]`` -> ``[b, HR, HR, 3]``."""
    model = onnx.load_model_from_string(repeating_decoder())
    graph, one = model.graph, helper.make_node
    for node in graph.node:
        node.input[:] = ["values" if name == "lr" else name for name in node.input]
        node.output[:] = ["picture" if name == "hr" else name for name in node.output]
    first = [
        one("Cast", ["lr"], ["levels"], to=TensorProto.FLOAT),
        one("Div", ["levels", "half"], ["scaled"]),
        one("Sub", ["scaled", "one"], ["centred"]),
        one("Transpose", ["centred"], ["values"], perm=[0, 3, 1, 2]),
    ]
    last = [
        one("Transpose", ["picture"], ["last"], perm=[0, 2, 3, 1]),
        one("Add", ["last", "one"], ["positive"]),
        one("Mul", ["positive", "half"], ["restored"]),
        one("Add", ["restored", "rounding"], ["shifted"]),
        one("Floor", ["shifted"], ["whole"]),
        one("Clip", ["whole", "least", "most"], ["clipped"]),
        one("Cast", ["clipped"], ["hr"], to=TensorProto.UINT8),
    ]
    nodes = [*first, *graph.node, *last]
    del graph.node[:]
    graph.node.extend(nodes)
    constants = {"half": 127.5, "one": 1, "rounding": 0.5, "least": 0, "most": 255}
    graph.initializer.extend(numpy_helper.from_array(np.float32(value), name) for name, value in constants.items())
    graph.input[0].CopyFrom(helper.make_tensor_value_info("lr", TensorProto.UINT8, ["b", LR, LR, 3]))
    graph.output[0].CopyFrom(helper.make_tensor_value_info("hr", TensorProto.UINT8, ["b", HR, HR, 3]))
    return checked(model)


def steered_decoder(control: str = "strength") -> bytes:
    """`repeating_decoder` plus strength / 255: each 2 of it make pictures a level brighter; so does another control."""
    nodes = [
        helper.make_node("Mul", [control, "level"], ["scaled"]),
        helper.make_node("Reshape", ["scaled", "shape"], ["light"]),
        helper.make_node("Add", ["repeated", "light"], ["hr"]),
    ]
    weights = {control: np.full(1, STRENGTH_DEFAULT, np.float32)}
    weights |= {"level": np.float32(1 / 255), "shape": np.array([-1, 1, 1, 1])}
    return changed_decoder(nodes, weights, helper.make_tensor_value_info(control, TensorProto.FLOAT, ["s"]))


def write_steered_bundle(folder: Path) -> Path:
    """A bundle with the control ``strength``, 4 to 64, by default `STRENGTH_DEFAULT`, and another LR contract."""
    root = write_tiny_bundle(folder, "steered-64-lr16", random=True, decoder=steered_decoder())
    strength = {"range": [4, 64], "default": STRENGTH_DEFAULT}
    refresh_manifest(root, decoder={**decoder_of(root), "controls": ["strength"], "strength": strength})
    return root


def convolutional_decoder() -> bytes:
    """`repeating_decoder` plus random residual blocks on the LR: a decoder that takes a few milliseconds."""
    rng, weights, nodes, factor, channels = np.random.default_rng(0), {}, [], HR // LR, 64

    def node(kind: str, inputs: list[str], output: str, **attributes: object) -> str:
        nodes.append(helper.make_node(kind, inputs, [output], **attributes))
        return output

    def weight(name: str, *shape: int, gain: float = 1.0) -> str:
        values = rng.standard_normal(shape, np.float32) * gain / np.sqrt(np.prod(shape[1:]))
        weights[name] = values.astype(np.float32)
        return name

    features = node("Conv", ["lr", weight("first", channels, 3, 3, 3)], "features0", pads=[1] * 4)
    for index in range(4):
        bent = node("LeakyRelu", [features], f"bent{index}", alpha=0.2)
        kernel = weight(f"block{index}", channels, channels, 3, 3, gain=0.5)
        change = node("Conv", [bent, kernel], f"change{index}", pads=[1] * 4)
        features = node("Add", [features, change], f"features{index + 1}")
    wide = node("ConvTranspose", [features, weight("up", channels, 16, factor, factor)], "wide", strides=[factor] * 2)
    detail = node("Conv", [wide, weight("last", 3, 16, 3, 3)], "detail", pads=[1] * 4)
    return changed_decoder([*nodes, helper.make_node("Add", ["repeated", detail], ["hr"])], weights)


def nearest_enlarger(doublings: int, side: int = HR, dtype: int = TensorProto.UINT8) -> list[bytes]:
    """An enlarger that repeats every pixel: takes ``[b, side, side, 3]`` of ``dtype``, a graph for each doubling."""

    def info(name: str, kind: int, *sides: int) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, kind, ["b", *sides])

    models = []
    for step in range(doublings):
        small, large = side * 2**step, side * 2 ** (step + 1)
        if step == 0:
            inputs = [info("picture", dtype, small, small, 3)]
            nodes = [
                helper.make_node("Cast", ["picture"], ["floats"], to=TensorProto.FLOAT),
                helper.make_node("Transpose", ["floats"], ["planes"], perm=[0, 3, 1, 2]),
            ]
        else:
            inputs = [info(name, TensorProto.FLOAT, 3, small, small) for name in ("values", "features")]
            nodes = [helper.make_node("Mean", ["values", "features"], ["planes"])]
        doubled = "doubledvalues" if step else "values"
        mode = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
        nodes += [
            helper.make_node("Resize", ["planes", "", "scales"], [doubled], **mode),
            helper.make_node("Cast", [doubled], ["levels"], to=dtype),
            helper.make_node("Transpose", ["levels"], ["enlarged"], perm=[0, 2, 3, 1]),
        ]
        outputs = [info("enlarged", dtype, large, large, 3)]
        if step < doublings - 1:
            nodes.append(helper.make_node("Identity", ["values"], ["features"]))
            outputs += [info(name, TensorProto.FLOAT, 3, large, large) for name in ("values", "features")]
        scales = numpy_helper.from_array(np.array([1, 1, 2, 2], np.float32), "scales")
        graph = helper.make_graph(nodes, "nearest", inputs, outputs, [scales])
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
        models.append(checked(model))
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
    root = folder / name
    root.mkdir(parents=True)
    network = random_network(HR, lr, seed=3) if random else replace(box_network(HR, lr), architecture="box")
    tables = replace(CoderTables.default(), step=step)
    integer.save_integer_network(network, root / ENCODER_WEIGHTS)
    export_encoder(network, root, ["onnx"])
    (root / DECODER_ONNX).write_bytes(decoder or repeating_decoder(HR, lr))
    (root / CODER_TABLES).write_bytes(tables.to_json())
    (root / GOLDEN).write_text(json.dumps(make_golden(lambda rgb: integer.run_reference(network, rgb), HR)))
    (root / MODEL_CARD).write_text("A bundle for tests.\n")
    bits = round(max(integer.prove_bound(network).values()), 2)
    counts = {"layers": len(network.layers), "parameters": network.parameters, "max_accumulator_log2": bits}
    described = {} if architecture is None else {"architecture": architecture}
    fields = {
        "schema": 1,
        "id": name,
        "version": "1.0.0",
        "lr_contract_id": contract_of(network, tables),
        "codec": "grain",
        "domain": "anything",
        "hr": HR,
        "lr": lr,
        "encoder": {"architecture": network.architecture, **counts},
        "preprocessing": PREPROCESSING,
        "decoder": {"file": DECODER_ONNX, "input": "lr", "output": "hr", "controls": [], **described},
        "training": {},
        "evaluation": {},
        "licence": {"weights": "Apache-2.0", "data": "none"},
    }
    write_manifest(root, fields)
    if doublings:
        add_enlarger(root, doublings)
    return root


def contract_of(network: integer.IntegerNetwork, tables: CoderTables) -> str:
    return lr_contract_id(integer.integer_digest(network), PREPROCESSING, tables).hex()


def add_rates(root: Path, qualities: dict[int, str | None]) -> None:
    """Give a tiny bundle further rates: step of the levels -> quality."""
    network, rates = integer.load_integer_network(root / ENCODER_WEIGHTS), []
    for step, quality in qualities.items():
        tables = replace(CoderTables.default(), step=step)
        (root / f"coder_{step}.json").write_bytes(tables.to_json())
        named = {} if quality is None else {"quality": quality}
        rates.append({"file": f"coder_{step}.json", **named, "lr_contract_id": contract_of(network, tables)})
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
