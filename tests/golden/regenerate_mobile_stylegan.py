"""Write the reference of the MobileStyleGAN import: python tests/golden/regenerate_mobile_stylegan.py WHEEL [--force]

Runs the two networks of the wheel ``random-face`` as they are, with OpenVINO (pip install openvino; nothing else needs
it), and stores codes, samples of the pictures and their moments. OpenVINO computes in bfloat16 where the processor has
it, hence the precision hint.
"""

import io
import sys
import tempfile
import zipfile
from pathlib import Path

import numpy as np
import numpy.typing as npt
import openvino

from codec_contract.files import write_atomically
from edgegrain.papers.stylegan.prior_import import WHEEL_FILES

TARGET = Path(__file__).parent / "mobile_stylegan" / "reference.npz"
SEED, PICTURES, MEAN_OF, PSI = 2021, 2, 64, 0.7
STRIDE = 32
TOP, LEFT, SIDE = 470, 400, 40  # a crop at an eye

Array = npt.NDArray[np.float32]


def main(wheel: str, force: bool) -> None:
    with tempfile.TemporaryDirectory() as folder:
        with zipfile.ZipFile(wheel) as archive:
            for name in WHEEL_FILES:
                archive.extract(name, folder)
        data = Path(folder) / "random_face" / "data"
        core = openvino.Core()
        mapping, synthesis = (
            core.compile_model(data / f"{name}Network.xml", "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
            for name in ("Mapping", "Synthesis")
        )

        def run(network: openvino.CompiledModel, rows: Array) -> Array:
            return np.concatenate([network(row[None])[0] for row in rows]).astype(np.float32)

        z = np.random.default_rng(SEED).standard_normal((MEAN_OF, 512), dtype=np.float32)
        w = run(mapping, z)
        mean = w.mean(axis=0)
        codes = (mean + PSI * (w[:PICTURES] - mean)).astype(np.float32)
        pictures = run(synthesis, codes)
    buffer = io.BytesIO()
    np.savez_compressed(
        buffer,
        z=z[:PICTURES],
        w=w[:PICTURES],
        codes=codes,
        sampled=pictures[:, :, ::STRIDE, ::STRIDE],  # [2, 3, 32, 32]
        crop=pictures[:, :, TOP : TOP + SIDE, LEFT : LEFT + SIDE],
        crop_at=np.array([TOP, LEFT]),
        mean=pictures.mean(axis=(2, 3), dtype=np.float64),
        mean_square=np.square(pictures).mean((2, 3), np.float64),
    )
    write_atomically(TARGET, buffer.getvalue(), force=force)
    print(f"{TARGET}: {len(buffer.getvalue()):,} bytes, OpenVINO {openvino.__version__}")


if __name__ == "__main__":
    main(sys.argv[1], force="--force" in sys.argv)
