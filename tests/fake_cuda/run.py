"""Run a command on the fake CUDA device.

python -m tests.fake_cuda.run python -c "import onnxruntime; print(onnxruntime.get_available_providers())"
ORT_GPU=1.23.0 python -m tests.fake_cuda.run ...
"""

import os
import sys

from tests.fake_cuda.environment import Unavailable, prepare


def main() -> None:
    """Replace this process by the command."""
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    try:
        fake = prepare()
    except Unavailable as error:
        sys.exit(str(error))
    os.execvpe(sys.argv[1], sys.argv[1:], fake.environment())


if __name__ == "__main__":
    main()
