"""Figures that other learned codecs publish on Kodak, to draw next to ours.

They are of photographs of 768x512 or 512x512 pixels and of large decoders; ours are of faces. Networks of LPIPS and
versions of DISTS differ between publications.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Point:
    """One rate of a codec.

    Attributes:
        bpp: bits per pixel.
        lpips, dists: means over the pictures; lower is better.
    """

    bpp: float
    lpips: float
    dists: float


@dataclass(frozen=True)
class PublishedCodec:
    """A codec's curve on Kodak.

    Attributes:
        name: of the codec.
        decoder: its number of parameters.
        source: address of the figures.
        points: by rising rate.
    """

    name: str
    decoder: str
    source: str
    points: tuple[Point, ...]


PUBLISHED = (
    # A file of figures, four digits here.
    PublishedCodec(
        "MS-ILLM", "174 M",
        "https://github.com/facebookresearch/NeuralCompression/blob/3f122808255a2278eea049119367eb3abc434862/projects/"
        "illm/results.csv",
        (Point(0.0443, 0.1576, 0.1346), Point(0.0806, 0.1100, 0.1085), Point(0.1532, 0.0732, 0.0809))),
    PublishedCodec(
        "StableCodec", "985 M",
        "https://github.com/LuizScarlet/StableCodec/blob/e7994cf5e18098ce3451a0d7a732559a0648b0c4/results/results.txt",
        (Point(0.0058, 0.3097, 0.1518), Point(0.0078, 0.2734, 0.1382), Point(0.0108, 0.2444, 0.1246),
         Point(0.0171, 0.2069, 0.1079), Point(0.0250, 0.1821, 0.0981), Point(0.0341, 0.1664, 0.0917))),
    # The authors publish a chart only: read from it, to about 0.005.
    PublishedCodec(
        "CoD-Lite", "52 M",
        "https://github.com/microsoft/GenCodec/blob/c49eb0d643cc75e6c732cbc311a508627b54cf06/CoD_Lite/assets/RD.png",
        (Point(0.0039, 0.338, 0.209), Point(0.0078, 0.281, 0.172), Point(0.0156, 0.225, 0.139),
         Point(0.0312, 0.160, 0.113), Point(0.125, 0.095, 0.071))),
)
