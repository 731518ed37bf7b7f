"""`AnswerBody`: the body of an answer as it arrives, limited in size and time, whoever answers."""

from __future__ import annotations

import time

from codec_contract.errors import ServiceError

MAX_REFUSAL_BYTES = 1 << 16
"""Most bytes that are read of an answer other than 2xx; a problem of the service is shorter."""
LEAST_RATE = 1 << 13
"""Bytes per second at which an answer arrives at least, after the seconds of the timeout. The service itself
disconnects clients that read less than 256 KiB in 30 s (``write_timeout``)."""


class AnswerBody:
    """The pieces of one answer's body."""

    def __init__(self, limit: int, timeout: float, *, refused: bool) -> None:
        """Begin to count the seconds.

        Args:
            limit: most bytes of the body of a success.
            timeout: seconds that the body may take in addition to those of `LEAST_RATE`.
            refused: true for an answer other than 2xx, of which the first `MAX_REFUSAL_BYTES` suffice.
        """
        self._limit = MAX_REFUSAL_BYTES if refused else limit
        self._timeout = timeout
        self._refused = refused
        self._began = time.monotonic()
        self._pieces: list[bytes] = []
        self._length = 0

    def add(self, piece: bytes) -> bool:
        """Add a piece that arrived; false if the rest is not needed.

        Raises:
            ServiceError: the body is longer than the answer can be.
            TimeoutError: it arrives too slowly.
        """
        self._pieces.append(piece)
        self._length += len(piece)
        if self._length > self._limit:
            if self._refused:
                return False
            raise ServiceError(f"the service's answer has more than {self._limit} bytes; for a picture ask for "
                               "size='native' or raise max_pixels, otherwise check that this is an edgegrain service")
        if time.monotonic() - self._began > self._timeout + self._length / LEAST_RATE:
            raise TimeoutError(f"its answer arrives at less than {LEAST_RATE} bytes per second")
        return True

    def data(self) -> bytes:
        """The bytes that were added."""
        return b"".join(self._pieces)
