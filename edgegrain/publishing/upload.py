"""Uploads of bundles to the Hugging Face Hub (``edgegrain publish hub``)."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from huggingface_hub import CommitOperationAdd, HfApi, ModelCard, ModelCardData

from codec_contract.bundle.hub import hub_errors
from codec_contract.bundle.manifest import MANIFEST, MODEL_CARD, Manifest, verify_bundle
from codec_contract.errors import BundleError
from edge_encoder.contract_id import check_contract_id

FilesToUpload = dict[str, Path | bytes]
"""Path in the repository -> its file, or its content where that differs from the bundle's."""


def prepare(folder: Path, repository: str, licence: str = "") -> tuple[Manifest, str, FilesToUpload]:
    """Verify a bundle; returns its manifest, the head of its card, which the Hub reads, and the files to upload.

    A card without a head gets one, with the licence ``other`` and a link to the card; ``licence``, an identifier of the
    Hub, replaces either. The bundle stays as it is.
    """
    manifest = verify_bundle(folder)
    check_contract_id(manifest)
    card = ModelCard(manifest.open_file(MODEL_CARD).decode())
    if not card.data.to_dict():
        card.data = ModelCardData(
            license="other",
            license_name="see-model-card",
            license_link=f"https://huggingface.co/{repository}/blob/main/{MODEL_CARD}",
            library_name="edgegrain",
            pipeline_tag="image-to-image",
            tags=["edgegrain", "image-compression", "image-rescaling", "onnx", manifest.codec, manifest.domain],
        )
    if licence:
        card.data["license"] = licence
        card.data.pop("license_name")
        card.data.pop("license_link")
    data = str(card).encode()
    record = json.loads((folder / MANIFEST).read_bytes())
    record["files"][MODEL_CARD] = {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    files: FilesToUpload = {name: manifest.path(name) for name in manifest.files}
    return (
        manifest,
        str(card).removesuffix(card.text),
        {**files, MODEL_CARD: data, MANIFEST: (json.dumps(record, indent=2) + "\n").encode()},
    )


def upload(files: FilesToUpload, repository: str, revision: str, *, private: bool, message: str) -> str:
    """Create the repository and the branch if they are missing, commit the files, and return the commit's id."""
    with hub_errors(f"hf://{repository}@{revision}"):
        api = HfApi(library_name="edgegrain")
        api.create_repo(repository, private=private or None, exist_ok=True)
        if private and not api.model_info(repository).private:
            advice = "make it private on the Hub, or leave --private out. Nothing was uploaded"
            raise BundleError(f"hf://{repository} is public and stays so; {advice}")
        if revision != "main":
            api.create_branch(repository, branch=revision, exist_ok=True)
        commit = api.create_commit(
            repository,
            [CommitOperationAdd(name, file) for name, file in files.items()],
            commit_message=message,
            revision=revision,
        )
    return str(commit.oid)
