"""The packages of the clients have the version of the Python package."""

import json
import re
from pathlib import Path

from codec_contract import __version__


def test_all_packages_have_one_version(repository: Path) -> None:
    web, android = repository / "clients" / "web", repository / "clients" / "android"
    lock = json.loads((web / "package-lock.json").read_text())
    versions = {
        "package.json": json.loads((web / "package.json").read_text())["version"],
        "package-lock.json": lock["packages"][""]["version"],
        "web/example": json.loads((web / "example" / "package.json").read_text())["dependencies"]["@edgegrain/web"][1:],
    }
    for name in ("core", "example"):
        pom = (android / name / "pom.xml").read_text()
        artefact = re.search(r"<artifactId>edgegrain-core</artifactId>\s*<version>([\d.]+)</version>", pom)
        versions[f"android/{name}"] = artefact[1] if artefact else "none"
    assert versions == dict.fromkeys(versions, __version__)
