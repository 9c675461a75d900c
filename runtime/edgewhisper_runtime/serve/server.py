"""The process: a socket, the application on it, and a clean end."""

from __future__ import annotations

import asyncio
import socket
import tempfile
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from time import monotonic
from types import FrameType
from typing import Any

import click
import uvicorn

from edgewhisper_runtime.bundle import AudioContext, read_manifest
from edgewhisper_runtime.errors import EdgeWhisperError, amount
from edgewhisper_runtime.loading import load
from edgewhisper_runtime.serve.app import Access, build
from edgewhisper_runtime.serve.connections import Connection
from edgewhisper_runtime.serve.endpoint import Uploads
from edgewhisper_runtime.serve.errors import report
from edgewhisper_runtime.serve.jobs import Jobs
from edgewhisper_runtime.serve.metrics import Metrics

_ANSWER_SECONDS = 5  # for answers that are on their way when all work is done


@dataclass(frozen=True)
class ServerSettings:
    """Where to listen, for whom, and how much to take.

    `largest_upload` in bytes, `waiting` in recordings, `timeout` in seconds of work on each;
    `grace` is the time to finish all that was accepted, in seconds.
    """

    host: str
    port: int
    access: Access
    largest_upload: int
    waiting: int
    timeout: float
    grace: float


def run(
    bundle: Path,
    settings: ServerSettings,
    device: str,
    threads: int | None,
    audio_context: AudioContext | None,
    *,
    debug: bool,
) -> None:
    """Serve a bundle until a signal ends it.

    Raises BundleError for a bundle that is not intact, EdgeWhisperError for an address that
    cannot be listened on.
    """
    manifest = read_manifest(bundle)
    metrics = Metrics()
    with (
        listen(settings.host, settings.port) as listener,
        tempfile.TemporaryDirectory(prefix="edgewhisper-serve-") as directory,
        closing(
            Jobs(
                partial(load, bundle, device, threads, audio_context),
                settings.waiting,
                settings.timeout,
                metrics,
            )
        ) as jobs,
    ):
        uploads = Uploads(Path(directory), settings.largest_upload)
        config = uvicorn.Config(
            build(jobs, metrics, manifest, uploads, settings.access),
            http=Connection,
            ws="none",
            lifespan="off",
            log_config=None,
            log_level="error" if debug else "critical",  # with their tracebacks
            access_log=False,
            proxy_headers=False,
            server_header=False,
            timeout_graceful_shutdown=_ANSWER_SECONDS,
        )
        click.echo(f"serving {manifest.name} on {_url(listener)}", err=True)
        _Server(config, jobs, settings.grace, debug=debug).run(sockets=[listener])
        if jobs.failure:
            raise jobs.failure


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens; raise EdgeWhisperError where that is not possible."""
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        return socket.create_server(address[:2], family=family)
    except OSError as error:
        reason = str(error.strerror).partition(" (")[0]  # socket adds the address to it
        raise EdgeWhisperError(
            f"cannot listen on port {port} of {host}: {reason}. "
            "Choose another --port (0 takes a free one) or --host, or stop what holds it."
        ) from error


def _url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


class _Server(uvicorn.Server):
    """Ends when all that it has accepted is answered, or the grace period is over.

    Until then it still listens, so that new requests are refused with a reason.
    """

    def __init__(self, config: uvicorn.Config, jobs: Jobs, grace: float, *, debug: bool) -> None:
        super().__init__(config)
        self._debug = debug
        self._jobs = jobs
        self._grace = grace
        self._deadline: float | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to listen; an error in the event loop itself is one line on stderr."""
        asyncio.get_running_loop().set_exception_handler(self._report)
        await super().startup(sockets)

    def _report(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        report(context.get("exception") or RuntimeError(context["message"]))
        if self._debug:
            loop.default_exception_handler(context)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002
        """Begin to stop; a second signal does not wait."""
        self.should_exit = self.force_exit = self._jobs.closing
        self._jobs.closing = True

    async def on_tick(self, counter: int) -> bool:
        """Tell, ten times a second, whether to end."""
        return await super().on_tick(counter) or self._jobs.failure is not None or self._drained()

    def _drained(self) -> bool:
        if not self._jobs.closing or self._jobs.idle:
            return self._jobs.closing
        if self._deadline is None:
            self._deadline = monotonic() + self._grace
            click.echo(
                f"stopping: finishing what was accepted, {self._grace:g} s at most", err=True
            )
        if monotonic() < self._deadline:
            return False
        click.echo(f"not finished in time: {amount(self._jobs.give_up(), 'recording')}", err=True)
        return True
