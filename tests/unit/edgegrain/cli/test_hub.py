"""Bundles of the Hub on the command line: fetched, listed, used, uploaded."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import sdk
from codec_contract.bundle.manifest import verify_bundle
from codec_contract.errors import BundleError
from tests.hub_server import Hub
from tests.tiny_bundle import write_tiny_bundle
from tests.unit.edgegrain.cli.conftest import Shell


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return write_tiny_bundle(tmp_path, random=True)


def test_fetched_bundles_are_listed(hub: Hub, bundle: Path, shell: Shell, tmp_path: Path) -> None:
    commit = hub.add("anna/tiny", bundle)
    folder = tmp_path / "cache" / "hub" / "models--anna--tiny" / "snapshots" / commit
    assert shell.ok("bundles", "fetch", "hf://anna/tiny") == f"{folder}\n"
    name = f"hf://anna/tiny@{commit}"
    assert shell.json("bundles", "fetch", name) == [{"name": name, "folder": str(folder)}]
    assert f"\nhf://anna/tiny@{commit}, version 1.0.0, every file verified\n" in shell.ok("bundles", "--verify")
    assert shell("bundles", "fetch", "hf://anna")[0] == 1


def test_a_bundle_of_another_contract_than_it_states_is_refused(hub: Hub, bundle: Path, shell: Shell) -> None:
    manifest = bundle / "manifest.json"
    stated = json.loads(manifest.read_bytes())["lr_contract_id"]
    manifest.write_text(manifest.read_text().replace(stated, "0" * 64))
    hub.add("anna/tiny", bundle)
    wrong = f"states LR contract {'0' * 64}, but its encoder, preprocessing and coder tables have {stated}"
    shell.fails(wrong, "bundles", "fetch", "hf://anna/tiny")
    for use in (sdk.Codec, lambda name: sdk.compress(np.zeros((64, 64, 3), np.uint8), name)):
        with pytest.raises(BundleError, match=wrong):
            use("hf://anna/tiny")


def test_a_damaged_bundle_of_the_cache_is_left_out(
    hub: Hub, bundle: Path, shell: Shell, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    commit, other = (hub.add(name, bundle) for name in ("anna/tiny", "anna/other"))
    shell.ok("bundles", "fetch", "hf://anna/tiny", "hf://anna/other")
    damaged = tmp_path / "cache" / "hub" / "models--anna--tiny" / "snapshots" / commit
    (damaged / "manifest.json").unlink()
    (damaged / "manifest.json").write_text("damaged")
    status, out, _ = shell("bundles")
    assert status == 1 and f"hf://anna/other@{other}, version 1.0.0\n" in out and "hf://anna/tiny" not in out
    assert f"the bundle in {damaged} is left out: " in caplog.text
    status, out, _ = shell("bundles", "--json")
    intact = damaged.parents[2] / "models--anna--other" / "snapshots" / other
    assert status == 1 and str(intact) in [row["folder"] for row in json.loads(out)]


def test_a_name_of_the_hub_stands_for_a_bundle(
    hub: Hub, bundle: Path, shell: Shell, tmp_path: Path, picture: Path
) -> None:
    hub.add("anna/tiny", bundle)
    payload, back = tmp_path / "me.grain", tmp_path / "back.png"
    shell.ok("compress", picture, "--bundle", "hf://anna/tiny", "--out", payload)
    hub.down = True
    shell.ok("restore", payload, "--bundle", "hf://anna/tiny", "--out", back)
    assert Image.open(back).size == (90, 70)
    assert shell("restore", payload, "--out", back, "--force")[0] == 1, "the installed bundles have other contracts"


def test_publishing_is_a_dry_run_unless_asked(hub: Hub, bundle: Path, shell: Shell) -> None:
    out = shell.ok("publish", "hub", bundle, "anna/tiny")
    assert out.startswith(
        "bundle tiny-64-lr16 1.0.0, verified -> hf://anna/tiny@main\ncommit 'Bundle tiny-64-lr16 1.0.0', 7 files, "
    )
    assert "Licence of weights: Apache-2.0." in out and "\nlicense: other\n" in out
    assert out.endswith("nothing was uploaded; --upload uploads this\n") and hub.requests == []
    out = shell.ok("publish", "hub", bundle, "anna/tiny", "--upload", "--message", "First")
    commit = hub.repositories["anna/tiny"].branches["main"]
    assert out.endswith(f"uploaded: hf://anna/tiny@{commit}\n")
    assert verify_bundle(Path(shell.ok("bundles", "fetch", f"hf://anna/tiny@{commit}").strip())).id == "tiny-64-lr16"


def test_wrong_uploads(hub: Hub, shell: Shell) -> None:
    shell.fails("Missing argument 'OWNER/NAME'", "publish", "hub", "faces", status=2)
    shell.fails("expected hf://owner/name", "publish", "hub", "faces", "tiny")
    shell.fails("there is no bundle 'nothing'", "publish", "hub", "nothing", "anna/tiny", "--upload")
    assert hub.requests == []
