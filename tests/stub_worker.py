"""A worker without networks: it sleeps ``argv[1]`` seconds per batch and ``argv[2]`` per item, and returns its input.

Items to compress take ``argv[3]`` seconds, and its start ``argv[4]``.

A raw body that ends (before the CRC) in ``die!``, ``hang`` or ``lie!`` makes it die, hang, or send what is no answer.
"""

import json
import os
import sys
import time


def main() -> None:
    fixed, item, compress, start = map(float, sys.argv[1:])
    requests, answers = os.fdopen(0, "rb"), os.fdopen(1, "wb")

    def send(fields: dict[str, object], blobs: list[bytes]) -> None:  # as `edgegrain.service.worker`, which loads more
        line = json.dumps({**fields, "lengths": list(map(len, blobs))}).encode() + b"\n"
        answers.write(line + b"".join(blobs))
        answers.flush()

    requests.readline()
    time.sleep(start)
    send({"warm_up": []}, [])
    while line := requests.readline():
        batch = json.loads(line)
        blobs = [requests.read(length) for length in batch["lengths"]]
        time.sleep(fixed + (compress if batch["verb"] == "compress" else item) * len(blobs))
        endings = {blob[-7:-3] for blob in blobs}
        if b"die!" in endings:
            os._exit(9)
        if b"hang" in endings:
            time.sleep(3600)
        if b"lie!" in endings:
            answers.write(b"this is no message\n")
            answers.flush()
            continue
        send({"outcomes": [None] * len(blobs), "seconds": {"decode": fixed}, "ends": False}, blobs)


if __name__ == "__main__":
    main()
