"""`http_protocol`: uvicorn's protocols with the limits of `request_head`, for both of its parsers."""

from __future__ import annotations

import asyncio

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from edgegrain.service.connection_count import ConnectionCount
from edgegrain.service.problem_details import Problem
from edgegrain.service.request_head import MAX_HEAD_BYTES, RequestHeadLimits
from edgegrain.service.service_state import ServiceState


class LimitedH11(RequestHeadLimits, H11Protocol):
    """uvicorn's protocol with the parser in Python, with these limits."""

    _fed_body = False
    """True while the last bytes for the parser were for a body; an error of the parser hides its state."""

    def _in_body(self) -> bool:
        return self.conn.their_state is h11.SEND_BODY or (self.conn.their_state is h11.ERROR and self._fed_body)

    def _in_head(self) -> bool:
        return self.conn.their_state is h11.IDLE and bool(self.conn.trailing_data[0])

    def _feed_head(self, data: bytes, at: int) -> int:
        self._fed_body = False
        return super()._feed_head(data, at)

    def _feed_body(self, data: bytes, at: int) -> int:
        self._fed_body = True
        return super()._feed_body(data, at)

    def on_response_complete(self) -> None:
        self._fed_body = self._fed_body and self.cycle.more_body
        super().on_response_complete()


try:
    from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
except ModuleNotFoundError:
    PROTOCOL: type[RequestHeadLimits] = LimitedH11
else:
    class LimitedHttpTools(RequestHeadLimits, HttpToolsProtocol):  # type: ignore[misc]
        """uvicorn's protocol with the parser in C, with these limits."""

        _head = False
        _line = b""
        _dropping = False
        _body = False
        _left: int | None = None
        _framing = 0

        def _in_head(self) -> bool:
            return self._head

        def _parse_head(self, piece: bytes, *, whole: bool) -> None:
            # The header Upgrade is dropped, as RFC 9110 (7.8) permits: with it, the parser in C takes the body for the
            # next request. Clients for HTTP/2 send it, Java's by default.
            if self._in_request_line:
                self._dropping = False
                super()._parse_head(piece, whole=whole)
                return
            self._line += piece
            if not whole:
                return
            line, self._line = self._line, b""
            self._dropping = line[:8].lower() == b"upgrade:" or (self._dropping and line[:1] in b" \t")
            if not self._dropping:
                super()._parse_head(line, whole=True)

        def _in_body(self) -> bool:
            return self._body

        def on_message_begin(self) -> None:
            super().on_message_begin()
            self._head = True

        def _body_left(self) -> int | None:
            return self._left

        def on_headers_complete(self) -> None:
            super().on_headers_complete()
            lengths = [value for name, value in self.headers if name == b"content-length"]
            self._head = False
            self._body, self._left, self._framing = True, int(lengths[0]) if lengths else None, 0

        def on_header(self, name: bytes, value: bytes) -> None:
            if not self._body:  # trailers are dropped; uvicorn would add them to the request's headers
                super().on_header(name, value)

        def on_body(self, body: bytes) -> None:
            super().on_body(body)
            self._framing = 0
            if self._left is not None:
                self._left -= len(body)

        def on_message_complete(self) -> None:
            super().on_message_complete()
            self._body = False

        def _feed_body(self, data: bytes, at: int) -> int:
            end = super()._feed_body(data, at)
            self._framing += end - at
            if self._body and self._left is None and self._framing > MAX_HEAD_BYTES:
                self.refuse(Problem(
                    "head-too-large", f"a chunk's size or the trailers have more than {MAX_HEAD_BYTES} bytes"))
            return end

    PROTOCOL = LimitedHttpTools


def http_protocol(
    service: ServiceState, base: type[RequestHeadLimits] = PROTOCOL
) -> type[asyncio.Protocol]:
    """uvicorn's protocol with the limits of a service, for `uvicorn.Config`.

    Args:
        service: its settings are applied, its metrics count refusals.
        base: the parser, by default the one in C if it is installed.
    """
    return type("Protocol", (base,), {
        "service": service, "open_connections": ConnectionCount(service.settings.trusted_proxies)})
