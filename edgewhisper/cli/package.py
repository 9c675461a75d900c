"""edgewhisper package."""

from __future__ import annotations

from pathlib import Path

import click

from edgewhisper.cli import options
from edgewhisper.devices import platforms
from edgewhisper_runtime.cli.options import Sectioned, option
from edgewhisper_runtime.cli.values import Bundle


def _platform(name: str) -> str:
    return platforms.find(name).name


@click.command(
    "package",
    cls=Sectioned,
    examples=(
        "bundle/ --for linux-aarch64",
        "bundle/ --for linux-x86_64 --format zipapp -o whisper.pyz",
        "bundle/ --for linux-aarch64 --extra serve --python 3.13",
    ),
)
@click.argument("bundle", type=Bundle())
@option(
    "Device",
    "--for",
    "platform",
    required=True,
    type=_platform,
    metavar="PLATFORM",
    help=f"The device: {', '.join(platforms.PLATFORMS)}.",
)
@option(
    "Device",
    "--python",
    type=click.Choice(platforms.PYTHONS),
    default=platforms.PYTHONS[0],
    show_default=True,
    help="The device's version of Python.",
)
@option(
    "Package",
    "-f",
    "--format",
    "to_format",
    type=click.Choice(["zip", "zipapp", "deb", "oci"]),
    default="zip",
    show_default=True,
    help="zip: python FILE install DIR; zipapp: one program; deb: of Debian; oci: an image.",
)
@option(
    "Package",
    "--extra",
    "extras",
    multiple=True,
    type=click.Choice(["media", "mic", "serve", "vad"]),
    metavar="NAME",
    help="Optional part of the runtime (repeatable): media, mic, serve or vad.",
)
@option(
    "Package",
    "--base",
    type=click.Path(path_type=Path, exists=True),
    help="For oci: what to build on, an OCI image layout's directory or a root file system's tar.",
)
@options.output("File to write.", dir_okay=False)
def command(
    bundle: Path,
    platform: str,
    to_format: str,
    python: str,
    extras: tuple[str, ...],
    base: Path | None,
    output: Path | None,
) -> None:
    """Pack BUNDLE with its runtime and all that it needs: one file for a device without internet.

    Prints the file's path on stdout, and on stderr its size, its SHA-256 and how to install it.
    """
    from edgewhisper.devices import package
    from edgewhisper_runtime.bundle import describe_file

    path = package.write(
        bundle, platform, to_format, python, extras=extras, base=base, output=output
    )
    file = describe_file(path)
    to_run = {
        "zip": f"python{python} {path.name} install DIR",
        "zipapp": f"./{path.name} transcribe AUDIO",
        "deb": f"apt install ./{path.name}",
        "oci": f"podman load --input {path.name}",
    }
    click.echo(path)
    click.echo(f"{file.bytes / 1e6:.1f} MB, SHA-256 {file.sha256}", err=True)
    click.echo(f"on the device: {to_run[to_format]}", err=True)
