"""Upload to the Hub: what is planned, what is refused, and what arrives at a local server."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from codec_contract.bundle.hub import HubName, find_hub_bundle
from codec_contract.bundle.manifest import load_manifest, verify_bundle
from codec_contract.errors import BundleError
from edgegrain.publishing.hub_upload import plan_upload, upload
from tests.hub_server import Hub, Repository, hub_server
from tests.tiny_bundle import refresh_manifest, write_tiny_bundle

TARGET = HubName("anna/tiny")


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    monkeypatch.setenv("EDGEGRAIN_CACHE", str(tmp_path / "cache"))
    with hub_server(monkeypatch) as running:
        yield running


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return write_tiny_bundle(tmp_path)


def test_a_card_gets_the_metadata_that_the_hub_reads(bundle: Path) -> None:
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


def test_a_horizontal_rule_is_no_metadata(bundle: Path) -> None:
    (bundle / "README.md").write_text("---\n# Mine ---\n")
    refresh_manifest(bundle)
    plan = plan_upload(bundle, TARGET)
    card = plan.files["README.md"]
    assert isinstance(card, bytes) and card.decode() == f"{plan.front_matter}\n---\n# Mine ---\n"
    assert yaml.safe_load(plan.front_matter.split("---\n")[1])["license"] == "other"


def test_metadata_of_the_owner_stays(bundle: Path) -> None:
    (bundle / "README.md").write_text("---\nlicense: mit\n---\n# Mine\n")
    refresh_manifest(bundle)
    plan = plan_upload(bundle, TARGET)
    assert plan.front_matter == "---\nlicense: mit\n---\n"
    assert plan.files["README.md"] == bundle / "README.md" and plan.files["manifest.json"] == bundle / "manifest.json"


def test_a_given_licence_replaces_that_of_the_front_matter(bundle: Path) -> None:
    link = "license_name: see-model-card\nlicense_link: https://huggingface.co/other/tiny/blob/main/README.md\n"
    (bundle / "README.md").write_text(f"---\nlicense: other\n{link}tags:\n- mine\n---\n\n# Mine\n")
    refresh_manifest(bundle)
    plan = plan_upload(bundle, TARGET, licence="apache-2.0")
    card, manifest = plan.files["README.md"], plan.files["manifest.json"]
    assert isinstance(card, bytes) and isinstance(manifest, bytes)
    assert plan.front_matter == "---\nlicense: apache-2.0\ntags:\n- mine\n---\n"
    assert card.decode() == f"{plan.front_matter}\n# Mine\n"
    assert json.loads(manifest)["files"]["README.md"]["size"] == len(card)
    for head in ("- mit", "license: a: b"):
        (bundle / "README.md").write_text(f"---\n{head}\n---\n# Mine\n")
        refresh_manifest(bundle)
        with pytest.raises(BundleError, match=r"front matter of README.md cannot be read .* or leave --licence out"):
            plan_upload(bundle, TARGET, licence="apache-2.0")


def test_damaged_bundles_and_commits_are_refused(bundle: Path) -> None:
    with pytest.raises(BundleError, match="is a commit, which never changes; name a branch"):
        plan_upload(bundle, HubName("anna/tiny", "a" * 40))
    (bundle / "coder.json").write_text("{}")
    with pytest.raises(BundleError, match="coder.json of bundle tiny-64-lr16 is altered"):
        plan_upload(bundle, TARGET)


def test_the_contract_of_another_encoder_is_refused(bundle: Path) -> None:
    refresh_manifest(bundle, lr_contract_id="ab" * 32)
    with pytest.raises(BundleError, match="tiny-64-lr16 states LR contract abab.*; export it again"):
        plan_upload(bundle, TARGET)


def test_what_is_uploaded_is_what_is_downloaded(hub: Hub, bundle: Path) -> None:
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


def test_another_branch_is_created(hub: Hub, bundle: Path) -> None:
    upload(plan_upload(bundle, TARGET))
    first = hub.repositories["anna/tiny"].branches["main"]
    upload(plan_upload(bundle, HubName("anna/tiny", "v2")))
    branches = hub.repositories["anna/tiny"].branches
    assert branches["main"] == first and branches["v2"] != first


def test_a_private_upload_never_goes_to_a_public_repository(hub: Hub, bundle: Path) -> None:
    private = plan_upload(bundle, TARGET, private=True)
    hub.repositories["anna/tiny"] = Repository()
    with pytest.raises(BundleError, match="is public and stays so; .* Nothing was uploaded"):
        upload(private)
    assert not hub.repositories["anna/tiny"].commits
    del hub.repositories["anna/tiny"]
    upload(private)
    assert hub.repositories["anna/tiny"].private and len(hub.repositories["anna/tiny"].commits) == 1


def test_without_a_token_nothing_is_uploaded(hub: Hub, bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    with pytest.raises(BundleError, match="access is denied; log in with 'hf auth login' or set HF_TOKEN"):
        upload(plan_upload(bundle, TARGET))
    assert hub.repositories == {}
