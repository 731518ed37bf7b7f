"""Scenes: a photograph with all its faces, there and back."""

import copy
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import sdk
from codec_contract.bundle.find import DEFAULT_BUNDLE
from codec_contract.exact_square import cut_square
from codec_contract.oriented_square import OrientedSquare
from codec_contract.scene import encode_scene
from tests.tiny_bundle import HR, refresh_manifest, write_qualities

pytestmark = pytest.mark.usefixtures("tiny_face_bundles")


@pytest.fixture(scope="module")
def scene(group: np.ndarray, tiny_face_root: Path) -> sdk.Scene:
    """The scene of the group."""
    return sdk.Codec(tiny_face_root / DEFAULT_BUNDLE).compress_scene(group)


@pytest.fixture(scope="module")
def outside(group: np.ndarray) -> np.ndarray:
    """True outside of the faces."""
    mask = np.ones(group.shape[:2], bool)
    mask[120:500, 50:440] = mask[20:260, 580:820] = False
    return mask


def test_there_and_back(scene: sdk.Scene, group: np.ndarray, outside: np.ndarray) -> None:
    assert sdk.compress_scene(group) == scene
    assert [bytes(face) for face in scene.faces] == [bytes(payload) for payload in sdk.compress_faces(group)]
    assert scene.original_size == (900, 600) and len(scene) < sum(map(len, scene.faces)) + 90
    restored = np.asarray(sdk.restore(scene)).astype(int)
    assert restored.shape == (600, 900, 3)
    assert np.abs(restored - group)[outside].max() < 40 and np.abs(restored - group)[outside].mean() < 8
    for face in scene.faces:  # the decoder of the tests repeats pixels: the face's own restored square
        square = face.header.square
        wanted = np.asarray(sdk.restore(face, size="native")).astype(int)
        difference = cut_square(restored.astype(np.uint8), square, HR) - wanted
        assert np.abs(difference)[16:48, 16:48].mean() < 12


def test_a_framed_portrait_has_a_square_too(portrait: np.ndarray) -> None:
    scene = sdk.compress_scene(portrait)
    assert scene.faces[0].fit == "align" and sdk.restore(scene).size == (256, 256)


def test_the_background_takes_what_is_left(scene: sdk.Scene, group: np.ndarray) -> None:
    faces, sizes = sum(map(len, scene.faces)), []
    for limit in (faces + 30, faces + 300, faces + 3000):
        scene = sdk.compress_scene(group, max_bytes=limit)
        assert len(scene) <= limit
        sizes.append(len(scene.parsed.background))
    assert sizes[0] < 30 and sizes[0] <= sizes[1] < sizes[2]
    with pytest.raises(sdk.ImageError, match=f"no quality fits into {faces}"):
        sdk.compress_scene(group, max_bytes=faces)
    with pytest.raises(sdk.ImageError, match="max_bytes must be a number of at least 1"):
        sdk.compress_scene(group, max_bytes=0)


def test_a_limit_chooses_the_quality(portrait: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for folder in write_qualities(tmp_path).values():
        refresh_manifest(folder, domain="faces")
    monkeypatch.setattr("codec_contract.bundle.find.bundle_roots", lambda: (tmp_path,))
    scenes = {name: sdk.compress_scene(portrait, quality=name) for name in ("tiny", "small", "medium")}
    sizes = {name: len(scene) - len(scene.parsed.background) for name, scene in scenes.items()}
    assert sizes["tiny"] < sizes["small"] < sizes["medium"]
    for name, side in (("medium", 32), ("small", 16)):  # a quarter is the background's, but at the last rate
        assert sdk.compress_scene(portrait, max_bytes=sizes[name] * 4 // 3 + 2).faces[0].lr.shape == (side, side, 3)
        lower = sdk.compress_scene(portrait, max_bytes=sizes[name] * 5 // 4)
        assert lower.faces[0].lr.shape == (side // 2, side // 2, 3) and lower.parsed.background
    assert sdk.compress_scene(portrait, max_bytes=sizes["tiny"]).faces[0].lr.shape == (8, 8, 3)
    with pytest.raises(sdk.ImageError, match=f"has {sizes['tiny']}"):
        sdk.compress_scene(portrait, max_bytes=sizes["tiny"] - 1)


def test_sizes(scene: sdk.Scene) -> None:
    assert sdk.restore(scene, size=450).size == (450, 300) and sdk.restore(scene, size=1800).size == (1800, 1200)
    side = scene.faces[0].header.square.side
    width, height = sdk.restore(scene, size="native").size
    assert width == round(900 * HR / side) and abs(height - width * 2 / 3) <= 1
    with pytest.raises(sdk.ImageError, match="the scene would have 900 x 600 pixels, more than 500000"):
        sdk.restore(scene, max_pixels=500_000)
    with pytest.raises(sdk.ImageError, match="1 to 65535 pixels"):
        sdk.restore(scene, size=70_000)


def test_faces_that_fill_a_large_picture_together_are_refused(group: np.ndarray) -> None:
    """A forged scene would take minutes: every face is drawn over all of the picture."""
    codec, fitted = sdk.Codec(), sdk.Codec().fit(group)
    square = OrientedSquare(2 * 4096, 2 * 4096, 4 * 4096, 0)
    face = codec.compress_fitted(replace(fitted, original_size=(4096, 4096), square=square))
    forged = encode_scene([face] * 64, (4096, 4096))
    with pytest.raises(sdk.ImageError, match="the faces of the scene would have 1073741824 pixels together"):
        sdk.restore(forged)
    assert sdk.restore(forged, size=64).size == (64, 64)


def test_forms_of_a_scene(scene: sdk.Scene, tmp_path: Path) -> None:
    path = scene.save(tmp_path / "group.grain")
    with pytest.raises(sdk.ExistsError):
        scene.save(path)
    wanted = np.asarray(sdk.restore(scene))
    codec = sdk.Codec()
    unpickled = pickle.loads(pickle.dumps(scene))  # noqa: S301 - our own bytes
    text = sdk.Scene.from_text(scene.text())
    for source in (path, bytes(scene), text, unpickled, copy.copy(scene), scene.text("base45")):
        np.testing.assert_array_equal(np.asarray(codec.restore(source)), wanted)
    mixed = codec.restore_batch([scene.faces[0], path])
    assert mixed[0].size == (scene.faces[0].header.square.side,) * 2
    np.testing.assert_array_equal(np.asarray(mixed[1]), wanted)
    assert repr(scene) == f"Scene({len(scene)} bytes: 2 faces, original 900 x 600)"
    restored = sdk.restore(scene)
    assert isinstance(restored, sdk.MarkedPicture) and not isinstance(sdk.restore(scene, mark=False), sdk.MarkedPicture)


def test_a_scene_is_no_payload(scene: sdk.Scene, group: np.ndarray) -> None:
    for work in (sdk.Payload, sdk.inspect, lambda data: sdk.paste(group[:10, :10], data, group)):
        with pytest.raises(sdk.PayloadError, match="this is a scene of several faces"):
            work(bytes(scene))
    with pytest.raises(sdk.PayloadError, match="not a scene"):
        sdk.Scene(bytes(scene.faces[0]))


def test_a_background_that_cannot_be_decoded(scene: sdk.Scene) -> None:
    damaged = encode_scene(scene.faces, scene.original_size, scene.parsed.background_webp[:44])
    with pytest.raises(sdk.PayloadError, match="the background of the scene is damaged"):
        sdk.restore(damaged)


def test_no_background(scene: sdk.Scene) -> None:
    bare = np.asarray(sdk.restore(encode_scene(scene.faces, scene.original_size)))
    assert (bare[-1, -1] == 128).all() and not (bare[300, 240] == 128).all()


def test_other_bundles_are_named(scene: sdk.Scene, tiny_root: Path) -> None:
    other = sdk.Codec(tiny_root / "random-64-lr16")
    with pytest.raises(sdk.PayloadError, match="LR contract"):
        other.restore(scene)
    assert Image.fromarray(np.asarray(sdk.restore(scene, "faces"))).size == (900, 600)
