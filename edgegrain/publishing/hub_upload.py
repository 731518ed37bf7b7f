"""Upload of a bundle to the Hugging Face Hub: the files of its manifest and nothing else, in one commit."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from codec_contract.bundle.file_names import MANIFEST, MODEL_CARD
from codec_contract.bundle.hub import HubName, hub_errors
from codec_contract.bundle.manifest import Manifest, verify_bundle
from codec_contract.errors import BundleError
from edge_encoder.contract_check import check_contract_id

_HEAD = re.compile(r"---\n(.*\n)*?---(\n|\Z)")  # a card can also begin with a horizontal rule


@dataclass(frozen=True)
class Upload:
    """A planned upload.

    Attributes:
        target: repository and branch.
        manifest: of the bundle.
        files: path in the repository -> its file, or its content where that differs from the bundle's.
        front_matter: the lines at the head of the model card that the Hub reads, with their fences.
        message: of the commit.
        private: create a private repository.
    """

    target: HubName
    manifest: Manifest
    files: Mapping[str, Path | bytes]
    front_matter: str
    message: str
    private: bool

    @property
    def sizes(self) -> dict[str, int]:
        """Bytes of every file."""
        return {name: len(file) if isinstance(file, bytes) else file.stat().st_size
                for name, file in self.files.items()}


def plan_upload(folder: Path, target: HubName, *, licence: str = "", private: bool = False, message: str = ""
                ) -> Upload:
    """Verify a bundle and plan its upload; the network is not used.

    A model card without front matter gets one; in one that has it, ``licence`` replaces the licence. The manifest that
    is uploaded has the new card's size and hash.

    Args:
        folder: of the bundle.
        target: repository and branch.
        licence: the Hub's identifier of the weights' licence; by default that of the front matter, else ``other``, with
            a link to the card.
        private: create a private repository.
        message: of the commit; by default id and version.

    Raises:
        BundleError: the bundle is damaged, its LR contract id is not that of its encoder, huggingface-hub is not
            installed, the target is a commit, or the front matter in which ``licence`` is to be replaced cannot be
            read.
    """
    manifest = verify_bundle(folder)
    check_contract_id(manifest)
    if target.pinned:
        raise BundleError(f"{target} is a commit, which never changes; name a branch")
    files: dict[str, Path | bytes] = {name: manifest.path(name) for name in manifest.files}
    card = manifest.open_file(MODEL_CARD).decode() if MODEL_CARD in manifest.files else f"# {manifest.id}\n"
    found = _HEAD.match(card)
    if found and not licence:
        head = found.group()
        files[MANIFEST] = manifest.folder / MANIFEST
    else:
        head, body = _with_front_matter(card, manifest, target, licence)
        data = f"{head}{body}".encode()
        record = json.loads((manifest.folder / MANIFEST).read_bytes())
        record["files"][MODEL_CARD] = {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        files |= {MODEL_CARD: data, MANIFEST: (json.dumps(record, indent=2) + "\n").encode()}
    return Upload(target, manifest, files, head, message or f"Bundle {manifest.id} {manifest.version}", private)


def upload(plan: Upload) -> HubName:
    """Create the repository and the branch if they are missing, and commit the files.

    Returns:
        The name of the bundle with the new commit.

    Raises:
        BundleError: the Hub cannot be reached or refuses, or a private upload would go to a public repository.
    """
    repository, branch = plan.target.repository, plan.target.revision
    with hub_errors(str(plan.target)):
        from huggingface_hub import CommitOperationAdd, HfApi

        api = HfApi(library_name="edgegrain")
        api.create_repo(repository, private=plan.private or None, exist_ok=True)
        if plan.private and not api.model_info(repository).private:
            raise BundleError(f"{plan.target} is public and stays so; make it private on the Hub, or leave --private "
                              "out. Nothing was uploaded")
        if branch != "main":
            api.create_branch(repository, branch=branch, exist_ok=True)
        commit = api.create_commit(
            repository, [CommitOperationAdd(name, file) for name, file in plan.files.items()],
            commit_message=plan.message, revision=branch)
    return HubName(repository, commit.oid)


def _with_front_matter(card: str, manifest: Manifest, target: HubName, licence: str) -> tuple[str, str]:
    """New front matter, and the text below it.

    Licences in manifests are sentences, which the Hub calls ``other``. ``licence`` replaces the one of front matter
    that is there, with its name and link.
    """
    with hub_errors(str(target)):
        from huggingface_hub import ModelCard, ModelCardData
        from yaml import YAMLError

        if not _HEAD.match(card):
            page = f"https://huggingface.co/{target.repository}/blob/main/{MODEL_CARD}"
            metadata = ModelCardData(
                license=licence or "other",
                license_name=None if licence else "see-model-card",
                license_link=None if licence else page,
                library_name="edgegrain", pipeline_tag="image-to-image",
                tags=["edgegrain", "image-compression", "image-rescaling", "onnx", manifest.codec, manifest.domain])
            return f"---\n{metadata.to_yaml()}\n---\n", f"\n{card}"
        try:
            changed = ModelCard(card)
        except (ValueError, YAMLError) as error:
            reason = " ".join(str(error).split())
            raise BundleError(f"the front matter of {MODEL_CARD} cannot be read ({reason}), so its licence cannot be "
                              "replaced; correct it in the bundle, or leave --licence out") from error
        for field in ("license_name", "license_link"):
            changed.data.pop(field)
        changed.data["license"] = licence
        return str(changed).removesuffix(changed.text), changed.text
