"""The queue: recordings wait their turn for the one transcriber, and segments come back."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

from edgewhisper_runtime import audio
from edgewhisper_runtime.options import Options
from edgewhisper_runtime.serve.errors import STOPPING, Refusal
from edgewhisper_runtime.serve.metrics import Metrics
from edgewhisper_runtime.transcriber import Transcriber
from edgewhisper_runtime.transcript import Segment, Transcript

if TYPE_CHECKING:
    from edgewhisper_runtime.audio import Samples


class DroppedError(Exception):
    """A job that was given up before its end."""


@dataclass(frozen=True)
class Recording:
    """A file and how it is to be transcribed, as `Transcriber.stream` takes it."""

    path: Path
    language: str | None
    task: str
    options: Options

    def results(
        self, transcriber: Transcriber, dropped: Callable[[], bool]
    ) -> Iterator[Segment | Transcript]:
        """Yield the segments as they are decoded, then the transcript.

        Raises DroppedError where more of the file is to be read and it was `dropped`.
        """
        blocks = self._blocks(dropped)
        yield (yield from transcriber.stream(blocks, self.language, self.task, self.options))

    def _blocks(self, dropped: Callable[[], bool]) -> Iterator[Samples]:
        for block in audio.stream(self.path):
            if dropped():
                raise DroppedError
            yield block


class Job:
    """A recording on its way through the queue; all but `run` belongs to the event loop."""

    def __init__(self, recording: Recording, submit: Callable[[Job], Future[None]]) -> None:
        self._recording = recording
        self._loop = asyncio.get_running_loop()
        self._results: asyncio.Queue[Segment | Transcript | Exception] = asyncio.Queue()
        self._dropped = False
        self._turn = submit(self)

    @property
    def waiting(self) -> bool:
        """Whether the transcriber has not come to it yet."""
        return not (self._turn.running() or self._turn.done())

    async def result(self) -> Segment | Transcript:
        """Return the next segment, or the transcript, which is the last; raise what failed.

        Raises DroppedError when the job was dropped.
        """
        result = await self._results.get()
        if isinstance(result, Exception):
            raise result
        return result

    def drop(self) -> None:
        """Give it up; one that is at work ends after the window that is being decoded."""
        self._dropped = True
        self._turn.cancel()
        self._results.put_nowait(DroppedError())

    def run(self, transcriber: Transcriber) -> None:
        """Do the work, on the thread that does it all."""
        for result in self._recording.results(transcriber, lambda: self._dropped):
            self.hand_over(result)

    def hand_over(self, result: Segment | Transcript | Exception) -> None:
        """Pass a result, or what kept it from coming, to whoever awaits it."""
        self._loop.call_soon_threadsafe(self._results.put_nowait, result)


class Jobs:
    """One transcriber, which `load` returns, and at most `waiting` recordings in line for it.

    One thread does the work: a transcriber is not safe for concurrent calls, and its engine
    uses all the threads it was given already, so that two at a time would each take twice as long.
    """

    def __init__(self, load: Callable[[], Transcriber], waiting: int, metrics: Metrics) -> None:
        self._metrics = metrics
        self._places = waiting + 1
        self._held = 0
        self._jobs: set[Job] = set()
        self._executor = ThreadPoolExecutor(max_workers=1)
        self._transcriber = self._executor.submit(load)
        self._given_up = False
        self.closing = False
        metrics.queue.set_function(lambda: sum(job.waiting for job in self._jobs))

    @property
    def state(self) -> str:
        """What a health check is told: loading, ready, or stopping."""
        if self.closing:
            return "stopping"
        return "ready" if self._transcriber.done() else "loading"

    @property
    def idle(self) -> bool:
        """Whether nobody holds a place."""
        return not self._held

    @property
    def failure(self) -> BaseException | None:
        """What kept the transcriber from loading, once that is known."""
        return self._transcriber.exception() if self._transcriber.done() else None

    @contextmanager
    def place(self) -> Iterator[None]:
        """Hold a place for a recording; taken before its upload, it bounds what is stored.

        Raises Refusal (503) when all are taken, or the server stops.
        """
        if self.closing:
            raise Refusal(*STOPPING)
        if self._held == self._places:
            raise Refusal(
                503,
                "as many recordings are waiting or at work as this server takes. Try again later.",
                code="overloaded",
            )
        self._held += 1
        try:
            yield
        finally:
            self._held -= 1

    @contextmanager
    def job(self, recording: Recording) -> Iterator[Job]:
        """Put a recording in line; it is dropped if the block is left before its end.

        Raises Refusal (503) when all have been given up.
        """
        if self._given_up:
            raise Refusal(*STOPPING)
        job = Job(recording, lambda job: self._executor.submit(self._work, job))
        self._jobs.add(job)
        try:
            yield job
        finally:
            job.drop()
            self._jobs.discard(job)

    def give_up(self) -> int:
        """Drop what is waiting, at work or still being uploaded; return how many there are."""
        self._given_up = True
        for job in self._jobs:
            job.drop()
        return self._held

    def close(self) -> None:
        """Wait for the window that is being decoded, and end the thread."""
        self._executor.shutdown(cancel_futures=True)

    def _work(self, job: Job) -> None:
        started = perf_counter()
        try:
            job.run(self._transcriber.result())
        except Exception as error:  # noqa: BLE001 # raised again where the result is awaited
            job.hand_over(error)
        finally:
            self._metrics.work.inc(perf_counter() - started)
