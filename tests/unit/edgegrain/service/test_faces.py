"""Faces of photographs and scenes over HTTP, by a service of a tiny bundle of faces: equal to the SDK's."""

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

import sdk
from codec_contract.bundle.manifest import load_manifest
from codec_contract.oriented_square import OrientedSquare
from codec_contract.scene import encode_scene
from edgegrain.service.batcher import BatchKey
from tests.pictures import encoded
from tests.service_harness import LiveService, assert_problem, live_service, pixels, post, raw_payload, stubbed
from tests.tiny_bundle import refresh_manifest, write_qualities

PLACES = ((60, 120), (560, 90))
"""Upper left corners of the portraits in the group."""


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    found = write_qualities(tmp_path_factory.mktemp("faces"))
    for folder in found.values():
        refresh_manifest(folder, domain="faces")
    return found


@pytest.fixture(scope="module")
def codec(folders: dict[str, Path]) -> sdk.Codec:
    return sdk.Codec(folders["small"], threads=1)


@pytest.fixture(scope="module")
def service(folders: dict[str, Path]) -> Iterator[LiveService]:
    """A service of large scenes; of its qualities the second is served first."""
    with live_service(folders["small"], folders["tiny"], folders["medium"], deadline=60, max_scene_faces=50) as running:
        yield running


@pytest.fixture(scope="module")
def group(portrait: np.ndarray) -> bytes:
    """A photograph of 900 x 500 pixels with two faces, as PNG."""
    ramp = np.linspace(90, 140, 900).astype(np.uint8)
    picture = Image.fromarray(np.repeat(np.tile(ramp, (500, 1))[:, :, None], 3, axis=2))
    picture.paste(Image.fromarray(portrait), PLACES[0])
    picture.paste(Image.fromarray(portrait[:, ::-1]), PLACES[1])
    return encoded(picture, "PNG")


@pytest.fixture(scope="module")
def payload(codec: sdk.Codec, group: bytes) -> sdk.Payload:
    return codec.compress(group)


@pytest.fixture(scope="module")
def scene(codec: sdk.Codec, group: bytes) -> sdk.Scene:
    return codec.compress_scene(group)


@pytest.fixture(scope="module")
def nobody() -> bytes:
    return encoded(np.random.default_rng(0).integers(0, 256, (90, 120, 3), dtype=np.uint8))


def compress(service: LiveService, picture: bytes, query: str = "") -> httpx.Response:
    headers = {"Content-Type": "application/octet-stream"}
    return post(f"{service.url}/v1/compress{query}", picture, headers=headers)


def refusal(answer: httpx.Response, kind: str = "invalid-picture") -> str:
    return str(assert_problem(answer, 422, kind)["detail"])


def crowd(folder: Path, faces: int, side: int | None = None) -> bytes:
    """A scene of 800 x 800 pixels with many faces, in rows of eight; with a ``side``, they all lie in the middle."""
    manifest, payloads = load_manifest(folder), []
    for index in range(faces):
        lr = np.full((manifest.lr, manifest.lr, 3), 4 * index, np.uint8)
        square = OrientedSquare(4 * (50 + 100 * (index % 8)), 4 * (50 + 100 * (index // 8)), 320, 0)
        if side is not None:
            square = OrientedSquare(1600, 1600, 4 * side, 0)
        payloads.append(raw_payload(manifest, lr, (800, 800), fit="align", square=square))
    return encode_scene(payloads, (800, 800))


class TestCompress:
    @pytest.mark.parametrize(
        ("query", "options"),
        [
            ("", {}),
            ("?align=false", {"align": False}),
            ("?fit=crop", {"fit": "crop"}),
            ("?fit=pad", {"align": False}),
            ("?require_face=true&align=true&background=ff0000", {"require_face": True}),
        ],
    )
    def test_options_are_the_sdk_s(
        self, service: LiveService, codec: sdk.Codec, group: bytes, query: str, options: dict[str, Any]
    ) -> None:
        assert compress(service, group, query).content == codec.compress(group, **options)

    def test_no_face(self, service: LiveService, codec: sdk.Codec, nobody: bytes) -> None:
        for query in ("", "?faces=all", "?faces=scene"):
            detail = refusal(compress(service, nobody, query))
            assert detail.startswith("no face was found in the picture of 120 x 90 pixels; use another picture")
            assert detail.endswith("restores only faces that fill it well: align=False (--no-align)") == (not query)
        assert compress(service, nobody, "?align=false").content == codec.compress(nobody, align=False)

    def test_a_face_that_is_too_small(self, service: LiveService, portrait: np.ndarray) -> None:
        picture = Image.new("RGB", (400, 400), (120, 130, 140))
        picture.paste(Image.fromarray(portrait).resize((44, 44)), (100, 150))
        small = encoded(picture, "PNG")
        assert compress(service, small).status_code == 200
        assert "pixels" in refusal(compress(service, small, "?require_face=true"))

    def test_all_faces(self, service: LiveService, codec: sdk.Codec, scene: sdk.Scene, group: bytes) -> None:
        answer = compress(service, group, "?faces=all&quality=small")
        assert answer.headers["content-type"] == "application/json"
        found = answer.json()
        assert (found["bundle"], found["original_size"]) == (codec.bundle.id, [900, 500])
        payloads = [base64.b64decode(face["payload"]) for face in found["faces"]]
        assert payloads == list(scene.faces) and len(payloads) == 2
        assert [face["bytes"] for face in found["faces"]] == [len(payload) for payload in payloads]
        squares = [OrientedSquare(**face["square"]) for face in found["faces"]]
        assert squares == [sdk.Payload(payload).header.square for payload in payloads]
        centres = sorted((square.x / 4 - 128, square.y / 4 - 128) for square in squares)
        np.testing.assert_allclose(centres, PLACES, atol=12)

    def test_all_faces_within_a_limit(self, service: LiveService, folders: dict[str, Path], group: bytes) -> None:
        for query, quality in (("quality=tiny", "tiny"), ("max_bytes=200", "tiny"), ("max_bytes=4000", "medium")):
            answer = compress(service, group, f"?faces=all&{query}")
            payloads = [base64.b64decode(face["payload"]) for face in answer.json()["faces"]]
            assert payloads == sdk.Codec(folders[quality]).compress_faces(group)
        assert "no quality fits into 50" in refusal(compress(service, group, "?faces=all&max_bytes=50"))

    def test_scenes_of_any_quality(
        self, service: LiveService, scene: sdk.Scene, folders: dict[str, Path], group: bytes
    ) -> None:
        answer = compress(service, group, "?faces=scene")
        assert answer.headers["content-type"] == "application/vnd.edgegrain" and answer.content == scene
        medium = sdk.compress_scene(group, folders["medium"])
        for made, quality in ((medium, "medium"), (answer.content, "small")):
            limit = len(made) * 4 // 3  # a quarter is the background's
            limited = compress(service, group, f"?faces=scene&max_bytes={limit}")
            assert limited.content == sdk.Codec(folders[quality]).compress_scene(group, max_bytes=limit)
            assert limited.headers["X-Edgegrain-Bundle"] == folders[quality].name
        assert "no quality fits into 50" in refusal(compress(service, group, "?faces=scene&max_bytes=50"))

    @pytest.mark.parametrize(
        ("query", "parameter"),
        [
            ("faces=all&fit=pad", "fit"),
            ("faces=scene&align=false", "align"),
            ("faces=scene&require_face=true", "require_face"),
            ("faces=none", "faces"),
            ("align=perhaps", "align"),
        ],
    )
    def test_parameters_that_do_not_match(self, service: LiveService, group: bytes, query: str, parameter: str) -> None:
        problem = assert_problem(compress(service, group, f"?{query}"), 422, "invalid-parameter")
        assert [error["parameter"] for error in problem["errors"]] == [parameter]


class TestScenes:
    @pytest.mark.parametrize("size", ["original", "native", 300, 1200])
    def test_restored_as_the_sdk_does(
        self, service: LiveService, codec: sdk.Codec, scene: sdk.Scene, size: str | int
    ) -> None:
        answer = service.restore(scene, params={"size": size})
        assert answer.status_code == 200 and answer.headers["X-Edgegrain-Bundle"] == codec.bundle.id
        restored = codec.restore(scene, size=size)  # type: ignore[arg-type]
        np.testing.assert_array_equal(pixels(answer.content), restored)
        assert sdk.read_mark(answer.content) == sdk.read_mark(restored)

    def test_formats(self, service: LiveService, scene: sdk.Scene) -> None:
        headers = {"Content-Type": "application/octet-stream", "Accept": "image/webp"}
        answer = post(f"{service.url}/v1/restore?quality=80", scene, headers=headers)
        assert answer.headers["content-type"] == "image/webp" and pixels(answer.content).shape == (500, 900, 3)

    def test_limits(self, folders: dict[str, Path], portrait: np.ndarray, group: bytes) -> None:
        scene = crowd(folders["small"], 5)
        with live_service(folders["small"], max_scene_faces=4, max_pixels=639_999, max_photo_pixels=449_999) as service:
            assert "claims 900 x 500 pixels, more than 449999; reduce it first" in refusal(compress(service, group))
            four, row = crowd(folders["small"], 4), encoded(np.tile(portrait, (1, 5, 1)))
            for answer, detail in (
                (service.restore(scene, params={"size": 799}), "the scene has 5 faces, more than the 4 that are"),
                (service.restore(four), "the scene would have 800 x 800 pixels, more than 639999; ask for a"),
                (compress(service, row, "?faces=scene"), "the photograph has 5 faces or more, a scene here at most 4"),
            ):
                assert refusal(answer).startswith(detail)
            assert service.restore(four, params={"size": 799}).status_code == 200
            assert len(compress(service, row, "?faces=all").json()["faces"]) == 5
            other = crowd(folders["tiny"], 1)
            assert "LR contract" in refusal(service.restore(other), "invalid-payload")
            refusal(service.restore(other, params={"bundle": folders["small"].name}), "invalid-payload")

    def test_faces_that_cover_each_other(self, folders: dict[str, Path]) -> None:
        scene = crowd(folders["small"], 5, side=1600)
        with stubbed(folders["small"], max_pixels=800_000) as service:
            assert service.restore(scene).status_code == 200
        with stubbed(folders["small"], max_pixels=799_999) as service:
            detail = refusal(service.restore(scene))
            assert "would have 3200000 pixels together, more than the limit of" in detail

    def test_not_in_a_form(self, service: LiveService, folders: dict[str, Path]) -> None:
        scene = crowd(folders["small"], 1)
        payload = sdk.Scene(scene).faces[0]
        files = [("payload", ("a.grain", scene)), ("payload", ("b.grain", bytes(payload)))]
        answer = httpx.post(f"{service.url}/v1/restore/batch", verify=False, timeout=60, files=files)
        assert answer.status_code == 200 and "it is a scene; send it alone, to /v1/restore" in answer.text
        assert "Content-ID: <1>\r\nContent-Type: image/png" in answer.content.decode("latin-1")

    def test_a_scene_is_a_job_of_its_own(
        self, service: LiveService, folders: dict[str, Path], nobody: bytes, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        name, keys, submit = folders["small"].name, list[BatchKey](), service.state.batcher.submit
        monkeypatch.setattr(
            service.state.batcher, "submit", lambda jobs: (keys.extend(job.key for job in jobs), submit(jobs))
        )
        service.restore(crowd(folders["small"], 3), params={"size": 300})
        for query in ("", "?faces=all"):
            compress(service, nobody, query)
        expected = BatchKey("restore", name, faces=3), BatchKey("compress", name), BatchKey("compress", name, faces=1)
        assert keys == list(expected)


class TestClients:
    def test_the_methods_are_the_codec_s(
        self,
        service: LiveService,
        codec: sdk.Codec,
        payload: sdk.Payload,
        scene: sdk.Scene,
        group: bytes,
        nobody: bytes,
        tmp_path: Path,
    ) -> None:
        path = tmp_path / "group.png"
        path.write_bytes(group)
        with sdk.connect(service.url) as remote:
            assert remote.compress(path) == payload
            assert remote.compress(group, align=False) == codec.compress(group, align=False)
            assert remote.compress(group, "stretch") == codec.compress(group, "stretch")
            assert remote.compress_batch([group, path], require_face=True) == [payload] * 2
            assert remote.compress_batch([nobody], align=False) == [codec.compress(nobody, align=False)]
            faces = remote.compress_faces(path)
            assert faces == list(scene.faces) and all(isinstance(face, sdk.Payload) for face in faces)
            assert all(face.header.lr_width == 8 for face in remote.compress_faces(path, quality="tiny"))
            assert max(map(len, remote.compress_faces(path, max_bytes=200))) <= 200
            found = remote.compress_scene(path)
            assert isinstance(found, sdk.Scene) and found == scene
            assert remote.compress_scene(group, quality="tiny").faces[0].header.lr_width == 8
            assert len(remote.compress_scene(group, max_bytes=2000)) <= 2000
            restored = codec.restore(scene, size=450)
            for source in (scene, bytes(scene), scene.save(tmp_path / "group.grain")):
                np.testing.assert_array_equal(remote.restore(source, size=450), restored)
            pictures = remote.restore_batch([scene, faces[0]], size="native")
            assert [picture.size for picture in pictures] == [codec.restore(scene, size="native").size, (64, 64)]
            for refused in (remote.compress, remote.compress_faces, remote.compress_scene):
                with pytest.raises(sdk.ImageError, match="no face was found"):
                    refused(nobody)
            with pytest.raises(sdk.ImageError, match="leave it out with a fit"):
                remote.compress(group, align=False, require_face=True)

    async def test_the_async_twin_does_the_same(
        self, service: LiveService, codec: sdk.Codec, payload: sdk.Payload, scene: sdk.Scene, group: bytes
    ) -> None:
        async with sdk.connect_async(service.url) as remote:
            assert await remote.compress(group) == payload
            assert await remote.compress_batch([group], align=False) == [codec.compress(group, align=False)]
            assert await remote.compress_faces(group) == list(scene.faces)
            found = await remote.compress_scene(group, max_bytes=3000)
            assert len(found) <= 3000 and len(found.faces) == 2
            assert (await remote.restore(scene)).size == (900, 500)
