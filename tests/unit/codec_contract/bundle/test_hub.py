"""Bundles of the Hub, a local server: downloaded once, checked, offline, refused with advice."""

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from codec_contract.bundle.find import find_bundle
from codec_contract.bundle.hub import cached_hub_bundles, find_hub_bundle, hub_errors, parse_hub_name
from codec_contract.bundle.manifest import load_manifest, verify_bundle
from codec_contract.errors import BundleError
from tests.hub_server import Hub, hub_server
from tests.tiny_bundle import files_of, write_tiny_bundle

REPOSITORY = "anna/tiny"
NAME = f"hf://{REPOSITORY}"
DECODER = "decoder.onnx"
Log = pytest.LogCaptureFixture


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_bundle(tmp_path_factory.mktemp("source"))


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A local Hub, an empty cache, no token."""
    monkeypatch.setenv("EDGEGRAIN_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    with hub_server(monkeypatch) as running:
        yield running


def test_names() -> None:
    assert parse_hub_name(NAME) == (REPOSITORY, "main")
    assert parse_hub_name("hf://anna/tiny-2.b@refs/pr/1") == ("anna/tiny-2.b", "refs/pr/1")


MALFORMED = "hf: hf://anna hf://anna/ hf://anna/tiny/decoder.onnx hf://anna/tiny@ hf://../tiny hf://anna/tiny@../../x"


@pytest.mark.parametrize("name", [Path(NAME), "hf://anna/tiny@v1\n", "hf://anna/ti ny", *MALFORMED.split()])
def test_other_names_are_refused_before_the_network(name: str | Path) -> None:
    with pytest.raises(BundleError, match=r"names no bundle of the Hub; expected .*hf://owner/name@revision, as a st"):
        find_bundle(name)


def test_the_bundle_and_nothing_else_is_downloaded_once(hub: Hub, bundle: Path, caplog: Log) -> None:
    commit, files = hub.add(REPOSITORY, bundle), files_of(bundle)
    hub.repositories[REPOSITORY].commits[commit]["pictures/huge.bin"] = b"not of the bundle"
    hub.cut[DECODER] = 200  # the connection breaks off; huggingface-hub opens another one
    folder = find_hub_bundle(NAME)
    assert folder.name == commit and files_of(folder) == files
    assert f"{NAME}: downloading bundle tiny-64-lr16, version 1.0.0, commit {commit}. Licence of weig" in caplog.text
    caplog.clear()
    hub.requests.clear()
    assert find_hub_bundle(NAME) == folder and not caplog.messages
    assert len(hub.requests) == 1, "a branch is looked up, nothing is downloaded"
    assert find_hub_bundle(f"{NAME}@{commit}") == folder and len(hub.requests) == 1
    assert cached_hub_bundles() == {f"{NAME}@{commit}": folder}


def test_a_new_commit_of_the_branch_is_downloaded_beside_the_old_one(hub: Hub, bundle: Path) -> None:
    hub.add(REPOSITORY, bundle)
    old = find_hub_bundle(NAME)
    record = {**json.loads((bundle / "manifest.json").read_bytes()), "version": "2.0.0"}
    hub.repositories[REPOSITORY].commit({**files_of(bundle), "manifest.json": json.dumps(record).encode()})
    new = find_hub_bundle(NAME)
    assert load_manifest(new).version == "2.0.0" and load_manifest(old).version == "1.0.0"
    assert find_hub_bundle(f"{NAME}@{old.name}") == old
    assert set(cached_hub_bundles().values()) == {old, new}


def test_without_the_hub_the_last_commit_is_used(hub: Hub, bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.add(REPOSITORY, bundle)
    folder = find_hub_bundle(NAME)
    hub.down = True
    assert find_hub_bundle(NAME) == folder
    hub.requests.clear()
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)  # the variable is read at import
    assert find_hub_bundle(NAME) == folder and hub.requests == []
    with pytest.raises(BundleError, match="hf://anna/other: .* in the local cache. Please check your connection"):
        find_hub_bundle("hf://anna/other")
    for module in ("huggingface_hub", "huggingface_hub.errors"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(BundleError, match=r"install: pip install 'edgegrain\[hub\]'"):
        find_hub_bundle(NAME)
    pinned = f"{NAME}@{folder.name}"
    assert find_hub_bundle(pinned) == folder
    (folder / DECODER).unlink()  # an interrupted download
    with pytest.raises(BundleError, match="install: "):
        find_hub_bundle(pinned)


def test_an_altered_file_is_refused_and_downloaded_again(hub: Hub, bundle: Path, caplog: Log) -> None:
    hub.add(REPOSITORY, bundle)
    folder = find_hub_bundle(NAME)
    (folder / DECODER).resolve().write_bytes(b"altered")
    with pytest.raises(BundleError, match="altered"):
        load_manifest(find_hub_bundle(NAME)).open_file(DECODER)
    assert find_hub_bundle(NAME, verify=True) == folder and files_of(folder) == files_of(bundle)
    assert f"{DECODER} of bundle tiny-64-lr16 is altered" in caplog.text


def test_what_is_wrong_on_the_hub_is_refused(hub: Hub, bundle: Path) -> None:
    good = files_of(bundle)
    hub.add(REPOSITORY, bundle)
    for change, message in (
        ({DECODER: good[DECODER][:-1] + b"!"}, f"{DECODER} of bundle tiny-64-lr16 is altered"),
        ({"manifest.json": good["manifest.json"].replace(b'"README.md": {', b'"../evil": {')}, "malformed|plain"),
        ({"manifest.json": b"[]"}, "manifest"),
    ):
        hub.repositories[REPOSITORY].commit({**good, **change})
        with pytest.raises(BundleError, match=message):
            find_hub_bundle(NAME, verify=True)
    hub.repositories[REPOSITORY].commit({"README.md": b"no bundle"})
    with pytest.raises(BundleError, match=r"Entry Not Found for url: .*/main/manifest.json"):
        find_hub_bundle(NAME)


def test_the_hub_s_refusals_say_what_to_do(hub: Hub, bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.add(REPOSITORY, bundle)
    with pytest.raises(BundleError, match="hf://anna/other: .*Repository Not Found .* private"):
        find_hub_bundle("hf://anna/other")
    with pytest.raises(BundleError, match="Revision Not Found"):
        find_hub_bundle(f"{NAME}@v9")
    hub.repositories[REPOSITORY].private = True
    with pytest.raises(BundleError, match="private or gated repo, make sure you are authenticated"):
        find_hub_bundle(NAME)
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    assert verify_bundle(find_hub_bundle(NAME)).id == "tiny-64-lr16"
    with pytest.raises(BundleError, match="hf://a/b: .*No space left"), hub_errors("hf://a/b"):
        raise OSError(28, os.strerror(28))
