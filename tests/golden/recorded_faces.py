"""Record what the face networks give for synthetic photographs: python -m tests.golden.recorded_faces

Clients find faces with MediaPipe's two TFLite files; their tests have no runtime for them. This command runs the files
of clients/android/litert/src/main/assets with Python's `FaceFinder` and writes tests/golden/clients/face_networks.json:
the SHA-256 of each input, uint8 in reading order, and what clients read of its outputs: int16, little endian, in hex.
Of the detector this is, for each anchor with a positive logit, its number, its logit in 1/256, and its 16 numbers in
1/64; of the mesh its logit in 1/256, then x and y of the 468 points in 1/64. `recorded_finder` is a `FaceFinder` that
reads the file. What clients compute with these outputs is compared with Python's: photos.json.

The photographs are cells of noise (`generated_picture`) into which portrait.ppm is pasted: turned by an EXIF
orientation, then resized exactly, perhaps beyond the edge. One is a square that is cut out of it.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from codec_contract.exact_square import cut_square, exact_resize
from codec_contract.oriented_square import OrientedSquare
from codec_contract.pixels import Rgb
from edge_encoder.faces.alignment import FaceFinder
from edge_encoder.preprocessing import load_picture
from tests.golden.regenerate_contract import digest, generated_picture, rows
from tests.pictures import exif

FOLDER = Path(__file__).parent / "clients"
RECORDED = "face_networks.json"
PORTRAIT = "portrait.ppm"


def _generated(name: str, every: bool, seed: int, block: int, size: list[int], *portraits: Any) -> dict[str, Any]:
    pasted = rows("file orientation size at", [(PORTRAIT, *portrait) for portrait in portraits])
    return {"name": name, "every": every, "seed": seed, "block": block, "size": size, "pasted": pasted}


PHOTOS: list[dict[str, Any]] = [
    _generated("two faces", True, 41, 32, [640, 480], (1, [100, 127], [420, 210]), (1, [210, 266], [60, 50])),
    _generated("a large face on its side", False, 42, 60, [900, 700], (6, [570, 450], [150, 120])),
    _generated("a small face over the edge", False, 43, 90, [2300, 1500], (1, [84, 106], [-20, 400])),
    {"name": "a framed face", "every": False, "file": PORTRAIT, "cut": [287, 347, 1086, 16], "side": 256},
    _generated("no face", True, 44, 50, [300, 200]),
]

_UNITS, _LOGIT_UNITS = 64, 256
_ASSETS = Path(__file__).parents[2] / "clients" / "android" / "litert" / "src" / "main" / "assets" / "edgegrain-faces"


def portrait() -> Rgb:
    """The real picture among the golden files, uint8 ``[190, 150, 3]``."""
    return np.frombuffer((FOLDER / PORTRAIT).read_bytes().split(b"255\n", 1)[1], np.uint8).reshape(190, 150, 3)


def photo(source: dict[str, Any]) -> Rgb:
    """The picture of one of `PHOTOS`."""
    if "cut" in source:
        return cut_square(portrait(), OrientedSquare(*source["cut"]), source["side"])
    rgb = generated_picture(source["seed"], source["block"], source["size"])
    for pasted in source["pasted"]:
        image = Image.fromarray(portrait())
        image.info["exif"] = exif(pasted["orientation"])
        part = exact_resize(load_picture(image), pasted["size"])
        left, top = pasted["at"]
        target = rgb[max(top, 0) : top + part.shape[0], max(left, 0) : left + part.shape[1]]
        target[:] = part[max(-top, 0) :, max(-left, 0) :][: target.shape[0], : target.shape[1]]
    return rgb


def recorded_finder(recording: dict[str, dict[str, str]]) -> FaceFinder:
    """A `FaceFinder` whose networks look up their outputs."""
    finder = FaceFinder()
    finder._detector._session = _Recorded(recording["detector"], _detections)
    finder._landmarks = _Recorded(recording["mesh"], _mesh)
    return finder


class _Recorded:
    """One network in the place of ONNX Runtime's session."""

    def __init__(self, outputs: dict[str, str], read: Any) -> None:
        self._outputs, self._read = outputs, read

    def run(self, names: list[str], inputs: dict[str, Rgb]) -> list[npt.NDArray[np.float64]]:
        return self._read(self._look_up(inputs["image"]))

    def _look_up(self, image: Rgb) -> npt.NDArray[np.int16]:
        return np.frombuffer(bytes.fromhex(self._outputs[digest(image)]), "<i2")


class _Recording(_Recorded):
    """One network that runs its TFLite file and keeps what it gives."""

    def __init__(self, outputs: dict[str, str], read: Any, file: str) -> None:
        from ai_edge_litert.interpreter import Interpreter

        super().__init__(outputs, read)
        self._interpreter = Interpreter(str(_ASSETS / file), num_threads=1)
        self._interpreter.allocate_tensors()

    def _look_up(self, image: Rgb) -> npt.NDArray[np.int16]:
        detector = self._read is _detections
        values = image / np.float32(127.5) - 1 if detector else image / np.float32(255)
        self._interpreter.set_tensor(self._interpreter.get_input_details()[0]["index"], values.astype(np.float32))
        self._interpreter.invoke()
        outputs = [output["index"] for output in self._interpreter.get_output_details()]
        numbers, logits = (self._interpreter.get_tensor(index).ravel() for index in outputs)
        if detector:
            rows = np.flatnonzero(logits > 0)
            parts = [rows[:, None], logits[rows, None] * _LOGIT_UNITS, numbers.reshape(-1, 16)[rows] * _UNITS]
            output = np.concatenate(parts, axis=1)
        else:
            output = np.concatenate([logits * _LOGIT_UNITS, numbers.reshape(-1, 3)[:, :2].ravel() * _UNITS])
        if np.abs(output).max(initial=0) > 32767:
            raise AssertionError("an output does not fit into 16 bits")
        self._outputs[digest(image)] = np.rint(output).astype("<i2").tobytes().hex()
        return super()._look_up(image)


def _detections(values: npt.NDArray[np.int16]) -> list[npt.NDArray[np.float64]]:
    """Scores and points of all anchors, as of face_detector.onnx."""
    rows = values.reshape(-1, 18)
    layers = []
    for cells, count in ((16, 2), (8, 6)):  # side and anchors per cell of BlazeFace's layers
        grid = np.meshgrid(*[(np.arange(cells) + 0.5) / cells] * 2)
        layers.append(np.stack(grid, axis=-1).reshape(-1, 2).repeat(count, axis=0))
    anchors = np.concatenate(layers)
    scores, points = np.zeros(len(anchors)), np.zeros((len(anchors), 8, 2))
    scores[rows[:, 0]] = 1 / (1 + np.exp(-rows[:, 1] / _LOGIT_UNITS))
    points[rows[:, 0]] = rows[:, 2:].reshape(-1, 8, 2) / _UNITS / 256
    is_position = np.array([[1], [0]] + [[1]] * 6)
    points[rows[:, 0]] += anchors[rows[:, 0]][:, None] * is_position
    return [scores, points]


def _mesh(values: npt.NDArray[np.int16]) -> list[npt.NDArray[np.float64]]:
    """Presence and points, as of face_landmarks.onnx."""
    return [1 / (1 + np.exp(-values[:1] / _LOGIT_UNITS)), values[1:].reshape(-1, 2) / _UNITS / 192]


def main() -> None:
    """Record all photographs."""
    recording: dict[str, dict[str, str]] = {"detector": {}, "mesh": {}}
    finder = FaceFinder()
    finder._detector._session = _Recording(recording["detector"], _detections, "face_detection_back.tflite")
    finder._landmarks = _Recording(recording["mesh"], _mesh, "face_landmark.tflite")
    for source in PHOTOS:
        found = finder.find(photo(source), every=source["every"])
        print(f"{source['name']}: {len(found)} faces")
    content = json.dumps(recording, indent=1) + "\n"
    (FOLDER / RECORDED).write_text(content)
    print(f"{RECORDED}: {len(content):,} bytes")


if __name__ == "__main__":
    main()
