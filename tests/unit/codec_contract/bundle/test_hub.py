"""Bundles of the Hub, a local server: downloaded once, checked, offline, refused with advice, uploaded."""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from codec_contract.bundle.find import find_bundle
from codec_contract.bundle.hub import (
    HubName,
    cached_hub_bundles,
    find_hub_bundle,
    hub_cache,
    hub_errors,
    plan_upload,
    upload,
)
from codec_contract.bundle.manifest import MAX_MANIFEST_BYTES, load_manifest, verify_bundle
from codec_contract.errors import BundleError
from edge_encoder.contract_id import check_contract_id
from tests.hub_server import Hub, Repository, hub_server
from tests.tiny_bundle import refresh_manifest, write_tiny_bundle

REPOSITORY = "anna/tiny"
TARGET = HubName(REPOSITORY)
DECODER = "decoder.onnx"
NOWHERE = "huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE"
"""Set to an address where nothing listens."""


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_bundle(tmp_path_factory.mktemp("source"))


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A local Hub, an empty cache, no token, no pauses."""
    monkeypatch.setenv("EDGEGRAIN_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    with hub_server(monkeypatch) as running:
        yield running


def find(name: str = f"hf://{REPOSITORY}", *, verify: bool = False) -> Path:
    return find_hub_bundle(name, verify=verify)


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def changed(bundle: Path, **fields: object) -> dict[str, bytes]:
    """The bundle's files with other fields in the manifest."""
    record = {**json.loads((bundle / "manifest.json").read_bytes()), **fields}
    return {**files_of(bundle), "manifest.json": json.dumps(record).encode()}


def publish(hub: Hub, files: dict[str, bytes]) -> None:
    hub.repositories[REPOSITORY] = Repository()
    hub.repositories[REPOSITORY].commit(files)


def with_card(bundle: Path, text: str) -> Path:
    (bundle / "README.md").write_text(text)
    refresh_manifest(bundle)
    return bundle


class TestNames:
    def test_forms(self) -> None:
        assert HubName.parse("hf://anna/tiny") == HubName("anna/tiny", "main")
        assert HubName.parse("hf://anna/tiny-2.b@refs/pr/1") == HubName("anna/tiny-2.b", "refs/pr/1")
        assert HubName.parse(f"hf://anna/tiny@{'a' * 40}").pinned and not HubName("anna/tiny").pinned
        assert str(HubName("anna/tiny", "v1")) == "hf://anna/tiny@v1"

    @pytest.mark.parametrize("name", [
        "hf://anna", "hf://anna/", "hf:/anna/tiny", "hf://anna/tiny/decoder.onnx", "hf://anna/tiny@", "hf://../tiny",
        "hf://anna/..", "hf://anna/a--b", "hf://anna/tiny@../../x", "hf://anna/tiny@/x", "hf://anna/tiny@a..b",
        "hf://anna/tiny@v1\n", "hf://anna/tiny@v1?x", "hf://anna/ti ny", "hf://", "hf:"])
    def test_other_forms_are_refused_before_the_network(self, name: str) -> None:
        with pytest.raises(BundleError, match="names no bundle of the Hub; expected .*hf://owner/name@revision"):
            find_bundle(name)

    def test_a_path_is_told_to_be_a_string(self) -> None:
        with pytest.raises(BundleError, match="as a string"):
            find_bundle(Path("hf://anna/tiny"))


class TestDownload:
    def test_the_bundle_and_nothing_else_is_downloaded_once(
            self, hub: Hub, bundle: Path, caplog: pytest.LogCaptureFixture) -> None:
        (commit, files) = (hub.add(REPOSITORY, bundle), files_of(bundle))
        hub.repositories[REPOSITORY].commits[commit]["pictures/huge.bin"] = b"not of the bundle"
        folder = find()
        assert folder.name == commit and files_of(folder) == files
        asked = {path.partition(f"resolve/{commit}/")[2] for path, _ in hub.asked("GET") if "/resolve/" in path}
        assert asked == files.keys()
        verify_bundle(folder)
        line, = caplog.messages
        assert f"hf://{REPOSITORY}@main: downloading bundle tiny-64-lr16, version 1.0.0, commit {commit}" in line
        assert line.endswith("Licence of weights: Apache-2.0. Licence of data: none.")
        caplog.clear()
        hub.requests.clear()
        assert find() == folder and not caplog.messages
        assert [request[0] for request in hub.requests] == ["HEAD"], "a branch is looked up, nothing is downloaded"

    def test_a_new_commit_of_the_branch_is_downloaded_beside_the_old_one(self, hub: Hub, bundle: Path) -> None:
        hub.add(REPOSITORY, bundle)
        old = find()
        hub.repositories[REPOSITORY].commit(changed(bundle, version="2.0.0"))
        new = find()
        assert json.loads((new / "manifest.json").read_bytes())["version"] == "2.0.0"
        assert new != old and find(f"hf://{REPOSITORY}@{old.name}") == old
        hub_folder = old.parents[2]
        for odd in (".tmp/tiny", "anna/a--b", "anna/.tiny"):  # copied by another program
            shutil.copytree(old, hub_folder / odd / old.name)
        assert cached_hub_bundles() == {f"hf://{REPOSITORY}@{folder.name}": folder for folder in (old, new)}

    def test_a_branch_below_the_name_of_an_earlier_one(self, hub: Hub, bundle: Path) -> None:
        commit = hub.add(REPOSITORY, bundle)
        for branch in ("v1", "v1/fix"):
            hub.repositories[REPOSITORY].branches = {branch: commit}
            assert find(f"hf://{REPOSITORY}@{branch}").name == commit

    def test_a_broken_connection_is_opened_again(self, hub: Hub, bundle: Path) -> None:
        hub.add(REPOSITORY, bundle)
        hub.cut[DECODER] = 200
        assert files_of(find()) == files_of(bundle)
        assert len(hub.asked("GET", DECODER)) == 2

    def test_another_process_keeps_the_files_of_an_interrupted_one(self, hub: Hub, bundle: Path) -> None:
        commit = hub.add(REPOSITORY, bundle)
        decoder = hub.repositories[REPOSITORY].commits[commit].pop(DECODER)
        with pytest.raises(BundleError, match="the repository holds no bundle"):
            find()
        assert not (hub_cache() / REPOSITORY / commit).exists(), "complete or not at all"
        hub.repositories[REPOSITORY].commits[commit][DECODER] = decoder
        hub.requests.clear()
        assert files_of(find()) == files_of(bundle)
        assert not hub.asked("GET", "coder.json"), "it was complete"

    def test_licences_are_printed_without_control_characters(
            self, hub: Hub, bundle: Path, caplog: pytest.LogCaptureFixture) -> None:
        licence = {"weights": "free\x1b[2J\nas in beer", "data": "x" * 9999}
        publish(hub, changed(bundle, licence=licence))
        find()
        assert "Licence of weights: free [2J as in beer. " in caplog.text and len(caplog.messages[0]) < 1000


class TestOffline:
    def test_without_the_hub_the_last_commit_is_used_with_a_warning(
            self, hub: Hub, bundle: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
        hub.add(REPOSITORY, bundle)
        folder = find()
        caplog.clear()
        hub.down = True
        assert find() == folder
        assert "the Hub gives no answer for it (HfHubHTTPError); commit" in caplog.text
        assert f"{folder.name} of the cache is used" in caplog.text
        caplog.clear()
        monkeypatch.setattr(NOWHERE, "http://127.0.0.1:9/{repo_id}")
        assert find() == folder
        assert "the Hub gives no answer for it (ConnectError)" in caplog.text

    def test_a_commit_asks_nothing_and_needs_no_library(
            self, hub: Hub, bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        commit = hub.add(REPOSITORY, bundle)
        pinned = f"hf://{REPOSITORY}@{commit}"
        folder = find(pinned)
        hub.requests.clear()
        monkeypatch.setitem(__import__("sys").modules, "huggingface_hub", None)
        assert find(pinned) == folder and hub.requests == []
        with pytest.raises(BundleError, match=r"install: pip install 'edgegrain\[hub\]'"):
            find()

    def test_the_variable_for_offline_use(self, hub: Hub, bundle: Path,
                                          monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
        hub.add(REPOSITORY, bundle)
        folder = find()
        hub.requests.clear()
        caplog.clear()
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)  # the variable is read at import
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
        assert find() == folder and hub.requests == [] and caplog.messages == []
        with pytest.raises(BundleError, match="hf://anna/other@main: .* unset the `HF_HUB_OFFLINE` environment"):
            find("hf://anna/other")


class TestRefusals:
    def test_an_altered_file_is_refused_before_it_is_opened(self, hub: Hub, bundle: Path) -> None:
        commit = hub.add(REPOSITORY, bundle)
        good = hub.repositories[REPOSITORY].commits[commit]
        right = good[DECODER]
        good[DECODER] = right[:-1] + b"!"
        with pytest.raises(BundleError, match=f"commit {commit}, is refused: {DECODER} of .* is altered"):
            find()
        assert cached_hub_bundles() == {}
        good[DECODER] = right
        assert files_of(find()) == files_of(bundle), "the altered file is not kept"

    @pytest.mark.parametrize("size", [-3, 3])
    def test_a_file_of_another_size_is_refused(self, hub: Hub, bundle: Path, size: int) -> None:
        listed = json.loads((bundle / "manifest.json").read_bytes())["files"]
        listed[DECODER]["size"] += size
        publish(hub, changed(bundle, files=listed))
        expected = rf"{DECODER} has .* bytes on the Hub, expected {listed[DECODER]['size']}"
        with pytest.raises(BundleError, match=expected):
            find()
        assert not list(hub_cache().rglob(DECODER))

    @pytest.mark.parametrize("name", ["../evil", "/etc/evil", "a/../../evil", "c:evil", "a\\b"])
    def test_names_that_leave_the_folder_are_refused(self, hub: Hub, bundle: Path, name: str) -> None:
        publish(hub, changed(bundle, files={name: {"size": 1, "sha256": "0" * 64}}))
        with pytest.raises(BundleError, match="is not a plain relative path"):
            find()
        assert len(hub.asked("GET", "evil")) == 0

    def test_a_huge_manifest_is_refused_before_it_is_downloaded(self, hub: Hub) -> None:
        publish(hub, {"manifest.json": b" " * (MAX_MANIFEST_BYTES + 1)})
        with pytest.raises(BundleError, match=f"at most {MAX_MANIFEST_BYTES} are allowed"):
            find()
        assert not hub.asked("GET")

    def test_the_hubs_refusals_say_what_to_do(self, hub: Hub, bundle: Path) -> None:
        commit = hub.add(REPOSITORY, bundle)
        repository = hub.repositories[REPOSITORY]
        with pytest.raises(BundleError, match="hf://anna/other@main: .*Repository Not Found .* private"):
            find("hf://anna/other")
        for revision in ("v9", "0" * 40):
            with pytest.raises(BundleError, match="Revision Not Found"):
                find(f"hf://{REPOSITORY}@{revision}")
        del repository.commits[commit][DECODER]
        with pytest.raises(BundleError, match="the repository holds no bundle: manifest.json, or a file that it lists"):
            find()
        repository.commits[commit].clear()
        with pytest.raises(BundleError, match="the repository holds no bundle"):
            find(f"hf://{REPOSITORY}@main")
        repository.gated = True
        with pytest.raises(BundleError, match="gated repo .*'hf auth login' or set HF_TOKEN"):
            find()

    def test_a_private_repository_is_read_with_the_token(
            self, hub: Hub, bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        hub.add(REPOSITORY, bundle)
        hub.repositories[REPOSITORY].private = True
        with pytest.raises(BundleError, match="a private or gated repo.*'hf auth login'"):
            find()
        monkeypatch.setenv("HF_TOKEN", "hf_secret")
        assert files_of(find()) == files_of(bundle)

    def test_no_hub_and_no_cache(self, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(NOWHERE, "http://127.0.0.1:9/{repo_id}")
        with pytest.raises(BundleError, match=r"the Hub cannot be reached .*\(ConnectError: .*check the network"):
            find()

    def test_a_full_disk(self) -> None:
        with pytest.raises(BundleError, match="hf://a/b@main: the cache cannot be written .*; free space, or set"):
            with hub_errors("hf://a/b@main"):
                raise OSError(28, os.strerror(28))

    def test_a_cache_that_cannot_be_written(
            self, hub: Hub, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        hub.add(REPOSITORY, bundle)
        (tmp_path / "file").write_bytes(b"")
        monkeypatch.setenv("EDGEGRAIN_CACHE", str(tmp_path / "file"))
        with pytest.raises(BundleError, match="the cache cannot be written .*set EDGEGRAIN_CACHE to another folder"):
            find()


def test_verify_downloads_an_altered_bundle_again(hub: Hub, bundle: Path, caplog: pytest.LogCaptureFixture) -> None:
    name = f"hf://{REPOSITORY}@{hub.add(REPOSITORY, bundle)}"
    folder = find(name)
    (folder / DECODER).write_bytes(b"altered")
    assert find(name) == folder and (folder / DECODER).read_bytes() == b"altered", "checked when it is opened"
    hub.down = True
    with pytest.raises(BundleError, match="503 Service Unavailable"):
        find(name, verify=True)
    assert folder.is_dir(), "it is replaced, not removed"
    hub.down = False
    with caplog.at_level(logging.WARNING):
        assert files_of(find(name, verify=True)) == files_of(bundle)
    assert f"{folder} is altered and is replaced" in caplog.text


class TestUpload:
    @pytest.fixture
    def token(self, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("HF_TOKEN", "hf_secret")

    @pytest.fixture
    def bundle(self, tmp_path: Path) -> Path:
        """One that a test may change."""
        return write_tiny_bundle(tmp_path)

    def test_a_card_gets_the_metadata_that_the_hub_reads(self, bundle: Path) -> None:
        plan = plan_upload(bundle, TARGET)
        card, manifest = plan.files["README.md"], plan.files["manifest.json"]
        assert isinstance(card, bytes) and isinstance(manifest, bytes)
        _, head, body = card.decode().split("---\n", 2)
        assert body == "\nA bundle for tests.\n" and plan.front_matter == f"---\n{head}---\n"
        metadata = yaml.safe_load(head)
        assert (metadata["license"], metadata["library_name"]) == ("other", "edgegrain")
        assert metadata["license_link"] == "https://huggingface.co/anna/tiny/blob/main/README.md"
        assert metadata["pipeline_tag"] == "image-to-image" and {"onnx", "grain", "anything"} <= set(metadata["tags"])
        free = yaml.safe_load(plan_upload(bundle, TARGET, licence="apache-2.0").front_matter.split("---\n")[1])
        assert free["license"] == "apache-2.0" and "license_link" not in free
        assert plan.message == "Bundle tiny-64-lr16 1.0.0"
        assert plan.files.keys() == {*load_manifest(bundle).files, "manifest.json"}
        assert (bundle / "README.md").read_text() == "A bundle for tests.\n", "the bundle stays as it is"

    def test_metadata_of_the_owner_stays(self, bundle: Path) -> None:
        plan = plan_upload(with_card(bundle, "---\nlicense: mit\n---\n# Mine\n"), TARGET)
        assert plan.front_matter == "---\nlicense: mit\n---\n"
        assert all(plan.files[name] == bundle / name for name in ("README.md", "manifest.json"))
        # A horizontal rule is none.
        plan = plan_upload(with_card(bundle, "---\n# Mine ---\n"), TARGET)
        card = plan.files["README.md"]
        assert isinstance(card, bytes) and card.decode() == f"{plan.front_matter}\n---\n# Mine ---\n"
        assert yaml.safe_load(plan.front_matter.split("---\n")[1])["license"] == "other"

    def test_a_given_licence_replaces_that_of_the_front_matter(self, bundle: Path) -> None:
        link = "license_name: see-model-card\nlicense_link: https://huggingface.co/other/tiny/blob/main/README.md\n"
        with_card(bundle, f"---\nlicense: other\n{link}tags:\n- mine\n---\n\n# Mine\n")
        plan = plan_upload(bundle, TARGET, licence="apache-2.0")
        card, manifest = plan.files["README.md"], plan.files["manifest.json"]
        assert isinstance(card, bytes) and isinstance(manifest, bytes)
        assert plan.front_matter == "---\nlicense: apache-2.0\ntags:\n- mine\n---\n"
        assert card.decode() == f"{plan.front_matter}\n# Mine\n"
        assert json.loads(manifest)["files"]["README.md"]["size"] == len(card)
        for head in ("- mit", "license: a: b"):
            with_card(bundle, f"---\n{head}\n---\n# Mine\n")
            with pytest.raises(BundleError, match="front matter of README.md cannot be read .*correct it in"):
                plan_upload(bundle, TARGET, licence="apache-2.0")

    def test_commits_other_contracts_and_damaged_bundles_are_refused(self, bundle: Path) -> None:
        with pytest.raises(BundleError, match="is a commit, which never changes; name a branch"):
            plan_upload(bundle, HubName("anna/tiny", "a" * 40))
        refresh_manifest(bundle, lr_contract_id="ab" * 32)
        with pytest.raises(BundleError, match="tiny-64-lr16 states LR contract abab.*; export it again"):
            plan_upload(bundle, TARGET, check_contract_id)
        (bundle / "coder.json").write_text("{}")
        with pytest.raises(BundleError, match="coder.json of bundle tiny-64-lr16 is altered"):
            plan_upload(bundle, TARGET)

    def test_what_is_uploaded_is_what_is_downloaded(self, hub: Hub, token: None, bundle: Path) -> None:
        (bundle / "secret.txt").write_text("not listed in the manifest")
        plan = plan_upload(bundle, TARGET, message="First")
        assert hub.requests == []
        name = upload(plan)
        repository = hub.repositories["anna/tiny"]
        assert name == HubName("anna/tiny", repository.branches["main"]) and not repository.private
        assert {path: len(data) for path, data in repository.commits[name.revision].items()} == plan.sizes
        folder = find_hub_bundle(str(name))
        assert verify_bundle(folder).lr_contract_id == load_manifest(bundle).lr_contract_id
        assert (folder / "decoder.onnx").read_bytes() == (bundle / "decoder.onnx").read_bytes()
        assert json.loads((folder / "manifest.json").read_bytes())["files"].keys() == load_manifest(bundle).files.keys()

    def test_another_branch_is_created(self, hub: Hub, token: None, bundle: Path) -> None:
        upload(plan_upload(bundle, TARGET))
        first = hub.repositories["anna/tiny"].branches["main"]
        upload(plan_upload(bundle, HubName("anna/tiny", "v2")))
        branches = hub.repositories["anna/tiny"].branches
        assert branches["main"] == first and branches["v2"] != first

    def test_a_private_upload_never_goes_to_a_public_repository(self, hub: Hub, token: None, bundle: Path) -> None:
        private = plan_upload(bundle, TARGET, private=True)
        hub.repositories["anna/tiny"] = Repository()
        with pytest.raises(BundleError, match="is public and stays so; .* Nothing was uploaded"):
            upload(private)
        assert not hub.repositories["anna/tiny"].commits
        del hub.repositories["anna/tiny"]
        upload(private)
        assert hub.repositories["anna/tiny"].private and len(hub.repositories["anna/tiny"].commits) == 1

    def test_with_a_wrong_token_nothing_is_uploaded(
            self, hub: Hub, bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("HF_TOKEN", "hf_wrong")
        with pytest.raises(BundleError, match="401.*; log in with 'hf auth login' or set HF_TOKEN"):
            upload(plan_upload(bundle, TARGET))
        assert hub.repositories == {}
