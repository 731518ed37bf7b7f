"""The authors' files: tensors are read, program code is refused, every tensor has one place or is named."""

import os
import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from codec_contract.errors import ModelError
from edgegrain.papers.convert import open_tensors
from edgegrain.papers.face_sr.checkpoints import load_gcfsr_checkpoint, load_glean_checkpoint
from edgegrain.papers.grain.checkpoints import load_grain_checkpoint
from edgegrain.papers.irn.checkpoints import load_irn_checkpoint
from tests import official_checkpoints as official
from tests.official_checkpoints import gcfsr_file, gcfsr_state, glean_file, grain_files, irn_state

LAYOUTS: dict[str, tuple[Callable[[], Any], Callable[[Path], Any], str]] = {
    "irn": (irn_state, load_irn_checkpoint, "operations.1.F.conv1.bias"),
    "irn of 3x": (official.irn_x3_state, load_irn_checkpoint, "operations.2.F.conv1.bias"),
    "glean": (official.glean_state, load_glean_checkpoint, "fusion_out.0.weight"),
    "gcfsr": (gcfsr_state, load_gcfsr_checkpoint, "condition_shift.1.0.weight"),
    "gcfsr blind": (lambda: gcfsr_state(blind=True), load_gcfsr_checkpoint, "final_linear.bias"),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_tensors_that_do_not_fit_are_named(layout: str, tmp_path: Path) -> None:
    make, load, name = LAYOUTS[layout]
    path = tmp_path / "file.pth"
    content = make()
    kept = content.pop(name)
    torch.save(content, path)
    with pytest.raises(ModelError, match=rf"1 tensor missing \({name}\)"):
        load(path)
    torch.save({**content, name: kept, "extra.weight": torch.zeros(1)}, path)
    with pytest.raises(ModelError, match=r"1 tensor unknown \(extra.weight\)"):
        load(path)
    torch.save({**content, name: torch.cat([kept, kept])}, path)
    with pytest.raises(ModelError, match=rf"1 tensor of another shape \({name} is \[{2 * len(kept)}"):
        load(path)


def test_safetensors_are_read_too_and_prefixes_of_data_parallel_are_taken_off(tmp_path: Path) -> None:
    save_file({f"module.{name}": tensor for name, tensor in irn_state().items()}, tmp_path / "irn.safetensors")
    irn, tensor_map = load_irn_checkpoint(tmp_path / "irn.safetensors")
    assert irn.config.blocks == (2, 1) and irn.config.growth == 6
    assert tensor_map.names["module.operations.1.F.conv1.bias"] == "stages.0.blocks.0.phi.conv1.bias"


HAAR = [name for name in irn_state() if "haar" in name]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict.fromkeys(HAAR), "is no IRN: expected 'operations.0.haar_weights' or, for 3x"),
        ({"operations.0.conv_weights": torch.eye(4)}, "unknown (operations.0.conv_weights)"),
        ({"operations.0.conv_weights": torch.eye(3)}, "is no IRN: a module reduces by 2 or more, got 1"),
    ],
    ids=["no transform", "trained transform", "IRN-Color"],
)
def test_files_that_are_no_irn_are_refused(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    content = {name: tensor for name, tensor in (irn_state() | changes).items() if tensor is not None}
    torch.save(content, tmp_path / "irn.pth")
    with pytest.raises(ModelError, match=re.escape(message)):
        load_irn_checkpoint(tmp_path / "irn.pth")


def test_the_average_of_gcfsrs_weights_is_taken(tmp_path: Path) -> None:
    torch.save(gcfsr_file(), tmp_path / "gcfsr.pth")
    network, tensor_map = load_gcfsr_checkpoint(tmp_path / "gcfsr.pth")
    assert torch.equal(network.modulations[0].generated.bias, gcfsr_state()["condition_scale1.2.bias"])
    assert {"params.final_linear.bias", "params_ema.noises.noise0"} <= set(tensor_map.unused)
    again, _ = load_gcfsr_checkpoint(tmp_path / "gcfsr.pth")
    assert torch.equal(network.layers[0].noise, again.layers[0].noise)


def test_gleans_file_holds_its_training_too(tmp_path: Path) -> None:
    torch.save(glean_file(), tmp_path / "glean.pth")
    network, tensor_map = load_glean_checkpoint(tmp_path / "glean.pth")
    assert network.config.lr == 8 and network.config.prior.size == 32
    unused = {"state_dict.discriminator.convs.0.conv.weight_orig", "state_dict.generator.fusion_skip.0.weight"}
    assert unused <= set(tensor_map.unused)
    assert tensor_map.names["state_dict.generator.generator.to_rgb1.bias"] == "prior.to_rgb.0.bias"
    content: Any = glean_file()
    content["state_dict"]["surplus.weight"] = torch.zeros(1)
    torch.save(content, tmp_path / "glean.pth")
    with pytest.raises(ModelError, match=r"unknown: state_dict.surplus.weight"):
        load_glean_checkpoint(tmp_path / "glean.pth")


@pytest.fixture(scope="module")
def grain(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("grain")
    for name, content in grain_files().items():
        torch.save(content, folder / name)
    return {name: folder / name for name in grain_files()}


def test_grains_files_come_in_any_order(grain: dict[str, Path]) -> None:
    _, model, (invertible, codes, fusion, mean) = load_grain_checkpoint([*grain.values()][::-1])
    assert model.config.fusion is not None and model.config.fusion.base == "none"
    files: Any = grain_files()
    assert torch.equal(model.prior.mean_code, files["stylegan2-ffhq-config-f.pt"]["latent_avg"])
    assert mean.names == {"latent_avg": "prior.mean_code"}
    for tensor_map, wrapper in ((invertible, "state_dict"), (codes, "state_dict"), (fusion, "state_dict3")):
        content = files[tensor_map.file][wrapper]
        assert {f"{wrapper}.{name}" for name in content} == set(tensor_map.names) | set(tensor_map.unused)
    # the second head of a style block makes the earlier code
    assert codes.names["state_dict.encoder.styles.1.linear2.bias"] == "codes.codes.2.bias"


def test_grain_without_the_generators_file_measures_the_mean_code(grain: dict[str, Path]) -> None:
    _, model, _ = load_grain_checkpoint([*grain.values()][:3])
    assert model.prior is not None and model.prior.mean_code.std() > 0


def test_grain_names_files_that_are_missing_or_none_of_its(grain: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="GRAIN needs codeStyleGAN_model.pt, Fusion_model.pt too"):
        load_grain_checkpoint([grain["invRRDB_model.pt"]])
    with pytest.raises(ModelError, match="are both a Fusion_model.pt"):
        load_grain_checkpoint([grain["Fusion_model.pt"], grain["Fusion_model.pt"]])
    torch.save({"state_dict": {"model.0.weight": torch.zeros(1)}}, tmp_path / "best_model_dis.pt")
    with pytest.raises(ModelError, match=r"best_model_dis.pt is no file of GRAIN's: expected one of invRRDB_model.pt"):
        load_grain_checkpoint([tmp_path / "best_model_dis.pt"])


def test_grain_names_tensors_that_do_not_fit(grain: dict[str, Path], tmp_path: Path) -> None:
    files: Any = grain_files()
    content = files["Fusion_model.pt"]["state_dict3"]
    content["extra.weight"] = content.pop("conv2.2.bias")
    torch.save(files["Fusion_model.pt"], tmp_path / "fusion.pt")
    message = r"1 tensor missing \(state_dict3.conv2.2.bias\); 1 tensor unknown \(state_dict3.extra.weight\)"
    with pytest.raises(ModelError, match=message):
        load_grain_checkpoint([grain["invRRDB_model.pt"], grain["codeStyleGAN_model.pt"], tmp_path / "fusion.pt"])


def test_reads_nested_tensors_by_name(tmp_path: Path) -> None:
    torch.save({"net": {"weight": torch.ones(2), "steps": 3}, "bias": torch.zeros(1)}, tmp_path / "plain.pt")
    found = open_tensors(tmp_path / "plain.pt").tensors
    assert {name: list(tensor) for name, tensor in found.items()} == {"net.weight": [1, 1], "bias": [0]}


class Harm:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder: Path) -> None:
        self.folder = str(folder)

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, (self.folder,)


@pytest.mark.parametrize("kind", ["archive", "legacy", 2, 4])
def test_program_code_is_refused_without_advice_to_run_it(kind: str | int, tmp_path: Path) -> None:
    reason = r"contains program code \(posix\.mkdir\) and was refused"
    if kind == 4:
        reason = "a pickle that can contain program code and was refused"
    path, content = tmp_path / "weights.pkl", {"weight": Harm(tmp_path / "harm")}
    if isinstance(kind, int):
        path.write_bytes(pickle.dumps(content, protocol=kind))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=kind == "archive")
    with pytest.raises(ModelError, match=reason) as refusal:
        open_tensors(path)
    assert "weights_only" not in str(refusal.value) and "trusted" not in str(refusal.value)
    assert not (tmp_path / "harm").exists()


def test_other_files_are_named_for_what_they_are(tmp_path: Path) -> None:
    path = tmp_path / "file.pt"
    torch.save({"weight": torch.ones(2)}, path)
    cut, failed = path.read_bytes()[:-80], "failed reading zip archive"
    for content, reason in (cut, failed), (b"hello", "damaged, no torch file"):
        path.write_bytes(content)
        with pytest.raises(ModelError, match=reason):
            open_tensors(path)
    with pytest.raises(ModelError, match="No such file or directory"):
        open_tensors(tmp_path / "none.pt")
