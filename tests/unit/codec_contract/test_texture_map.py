"""Texture maps: their bytes, round trips and refusals."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codec_contract.errors import PayloadError
from codec_contract.texture_map import (
    FACTORS,
    MAP_SIDES,
    MAX_TEXTURE_MAP_BYTES,
    TextureMap,
    read_texture_map,
    texture_map_bytes,
    write_texture_map,
)

MAPS = st.builds(
    TextureMap, st.sampled_from(FACTORS),
    st.sampled_from(MAP_SIDES).flatmap(lambda side: st.tuples(*[st.integers(0, 7)] * side**2)))


def test_the_byte_table() -> None:
    assert write_texture_map(TextureMap(2, (5,))) == bytes([0b0000, 0b101_00000])
    assert write_texture_map(TextureMap(4, (1, 2, 3, 7))) == bytes([0b0101, 0b001_010_01, 0b1_111_0000])
    page = (Path(__file__).parents[3] / "docs" / "payload.md").read_text()
    assert " ".join(f"The map `{write_texture_map(TextureMap(4, (1, 2, 3, 4))).hex(' ')}` is".split()) in (
        " ".join(page.split()))
    assert [texture_map_bytes(side) for side in MAP_SIDES] == [2, 3, 7, 25]
    assert texture_map_bytes(8) == MAX_TEXTURE_MAP_BYTES


@settings(max_examples=60, deadline=None)
@given(MAPS, st.binary(max_size=4), st.binary(max_size=4))
def test_round_trip(texture_map: TextureMap, before: bytes, after: bytes) -> None:
    written = write_texture_map(texture_map)
    assert len(written) == texture_map_bytes(texture_map.side)
    data = before + written + after
    assert read_texture_map(data, len(before), len(data)) == (texture_map, len(before) + len(written))


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=26))
def test_any_bytes_are_refused_or_are_the_only_spelling_of_a_map(data: bytes) -> None:
    try:
        texture_map, end = read_texture_map(data, 0, len(data))
    except PayloadError:
        return
    assert write_texture_map(texture_map) == data[:end]


@pytest.mark.parametrize(("data", "message"), [
    (b"", "ends inside the texture map"),
    (b"\x09" + bytes(5), "ends inside the texture map"),
    (b"\x02\x00", "codes 00000010 of a texture map are unknown"),
    (b"\x10\x00", "codes 00010000"),
    (b"\x00\x01", "bits after the last texture"),
])
def test_damage_is_refused(data: bytes, message: str) -> None:
    with pytest.raises(PayloadError, match=message):
        read_texture_map(data, 0, len(data))


@pytest.mark.parametrize(("texture_map", "message"), [
    (TextureMap(3, (0,)), "enlargement of 2, 4, got 3"),
    (TextureMap(2, ()), "got 0 cells"),
    (TextureMap(2, (0,) * 9), "got 9 cells"),
    (TextureMap(2, (0,) * 17), "got 17 cells"),
    (TextureMap(2, (0, 1, 8, 3)), "from 0 to 7, got 8"),
    (TextureMap(2, (0, -1, 2, 3)), "from 0 to 7, got -1"),
])
def test_maps_outside_the_format_are_not_written(texture_map: TextureMap, message: str) -> None:
    with pytest.raises(PayloadError, match=message):
        write_texture_map(texture_map)
