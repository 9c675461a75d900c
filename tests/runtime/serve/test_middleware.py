"""What is let in, and what is counted."""

from __future__ import annotations

import http.client

import openai
import pytest
import soundfile

from servers import CLIPS, MEGABYTE, ORIGIN, TOKEN, Server


def test_who_does_not_know_the_token_learns_nothing(server: Server) -> None:
    stranger = openai.OpenAI(base_url=server.client.base_url, api_key="a wrong one", max_retries=0)
    with pytest.raises(openai.AuthenticationError):
        stranger.audio.transcriptions.create(file=CLIPS[0], model="whisper-1")
    assert server.get("/metrics", Authorization="")[0] == 401
    assert server.get("/health", Authorization="") == (200, '{"status":"ready"}')


def test_a_page_of_an_allowed_origin_may_use_it(server: Server) -> None:
    """A preflight carries no token; a refusal can be read too."""
    path = "/v1/audio/transcriptions"
    ask = {
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization,x-stainless-lang",
    }
    preflight = server.respond("OPTIONS", path, Origin=ORIGIN, **ask)
    assert preflight.status == 200
    assert preflight.headers["Access-Control-Allow-Origin"] == ORIGIN
    assert "authorization" in preflight.headers["Access-Control-Allow-Headers"]
    other = server.respond("OPTIONS", path, Origin="https://other.example", **ask)
    assert other.status == 400
    assert "Access-Control-Allow-Origin" not in other.headers
    for token, status in ((TOKEN, 200), ("a wrong one", 401)):
        answer = server.respond("GET", "/v1/models", Origin=ORIGIN, Authorization=f"Bearer {token}")
        assert (answer.status, answer.headers["Access-Control-Allow-Origin"]) == (status, ORIGIN)


def test_a_large_upload_is_refused(server: Server) -> None:
    with pytest.raises(openai.APIStatusError, match="larger than 1 MB") as refusal:
        server.client.audio.transcriptions.create(
            file=("large.wav", bytes(2 * MEGABYTE)), model="whisper-1"
        )
    assert refusal.value.status_code == 413


def test_an_upload_of_unknown_size_is_refused_at_its_first_byte_too_many(server: Server) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    connection.putrequest("POST", "/v1/audio/transcriptions")
    connection.putheader("Authorization", f"Bearer {TOKEN}")
    connection.putheader("Content-Type", "multipart/form-data; boundary=b")
    connection.putheader("Transfer-Encoding", "chunked")
    connection.endheaders()
    head = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\n'
    for part in (head, bytes(MEGABYTE), bytes(MEGABYTE)):  # and no end
        connection.send(b"%x\r\n%s\r\n" % (len(part), part))
    assert connection.getresponse().status == 413


def test_metrics(server: Server) -> None:
    names = {
        "requests": 'edgewhisper_requests_total{path="/v1/audio/transcriptions",status="200"}',
        "timed": "edgewhisper_request_seconds_count",
        "audio": "edgewhisper_audio_seconds_total",
        "work": "edgewhisper_work_seconds_total",
    }
    before = {name: server.metric(series) for name, series in names.items()}
    server.client.audio.transcriptions.create(file=CLIPS[0], model="whisper-1")
    more = {name: server.metric(series) - before[name] for name, series in names.items()}
    assert more["requests"] == more["timed"] == 1
    assert more["audio"] == pytest.approx(soundfile.info(CLIPS[0]).duration, abs=0.1)
    assert more["work"] > 0
