"""Limits on the head of a request (request line and header lines) and on the connections of an address.

A head is read before any application code runs, so these limits are in uvicorn's protocol. The bytes of a head are
given to the parser line by line, which makes the counts exact; bodies are not counted. While a request is being
answered, the bytes of the next one wait unparsed, and reading pauses, so that pipelined requests do not accumulate in
memory.
"""

from __future__ import annotations

import asyncio
import http
import logging
import uuid
from abc import abstractmethod
from typing import Any

from starlette.responses import JSONResponse

from edgegrain.service.access_log import UNMATCHED
from edgegrain.service.connection_count import ConnectionCount
from edgegrain.service.json_logs import log
from edgegrain.service.lingering_close import LINGER_BYTES, LINGER_SECONDS
from edgegrain.service.problem_details import MEDIA_TYPE, Problem, retry_later
from edgegrain.service.service_state import ServiceState
from edgegrain.service.write_timeout import WriteTimeout

logger = logging.getLogger(__name__)

MAX_HEAD_BYTES = 1 << 16
"""Most bytes of a head, and of the chunk sizes and trailers between two pieces of a chunked body."""
MAX_REQUEST_LINE = 1 << 13
"""Most bytes of the request line, without its line end."""
MAX_HEADER_LINES = 100
"""Most header lines of a request."""
PIECE = 1 << 12
"""Bytes of a body of unknown length that the parser gets at once. If the next head begins within them, as only in
pipelined requests, these bytes of it are not counted."""


class RequestHeadLimits(WriteTimeout):
    """Mixin before one of uvicorn's protocols: refuses what exceeds a limit, and closes the connection.

    Attributes:
        service: settings and metrics; set by `http_protocol`.
        open_connections: connections of all protocols of the server; set by `http_protocol`.
    """

    service: ServiceState
    open_connections: ConnectionCount

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._refusal: Problem | None = None
        self._counted = False
        self._discarded = 0
        self._held = b""
        self._began = 0.0
        self._head_timer: asyncio.TimerHandle | None = None
        self._linger_timer: asyncio.TimerHandle | None = None
        self._head_bytes = self._line_bytes = self._lines = 0
        self._in_request_line = True

    @abstractmethod
    def _in_body(self) -> bool:
        """True while the parser expects the body of the last request."""

    def _body_left(self) -> int | None:
        """Bytes of the body that are missing; None if its end is not known."""
        return None

    @abstractmethod
    def _in_head(self) -> bool:
        """True while the parser has a part of a head."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._began = self.loop.time()
        self._counted = True
        count = self.open_connections.add(self._host())
        most = self.service.settings.max_connections_per_address
        if count > 2 * most:  # the answers to refused connections are bounded, too
            transport.abort()
        elif count > most:
            self.refuse(retry_later(
                "too-many-connections", f"an address may have {most} connections at a time; reuse them", 1))
        else:
            self._expect_request()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._counted:
            self._counted = False
            self.open_connections.remove(self._host())
        self._held = b""
        self._stop_head_timer()
        if self._linger_timer is not None:
            self._linger_timer.cancel()
        self._unset_keepalive_if_required()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._refusal is not None:
            self._discarded += len(data)
            if self._discarded > LINGER_BYTES:
                self.transport.close()
            return
        if self._held:
            data, self._held = self._held + data, b""
        at = 0
        while at < len(data) and self._refusal is None and not self.transport.is_closing():
            if self._in_body():
                at = self._feed_body(data, at)
            elif self._answering():
                self._held = data[at:]
                self.flow.pause_reading()
                return
            else:
                at = self._feed_head(data, at)
        self._expect_rest()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.transport.is_closing():
            return
        if self._refusal is None:
            self._in_request_line = not self._in_head()
            self.data_received(b"")
        elif not self._answering():
            self._answer_refusal(self._refusal)

    def shutdown(self) -> None:
        if self._refusal is not None and not self._answering():
            self.transport.close()
        else:
            super().shutdown()

    def send_400_response(self, msg: str) -> None:
        self.refuse(Problem("bad-request", "the bytes are not a request of HTTP/1.1"))

    def refuse(self, problem: Problem) -> None:
        """Read no further request, answer with ``problem`` after the earlier answers, and close the connection."""
        if self._refusal is not None or self.transport.is_closing():
            return
        self._refusal = problem
        self._stop_head_timer()
        if not self._answering():
            self._answer_refusal(problem)
        elif self._in_body() and not self.cycle.response_started:
            self.cycle.disconnected = True  # ends the application's wait for the body; it cannot answer any more
            self.cycle.message_event.set()
            self._answer_refusal(problem)
        # Otherwise the current answer comes first, see `on_response_complete`.

    def _answer_refusal(self, problem: Problem) -> None:
        if self._linger_timer is not None:
            return
        if self._in_body() and self.cycle.response_complete:
            self.transport.close()  # this request has its answer; another would belong to the next request
            return
        metrics = self.service.metrics
        metrics.errors.labels(problem.kind).inc()
        metrics.requests.labels(UNMATCHED, "other", str(problem.status)).inc()
        request_id = str(uuid.uuid4())
        answer = JSONResponse(problem.document(request_id), problem.status, problem.headers, MEDIA_TYPE)
        fields = [*self.server_state.default_headers, *answer.raw_headers, (b"x-request-id", request_id.encode()),
                  (b"x-content-type-options", b"nosniff"), (b"cache-control", b"no-store"), (b"connection", b"close")]
        status = f"HTTP/1.1 {problem.status} {http.HTTPStatus(problem.status).phrase}\r\n".encode()
        head = status + b"".join(name + b": " + value + b"\r\n" for name, value in fields) + b"\r\n"
        self.transport.write(head + bytes(answer.body))
        self.expect_reading()
        # Closing now would discard the answer at a client that is still sending, see `lingering_close`.
        self.transport.write_eof()
        self.flow.resume_reading()
        self._unset_keepalive_if_required()
        self._linger_timer = self.loop.call_later(LINGER_SECONDS, self.transport.close)
        log(logger, logging.INFO, "request", request_id=request_id, method="other", route=UNMATCHED,
            status=problem.status, seconds=round(self.loop.time() - self._began, 6), bytes_sent=len(answer.body),
            problem=problem.kind)

    def _feed_head(self, data: bytes, at: int) -> int:
        """Give the parser the rest of the current line of a head; returns the position after it."""
        if not self._head_bytes:
            self._began = self.loop.time()
        limit = at + MAX_HEAD_BYTES + 1 - self._head_bytes
        if self._in_request_line:
            limit = min(limit, at + MAX_REQUEST_LINE + 3 - self._line_bytes)
        newline = data.find(b"\n", at, limit)
        end = newline + 1 if newline >= 0 else min(limit, len(data))
        self._head_bytes += end - at
        self._line_bytes += end - at
        if self._in_request_line and self._line_bytes > MAX_REQUEST_LINE + 2:
            self.refuse(Problem("request-line-too-long", f"the request line has more than {MAX_REQUEST_LINE} bytes"))
            return end
        if self._head_bytes > MAX_HEAD_BYTES:
            self.refuse(Problem("head-too-large", f"the head of the request has more than {MAX_HEAD_BYTES} bytes"))
            return end
        cycle = self.cycle
        self._parse_head(data[at:end], whole=newline >= 0)
        if self.cycle is not cycle:
            self._forget_head()
            self._stop_head_timer()
        elif newline >= 0:
            self._lines += 1
            self._in_request_line = self._in_request_line and self._line_bytes <= 2  # an empty line may precede it
            self._line_bytes = 0
            if self._lines >= MAX_HEADER_LINES + 2:  # with the request line and the empty line at the end
                self.refuse(Problem("head-too-large", f"the request has more than {MAX_HEADER_LINES} header lines"))
        return end

    def _parse_head(self, piece: bytes, *, whole: bool) -> None:
        """Parse bytes of one line of a head; ``whole`` if they end it."""
        super().data_received(piece)

    def _feed_body(self, data: bytes, at: int) -> int:
        """Give the parser bytes of a body; returns the position after them."""
        end = min(at + (self._body_left() or PIECE), len(data))
        super().data_received(data[at:end])
        self._in_request_line = not self._in_head()
        return end

    def _forget_head(self) -> None:
        self._head_bytes = self._line_bytes = self._lines = 0
        self._in_request_line = True

    def _expect_rest(self) -> None:
        """Limit the time for the rest of a head, or the time in which nothing arrives."""
        if self._refusal is not None or self.transport.is_closing():
            return
        if self._answering():
            return
        if self._head_bytes or self._in_head():
            if self._head_timer is None:
                self._head_timer = self.loop.call_later(self.service.settings.head_timeout, self._head_is_late)
        else:
            self._expect_request()

    def _expect_request(self) -> None:
        self._unset_keepalive_if_required()
        self.timeout_keep_alive_task = self.loop.call_later(
            self.timeout_keep_alive, self.timeout_keep_alive_handler)

    def _head_is_late(self) -> None:
        seconds = self.service.settings.head_timeout
        self.refuse(Problem("head-timeout", f"the head of the request did not arrive within {seconds:g} s"))

    def _stop_head_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _host(self) -> str | None:
        return self.client[0] if self.client else None
