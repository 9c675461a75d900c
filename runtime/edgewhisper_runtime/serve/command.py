"""The command `serve`; the server and its libraries are imported when it is run."""

from __future__ import annotations

from ipaddress import ip_address
from pathlib import Path

import click

from edgewhisper_runtime.bundle import AudioContext
from edgewhisper_runtime.errors import EdgeWhisperError, MissingLibraryError

_MEGABYTE = 10**6


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port",
    default=8000,
    show_default=True,
    type=click.IntRange(0, 65535),
    help="Port to listen on; 0 takes a free one.",
)
@click.option(
    "--token",
    envvar="EDGEWHISPER_TOKEN",
    help="What clients must send as their API key; better kept in EDGEWHISPER_TOKEN, where "
    "other users do not see it.",
)
@click.option(
    "--max-upload",
    default=25,
    show_default=True,
    type=click.IntRange(1),
    help="Largest upload in MB.",
)
@click.option(
    "--queue",
    default=16,
    show_default=True,
    type=click.IntRange(0),
    help="Recordings that may wait for the one that is transcribed.",
)
@click.option(
    "--grace",
    default=30.0,
    show_default=True,
    type=click.FloatRange(0),
    help="Seconds to finish what was taken on when told to stop.",
)
@click.option("--device", default="cpu", show_default=True, help="cpu or cuda.")
@click.option("--threads", type=click.IntRange(1), help="Threads; all usable cores by default.")
@click.option(
    "--audio-context",
    type=click.Choice(["full", "adaptive"]),
    help="Encode whole windows of 30 s, or what there is and a margin; the bundle's by default.",
)
@click.pass_context
def serve(
    context: click.Context,
    bundle: Path,
    host: str,
    port: int,
    token: str | None,
    max_upload: int,
    queue: int,
    grace: float,
    device: str,
    threads: int | None,
    audio_context: AudioContext | None,
) -> None:
    """Transcribe with BUNDLE for clients of OpenAI's API, until stopped."""
    try:
        from edgewhisper_runtime.serve import server
    except ModuleNotFoundError as error:
        raise MissingLibraryError(
            f"serving needs {error.name}: pip install 'edgewhisper-runtime[serve]'."
        ) from error

    if not token and not _is_loopback(host):
        raise EdgeWhisperError(
            f"--host {host} can be reached from other machines, so clients must prove who they "
            "are: set EDGEWHISPER_TOKEN to a long random text, which they send as their API key."
        )
    settings = server.Settings(host, port, token or None, max_upload * _MEGABYTE, queue, grace)
    debug = context.find_root().params.get("debug", False)
    server.run(bundle, settings, device, threads, audio_context, debug=debug)


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False  # a name may come to mean another address
