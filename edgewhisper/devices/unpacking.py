"""The program inside a package: checks every file and installs it; needs Python and nothing else.

It is copied into packages, so it imports only the standard library, and older versions of Python
must be able to read it far enough to say which one is needed.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
import zipfile
import zlib
from pathlib import Path, PurePosixPath
from typing import Any, NoReturn

MANIFEST = "package.json"
LAUNCHER = "edgewhisper-runtime"
CLIP = "lib/edgewhisper_runtime/speech/smoke/slt/1/slt-1-0001.opus"
NO_TEXT = 13  # the runtime's exit code; a poor model may have no text for synthetic speech
_CHUNK = 2**20
_DAMAGED = (zipfile.BadZipFile, zlib.error, EOFError)  # what reading a damaged archive raises
# `here` is where the package is, however the launcher was called.
_SHELL = """\
#!/bin/sh
here=$(dirname -- "$(dirname -- "$(readlink -f -- "$0")")")
export PYTHONPATH="$here/lib" PYTHONNOUSERSITE=1 PYTHONSAFEPATH=1
{bundle}exec {python} -c 'from edgewhisper_runtime.cli import main; main()' "$@"
"""
_SHELL_BUNDLE = """\
: "${{EDGEWHISPER_BUNDLE:=$here/bundle/{name}}}"
export EDGEWHISPER_BUNDLE
"""
_CMD = """\
@echo off
setlocal
set "PYTHONPATH=%~dp0..\\lib"
set PYTHONNOUSERSITE=1
set PYTHONSAFEPATH=1
{bundle}"{python}" -c "from edgewhisper_runtime.cli import main; main()" %*
"""
_CMD_BUNDLE = 'if not defined EDGEWHISPER_BUNDLE set "EDGEWHISPER_BUNDLE=%~dp0..\\bundle\\{name}"\n'


class InstallError(Exception):
    """What is wrong with the package or the device, and what to do."""


def check_device(manifest: dict[str, Any]) -> None:
    """Raise InstallError unless this is the Python and the system that the package is for."""
    python = ".".join(map(str, sys.version_info[:2]))
    if python != manifest["python"]:
        raise InstallError(
            f"this package is for Python {manifest['python']}, and this is {python}. Run it with "
            f"python{manifest['python']}, or make one with `edgewhisper package --python {python}`."
        )
    here = (platform.system(), platform.machine())
    if here != (manifest["system"], manifest["machine"]):
        raise InstallError(
            f"this package is for {manifest['platform']}, and this is {here[0]} on {here[1]}. "
            "Make one for this system with `edgewhisper package --for`."
        )
    if here[0] == "Linux":
        library, version = platform.libc_ver()
        found = tuple(map(int, version.split(".")[:2])) if library == "glibc" else ()
        if found < tuple(manifest["glibc"]):
            needed = ".".join(map(str, manifest["glibc"]))
            raise InstallError(
                f"this package needs glibc {needed} or later, and this system has "
                f"{library or 'another C library'} {version}. Use a newer one, such as Debian 12."
            )


def install(package: Path, target: Path) -> None:
    """Install a package file as the directory `target`, which an earlier installation may be.

    Every file is checked while it is written. `target` is whole or as it was: all happens beside
    it, then it is renamed. Raises InstallError.
    """
    if target.exists() and not (target / MANIFEST).is_file() and any(target.iterdir()):
        raise InstallError(f"{target} holds something else. Name a new directory.")
    target.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(package) as archive:
        content = archive.read(MANIFEST)
        manifest = json.loads(content)
        check_device(manifest)
        needed = sum(file["bytes"] for file in manifest["files"].values())
        if shutil.disk_usage(target.parent).free < needed:
            raise InstallError(
                f"{target.parent} has less than the {needed / 1e6:.0f} MB that are needed. "
                "Free some, or name another place."
            )
        staging = Path(tempfile.mkdtemp(prefix=".edgewhisper-", dir=target.parent))
        try:
            for name, file in manifest["files"].items():
                _extract(archive, name, file, staging)
            (staging / MANIFEST).write_bytes(content)
            write_launcher(staging, sys.executable, manifest["bundle"])
            if manifest["bundle"]:
                _try(staging)
            staging.chmod(0o755)
            _replace(staging, target)
        finally:
            shutil.rmtree(staging, ignore_errors=True)


def _extract(archive: zipfile.ZipFile, name: str, expected: dict[str, Any], root: Path) -> None:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts:
        raise InstallError(f"the package names a file {name}. Refused.")
    target = root.joinpath(*path.parts)
    target.parent.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256()
    try:
        with archive.open(name) as source, target.open("wb") as file:
            for chunk in iter(lambda: source.read(_CHUNK), b""):
                digest.update(chunk)
                file.write(chunk)
    except (KeyError, *_DAMAGED) as error:
        raise InstallError(f"{name} is missing or damaged ({error}). Copy it again.") from error
    if digest.hexdigest() != expected["sha256"]:
        raise InstallError(f"{name} was altered: its SHA-256 is not the package's. Copy it again.")


def _try(root: Path) -> None:
    """Transcribe a clip: does it run here? Python stores its bytecode meanwhile."""
    program = root / "bin" / (f"{LAUNCHER}.cmd" if os.name == "nt" else LAUNCHER)
    command = [str(program), "transcribe", str(root / CLIP)]
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        check=False,
        env={name: value for name, value in os.environ.items() if name != "EDGEWHISPER_BUNDLE"},
    )
    if done.returncode not in {0, NO_TEXT}:
        lines = done.stderr.decode(errors="replace").strip().splitlines()
        reason = lines[-1] if lines else f"exit code {done.returncode}"
        raise InstallError(f"it was unpacked, and does not run on this device: {reason}")


def write_launcher(root: Path, python: str, bundle: str) -> None:
    """Write the program that runs the runtime of an installation with the given Python."""
    programs = root / "bin"
    programs.mkdir()
    if os.name == "nt":
        default = _CMD_BUNDLE.format(name=bundle) if bundle else ""
        text = _CMD.format(python=python, bundle=default)
        (programs / f"{LAUNCHER}.cmd").write_text(text, encoding="utf-8")
    else:
        launcher = programs / LAUNCHER
        launcher.write_text(shell_launcher(python, bundle), encoding="utf-8")
        launcher.chmod(0o755)


def shell_launcher(python: str, bundle: str) -> str:
    """Return the launcher of systems with a POSIX shell."""
    default = _SHELL_BUNDLE.format(name=bundle) if bundle else ""
    return _SHELL.format(python=shlex.quote(python), bundle=default)


def _replace(staging: Path, target: Path) -> None:
    old = staging.with_name(staging.name + "-old")
    if target.exists():
        target.rename(old)
    staging.rename(target)
    shutil.rmtree(old, ignore_errors=True)


def _cache(package: Path) -> Path:
    """Return the directory in the user's cache where this very package is installed, or will be."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    with zipfile.ZipFile(package) as archive:
        key = hashlib.sha256(archive.read(MANIFEST)).hexdigest()[:16]
    return Path(base) / "edgewhisper" / "packages" / key


def _install_in_cache(package: Path, directory: Path) -> None:
    fresh = directory.with_name(f"{directory.name}-{os.getpid()}")
    install(package, fresh)
    try:
        fresh.rename(directory)
    except OSError:  # another process was first
        shutil.rmtree(fresh)
        if not (directory / MANIFEST).is_file():
            raise


def run_from_cache(package: Path, arguments: list[str]) -> NoReturn:
    """Run the runtime in the user's cache, where the package is installed the first time."""
    directory = _cache(package)
    if not (directory / MANIFEST).is_file():
        sys.stderr.write(f"installing into {directory}\n")
        _install_in_cache(package, directory)
    launcher = directory / "bin" / LAUNCHER
    if os.name == "nt":
        sys.exit(subprocess.call([f"{launcher}.cmd", *arguments]))
    os.execv(launcher, [str(launcher), *arguments])  # noqa: S606 # no shell is wanted


def main(runs_itself: bool) -> None:
    """Run the command line of a package file: `install DIR`, or the runtime's own where it runs."""
    package = Path(sys.argv[0]).resolve()
    try:
        if runs_itself:
            run_from_cache(package, sys.argv[1:])
        parser = argparse.ArgumentParser(
            prog=f"python {package.name}", description="Install this package; needs no network."
        )
        commands = parser.add_subparsers(dest="command", required=True, metavar="install DIR")
        commands.add_parser("install").add_argument("directory", type=Path, metavar="DIR")
        directory = parser.parse_args().directory.resolve()
        install(package, directory)
        program = shlex.quote(str(directory / "bin" / LAUNCHER))
        print(f"installed. To run it: {program} transcribe AUDIO")
    except (InstallError, OSError, *_DAMAGED) as error:
        sys.exit(f"error: {error}")
