"""Refusals in the shape that OpenAI's clients read."""

from __future__ import annotations

from typing import Any

import click
from starlette.responses import JSONResponse

from edgewhisper_runtime.errors import EdgeWhisperError

_RETRY_SECONDS = 5
_HEADERS = {
    401: {"WWW-Authenticate": "Bearer"},
    503: {"Retry-After": str(_RETRY_SECONDS)},
    504: {"X-Should-Retry": "false"},  # OpenAI's clients would do all the work again, twice
}
_SERVER_ERROR = 500
STOPPING = (503, "the server is stopping. Try again later.", None, "stopping")
OVERLOADED = (
    503,
    "as many recordings are waiting or at work as this server takes. Try again later.",
    None,
    "overloaded",
)


class Refusal(Exception):  # noqa: N818 # nothing went wrong but the request
    """An HTTP status from 400 on, what to do about it, and the parameter that is wrong."""

    def __init__(
        self, status: int, message: str, param: str | None = None, code: str | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.param = param
        self.code = code

    @property
    def content(self) -> dict[str, Any]:
        """The JSON of the answer's body."""
        kind = "invalid_request_error" if self.status < _SERVER_ERROR else "server_error"
        error = {"message": str(self), "type": kind, "param": self.param, "code": self.code}
        return {"error": error}

    @property
    def response(self) -> JSONResponse:
        """The whole answer."""
        return JSONResponse(self.content, self.status, _HEADERS.get(self.status))


def report(error: Exception) -> Refusal:
    """Write an error to stderr, for the operator; a client learns only that there was one."""
    defect = not isinstance(error, (EdgeWhisperError, OSError))
    kind = f"unexpected {type(error).__name__}: " if defect else ""
    click.echo(f"error: {kind}{error}", err=True)
    return Refusal(500, "the server failed; its log says why.", code="internal_error")
