"""The server as a process of its own, asked by OpenAI's own client."""

from __future__ import annotations

import http.client
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import openai
import pytest
import soundfile

from conftest import Run
from edgewhisper.checkpoints import Checkpoint
from edgewhisper.pipeline import stage_export
from edgewhisper.recipes import find_recipe
from edgewhisper_runtime import audio, load
from edgewhisper_runtime.options import Options
from edgewhisper_runtime.profile import SPEECH
from edgewhisper_runtime.transcriber import Transcriber
from edgewhisper_runtime.writers import WRITERS

TOKEN = "a long random text"
WAITING = 3
PLACES = WAITING + 1
MEGABYTE = 10**6
CLIPS = sorted(SPEECH.rglob("*.opus"))[::4]


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


@pytest.fixture(scope="module")
def bundle(tiny_en: Checkpoint) -> Path:
    return stage_export(tiny_en, find_recipe("onnx-int8"))


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
    """Tell whether the next recording is refused: all places are taken, by uploads too."""
    try:
        server.client.audio.transcriptions.create(file=CLIPS[0], model="whisper-1")
    except openai.InternalServerError as error:
        retry = int(error.response.headers["retry-after"])
        return (error.status_code, error.code) == (503, "overloaded") and retry > 0
    return False


@pytest.fixture(scope="module")
def server(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    uploads = tmp_path_factory.mktemp("uploads")
    with serving(bundle, uploads, "--queue", WAITING, "--max-upload", 1, token=TOKEN) as running:
        yield running
        assert not running.stored
        running.process.send_signal(signal.SIGINT)
        assert running.process.wait(60) == 0
        assert running.process.stderr.read() == ""
    assert not list(uploads.glob("edgewhisper-serve-*"))


@pytest.fixture(scope="module")
def transcriber(bundle: Path) -> Transcriber:
    return load(bundle)


@pytest.fixture(scope="module")
def long(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recording of more than one window, in less than a megabyte."""
    path = tmp_path_factory.mktemp("long") / "long.opus"
    samples = np.concatenate([audio.load(clip) for clip in [*CLIPS, *CLIPS]])
    assert len(samples) > 40 * audio.SAMPLE_RATE
    soundfile.write(path, samples, audio.SAMPLE_RATE, format="OGG", subtype="OPUS")
    return path


@pytest.fixture(scope="module")
def texts(transcriber: Transcriber, long: Path) -> dict[Path, str]:
    """What the recordings say to the same model without a server."""
    options = Options()
    return {clip: transcriber.transcribe(clip, options=options).text for clip in (*CLIPS, long)}


def test_json_and_text(server: Server, texts: dict[Path, str]) -> None:
    clip = CLIPS[0]
    create = server.client.audio.transcriptions.create
    spoken = create(file=clip, model="whisper-1", language="en")
    assert spoken.text == texts[clip]
    assert spoken.usage.type == "duration"
    assert spoken.usage.seconds == pytest.approx(soundfile.info(clip).duration, abs=0.1)
    assert create(file=clip, model="whisper-1", response_format="text").strip() == texts[clip]


def test_verbose_json(server: Server, transcriber: Transcriber) -> None:
    clip = CLIPS[0]
    verbose = server.client.audio.transcriptions.create(
        file=clip,
        model="whisper-1",
        response_format="verbose_json",
        timestamp_granularities=["segment", "word"],
    )
    expected = transcriber.transcribe(clip, options=Options(timestamps=True, words=True))
    assert verbose.text == expected.text
    assert verbose.language == "en"
    assert verbose.duration == expected.duration
    assert "".join(segment.text for segment in verbose.segments).strip() == verbose.text
    first = verbose.segments[0]
    assert first.id == first.seek == first.temperature == 0
    assert 0 <= first.start < first.end <= verbose.duration
    assert first.avg_logprob < 0 < first.compression_ratio
    assert 0 <= first.no_speech_prob <= 1
    assert transcriber.decoder.tokenizer.decode(first.tokens).strip()
    assert [word.word for word in verbose.words] == verbose.text.split()
    assert all(0 <= word.start <= word.end <= verbose.duration for word in verbose.words)


def test_segments_are_left_out_where_only_words_are_asked_for(server: Server) -> None:
    verbose = server.client.audio.transcriptions.create(
        file=CLIPS[0],
        model="whisper-1",
        response_format="verbose_json",
        timestamp_granularities=["word"],
    )
    assert verbose.words
    assert verbose.segments is None


@pytest.mark.parametrize("subtitles", ["srt", "vtt"])
def test_subtitles(server: Server, bundle: Path, transcriber: Transcriber, subtitles: str) -> None:
    clip = CLIPS[0]
    answer = server.client.audio.transcriptions.create(
        file=clip, model="whisper-1", response_format=subtitles
    )
    expected = transcriber.transcribe(clip, options=Options(timestamps=True))
    assert answer == WRITERS[subtitles](expected)
    assert "-->" in answer


def test_a_stream_says_the_text_bit_by_bit(
    server: Server, long: Path, texts: dict[Path, str]
) -> None:
    events = list(
        server.client.audio.transcriptions.create(file=long, model="whisper-1", stream=True)
    )
    *deltas, done = events
    assert {event.type for event in deltas} == {"transcript.text.delta"}
    assert done.type == "transcript.text.done"
    assert len(deltas) > 1
    assert "".join(event.delta for event in deltas).strip() == done.text
    assert done.text == texts[long]


def test_models(server: Server, bundle: Path) -> None:
    (model,) = server.client.models.list()
    manifest = json.loads((bundle / "manifest.json").read_text())
    assert model.id == manifest["name"]
    assert server.client.models.retrieve(model.id).created == model.created > 0
    with pytest.raises(openai.NotFoundError, match="no model"):
        server.client.models.retrieve("another")
    spoken = server.client.audio.transcriptions.create(file=CLIPS[0], model=model.id)
    assert spoken.text


def test_translation_takes_a_multilingual_model(server: Server) -> None:
    with pytest.raises(openai.BadRequestError, match="only transcribes English") as refusal:
        server.client.audio.translations.create(file=CLIPS[0], model="whisper-1")
    assert refusal.value.type == "invalid_request_error"


@pytest.mark.parametrize(
    ("changed", "error", "param"),
    [
        ({"model": "another"}, openai.NotFoundError, "model"),
        ({"model": ""}, openai.BadRequestError, "model"),
        ({"file": ("talk.wav", b"no audio" * 100)}, openai.BadRequestError, "file"),
        ({"file": ("talk.wav", b"")}, openai.BadRequestError, "file"),
        ({"language": "de"}, openai.BadRequestError, None),
        ({"response_format": "docx"}, openai.BadRequestError, "response_format"),
        ({"temperature": 2}, openai.BadRequestError, "temperature"),
        ({"temperature": float("nan")}, openai.BadRequestError, "temperature"),
        ({"include": ["logprobs"]}, openai.BadRequestError, "include[]"),
        (
            {"timestamp_granularities": ["word"]},
            openai.BadRequestError,
            "timestamp_granularities",
        ),
        ({"stream": True, "response_format": "srt"}, openai.BadRequestError, "response_format"),
        ({"stream": True, "file": ("a.wav", b"no audio")}, openai.BadRequestError, "file"),
    ],
)
def test_wrong_requests(
    server: Server, changed: dict[str, object], error: type[openai.APIStatusError], param: str
) -> None:
    with pytest.raises(error) as refusal:
        server.client.audio.transcriptions.create(
            **({"file": CLIPS[0], "model": "whisper-1"} | changed)
        )
    assert refusal.value.param == param
    assert refusal.value.type == "invalid_request_error"
    assert "/" not in refusal.value.body["message"]  # no path of the server's
    if "file" in changed:
        assert changed["file"][0] in refusal.value.body["message"]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("POST", "/v1/audio/transcriptions", 415), ("PUT", "/v1/models", 405), ("GET", "/v2", 404)],
)
def test_other_requests(server: Server, method: str, path: str, status: int) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server.port)
    headers = {"Authorization": f"Bearer {TOKEN}"}
    connection.request(method, path, b"{}", headers | {"Content-Type": "application/json"})
    response = connection.getresponse()
    assert response.status == status
    assert json.loads(response.read())["error"]["message"]


def test_who_does_not_know_the_token_learns_nothing(server: Server) -> None:
    stranger = openai.OpenAI(base_url=server.client.base_url, api_key="a wrong one", max_retries=0)
    with pytest.raises(openai.AuthenticationError):
        stranger.audio.transcriptions.create(file=CLIPS[0], model="whisper-1")
    assert server.get("/metrics", Authorization="")[0] == 401
    assert server.get("/health", Authorization="") == (200, '{"status":"ready"}')


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


def test_more_than_the_queue_takes_is_refused(server: Server, texts: dict[Path, str]) -> None:
    uploads = [Upload(server, clip) for clip in CLIPS[:PLACES]]
    wait_until(lambda: overloaded(server))
    for upload in uploads:
        upload.send_rest()
    assert [upload.text() for upload in uploads] == [texts[clip] for clip in CLIPS[:PLACES]]


def test_many_at_once_lose_nothing_and_mix_nothing_up(
    server: Server, texts: dict[Path, str]
) -> None:
    clips = CLIPS * 3
    assert len(clips) > 2 * PLACES

    def ask(clip: Path) -> str | int:
        try:
            return server.client.audio.transcriptions.create(file=clip, model="whisper-1").text
        except openai.APIStatusError as error:
            return error.status_code

    with ThreadPoolExecutor(len(clips)) as pool:
        answers = list(pool.map(ask, clips))
    right = [answer == texts[clip] for clip, answer in zip(clips, answers, strict=True)]
    assert sum(right) >= PLACES
    assert all(ok or answer == 503 for ok, answer in zip(right, answers, strict=True))


def test_a_client_that_hangs_up_is_forgotten(
    server: Server, long: Path, texts: dict[Path, str]
) -> None:
    gone = 'edgewhisper_requests_total{path="/v1/audio/transcriptions",status="499"}'
    before = server.metric(gone)
    with ExitStack() as connections:
        for _ in range(PLACES):
            upload = Upload(server, long)
            connections.callback(upload.connection.close)
            upload.send_rest()
        wait_until(lambda: server.metric("edgewhisper_queue_length ") == WAITING)
    wait_until(lambda: server.metric(gone) - before == PLACES)
    Upload(server, long).connection.close()
    wait_until(lambda: server.metric(gone) - before == PLACES + 1)
    assert server.metric("edgewhisper_queue_length ") == 0
    spoken = server.client.audio.transcriptions.create(file=CLIPS[0], model="whisper-1")
    assert spoken.text == texts[CLIPS[0]]


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


def test_what_was_taken_on_is_finished_before_the_end(
    bundle: Path, tmp_path: Path, long: Path, texts: dict[Path, str]
) -> None:
    with serving(bundle, tmp_path, "--queue", 2, "--grace", 120) as server:
        uploads = {clip: Upload(server, clip) for clip in (long, *CLIPS[:2])}
        wait_until(lambda: overloaded(server))
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


def test_without_a_token_only_this_machine_is_served(
    bundle: Path, tmp_path: Path, run: Run
) -> None:
    refused = run("serve", bundle, "--host", "0.0.0.0")
    assert refused.returncode == 1
    assert "set EDGEWHISPER_TOKEN" in refused.stderr
    with serving(bundle, tmp_path) as server:
        assert server.get("/v1/models")[0] == 200
        assert server.get("/v1/models", Host="attacker.example")[0] == 403
        taken = run("serve", bundle, "--port", server.port, script="edgewhisper-runtime")
        assert taken.returncode == 1
        assert taken.stderr.startswith(f"error: cannot listen on port {server.port}")


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
        f"import sys; sys.modules[{library!r}] = None; sys.argv[1:] = ['serve', 'bundle'];"
        "from edgewhisper_runtime.cli import main; main()"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 7
    assert library in ended.stderr
    assert "pip install 'edgewhisper-runtime[serve]'" in ended.stderr
