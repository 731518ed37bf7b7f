"""The scene format: golden files, damage, and claims that are bounded."""

import json
import struct
import zlib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codec_contract.errors import PayloadError
from codec_contract.payload import parse_payload
from codec_contract.scene import MAX_SCENE_BYTES, encode_scene, is_scene, parse_scene, scene_overhead

GOLDEN = json.loads((Path(__file__).parents[2] / "golden" / "contract" / "scenes.json").read_text())
SCENES = [bytes.fromhex(case["scene"]) for case in GOLDEN["scenes"]]


@pytest.mark.parametrize("case", GOLDEN["scenes"])
def test_golden_scenes(case: Any) -> None:
    data, faces = bytes.fromhex(case["scene"]), [bytes.fromhex(face) for face in case["faces"]]
    webp, size = bytes.fromhex(case["background_webp"]), tuple(case["original_size"])
    scene = parse_scene(data)
    assert len({parse_payload(face).header.version for face in faces}) == 1
    assert is_scene(data) and scene.original_size == size and list(scene.faces) == faces
    assert scene.background_webp == webp
    assert encode_scene(faces, size, webp) == data
    assert len(data) == sum(map(len, faces)) + scene_overhead(size, list(map(len, faces))) + len(scene.background)


@pytest.mark.parametrize("case", GOLDEN["damaged"], ids=lambda case: case["name"])
def test_damaged_scenes(case: Any) -> None:
    with pytest.raises(PayloadError):
        parse_scene(bytes.fromhex(case["scene"]))


def test_messages() -> None:
    def refused(data: bytes) -> str:
        with pytest.raises(PayloadError) as error:
            parse_scene(data)
        return str(error.value)

    damaged = {case["name"]: bytes.fromhex(case["scene"]) for case in GOLDEN["damaged"]}
    others = [data for name, data in damaged.items() if "another contract" in name or "two versions" in name]
    assert len(others) == 4
    for data in others:
        assert "face 1 of the scene has another LR contract than the first" in refused(data)
    assert refused(damaged["65 faces"]) == "a scene has 1 to 64 faces, got 65"
    unaligned = refused(damaged["a face that is not aligned"])
    assert "face 0 of the scene is no aligned face of a picture of 640 x 480" in unaligned
    assert "sides of 1 to 1024, got 1025 x 12" in refused(damaged["a background of 1025 pixels"])
    assert refused(b"GIF89a") == "not a scene: it begins with 474946, a scene with ed6e2"
    assert f"at most {MAX_SCENE_BYTES} bytes" in refused(SCENES[0] + bytes(MAX_SCENE_BYTES))


@pytest.mark.parametrize("index", [1, 4], ids=["version 2", "version 1"])
def test_a_scene_that_goes_on_is_told_from_a_damaged_one(index: int) -> None:
    scene = SCENES[index]
    assert not parse_scene(scene).background
    for length in range(3, len(scene)):
        with pytest.raises(PayloadError, match="truncated") as error:
            parse_scene(scene[:length])
        assert error.value.truncated
    assert str(error.value) == f"the scene is truncated: {length} of at least {len(scene)} bytes; ask for the rest"
    for damaged in (scene + b"1", scene[:20] + bytes([scene[20] ^ 1]) + scene[21:]):
        with pytest.raises(PayloadError, match="corrupt") as error:
            parse_scene(damaged)
        assert not error.value.truncated


def test_wrong_parts() -> None:
    assert {parse_payload(parse_scene(scene).faces[0]).header.version for scene in SCENES} == {1, 2}
    face = parse_scene(SCENES[0]).faces[0]
    for count, stored in ((0, 0), (70, 70), (10_000, 255)):
        with pytest.raises(PayloadError, match=f"a scene has 1 to 64 faces, got {stored}"):
            encode_scene([face] * count, (640, 480))
    with pytest.raises(PayloadError, match="lossy WebP file"):
        encode_scene([face], (640, 480), b"\x89PNG" + bytes(30))


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(SCENES), st.data())
def test_mutated_scenes_are_read_or_refused(scene: bytes, data: st.DataObject) -> None:
    """Bytes are changed, removed or added; half of the results get a right CRC."""
    changed = bytearray(scene[:-4])
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(changed) - 1))
        kind = data.draw(st.integers(0, 2))
        if kind == 0:
            changed[at] = data.draw(st.integers(0, 255))
        elif kind == 1 and len(changed) > 1:
            del changed[at : at + data.draw(st.integers(1, 8))]
        else:
            changed[at:at] = data.draw(st.binary(max_size=8))
        if not changed:
            return
    crc = zlib.crc32(changed) if data.draw(st.booleans()) else 0
    try:
        parsed = parse_scene(bytes(changed) + struct.pack("<I", crc))
    except PayloadError:
        return
    assert 1 <= len(parsed.faces) <= 64 and len(parsed.background) < len(changed)
