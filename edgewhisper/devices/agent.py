"""The program that works on a device over ssh: one JSON request as its argument, one JSON answer.

It is sent as text to the device's Python, so it imports only the standard library, and older
versions of Python must be able to read it.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

ROOT = Path.home() / ".cache" / "edgewhisper" / "device"
FILES = ROOT / "files"  # each named by its SHA-256
_CHUNK = 2**18
_GENERAL, _STORAGE = 1, 12  # exit codes of edgewhisper_runtime.errors


class RequestError(Exception):
    """What failed, and the exit code that tells its kind."""

    def __init__(self, message: str, exit_code: int = _GENERAL) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def probe(request: dict[str, Any]) -> dict[str, Any]:
    """Say what this device is, and which of the named files are here, whole or in part.

    A file that is not what its name says is deleted.
    """
    FILES.mkdir(parents=True, exist_ok=True)
    whole, partial = [], {}
    for name in request["files"]:
        path, part = FILES / name, FILES / (name + ".part")
        if path.exists() and _sha256(path) == name:
            whole.append(name)
            continue
        if path.exists():
            path.unlink()
        if part.exists():
            partial[name] = part.stat().st_size
    return {
        "system": platform.system(),
        "machine": platform.machine(),
        "libc": " ".join(platform.libc_ver()).strip(),
        "python": ".".join(map(str, sys.version_info[:2])),
        "free": shutil.disk_usage(str(ROOT)).free,
        "whole": whole,
        "partial": partial,
    }


def receive(request: dict[str, Any]) -> dict[str, Any]:
    """Append stdin to a file, and once it is whole check that it is what its name says."""
    name = request["name"]
    part = FILES / (name + ".part")
    with part.open("ab") as file:
        for chunk in iter(lambda: sys.stdin.buffer.read(_CHUNK), b""):
            file.write(chunk)
            file.flush()
    size = part.stat().st_size
    if size < request["bytes"]:
        raise RequestError(f"the connection broke off at {size} of {request['bytes']} bytes")
    if _sha256(part) != name:
        part.unlink()
        raise RequestError(f"{request['title']} was damaged on the way, and deleted there")
    part.rename(FILES / name)
    return {}


def profile(request: dict[str, Any]) -> dict[str, Any]:
    """Install the runtime where it is not yet, profile the bundle, and return the report."""
    runtime = ROOT / ("runtime-" + request["runtime"][:16])
    if not runtime.exists():
        _run([sys.executable, str(FILES / request["runtime"]), "install", str(runtime)])
    bundle = _arrange(ROOT / "bundles" / request["bundle"]["name"], request["bundle"]["files"])
    audio = _arrange(ROOT / "audio", request["audio"])
    launcher = runtime / "bin" / "edgewhisper-runtime"
    command = [str(launcher), "profile", str(bundle), "--json", *request["arguments"]]
    for name in request["audio"]:
        command += ["--audio", str(audio / name)]
    return {"report": json.loads(_run(command))}


def _arrange(directory: Path, files: dict[str, str]) -> Path:
    """Make a directory of the named files, as links to those that came."""
    shutil.rmtree(str(directory), ignore_errors=True)
    for name, sha256 in files.items():
        source, target = str(FILES / sha256), directory / name
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(source, str(target))
        except OSError:  # a file system without links
            shutil.copyfile(source, str(target))
    return directory


def _run(command: list[str]) -> bytes:
    """Return what a command writes to stdout; end it when the connection ends."""
    child = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, start_new_session=True
    )

    def watch() -> None:
        while os.read(0, 1):  # unbuffered: a buffer's lock would be held at exit
            pass
        if child.poll() is None:
            os.killpg(child.pid, signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()
    output, _ = child.communicate()
    if child.returncode:
        raise RequestError(
            f"{Path(command[0]).name} {command[1]} ended with exit code {child.returncode}; "
            "what it said stands above",
            child.returncode if child.returncode > 0 else _GENERAL,
        )
    return output


def remove(_request: dict[str, Any]) -> dict[str, Any]:
    """Delete all that was brought, and directories above it that are left empty."""
    shutil.rmtree(str(ROOT))
    for directory in (ROOT.parent, ROOT.parent.parent):
        try:
            directory.rmdir()
        except OSError:
            break
    return {}


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        for chunk in iter(lambda: file.read(_CHUNK), b""):
            digest.update(chunk)
    return digest.hexdigest()


def main() -> None:
    """Answer one request."""
    request = json.loads(sys.argv[1])
    commands = {"probe": probe, "receive": receive, "profile": profile, "remove": remove}
    try:
        answer = commands[request["command"]](request)
    except RequestError as error:
        answer = {"error": str(error), "exit_code": error.exit_code}
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS)
        answer = {"error": str(error), "exit_code": _STORAGE if full else _GENERAL}
    json.dump(answer, sys.stdout)


if __name__ == "__main__":
    main()
