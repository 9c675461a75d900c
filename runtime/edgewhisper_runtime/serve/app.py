"""The application: OpenAI's audio endpoints over the queue, models, health and metrics."""

from __future__ import annotations

from datetime import datetime

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from edgewhisper_runtime.bundle import Manifest
from edgewhisper_runtime.serve.audio import Audio, Uploads
from edgewhisper_runtime.serve.doors import HEALTH, TRANSCRIPTIONS, TRANSLATIONS, Guarded, Measured
from edgewhisper_runtime.serve.errors import Refusal, report
from edgewhisper_runtime.serve.jobs import Jobs
from edgewhisper_runtime.serve.metrics import Metrics

_ANY_WHISPER = "whisper-1"  # what clients ask for that know OpenAI's own server only
_CLIENT_GONE = 499  # nginx's number for it; nobody is there to read it


def build(
    jobs: Jobs, metrics: Metrics, manifest: Manifest, uploads: Uploads, token: str | None
) -> Starlette:
    """Return the application that serves the bundle of a manifest to who knows the token."""
    models = (manifest.name, _ANY_WHISPER)
    model = {
        "id": manifest.name,
        "object": "model",
        "created": int(datetime.fromisoformat(manifest.created).timestamp()),
        "owned_by": "edgewhisper",
    }

    async def list_models(_request: Request) -> Response:
        return JSONResponse({"object": "list", "data": [model]})

    async def show_model(request: Request) -> Response:
        name = request.path_params["name"]
        if name not in models:
            raise Refusal(404, f"there is no model {name!r} here.", "model", "model_not_found")
        return JSONResponse(model)

    async def health(_request: Request) -> Response:
        return JSONResponse({"status": jobs.state}, 200 if jobs.state == "ready" else 503)

    async def show_metrics(_request: Request) -> Response:
        return Response(generate_latest(metrics.registry), media_type=CONTENT_TYPE_LATEST)

    def audio(task: str) -> Audio:
        return Audio(task, jobs, metrics, uploads, models)

    return Starlette(
        routes=[
            Route(TRANSCRIPTIONS, audio("transcribe"), methods=["POST"]),
            Route(TRANSLATIONS, audio("translate"), methods=["POST"]),
            Route("/v1/models", list_models),
            Route("/v1/models/{name}", show_model),
            Route(HEALTH, health),
            Route("/metrics", show_metrics),
        ],
        middleware=[Middleware(Measured, metrics=metrics), Middleware(Guarded, token=token)],
        exception_handlers={
            Refusal: _refused,
            HTTPException: _failed,
            ClientDisconnect: _gone,
            Exception: _broken,
        },
    )


async def _refused(_request: Request, refusal: Exception) -> Response:
    assert isinstance(refusal, Refusal)  # noqa: S101 # Starlette's types say no more
    return refusal.response


async def _failed(_request: Request, error: Exception) -> Response:
    """Answer what Starlette itself refuses: an unknown path, another method, a broken form."""
    assert isinstance(error, HTTPException)  # noqa: S101
    return Refusal(error.status_code, error.detail).response


async def _gone(_request: Request, _error: Exception) -> Response:
    return Response(status_code=_CLIENT_GONE)


async def _broken(_request: Request, error: Exception) -> Response:
    return report(error).response
