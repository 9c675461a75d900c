"""The queue: submissions wait for the one transcriber, and segments come back."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from time import monotonic, perf_counter
from typing import TYPE_CHECKING

from edgewhisper_runtime import audio
from edgewhisper_runtime.options import Options
from edgewhisper_runtime.serve.errors import OVERLOADED, STOPPING, Refusal
from edgewhisper_runtime.serve.interruptible import InterruptibleBackend
from edgewhisper_runtime.serve.metrics import Metrics
from edgewhisper_runtime.transcriber import Transcriber
from edgewhisper_runtime.transcript import Segment, Transcript

if TYPE_CHECKING:
    from edgewhisper_runtime.audio import Samples


# Uploads at a time; together with the queue, this bounds what is stored.
MOST_UPLOADS = 32


class DroppedError(Exception):
    """A job was dropped before its end."""


class OvertimeError(Exception):
    """A job took longer than the server allows."""


@dataclass(frozen=True)
class Submission:
    """A file and how it is to be transcribed, as `Transcriber.stream` takes it."""

    path: Path
    language: str | None
    task: str
    options: Options

    def results(
        self, transcriber: Transcriber, check: Callable[[], None]
    ) -> Iterator[Segment | Transcript]:
        """Yield the segments as they are decoded, then the transcript.

        `check` is called before more of the file is read.
        """
        blocks = self._blocks(check)
        options = replace(self.options, language=self.language, task=self.task)
        yield (yield from transcriber.stream(blocks, options))

    def _blocks(self, check: Callable[[], None]) -> Iterator[Samples]:
        for block in audio.stream(self.path):
            check()
            yield block


class Job:
    """A submission in the queue; `run` is for the worker thread, the rest for the event loop.

    `timeout` is how long the work may take, in seconds, from when its turn comes.
    """

    def __init__(
        self, submission: Submission, timeout: float, submit: Callable[[Job], Future[None]]
    ) -> None:
        self._timeout = timeout
        self._submission = submission
        self._loop = asyncio.get_running_loop()
        self._results: asyncio.Queue[Segment | Transcript | Exception] = asyncio.Queue()
        self._dropped = False
        self._turn = submit(self)

    @property
    def waiting(self) -> bool:
        """Whether its turn has not begun."""
        return not (self._turn.running() or self._turn.done())

    @property
    def done(self) -> bool:
        """Whether its turn is over, or was cancelled."""
        return self._turn.done()

    async def result(self) -> Segment | Transcript:
        """Return the next segment, or at the end the transcript; raise the error that ended it.

        Raises DroppedError when the job was dropped, OvertimeError when it took too long.
        """
        result = await self._results.get()
        if isinstance(result, Exception):
            raise result
        return result

    def drop(self) -> None:
        """Cancel the job; if it is running, it ends after the engine's current call."""
        self._dropped = True
        self._turn.cancel()
        self._results.put_nowait(DroppedError())

    def run(self, transcriber: Transcriber, backend: InterruptibleBackend) -> None:
        """Transcribe, with the transcriber's own backend."""
        deadline = monotonic() + self._timeout

        def check() -> None:
            if self._dropped:
                raise DroppedError
            if monotonic() > deadline:
                raise OvertimeError(
                    f"transcribing took longer than {self._timeout:g} s, the most that this "
                    "server spends on a recording. Cut it into parts."
                )

        with backend.checked(check):
            for result in self._submission.results(transcriber, check):
                self.hand_over(result)

    def hand_over(self, result: Segment | Transcript | Exception) -> None:
        """Pass a result, or the error instead of it, to the caller of `result`."""
        self._loop.call_soon_threadsafe(self._results.put_nowait, result)


class Jobs:
    """One transcriber, which `load` returns, and at most `waiting` submissions in its queue.

    `load` takes what `loading.load` takes as `wrap`. A submission may take `timeout` seconds of
    work.

    One thread does the work: a transcriber is not safe for concurrent calls, and its engine
    uses all the threads it was given already, so that two at a time would each take twice as long.
    """

    def __init__(
        self,
        load: Callable[..., Transcriber],
        waiting: int,
        timeout: float,
        metrics: Metrics,
    ) -> None:
        self._metrics = metrics
        self._places = waiting + 1
        self._timeout = timeout
        self._requests = 0
        self._jobs: set[Job] = set()
        self._executor = ThreadPoolExecutor(max_workers=1)
        self._engine = self._executor.submit(_load, load)
        self._given_up = False
        self.closing = False
        metrics.uploads.set_function(lambda: self._uploads)
        metrics.queue.set_function(lambda: sum(job.waiting for job in self._jobs))

    @property
    def state(self) -> str:
        """The state that a health check reports: loading, ready, or stopping."""
        if self.closing:
            return "stopping"
        return "ready" if self._engine.done() else "loading"

    @property
    def idle(self) -> bool:
        """Whether no request is being answered."""
        return not self._requests

    @property
    def failure(self) -> BaseException | None:
        """The error of loading the transcriber, if it failed."""
        return self._engine.exception() if self._engine.done() else None

    @contextmanager
    def admission(self) -> Iterator[None]:
        """Accept a request, from before its upload to the end of its answer.

        Only `job` takes a place in the queue, so that nobody waits for slow uploads; the number of
        uploads at a time is bounded here.
        Raises Refusal (503) when there are too many, the queue is full, or the server stops.
        """
        if self.closing:
            raise Refusal(*STOPPING)
        if self._full or self._uploads >= MOST_UPLOADS:
            raise Refusal(*OVERLOADED)
        self._requests += 1
        try:
            yield
        finally:
            self._requests -= 1

    @contextmanager
    def job(self, submission: Submission) -> Iterator[Job]:
        """Put a submission in the queue; it is dropped if the block is left before its end.

        Raises Refusal (503) when the queue is full, or all have been given up.
        """
        if self._given_up:
            raise Refusal(*STOPPING)
        if self._full:
            raise Refusal(*OVERLOADED)
        job = Job(submission, self._timeout, lambda job: self._executor.submit(self._work, job))
        self._jobs.add(job)
        try:
            yield job
        finally:
            job.drop()
            self._jobs.discard(job)

    def give_up(self) -> int:
        """Drop all waiting and running jobs; return how many requests are not answered yet."""
        self._given_up = True
        for job in self._jobs:
            job.drop()
        return self._requests

    @property
    def _uploads(self) -> int:
        return self._requests - len(self._jobs)

    @property
    def _full(self) -> bool:
        return sum(not job.done for job in self._jobs) >= self._places

    def close(self) -> None:
        """Wait for the engine's current call, and end the thread."""
        self._executor.shutdown(cancel_futures=True)

    def _work(self, job: Job) -> None:
        started = perf_counter()
        try:
            job.run(*self._engine.result())
        except Exception as error:  # noqa: BLE001 # raised again where the result is awaited
            job.hand_over(error)
        finally:
            self._metrics.work.inc(perf_counter() - started)


def _load(load: Callable[..., Transcriber]) -> tuple[Transcriber, InterruptibleBackend]:
    backend = InterruptibleBackend()
    return load(wrap=backend.around), backend
