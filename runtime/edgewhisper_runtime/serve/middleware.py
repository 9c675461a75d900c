"""Middleware: requests are counted, and only those who may are let in."""

from __future__ import annotations

import hmac
import re
from time import perf_counter

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from edgewhisper_runtime.serve.errors import Refusal
from edgewhisper_runtime.serve.metrics import Metrics

TRANSCRIPTIONS = "/v1/audio/transcriptions"
TRANSLATIONS = "/v1/audio/translations"
HEALTH = "/health"
_OK = 200
_LOOPBACK = re.compile(r"(localhost|127(\.\d{1,3}){3}|\[::1\])(:\d+)?", re.IGNORECASE)


class MetricsMiddleware:
    """Counts the requests for transcripts, and times those that are answered with one."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, and count its answer."""
        if scope["path"] not in {TRANSCRIPTIONS, TRANSLATIONS}:
            await self._app(scope, receive, send)
            return
        started, status = perf_counter(), 500

        async def send_on(message: Message) -> None:
            nonlocal status
            status = message.get("status", status)
            await send(message)

        try:
            await self._app(scope, receive, send_on)
        finally:
            self._metrics.requests.labels(scope["path"], status).inc()
            if status == _OK:
                self._metrics.latency.observe(perf_counter() - started)


class AccessMiddleware:
    """Checks the token; without one, that the request is for a loopback address.

    A web page whose name is made to point to 127.0.0.1 (DNS rebinding) could otherwise use the
    server through the browser of whoever looks at it.
    """

    def __init__(self, app: ASGIApp, token: str | None) -> None:
        self._app = app
        self._expected = f"Bearer {token}".encode() if token else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it before its body is read."""
        refusal = None if scope["path"] == HEALTH else self._refusal(Request(scope))
        await (refusal or self._app)(scope, receive, send)

    def _refusal(self, request: Request) -> Response | None:
        if self._expected:
            given = request.headers.get("authorization", "").encode("latin-1")
            if hmac.compare_digest(given, self._expected):
                return None
            return Refusal(
                401,
                "the token is missing or wrong. Send the server's as the API key "
                "(Authorization: Bearer TOKEN).",
                code="invalid_api_key",
            ).response
        if _LOOPBACK.fullmatch(request.headers.get("host", "")):
            return None
        return Refusal(
            403,
            "without a token this server answers to localhost and 127.0.0.1 only. "
            "Start it with EDGEWHISPER_TOKEN set to offer it under another name.",
        ).response
