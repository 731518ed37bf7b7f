"""`WriteTimeout`: limits the time in which a client may leave its answer unread, and the memory of all such answers.

The unread part of an answer is in this process's memory, and closing a connection waits until it was read.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import struct
from typing import TYPE_CHECKING, Any

from uvicorn.protocols.http.h11_impl import H11Protocol

from edgegrain.service.json_logs import log
from edgegrain.service.service_state import ServiceState

logger = logging.getLogger(__name__)

MIN_READ = 1 << 18
"""Fewest bytes that a client reads within the setting ``write_timeout``, unless less is left."""
RESET = struct.pack("ii", 1, 0)
"""Value of ``SO_LINGER``: closing drops unsent bytes and resets the connection."""

if TYPE_CHECKING:
    _Protocol = H11Protocol  # has the attributes of both
else:
    _Protocol = asyncio.Protocol


class WriteTimeout(_Protocol):
    """Mixin before one of uvicorn's protocols: drops connections whose clients do not read.

    Attributes:
        service: its settings are applied; set by `http_protocol`.
    """

    service: ServiceState

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._unread = 0
        self._write_timer: asyncio.TimerHandle | None = None

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_write_timer()
        self.service.unread.remove(self)
        super().connection_lost(exc)

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self.expect_reading()

    def pause_writing(self) -> None:
        super().pause_writing()
        self.expect_reading()
        self.service.unread.add(self)

    def resume_writing(self) -> None:
        super().resume_writing()
        self.service.unread.remove(self)
        self.expect_reading()

    def expect_reading(self) -> None:
        """Limit the time in which the client reads what was written."""
        self._stop_write_timer()
        self._unread = self.unread_bytes()
        if self._unread:
            self._write_timer = self.loop.call_later(self.service.settings.write_timeout, self._check_reading)

    def unread_bytes(self) -> int:
        """The number of bytes of answers in this process's memory."""
        return self.transport.get_write_buffer_size()

    def drop_unread(self) -> None:
        """End the connection and free the unread bytes."""
        log(logger, logging.INFO, "answer not read", bytes_left=self.unread_bytes())
        # Without this option the system would keep what it has taken over and wait for the client.
        self.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        self.transport.abort()

    def _check_reading(self) -> None:
        left = self.unread_bytes()
        if left and self._unread - left < MIN_READ:
            self.drop_unread()
        else:
            self.expect_reading()

    def _stop_write_timer(self) -> None:
        if self._write_timer is not None:
            self._write_timer.cancel()
            self._write_timer = None
