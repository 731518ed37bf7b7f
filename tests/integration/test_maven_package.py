"""The Java client as a Maven artefact: built offline, and used by a fresh project."""

import os
import re
import shutil
from pathlib import Path

import pytest
from PIL import Image

import sdk
from codec_contract import __version__
from tests.programs import run

PLUGIN = Path("/usr/share/maven-repo/org/codehaus/mojo/exec-maven-plugin")


@pytest.mark.skipif("EDGEGRAIN_TEST_PACKAGE" not in os.environ, reason="takes half a minute: make test-package")
@pytest.mark.skipif(not (shutil.which("mvn") and PLUGIN.exists()), reason="needs Maven and Debian's plugins for it")
def test_a_fresh_project_reads_a_payload(
    repository: Path, default_bundle: Path, portrait_path: Path, tmp_path: Path
) -> None:
    settings = repository / "clients" / "android" / "debian-settings.xml"
    maven = ["mvn", "--batch-mode", "--quiet", "--offline", "-Daether.offline.protocols=file", "--settings", settings]
    maven.append(f"-Dmaven.repo.local={tmp_path / 'maven'}")
    built = run(["make", "-C", repository, "maven", f"MAVEN_REPOSITORY={tmp_path / 'maven'}"])
    assert re.search(r"^(\d+) of \1 tests passed", built, re.MULTILINE)
    installed = {path.name for path in (tmp_path / "maven" / "dev" / "edgegrain" / "edgegrain-core").rglob("*.jar")}
    assert installed == {f"edgegrain-core-{__version__}{kind}.jar" for kind in ("", "-sources")}

    shutil.copytree(repository / "clients" / "android" / "example", tmp_path / "example")
    framed, photograph = tmp_path / "framed.grain", tmp_path / "photograph.grain"
    portrait = Image.open(portrait_path)
    photo = Image.new("RGB", (640, 480))
    photo.paste(portrait, (200, 100))
    sdk.compress(portrait).save(framed)
    sdk.compress(photo).save(photograph)
    for file, size in ((framed, portrait.size), (photograph, photo.size)):
        used = run([*maven, "compile", "exec:java", f"-Dexec.args={default_bundle} {file}"], tmp_path / "example")
        expected = f"{file.stat().st_size} bytes, LR 16 x 16, picture {size[0]} x {size[1]}"
        assert f"{default_bundle.name}: {expected}" in used
        assert Path(f"{file}.again").read_bytes() == file.read_bytes()
