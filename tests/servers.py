"""Servers as processes of their own, and what is sent to them bit by bit."""

from __future__ import annotations

import http.client
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import openai

from edgewhisper_runtime.measure.profile import SPEECH
from edgewhisper_runtime.serve.jobs import TOGETHER

TOKEN = "a long random text"
WAITING = 3
PLACES = WAITING + TOGETHER
MEGABYTE = 10**6
ORIGIN = "https://app.example.org"
ALIASES = ("gpt-4o-transcribe", "Systran/faster-whisper-tiny.en")
CLIPS = sorted(SPEECH.rglob("*.opus"))[::2]


@dataclass
class Server:
    """A running server: where it listens, and where it keeps uploads."""

    process: subprocess.Popen[str]
    port: int
    uploads: Path
    token: str | None

    @property
    def stored(self) -> list[Path]:
        return list(self.uploads.glob("edgewhisper-serve-*/*"))

    @property
    def client(self) -> openai.OpenAI:
        return openai.OpenAI(
            base_url=f"http://127.0.0.1:{self.port}/v1",
            api_key=self.token or "none",
            max_retries=0,
        )

    def get(self, path: str, **headers: str) -> tuple[int, str]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        authorization = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        connection.request("GET", path, headers=authorization | headers)
        response = connection.getresponse()
        return response.status, response.read().decode()

    def respond(
        self, method: str, path: str, body: bytes = b"", **headers: str
    ) -> http.client.HTTPResponse:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        connection.request(method, path, body, headers)
        return connection.getresponse()

    def metric(self, name: str) -> float:
        lines = self.get("/metrics")[1].splitlines()
        return sum(float(line.split()[-1]) for line in lines if line.startswith(name))


class Upload:
    """A request that sends its headers and a part of its file, and the rest when told to."""

    def __init__(self, server: Server, clip: Path) -> None:
        head = '--b\r\nContent-Disposition: form-data; name="{}"{}\r\n\r\n'
        fields = f"{head.format('model', '')}whisper-1\r\n" + head.format(
            "file", f'; filename="{clip.name}"'
        )
        self.body = fields.encode() + clip.read_bytes() + b"\r\n--b--\r\n"
        self.connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=120)
        self.connection.putrequest("POST", "/v1/audio/transcriptions")
        self.connection.putheader("Content-Type", "multipart/form-data; boundary=b")
        self.connection.putheader("Content-Length", str(len(self.body)))
        if server.token:
            self.connection.putheader("Authorization", f"Bearer {server.token}")
        self.connection.endheaders()
        self.connection.send(self.body[:1000])

    def send_rest(self) -> None:
        self.connection.send(self.body[1000:])

    def text(self) -> str:
        response = self.connection.getresponse()
        content = json.loads(response.read())
        assert response.status == 200, content
        return content["text"]


@contextmanager
def serving(
    bundle: Path, uploads: Path, *options: object, token: str | None = None
) -> Iterator[Server]:
    command = [Path(sys.executable).parent / "edgewhisper-runtime", "serve", bundle, "--port", 0]
    environment = os.environ | {"TMPDIR": str(uploads), "EDGEWHISPER_TOKEN": token or ""}
    with subprocess.Popen(
        [*map(str, command), *map(str, options)],
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    ) as process:
        try:
            said = process.stderr.readline()
            address = re.fullmatch(r"serving .* on http://127\.0\.0\.1:(\d+)\n", said)
            assert address, said + process.stderr.read()
            server = Server(process, int(address[1]), uploads, token)
            wait_until(lambda: server.get("/health")[0] == 200)
            yield server
        finally:
            process.kill()


def wait_until(condition: Callable[[], bool]) -> None:
    """Return when the condition holds; pytest's timeout ends a wait for what never comes."""
    while not condition():
        time.sleep(0.05)


def overloaded(server: Server) -> bool:
    """Tell whether the next recording is refused: all places are taken."""
    try:
        server.client.audio.transcriptions.create(file=CLIPS[0], model="whisper-1")
    except openai.InternalServerError as error:
        retry = int(error.response.headers["retry-after"])
        return (error.status_code, error.code) == (503, "overloaded") and retry > 0
    return False
