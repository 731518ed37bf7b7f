"""The npm package: what `npm pack` packs, and a fresh Vite project that installs it and encodes in Chromium."""

import io
import json
import os
from pathlib import Path

import pytest
from PIL import Image

import sdk
from codec_contract.scene import parse_scene
from edge_encoder.preprocessing import load_picture
from sdk.faces import cut_face
from tests.integration.test_demo_page import assert_alike, photograph, square_of
from tests.programs import run
from tests.service_harness import SOON, live_service


@pytest.mark.skipif("EDGEGRAIN_TEST_PACKAGE" not in os.environ, reason="needs the npm registry: make test-package")
def test_a_fresh_project_encodes_pythons_bytes(
    repository: Path, default_bundle: Path, portrait_path: Path, tmp_path: Path
) -> None:
    web = repository / "clients" / "web"
    picture = tmp_path / "photograph.png"
    with Image.open(portrait_path) as image:
        photograph(image.convert("RGB"), (640, 480), (220, -12, 420, 260), (140, 8, 130, 170)).save(picture)
    with live_service(default_bundle, deadline=SOON, batch_sizes="1", page=False, cors_origins="*") as service:
        out = tmp_path / "out"
        run(["node", web / "e2e" / "package.mjs", "--picture", picture, "--out", out, "--service", service.url])

    square = square_of(out / "built.grain")
    assert_alike(square, sdk.compress(picture).header.square)
    codec = sdk.Codec(default_bundle)
    payload = codec.compress_fitted(cut_face(load_picture(picture), codec.bundle.hr, square))
    for name in ("built.grain", "service.grain", "dev.grain"):
        assert (out / name).read_bytes() == payload, name
    scene = parse_scene((out / "built-scene.grain").read_bytes())
    assert len(scene.faces) == 2
    for face, expected in zip(scene.faces, sdk.compress_faces(picture), strict=True):
        assert_alike(sdk.Payload(face).header.square, expected.header.square)
    with Image.open(io.BytesIO(scene.background_webp)) as background:
        assert background.format == "WEBP" and max(background.size) >= 192

    packed = json.loads((out / "package.json").read_text())
    assert packed["size"] < 1_600_000
    built = {f"dist/{path.stem}{suffix}" for path in (web / "src").iterdir() for suffix in (".js", ".d.ts")}
    models = {"dist/face_detector.onnx", "dist/face_landmarks.onnx"}
    assert {file["path"] for file in packed["files"]} == {"LICENSE", "README.md", "package.json", *models, *built}
