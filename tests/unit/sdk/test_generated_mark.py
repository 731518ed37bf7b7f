"""The mark of restored pictures: written into every format, kept by Pillow's methods, read back, malicious XMP."""

import copy
import dataclasses
import io
import re
from operator import methodcaller
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, features
from PIL.PngImagePlugin import PngInfo

import sdk
from codec_contract import __version__
from codec_contract.bundle.find import DEFAULT_BUNDLE
from codec_contract.errors import ImageError
from sdk.generated_mark import ALTERED, EDITED, GENERATED, MarkedPicture, mark_of
from tests.pictures import chunk, encoded, noise
from tests.tiny_bundle import HR

pytestmark = pytest.mark.usefixtures("tiny_bundles")

IPTC = "http://iptc.org/std/Iptc4xmpExt/2008-02-29/"
CAPTURE = "http://cv.iptc.org/newscodes/digitalsourcetype/digitalCapture"
FORMATS = ["PNG", "JPEG", "WEBP", "TIFF", *(["AVIF"] if features.check("avif") else [])]


@pytest.fixture
def payload(tiny_bundles: Any) -> sdk.Payload:
    return sdk.compress(noise(90, 70), fit="crop")


@pytest.fixture
def restored(payload: sdk.Payload) -> Image.Image:
    return sdk.restore(payload)


def jpeg(xmp: bytes) -> bytes:
    return encoded(Image.new("RGB", (8, 8)), "JPEG", xmp=xmp)


def described(inner: str = "", attributes: str = "") -> bytes:
    """An XMP packet with these properties."""
    return (
        f'<x:xmpmeta xmlns:x="adobe:ns:meta/" xmlns:e="{IPTC}" xmlns:xmp="http://ns.adobe.com/xap/1.0/">'
        '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        f'<rdf:Description rdf:about="" {attributes}>{inner}</rdf:Description></rdf:RDF></x:xmpmeta>'
    ).encode()


@pytest.mark.parametrize("kind", FORMATS)
def test_every_file_of_a_restored_picture_is_marked(restored: Image.Image, payload: sdk.Payload, kind: str) -> None:
    bundle = sdk.Codec().bundle
    wanted = sdk.GeneratedMark(EDITED, f"edgegrain {__version__}", DEFAULT_BUNDLE, bundle.version)
    data = encoded(restored, kind)
    assert sdk.read_mark(data) == sdk.read_mark(io.BytesIO(data)) == wanted and wanted.by_edgegrain
    assert data == encoded(sdk.restore(payload), kind)
    plain = sdk.restore(payload, mark=False)
    assert type(plain) is Image.Image and sdk.read_mark(encoded(plain, kind)) is None
    np.testing.assert_array_equal(np.asarray(plain), np.asarray(restored))
    assert 400 < len(data) - len(encoded(plain, kind)) < 900


def test_the_packet_holds_four_properties(restored: Image.Image) -> None:
    packet = restored.info["xmp"]
    assert len(packet) < 700 and packet.startswith(b"<?xpacket begin=") and packet.endswith(b'<?xpacket end="r"?>')
    assert b'Iptc4xmpExt:DigitalSourceType="http://cv.iptc.org/newscodes/digitalsourcetype/compositeWith' in packet
    assert f'xmp:CreatorTool="edgegrain {__version__}"'.encode() in packet
    properties = re.findall(rb" \w+:(\w+)=", packet.split(b"rdf:about")[1].replace(b" xmlns:", b""))
    assert properties == [b"DigitalSourceType", b"CreatorTool", b"AISystemUsed", b"AISystemVersionUsed"]
    odd = sdk.GeneratedMark(bundle="a", bundle_version="<\"'&>\0\ud800\u00e9")
    read = sdk.read_mark(jpeg(odd.xmp()))
    assert read == dataclasses.replace(odd, bundle_version="<\"'&>\u00e9")


def test_a_derived_picture_is_marked(restored: Image.Image) -> None:
    calls = {"copy": (), "resize": ((9, 9),), "crop": ((0, 0, 8, 8),), "convert": ("L",), "transpose": (2,)}
    methods = [methodcaller(name, *arguments) for name, arguments in {**calls, "quantize": (8,)}.items()]
    for method in (*methods, copy.copy, copy.deepcopy):
        derived = method(restored)
        expected = method(Image.fromarray(np.asarray(restored)))
        assert derived.mode == expected.mode and derived.tobytes() == expected.tobytes()
        assert sdk.read_mark(encoded(derived)) == sdk.read_mark(restored) is not None


def test_the_other_parameters_of_save_are_kept(restored: Image.Image, tmp_path: Path) -> None:
    own = PngInfo()
    own.add_text("Comment", "mine")
    for _ in range(2):
        restored.save(tmp_path / "own.png", pnginfo=own)
    with Image.open(tmp_path / "own.png") as picture:
        assert picture.info["Comment"] == "mine" and sdk.read_mark(picture) == sdk.read_mark(restored)
    assert (tmp_path / "own.png").read_bytes().count(b"XML:com.adobe.xmp") == 1
    assert sdk.read_mark(encoded(restored, "TIFF", tiffinfo=None)) == sdk.read_mark(restored)
    with Image.open(io.BytesIO(encoded(restored, "TIFF", tiffinfo={270: "mine"}))) as picture:
        assert picture.tag_v2[270] == "mine" and sdk.read_mark(picture) == sdk.read_mark(restored)
    packet = described(attributes=f'e:DigitalSourceType="{CAPTURE}"')
    for kind in FORMATS:
        for xmp in (packet, packet.decode()):
            assert sdk.read_mark(encoded(restored, kind, xmp=xmp)) == sdk.GeneratedMark(CAPTURE, tool=None)
        assert sdk.read_mark(encoded(restored, kind, xmp=b"")) is None
    restored.info.clear()
    assert sdk.read_mark(encoded(restored.copy())) is None


def test_the_mark_is_put_back(restored: Image.Image) -> None:
    edited = MarkedPicture(Image.fromarray(np.asarray(restored) // 2), restored.info["xmp"])
    assert sdk.read_mark(encoded(edited, "WEBP")) == sdk.read_mark(restored)


def test_the_codec_decides_the_term() -> None:
    bundle = sdk.Codec().bundle
    for codec in ("grain", "glean", "gcfsr", "irn_plus", "irn", "new"):
        term = mark_of(dataclasses.replace(bundle, codec=codec)).source_type
        assert term == (ALTERED if codec == "irn" else EDITED)
    assert mark_of(dataclasses.replace(bundle, codec="irn"), seed=0).source_type == EDITED


def test_batches_and_edits_are_marked(payload: sdk.Payload, restored: Image.Image, tmp_path: Path) -> None:
    codec, mark = sdk.Codec(), sdk.read_mark(restored)
    assert [sdk.read_mark(picture) for picture in codec.restore_batch([payload] * 2)] == [mark, mark]
    assert type(codec.restore_batch([payload], mark=False)[0]) is Image.Image
    grey = np.full((HR, HR, 3), 128, np.uint8)
    for original in (None, grey):
        assert sdk.read_mark(sdk.retouch(codec, grey, original)) == mark
        assert sdk.read_mark(sdk.retouch(codec, grey, original, mark=False)) is None

    background = np.full((70, 90, 3), 128, np.uint8)
    assert sdk.read_mark(sdk.paste(restored, payload, background)) == mark
    assert sdk.read_mark(sdk.paste(restored, payload, background, mark=False)) is None
    unknown = sdk.read_mark(sdk.paste(np.asarray(restored), payload, background))
    assert unknown == sdk.GeneratedMark(EDITED, f"edgegrain {__version__}", None, None)
    restored.info.clear()  # a copy of it is not marked either
    assert sdk.read_mark(sdk.paste(restored, payload, background)) is None


def test_marks_of_other_programs() -> None:
    terms, painter = f'e:DigitalSourceType="{GENERATED}"', "<xmp:CreatorTool>Painter 2</xmp:CreatorTool>"
    attributes = described(attributes=f'{terms} xmp:CreatorTool="Painter 2" e:AISystemUsed="edgegrain faces"')
    for xmp in (
        attributes,
        described(f"<e:DigitalSourceType>{GENERATED}</e:DigitalSourceType>{painter}"),
        described(f'<e:DigitalSourceType rdf:resource="{GENERATED}"/>{painter}'),
        b"\xef\xbb\xbf<?xml version='1.0' encoding='utf-16'?>" + attributes + b" \n\0",
    ):
        mark = sdk.read_mark(jpeg(xmp))
        assert mark == sdk.GeneratedMark(GENERATED, "Painter 2") and not mark.by_edgegrain and mark.bundle is None


def test_no_mark(tmp_path: Path) -> None:
    assert sdk.read_mark(encoded(Image.new("RGB", (8, 8)))) is None
    assert sdk.read_mark(jpeg(described(attributes='xmp:CreatorTool="Camera"'))) is None
    assert sdk.read_mark(Image.new("L", (8, 8))) is None
    Image.new("RGB", (8, 8)).save(tmp_path / "me.gif")
    assert sdk.read_mark(tmp_path / "me.gif") is None


def test_xmp_after_the_pixels_of_a_png() -> None:
    text = b"XML:com.adobe.xmp\0\0\0\0\0" + described(attributes=f'e:DigitalSourceType="{CAPTURE}"')
    data = encoded(Image.new("RGB", (8, 8)))
    mark = sdk.read_mark(data[:-12] + chunk(b"iTXt", text) + data[-12:])
    assert mark is not None and mark.source_type == CAPTURE


LAUGHS = "".join(f'<!ENTITY a{n} "{f"&a{n - 1};" * 10}">' for n in range(1, 10))


def test_malicious_xmp_is_refused() -> None:
    packet, laughing = described(), f'<!DOCTYPE x [<!ENTITY a0 "ha">{LAUGHS}]>'.encode() + described("&a9;")
    for xmp in (laughing, described("&a9;"), packet[:-9], packet.decode().encode("utf-16"), b"\xff" + packet, b"   "):
        with pytest.raises(ImageError, match="not well-formed"):
            sdk.read_mark(jpeg(xmp))


def test_what_is_not_a_picture(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="the picture of 4 bytes is not a picture"):
        sdk.read_mark(b"junk")
    with pytest.raises(ImageError, match=r"missing\.png cannot be read as a picture: No such file or directory$"):
        sdk.read_mark(tmp_path / "missing.png")
    with pytest.raises(ImageError, match="None cannot be read as a picture"):
        sdk.read_mark(None)  # type: ignore[arg-type]
