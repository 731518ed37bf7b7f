"""`UnreadAnswers`: limits the memory of the answers that clients have not read yet."""

from __future__ import annotations

from typing import Protocol


class Connection(Protocol):
    """A connection whose client may not read its answer."""

    def unread_bytes(self) -> int:
        """The number of bytes that were written and not read."""

    def drop_unread(self) -> None:
        """End the connection and free these bytes."""


class UnreadAnswers:
    """The connections with unread answers, and the limit on the bytes of all of them together.

    Beyond the limit connections are dropped. If new requests were refused instead, a few clients that read slowly could
    block the service for all others.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._waiting: dict[Connection, None] = {}  # the longest unread answer first

    def add(self, connection: Connection) -> None:
        """Add a connection, and drop those that have waited longest, except this one, until the limit is kept."""
        self._waiting[connection] = None
        total = sum(each.unread_bytes() for each in self._waiting)
        for each in list(self._waiting):
            if total <= self._limit or each is connection:
                break
            total -= each.unread_bytes()
            self.remove(each)
            each.drop_unread()

    def remove(self, connection: Connection) -> None:
        """Remove a connection, if it was added: it has read its answer, or has ended."""
        self._waiting.pop(connection, None)
