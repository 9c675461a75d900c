"""A device that is reached by the system's ssh, and the requests that it answers there."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from edgewhisper.devices import agent
from edgewhisper_runtime.bundle import decode_json
from edgewhisper_runtime.errors import (
    DeviceError,
    EdgeWhisperError,
    MissingLibraryError,
    NetworkError,
)

_FAILED = 255  # ssh's own exit code; others are the remote command's
_NOT_FOUND = 127  # a POSIX shell's
_PERSIST_SECONDS = 120


class Device:
    """A connection to a device, such as "pi@192.168.1.7"; a context manager that closes it.

    All requests share one connection, so a password is asked for once. `options` are OpenSSH's,
    such as "Port=2222" (ssh_config(5)); its configuration file holds as in every ssh. Raises
    MissingLibraryError where there is no ssh.
    """

    def __init__(self, destination: str, options: Sequence[str] = ()) -> None:
        if shutil.which("ssh") is None:
            raise MissingLibraryError(
                "ssh is not installed here. Install OpenSSH's client (apt install openssh-client), "
                "or profile on the device itself: edgewhisper-runtime profile --output FILE."
            )
        self.destination = destination
        self._sockets = tempfile.TemporaryDirectory(prefix="ew-")
        self._ssh = ["ssh", *(part for option in options for part in ("-o", option))]
        if os.name != "nt":  # OpenSSH for Windows shares no connections
            self._ssh += ["-o", "ControlMaster=auto", "-o", f"ControlPersist={_PERSIST_SECONDS}"]
            self._ssh += ["-o", f"ControlPath={self._sockets.name}/s"]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        if os.name != "nt":
            subprocess.run(
                [*self._ssh, "-O", "exit", "--", self.destination],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                check=False,
            )
        self._sockets.cleanup()

    def ask(
        self, command: str, data: Iterable[bytes] = (), *, talks: bool = False, **request: Any
    ) -> dict[str, Any]:
        """Have the agent do a command there, with `data` as its stdin; return its answer.

        What it writes to stderr is shown here where it `talks`, else kept for the error. Raises
        NetworkError where the connection fails, DeviceError where there is no Python, and
        EdgeWhisperError, with the exit code that tells its kind, for what fails on the device.
        """
        source = Path(agent.__file__).read_text(encoding="utf-8")
        content = json.dumps({"command": command, **request})
        remote = shlex.join(["python3", "-c", source, content])
        # A file, as the process that keeps the connection holds it open after the command.
        with tempfile.TemporaryFile() as stderr:
            process = subprocess.Popen(
                [*self._ssh, "--", self.destination, remote],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=None if talks else stderr,
            )
            try:
                output = _exchange(process, data, keep_open=talks)
            finally:
                if process.poll() is None:
                    process.kill()
                    process.wait()
            stderr.seek(0)
            messages = stderr.read().decode(errors="replace").strip()
        if process.returncode:
            raise self._failure(process.returncode, messages)
        return self._answer(output)

    def _answer(self, output: bytes) -> dict[str, Any]:
        try:
            answer: dict[str, Any] = decode_json(output)
        except ValueError as error:
            raise DeviceError(
                f"{self.destination} answered something else than was asked: {output[:80]!r}. "
                "Its shell may print a greeting where it is not interactive; see its .bashrc."
            ) from error
        if "error" in answer:
            failed = EdgeWhisperError(f"{self.destination}: {answer['error']}.")
            failed.exit_code = answer["exit_code"]
            raise failed
        return answer

    def _failure(self, code: int, messages: str) -> EdgeWhisperError:
        last = messages.splitlines()[-1] if messages else f"exit code {code}"
        if code == _NOT_FOUND:
            return DeviceError(
                f"{self.destination} has no python3 ({last}). Install Python there "
                "(apt install python3)."
            )
        if code == _FAILED:
            return NetworkError(
                f"ssh to {self.destination} failed: {last.rstrip('.')}. Try "
                f"`ssh {self.destination}` by itself first; what was copied is kept, and the same "
                "command goes on from there."
            )
        return DeviceError(f"Python failed on {self.destination}: {last}.")


def _exchange(process: subprocess.Popen[bytes], data: Iterable[bytes], *, keep_open: bool) -> bytes:
    """Write `data` to the process's stdin; return its stdout, once it has ended.

    Where stdin is kept open, its end tells the device that this side is gone.
    """
    stdin, stdout = process.stdin, process.stdout
    if stdin is None or stdout is None:
        raise ValueError("the process has no pipes")
    with suppress(BrokenPipeError):  # it stopped reading: its answer or exit code says why
        for chunk in data:
            stdin.write(chunk)
        if not keep_open:
            stdin.close()
    output = stdout.read()
    with suppress(BrokenPipeError):
        stdin.close()
    process.wait()
    return output
