"""The application: OpenAI's audio endpoints over the queue, models, health and metrics."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from edgewhisper_runtime.bundle import Manifest
from edgewhisper_runtime.options import Task
from edgewhisper_runtime.serve.endpoint import IGNORED_HEADER, TranscriptEndpoint, Uploads
from edgewhisper_runtime.serve.errors import Refusal, report
from edgewhisper_runtime.serve.jobs import Jobs
from edgewhisper_runtime.serve.metrics import Metrics
from edgewhisper_runtime.serve.middleware import (
    HEALTH,
    TRANSCRIPTIONS,
    TRANSLATIONS,
    AccessMiddleware,
    MetricsMiddleware,
)

_OPENAI_MODEL = "whisper-1"  # the name that clients of OpenAI's own server ask for
_CLIENT_GONE = 499  # nginx's number for it, in metrics only: no client is left to read it


@dataclass(frozen=True)
class Access:
    """Who may use the server, and by which names its model can be asked for.

    Clients must send the `token`; with None only clients on this machine are served, without one.
    Web pages of `cors_origins` ("*": all pages) may read the answers.
    """

    token: str | None
    cors_origins: tuple[str, ...]
    model_aliases: tuple[str, ...]


def build(
    jobs: Jobs, metrics: Metrics, manifest: Manifest, uploads: Uploads, access: Access
) -> ASGIApp:
    """Return the application that serves the bundle of a manifest."""
    names = (manifest.name, _OPENAI_MODEL, *access.model_aliases)
    models = {
        name: {
            "id": name,
            "object": "model",
            "created": int(datetime.fromisoformat(manifest.created).timestamp()),
            "owned_by": "edgewhisper",
        }
        for name in names
    }

    async def list_models(_request: Request) -> Response:
        return JSONResponse({"object": "list", "data": list(models.values())})

    async def show_model(request: Request) -> Response:
        name = request.path_params["name"]
        if name not in models:
            raise Refusal(404, f"there is no model {name!r} here.", "model", "model_not_found")
        return JSONResponse(models[name])

    async def health(_request: Request) -> Response:
        return JSONResponse({"status": jobs.state}, 200 if jobs.state == "ready" else 503)

    async def show_metrics(_request: Request) -> Response:
        return Response(generate_latest(metrics.registry), media_type=CONTENT_TYPE_LATEST)

    def endpoint(task: Task) -> TranscriptEndpoint:
        return TranscriptEndpoint(task, jobs, metrics, uploads, tuple(models))

    app = Starlette(
        routes=[
            Route(TRANSCRIPTIONS, endpoint("transcribe"), methods=["POST"]),
            Route(TRANSLATIONS, endpoint("translate"), methods=["POST"]),
            Route("/v1/models", list_models),
            Route("/v1/models/{name:path}", show_model),
            Route(HEALTH, health),
            Route("/metrics", show_metrics),
        ],
        middleware=[
            Middleware(MetricsMiddleware, metrics=metrics),
            Middleware(AccessMiddleware, token=access.token),
        ],
        exception_handlers={
            Refusal: _refusal_response,
            HTTPException: _http_error_response,
            ClientDisconnect: _disconnect_response,
            Exception: _internal_error_response,
        },
    )
    if not access.cors_origins:
        return app
    # Outermost: a preflight carries no token, and a browser shows no error without its headers.
    return CORSMiddleware(
        app,
        allow_origins=access.cors_origins,
        allow_methods=("GET", "POST"),
        allow_headers=("*",),
        expose_headers=(IGNORED_HEADER, "Retry-After"),
    )


async def _refusal_response(_request: Request, refusal: Exception) -> Response:
    assert isinstance(refusal, Refusal)  # noqa: S101 # Starlette's types say no more
    return refusal.response


async def _http_error_response(_request: Request, error: Exception) -> Response:
    """Answer a request that Starlette refuses: an unknown path, another method, a broken form."""
    assert isinstance(error, HTTPException)  # noqa: S101
    return Refusal(error.status_code, error.detail).response


async def _disconnect_response(_request: Request, _error: Exception) -> Response:
    return Response(status_code=_CLIENT_GONE)


async def _internal_error_response(_request: Request, error: Exception) -> Response:
    return report(error).response
