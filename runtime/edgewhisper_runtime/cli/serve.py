"""edgewhisper serve."""

from __future__ import annotations

import re
from ipaddress import ip_address
from pathlib import Path

import click

from edgewhisper_runtime.bundle import AudioContext
from edgewhisper_runtime.cli import options
from edgewhisper_runtime.cli.values import Bundle, Number
from edgewhisper_runtime.errors import EdgeWhisperError, MissingLibraryError

_MEGABYTE = 10**6
_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://[^/\s]+")


@click.command(
    "serve",
    cls=options.Sectioned,
    examples=(
        "bundle/",
        "bundle/ --port 9000 --model-alias gpt-4o-transcribe",
    ),
)
@click.argument("bundle", type=Bundle())
@options.option(
    "Server", "--host", default="127.0.0.1", show_default=True, help="Address to listen on."
)
@options.option(
    "Server",
    "--port",
    default=8000,
    show_default=True,
    type=click.IntRange(0, 65535),
    help="Port to listen on; 0 takes a free one.",
)
@options.option(
    "Server",
    "--token",
    envvar="EDGEWHISPER_TOKEN",
    help="What clients must send as their API key; better kept in EDGEWHISPER_TOKEN, where "
    "other users do not see it.",
)
@options.option(
    "Server",
    "--max-upload",
    default=25,
    show_default=True,
    type=click.IntRange(1),
    help="Largest upload in MB.",
)
@options.option(
    "Server",
    "--queue",
    default=16,
    show_default=True,
    type=click.IntRange(0),
    help="Recordings that may wait beside those that are transcribed.",
)
@options.option(
    "Server",
    "--timeout",
    default=3600.0,
    show_default=True,
    type=Number(0, min_open=True),
    help="Seconds of work on one recording, its time in the queue not counted.",
)
@options.option(
    "Server",
    "--grace",
    default=30.0,
    show_default=True,
    type=Number(0),
    help="Seconds to finish what was accepted when told to stop.",
)
@options.option(
    "Server",
    "--model-alias",
    "model_aliases",
    multiple=True,
    metavar="NAME",
    help="Another name to ask for the bundle by, such as gpt-4o-transcribe (repeatable); "
    "whisper-1 is one already.",
)
@options.option(
    "Server",
    "--cors-origin",
    "cors_origins",
    multiple=True,
    callback=lambda _context, _option, origins: tuple(map(_origin, origins)),
    metavar="ORIGIN",
    help="Let web pages of ORIGIN, such as https://app.example.org, use it (repeatable); * for "
    "all. Off by default.",
)
@options.engine
@click.pass_context
def command(
    context: click.Context,
    bundle: Path,
    host: str,
    port: int,
    token: str | None,
    max_upload: int,
    queue: int,
    timeout: float,
    grace: float,
    model_aliases: tuple[str, ...],
    cors_origins: tuple[str, ...],
    device: str,
    threads: int | None,
    audio_context: AudioContext | None,
) -> None:
    """Transcribe with BUNDLE for clients of OpenAI's API, until stopped."""
    try:
        from edgewhisper_runtime.serve import app, server
    except ModuleNotFoundError as error:
        raise MissingLibraryError(
            f"serving needs {error.name}: pip install 'edgewhisper-runtime[serve]'."
        ) from error

    if not token and not _is_loopback(host):
        raise EdgeWhisperError(
            f"--host {host} can be reached from other machines, so clients must prove who they "
            "are: set EDGEWHISPER_TOKEN to a long random text, which they send as their API key."
        )
    settings = server.ServerSettings(
        host,
        port,
        app.Access(token or None, cors_origins, model_aliases),
        max_upload * _MEGABYTE,
        queue,
        timeout,
        grace,
    )
    debug = context.find_root().params.get("debug", False)
    server.run(bundle, settings, device, threads, audio_context, debug=debug)


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False  # a name may come to mean another address


def _origin(text: str) -> str:
    """Return an origin as browsers send it; raise BadParameter for a text that is none."""
    if text != "*" and not _ORIGIN.fullmatch(text):
        raise click.BadParameter(
            f"{text!r} is no origin. Use scheme://host or scheme://host:port, without a path, or *."
        )
    return text
