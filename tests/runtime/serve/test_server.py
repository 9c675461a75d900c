"""How a server starts and ends."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import openai
import pytest
import soundfile

from conftest import Run
from edgewhisper_runtime import audio
from servers import CLIPS, Upload, serving, wait_until


def test_what_was_taken_on_is_finished_before_the_end(
    bundle: Path, tmp_path: Path, long: Path, texts: dict[Path, str]
) -> None:
    with serving(bundle, tmp_path, "--queue", 2, "--grace", 120) as server:
        uploads = {clip: Upload(server, clip) for clip in (long, *CLIPS[:2])}
        wait_until(lambda: server.metric("edgewhisper_uploads ") == 3)
        uploads[long].send_rest()
        wait_until(lambda: len(server.stored) == 1)
        server.process.send_signal(signal.SIGTERM)
        wait_until(lambda: server.get("/health") == (503, '{"status":"stopping"}'))
        with pytest.raises(openai.InternalServerError, match="stopping"):
            server.client.audio.transcriptions.create(file=CLIPS[0], model="whisper-1")
        for clip in CLIPS[:2]:
            uploads[clip].send_rest()
        for clip, upload in uploads.items():
            assert upload.text() == texts[clip]
        assert server.process.wait(60) == 0
        assert not server.stored


def test_what_takes_longer_than_the_grace_period_is_told_so(
    bundle: Path, tmp_path: Path, long: Path
) -> None:
    with serving(bundle, tmp_path, "--grace", 0) as server:
        uploads = [Upload(server, clip) for clip in (long, CLIPS[0])]
        for upload in uploads:
            upload.send_rest()
        wait_until(lambda: len(server.stored) == 2)
        server.process.send_signal(signal.SIGTERM)
        answers = [upload.connection.getresponse() for upload in uploads]
        assert [answer.status for answer in answers] == [503, 503]
        assert server.process.wait(60) == 0
        assert "not finished in time: 2 recordings" in server.process.stderr.read()


def test_silence_without_end_does_not_keep_the_server(bundle: Path, tmp_path: Path) -> None:
    """No segment comes of six hours of it: a job that is given up ends where it reads on."""
    path = tmp_path / "silence.flac"
    with soundfile.SoundFile(path, "w", audio.SAMPLE_RATE, 1) as file:
        for _ in range(6 * 60):
            file.write(np.zeros(60 * audio.SAMPLE_RATE, dtype=np.int16))
    uploads = tmp_path / "uploads"
    uploads.mkdir()
    with serving(bundle, uploads, "--grace", 0) as server:
        upload = Upload(server, path)
        upload.send_rest()
        wait_until(lambda: bool(server.stored))
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(60) == 0
        assert "not finished in time: 1 recording\n" in server.process.stderr.read()


def test_a_recording_that_takes_too_long_is_given_up(bundle: Path, tmp_path: Path) -> None:
    with serving(bundle, tmp_path, "--timeout", 0.001) as server:
        create = server.client.with_options(max_retries=2).audio.transcriptions.create
        for options in ({}, {"stream": True}):
            with pytest.raises(openai.APIStatusError, match=r"longer than 0\.001 s") as refusal:
                create(file=CLIPS[0], model="whisper-1", **options)
            assert (refusal.value.status_code, refusal.value.code) == (504, "timeout")
        assert server.metric('edgewhisper_requests_total{path="/v1/audio/transcriptions"') == 2
        assert not server.stored


def test_without_a_token_only_this_machine_is_served(
    bundle: Path, tmp_path: Path, run: Run
) -> None:
    refused = run("serve", bundle, "--host", "0.0.0.0")
    assert refused.returncode == 1
    assert "set EDGEWHISPER_TOKEN" in refused.stderr
    with serving(bundle, tmp_path) as server:
        assert server.get("/v1/models")[0] == 200
        assert server.get("/v1/models", Host="attacker.example")[0] == 403
        page = server.respond("GET", "/v1/models", Origin="http://localhost:3000")
        assert "Access-Control-Allow-Origin" not in page.headers
        taken = run("serve", bundle, "--port", server.port, script="edgewhisper-runtime")
        assert taken.returncode == 1
        assert taken.stderr.startswith(f"error: cannot listen on port {server.port}")


def test_an_allowed_origin_does_not_open_other_hosts(
    bundle: Path, tmp_path: Path, run: Run
) -> None:
    origin = "http://localhost:3000"
    with serving(bundle, tmp_path, "--cors-origin", origin) as server:
        answer = server.respond("GET", "/v1/models", Origin=origin)
        assert (answer.status, answer.headers["Access-Control-Allow-Origin"]) == (200, origin)
        assert server.get("/v1/models", Host="attacker.example", Origin=origin)[0] == 403
    refused = run("serve", bundle, "--cors-origin", f"{origin}/")
    assert refused.returncode == 2
    assert "without a path" in refused.stderr


def test_a_damaged_bundle_ends_the_server(bundle: Path, tmp_path: Path, run: Run) -> None:
    damaged = shutil.copytree(bundle, tmp_path / "damaged", copy_function=os.link)
    (damaged / "tokenizer.json").unlink()
    (damaged / "tokenizer.json").write_text("{}")
    ended = run("serve", damaged, "--port", 0)
    assert ended.returncode == 6
    assert "tokenizer.json" in ended.stderr.splitlines()[-1]


@pytest.mark.parametrize("library", ["starlette", "uvicorn", "python_multipart"])
def test_a_missing_library_is_named(library: str) -> None:
    code = (
        f"import sys; sys.modules[{library!r}] = None; sys.argv[1:] = ['serve', '.'];"
        "from edgewhisper_runtime.cli import main; main()"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 7
    assert library in ended.stderr
    assert "pip install 'edgewhisper-runtime[serve]'" in ended.stderr
