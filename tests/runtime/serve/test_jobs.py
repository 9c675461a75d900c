"""More than one request at a time: nothing lost, nothing mixed up."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from time import perf_counter, sleep
from typing import Any

import numpy as np
import openai

from counting import Counting
from edgewhisper_runtime import load
from edgewhisper_runtime.options import Options
from edgewhisper_runtime.serve.jobs import MOST_UPLOADS, Jobs, Submission
from edgewhisper_runtime.serve.metrics import Metrics
from edgewhisper_runtime.transcriber import Transcriber
from edgewhisper_runtime.transcript import Transcript
from servers import CLIPS, PLACES, WAITING, Server, Upload, overloaded, wait_until


def test_more_than_the_queue_takes_is_refused(
    server: Server, long: Path, texts: dict[Path, str]
) -> None:
    uploads = [Upload(server, long) for _ in range(PLACES)]
    for upload in uploads:
        upload.send_rest()
    wait_until(lambda: server.metric("edgewhisper_queue_length ") == WAITING)
    assert overloaded(server)
    assert [upload.text() for upload in uploads] == [texts[long]] * PLACES


def test_slow_uploads_keep_nobody_waiting(server: Server, texts: dict[Path, str]) -> None:
    uploads = {clip: Upload(server, clip) for clip in CLIPS[: PLACES + 2]}
    assert len(uploads) > PLACES
    wait_until(lambda: server.metric("edgewhisper_uploads ") == len(uploads))
    spoken = server.client.audio.transcriptions.create(file=CLIPS[0], model="whisper-1")
    assert spoken.text == texts[CLIPS[0]]
    for clip, upload in uploads.items():
        upload.send_rest()
        assert upload.text() == texts[clip]


def test_there_is_a_limit_to_uploads_at_a_time(server: Server) -> None:
    with ExitStack() as connections:
        for _ in range(MOST_UPLOADS):
            connections.callback(Upload(server, CLIPS[0]).connection.close)
        wait_until(lambda: server.metric("edgewhisper_uploads ") == MOST_UPLOADS)
        assert overloaded(server)
    wait_until(lambda: server.metric("edgewhisper_uploads ") == 0)


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


def test_a_short_recording_does_not_wait_for_a_long_one(
    server: Server, long: Path, texts: dict[Path, str]
) -> None:
    """It joins the batch, and neither text is another for that."""
    answered = 'edgewhisper_requests_total{path="/v1/audio/transcriptions",status="200"}'
    upload = Upload(server, long)
    upload.send_rest()
    before = server.metric(answered)
    spoken = server.client.audio.transcriptions.create(file=CLIPS[0], model="whisper-1")
    assert server.metric(answered) == before + 1
    assert spoken.text == texts[CLIPS[0]]
    assert upload.text() == texts[long]


class Timed(Counting):
    """A backend that adds up the time in it; its encoder takes two seconds longer."""

    seconds = 0.0

    @contextmanager
    def _timed(self) -> Iterator[None]:
        started = perf_counter()
        yield
        self.seconds += perf_counter() - started

    def encode(self, features: np.ndarray) -> Any:
        with self._timed():
            sleep(2)
            return super().encode(features)

    def step(self, tokens: np.ndarray, cache: Any) -> np.ndarray:
        with self._timed():
            return super().step(tokens, cache)


def test_all_work_is_counted_and_no_waiting(bundle: Path) -> None:
    """The window of a short recording is encoded as it joins the batch."""
    metrics, backends = Metrics(), []

    def load_timed() -> Transcriber:
        transcriber = load(bundle, wrap=Timed)
        backends.append(transcriber.decoder.backend)
        return transcriber

    with closing(Jobs(load_timed, 4, 60, metrics)) as jobs:
        while jobs.state == "loading":
            sleep(0.1)
        sleep(1)
        started = perf_counter()
        asyncio.run(transcribed(jobs, CLIPS[0]))
    elapsed = perf_counter() - started  # the worker has ended
    work = metrics.registry.get_sample_value("edgewhisper_work_seconds_total")
    assert 2 < backends[0].seconds <= work <= elapsed


async def transcribed(jobs: Jobs, clip: Path) -> str:
    with jobs.job(Submission(clip, None, "transcribe", Options())) as job:
        while not isinstance(result := await job.result(), Transcript):
            pass
    return result.text


class NoRoomAtFirst(Counting):
    """A backend that has no memory for the first batch of several recordings."""

    joined = 0

    def join(self, caches: Sequence[Any]) -> Any:
        self.joined += 1
        if self.joined == 1:
            raise MemoryError("no room for the caches")
        return super().join(caches)


def test_a_batch_that_fails_costs_no_later_recording(bundle: Path, texts: dict[Path, str]) -> None:
    async def ask() -> None:
        both = await asyncio.gather(
            *(transcribed(jobs, clip) for clip in CLIPS[:2]), return_exceptions=True
        )
        assert [type(each) for each in both] == [MemoryError] * 2
        assert await transcribed(jobs, CLIPS[0]) == texts[CLIPS[0]]

    with closing(Jobs(lambda: load(bundle, wrap=NoRoomAtFirst), 4, 60, Metrics())) as jobs:
        asyncio.run(asyncio.wait_for(ask(), 60))
