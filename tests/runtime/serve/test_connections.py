"""Clients that are slow, and what is no HTTP, through raw sockets."""

from __future__ import annotations

import socket
import struct
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest

from servers import CLIPS, TOKEN, Server, Upload

_RESET = struct.pack("ii", 1, 0)  # closed by a reset, as where a client is killed
_POST = (
    b"POST /v1/audio/transcriptions HTTP/1.1\r\nHost: localhost\r\n"
    b"Content-Type: multipart/form-data; boundary=b\r\n"
)
_AUTHORIZED = _POST + f"Authorization: Bearer {TOKEN}\r\n".encode()
_BAD_CHUNK = b"Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\nx\r\n"
_HEALTH = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"


def _answer(server: Server, request: bytes, drop: bytes = b"") -> bytes:
    """Send a request, then one byte of `drop` a second; return all that comes until the end."""
    received = b""
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.settimeout(1)
        with suppress(ConnectionError):
            connection.sendall(request)
            while True:
                try:
                    part = connection.recv(65536)
                except TimeoutError:
                    connection.sendall(drop)
                    continue
                if not part:
                    break
                received += part
    return received


def test_no_connection_waits_for_ever(server: Server) -> None:
    """All are ended by the server; meanwhile others are served."""
    body = b"Content-Length: 100000\r\n\r\n--b\r\n"
    slow = {
        "nothing": (b"", b""),
        "headers": (b"GET /health HTTP/1.1\r\nX: ", b"x"),
        "next headers": (_HEALTH + b"GET", b"x"),
        "nothing after an answer": (_HEALTH, b""),
        "the body of what is refused": (_POST + body, b"x"),
        "a body": (_AUTHORIZED + body, b"x"),
        "no body": (_AUTHORIZED + b"Content-Length: 100000\r\n\r\n", b""),
    }
    with ThreadPoolExecutor(len(slow)) as pool:
        running = {kind: pool.submit(_answer, server, *sent) for kind, sent in slow.items()}
        assert server.client.audio.transcriptions.create(file=CLIPS[0], model="whisper-1").text
    assert {kind: answer.result()[9:12] for kind, answer in running.items()} == {
        "nothing": b"",
        "headers": b"",
        "next headers": b"200",
        "nothing after an answer": b"200",
        "the body of what is refused": b"401",
        "a body": b"408",
        "no body": b"408",
    }


@pytest.mark.parametrize(
    "request_",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" * 9 + b"\r\n\r\n",
        b"GET /health HTTP/1.1\r\nHost: localhost\r\nX: " + bytes(200_000),
        b"GET /health HTTP/1.1\r\nHost: localhost\r\n" + b"X: x\r\n" * 30_000,
        b"GET /health\xff HTTP/1.1\r\n\r\n",
        _HEALTH * 3 + b"\x00\r\n\r\n",
        _POST.replace(b"/v1/", b"/v2/") + _BAD_CHUNK,
        _POST + _BAD_CHUNK,
        _AUTHORIZED + _BAD_CHUNK,
        _AUTHORIZED + b"Content-Length: -1\r\n\r\n",
        _AUTHORIZED + b"Content-Length: 9\r\n\r\n--b--\r\n\r\n\x00\r\n\r\n",
    ],
)
def test_what_is_no_http_is_refused_quietly(server: Server, request_: bytes) -> None:
    """The fixture asserts that nothing was written to stderr."""
    answer = _answer(server, request_)
    assert not answer or answer.startswith((b"HTTP/1.1 4", b"HTTP/1.1 2"))
    assert server.get("/health")[0] == 200


def test_clients_may_go_at_any_time(server: Server) -> None:
    upload = Upload(server, CLIPS[0])
    upload.connection.close()
    head = _AUTHORIZED + f"Content-Length: {len(upload.body)}\r\n\r\n".encode()
    request = head + upload.body
    for sent in (*range(0, len(request), len(request) // 40), len(request)):
        for reset in (False, True):
            with socket.create_connection(("127.0.0.1", server.port)) as connection:
                connection.sendall(request[:sent])
                if reset:
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    assert server.client.audio.transcriptions.create(file=CLIPS[0], model="whisper-1").text
