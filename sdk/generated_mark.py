"""The mark of generated pictures: an XMP packet with the kind of source, the tool and the bundle.

Article 50(2) of the EU AI Act requires such a mark; docs/generated_marks.md explains its fields and terms.
"""

from __future__ import annotations

import io
import os
from dataclasses import dataclass, replace
from html import escape
from typing import IO, Any

from PIL import Image, UnidentifiedImageError

from codec_contract import __version__
from codec_contract.bundle.manifest import Manifest
from codec_contract.errors import ImageError
from codec_contract.files import content_of, why_unreadable
from edge_encoder.preprocessing import readable_formats
from sdk.installed_bundles import BundleInfo

TERMS = "http://cv.iptc.org/newscodes/digitalsourcetype/"  # IPTC's vocabulary
EDITED = TERMS + "compositeWithTrainedAlgorithmicMedia"  # augmented, corrected or enhanced with a generative model
ALTERED = TERMS + "algorithmicallyEnhanced"  # by an algorithm that does not change the main content
COMPOSITE = TERMS + "compositeSynthetic"  # of several elements, one of them generated
GENERATED = TERMS + "trainedAlgorithmicMedia"  # by a trained model alone

_TOOL = "edgegrain "
_RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
_IPTC = "http://iptc.org/std/Iptc4xmpExt/2008-02-29/"
_XMP = "http://ns.adobe.com/xap/1.0/"
_PACKET = (
    '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="'
    f'{_RDF}"><rdf:Description rdf:about="" xmlns:Iptc4xmpExt="{_IPTC}" xmlns:xmp="{_XMP}"%s/></rdf:RDF></x:xmpmeta>'
    '<?xpacket end="r"?>'
)


@dataclass(frozen=True)
class GeneratedMark:
    """Source of a picture, as its XMP states it; nothing proves it.

    Attributes:
        source_type: URL of a term of IPTC's vocabulary Digital Source Type.
        tool: name and version of the program that wrote the picture; None if it is not named.
        bundle: id of the bundle that restored it; None if it is not known, or another program wrote the picture.
        bundle_version: version of that bundle.
    """

    source_type: str = EDITED
    tool: str | None = _TOOL + __version__
    bundle: str | None = None
    bundle_version: str | None = None

    @property
    def by_edgegrain(self) -> bool:
        """True if the picture names edgegrain as the tool."""
        return self.tool is not None and self.tool.startswith(_TOOL)

    def xmp(self) -> bytes:
        """The XMP packet; equal marks give equal bytes."""
        fields = {
            "Iptc4xmpExt:DigitalSourceType": self.source_type,
            "xmp:CreatorTool": self.tool,
            "Iptc4xmpExt:AISystemUsed": None if self.bundle is None else _TOOL + self.bundle,
            "Iptc4xmpExt:AISystemVersionUsed": self.bundle_version,
        }
        shown = {name: escape("".join(filter(str.isprintable, value))) for name, value in fields.items() if value}
        return (_PACKET % "".join(f' {name}="{value}"' for name, value in shown.items())).encode()


class MarkedPicture(Image.Image):
    """A PIL picture that keeps its mark: `save` writes it to PNG, JPEG, WebP, AVIF and TIFF files.

    Pictures that its methods return (`copy`, `resize`, `crop`, `convert` ...) have the mark too. The packet is
    ``info["xmp"]``, where Pillow keeps that of a picture which it opened.
    """

    def __init__(self, picture: Image.Image, xmp: bytes | None) -> None:
        """Take over the pixels of a picture, which is not used any more, and mark it with an XMP packet."""
        super().__init__()
        vars(self).update(vars(picture))
        self.info = {**picture.info, "xmp": xmp}

    def save(
        self,
        fp: str | bytes | os.PathLike[str] | os.PathLike[bytes] | IO[bytes],
        format: str | None = None,
        **params: Any,
    ) -> None:
        """As Pillow's method; an ``xmp`` among the parameters, bytes or a str, replaces the mark."""
        from PIL.PngImagePlugin import PngInfo  # here, as it is not needed before

        if xmp := params.setdefault("xmp", self.info.get("xmp") or b""):
            xmp = xmp.encode() if isinstance(xmp, str) else xmp
            text = PngInfo()
            text.chunks += getattr(params.get("pnginfo"), "chunks", [])
            text.add_itxt("XML:com.adobe.xmp", xmp.decode())
            tags = {**(params.get("tiffinfo") or {}), 700: xmp}
            # Writers ignore parameters that they do not know.
            params = {**params, "xmp": xmp, "pnginfo": text, "tiffinfo": tags}
        super().save(fp, format, **params)

    def _new(self, im: Any) -> MarkedPicture:
        return MarkedPicture(super()._new(im), self.info.get("xmp"))


def mark_of(bundle: BundleInfo | Manifest, seed: int | None = None) -> GeneratedMark:
    """The mark of a picture that a bundle restored, with a seed or without."""
    # IRN without a seed computes the likeliest picture; all other decoders generate detail.
    source_type = ALTERED if bundle.codec == "irn" and seed is None else EDITED
    return GeneratedMark(source_type, bundle=bundle.id, bundle_version=bundle.version)


def marked(picture: Image.Image, bundle: BundleInfo, mark: bool = True, seed: int | None = None) -> Image.Image:
    """The picture that a bundle restored, marked if ``mark`` is true."""
    return MarkedPicture(picture, mark_of(bundle, seed).xmp()) if mark else picture


def read_mark(
    picture: str | os.PathLike[str] | bytes | bytearray | memoryview | IO[bytes] | Image.Image,
) -> GeneratedMark | None:
    """Read the mark of a picture: edgegrain's, or the Digital Source Type that another program wrote.

    Args:
        picture: a path, an open file or its bytes, or a PIL picture.

    Returns:
        None if the picture has no XMP, or its XMP has no Digital Source Type.

    Raises:
        ImageError: the file cannot be read, or its XMP is malformed.
    """
    xmp = picture.info.get("xmp") if isinstance(picture, Image.Image) else _xmp_of_file(picture)
    if xmp is None:
        return None
    fields = _properties(xmp)
    source_type = fields.get(f"{{{_IPTC}}}DigitalSourceType")
    if not source_type:
        return None
    mark = GeneratedMark(source_type, fields.get(f"{{{_XMP}}}CreatorTool"))
    system, version = (fields.get(f"{{{_IPTC}}}{name}") for name in ("AISystemUsed", "AISystemVersionUsed"))
    if not mark.by_edgegrain or system is None:
        return mark
    return replace(mark, bundle=system.removeprefix(_TOOL), bundle_version=version)


def _xmp_of_file(picture: str | os.PathLike[str] | bytes | bytearray | memoryview | IO[bytes]) -> Any:
    """The XMP packet of a picture file; None without one."""
    source: Any = content_of(picture)
    name = str(source)[:200]
    if isinstance(source, (bytes, bytearray, memoryview)):
        source, name = io.BytesIO(source), f"the picture of {len(source)} bytes"
    try:
        with Image.open(source, formats=readable_formats()) as image:
            if image.format == "PNG" and "xmp" not in image.info:
                image.load()  # in a PNG, text may follow the pixels
            return image.info.get("xmp")
    except UnidentifiedImageError as error:
        raise ImageError(f"{name} is not a picture, or has an unsupported format") from error
    except Exception as error:  # Pillow's readers raise various types
        raise ImageError(f"{name} cannot be read as a picture: {why_unreadable(name, error)}") from error


def _properties(xmp: bytes | str) -> dict[str, str]:
    """``{namespace}name`` -> text of the simple properties of an XMP packet; expat limits the growth of entities."""
    from xml.etree import ElementTree  # here, as importing the SDK should be fast

    try:
        text = xmp.decode() if isinstance(xmp, bytes) else xmp
        root = ElementTree.fromstring(text.strip("\ufeff\0 \t\r\n"))
    except (ValueError, AttributeError, ElementTree.ParseError) as error:  # AttributeError: a TIFF may have numbers
        raise ImageError(f"the picture's XMP is not well-formed XML in UTF-8: {error}") from error
    found: dict[str, str] = {}
    for description in root.iter(f"{{{_RDF}}}Description"):
        children = {child.tag: child.get(f"{{{_RDF}}}resource") or child.text or "" for child in reversed(description)}
        found = {**children, **description.attrib, **found}  # the first of several
    return found
