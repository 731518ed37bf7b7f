"""Uploads to the Hub, a local server: the card's head, what is committed, refusals."""

import json
from pathlib import Path

import pytest
import yaml

from codec_contract.bundle.hub import find_hub_bundle
from codec_contract.bundle.manifest import load_manifest, verify_bundle
from codec_contract.errors import BundleError
from edgegrain.publishing.upload import prepare, upload
from tests.hub_server import Hub, Repository
from tests.tiny_bundle import refresh_manifest, write_tiny_bundle

REPOSITORY = "anna/tiny"


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return write_tiny_bundle(tmp_path)


def send(bundle: Path, revision: str = "main", private: bool = False) -> str:
    _, _, files = prepare(bundle, REPOSITORY)
    return upload(files, REPOSITORY, revision, private=private, message="First")


def test_a_card_gets_the_metadata_that_the_hub_reads(bundle: Path) -> None:
    manifest, head, files = prepare(bundle, REPOSITORY)
    card = files["README.md"]
    assert isinstance(card, bytes) and card.decode() == f"{head}A bundle for tests.\n"
    metadata = yaml.safe_load(head.strip("-\n"))
    assert (metadata["license"], metadata["library_name"]) == ("other", "edgegrain")
    assert metadata["license_link"] == "https://huggingface.co/anna/tiny/blob/main/README.md"
    assert metadata["pipeline_tag"] == "image-to-image" and {"onnx", "grain", "anything"} <= set(metadata["tags"])
    free = yaml.safe_load(prepare(bundle, REPOSITORY, "apache-2.0")[1].strip("-\n"))
    assert free["license"] == "apache-2.0" and "license_link" not in free
    assert files.keys() == {*manifest.files, "manifest.json"}
    assert (bundle / "README.md").read_text() == "A bundle for tests.\n", "the bundle stays as it is"


def test_the_owner_s_metadata_stay_but_for_a_given_licence(bundle: Path) -> None:
    (bundle / "README.md").write_text("---\nlicense: mit\ntags:\n- mine\n---\n# Mine\n")
    refresh_manifest(bundle)
    assert prepare(bundle, REPOSITORY)[1] == "---\nlicense: mit\ntags:\n- mine\n---\n"
    _, head, files = prepare(bundle, REPOSITORY, "apache-2.0")
    assert head == "---\nlicense: apache-2.0\ntags:\n- mine\n---\n" and files["README.md"] == f"{head}# Mine\n".encode()


def test_other_contracts_and_damaged_bundles_are_refused(bundle: Path) -> None:
    refresh_manifest(bundle, lr_contract_id="ab" * 32)
    with pytest.raises(BundleError, match="tiny-64-lr16 states LR contract abab.*; export it again"):
        prepare(bundle, REPOSITORY)
    (bundle / "coder.json").write_text("{}")
    with pytest.raises(BundleError, match="coder.json of bundle tiny-64-lr16 is altered"):
        prepare(bundle, REPOSITORY)


def test_what_is_uploaded_is_what_is_downloaded(hub: Hub, bundle: Path) -> None:
    (bundle / "secret.txt").write_text("not listed in the manifest")
    commit = send(bundle)
    repository = hub.repositories[REPOSITORY]
    assert repository.branches["main"] == commit and not repository.private
    folder = find_hub_bundle(f"hf://{REPOSITORY}@{commit}")
    assert verify_bundle(folder).lr_contract_id == load_manifest(bundle).lr_contract_id
    assert (folder / "decoder.onnx").read_bytes() == (bundle / "decoder.onnx").read_bytes()
    listed = json.loads((folder / "manifest.json").read_bytes())["files"].keys()
    assert listed == load_manifest(bundle).files.keys() and "secret.txt" not in repository.commits[commit]
    assert send(bundle, "v2") == repository.branches["v2"] != repository.branches["main"] == commit


def test_a_private_upload_never_goes_to_a_public_repository(hub: Hub, bundle: Path) -> None:
    hub.repositories[REPOSITORY] = Repository()
    with pytest.raises(BundleError, match="is public and stays so; .* Nothing was uploaded"):
        send(bundle, private=True)
    assert not hub.repositories.pop(REPOSITORY).commits
    send(bundle, private=True)
    assert hub.repositories[REPOSITORY].private and len(hub.repositories[REPOSITORY].commits) == 1


def test_with_a_wrong_token_nothing_is_uploaded(hub: Hub, bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    with pytest.raises(BundleError, match="hf://anna/tiny@main: .*401"):
        send(bundle)
    assert hub.repositories == {}
