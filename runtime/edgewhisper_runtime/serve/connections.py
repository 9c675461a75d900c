"""HTTP connections that do not wait for ever for their clients."""

from __future__ import annotations

import asyncio

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

_MOST_CONNECTIONS = 512  # below the 1024 files that a process may usually open
_REQUEST_SECONDS = 10  # from the connection, or the last answer, to the end of a request's headers
_READING_SECONDS = 60  # in which a client takes nothing of what waits for it


class Connection(H11Protocol):
    """uvicorn's HTTP/1.1, ended where a client stalls or breaks the protocol after its answer.

    uvicorn itself waits as long as a client likes for headers, for the rest of a body whose
    request is answered already, and for an answer to be read.
    """

    _request_timer: asyncio.TimerHandle | None = None
    _reading_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn's
        """Begin to wait for a request, or refuse the connection where there are too many."""
        super().connection_made(transport)
        if len(self.connections) > _MOST_CONNECTIONS:
            transport.abort()
        else:
            self._expect_request()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop waiting."""
        _cancel(self._request_timer)
        _cancel(self._reading_timer)
        super().connection_lost(exc)

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no HTTP, if the request has no answer yet; none is sent after it."""
        if self.cycle is not None:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        try:
            super().send_400_response(msg)
        except h11.LocalProtocolError:
            self.transport.abort()

    def on_response_complete(self) -> None:
        """Begin to wait for the next request."""
        super().on_response_complete()
        self._expect_request()

    def pause_writing(self) -> None:
        """Begin to wait for the client to read."""
        super().pause_writing()
        self._reading_timer = self.loop.call_later(_READING_SECONDS, self.transport.abort)

    def resume_writing(self) -> None:
        """Go on: the client reads."""
        _cancel(self._reading_timer)
        super().resume_writing()

    def _expect_request(self) -> None:
        _cancel(self._request_timer)
        self._request_timer = self.loop.call_later(_REQUEST_SECONDS, self._close_unless_asked)

    def _close_unless_asked(self) -> None:
        if self.cycle is None or self.cycle.response_complete:
            self.transport.close()


def _cancel(timer: asyncio.TimerHandle | None) -> None:
    if timer is not None:
        timer.cancel()
