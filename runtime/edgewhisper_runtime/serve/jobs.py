"""The queue: submissions wait for the one transcriber, which decodes several of them together."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from queue import SimpleQueue
from time import monotonic, perf_counter
from typing import TYPE_CHECKING

from edgewhisper_runtime import audio
from edgewhisper_runtime.batch import Batch
from edgewhisper_runtime.options import Options, Task
from edgewhisper_runtime.serve.errors import OVERLOADED, STOPPING, Refusal
from edgewhisper_runtime.serve.metrics import Metrics
from edgewhisper_runtime.transcriber import Transcriber
from edgewhisper_runtime.transcript import Segment, Transcript

if TYPE_CHECKING:
    from edgewhisper_runtime.audio import Samples
    from edgewhisper_runtime.builder import TranscriptBuilder


# Uploads at a time; together with the queue, this bounds what is stored.
MOST_UPLOADS = 32
# Recordings that are decoded at a time, a window of each in one batch: a short one need not wait
# for the end of a long one.
TOGETHER = 4


class DroppedError(Exception):
    """A job was dropped before its end."""


class OvertimeError(Exception):
    """A job took longer than the server allows."""


@dataclass(frozen=True)
class Submission:
    """A file and how it is to be transcribed, as `Transcriber.open` takes it."""

    path: Path
    language: str | None
    task: Task
    options: Options

    def open(self, transcriber: Transcriber, check: Callable[[], None]) -> TranscriptBuilder:
        """Return the recording; `check` is called before more of the file is read."""

        def blocks() -> Iterator[Samples]:
            check()
            for block in audio.stream(self.path):
                check()
                yield block

        options = replace(self.options, language=self.language, task=self.task)
        return transcriber.open(blocks(), options)


class Job:
    """A submission in the queue; `begin` and `advance` are for the worker thread.

    `timeout` is how long the work may take, in seconds, from when its turn comes. `waiting`: its
    turn has not come; `done`: all results are handed over.
    """

    def __init__(self, submission: Submission, timeout: float) -> None:
        self._timeout = timeout
        self._submission = submission
        self._loop = asyncio.get_running_loop()
        self._results: asyncio.Queue[Segment | Transcript | Exception] = asyncio.Queue()
        self._dropped = False
        self.waiting = True
        self.done = False

    async def result(self) -> Segment | Transcript:
        """Return the next segment, or at the end the transcript; raise the error that ended it.

        Raises DroppedError when the job was dropped, OvertimeError when it took too long.
        """
        result = await self._results.get()
        if isinstance(result, Exception):
            raise result
        return result

    def drop(self) -> None:
        """Cancel the job; if it is running, it ends before the next step of the batch."""
        self._dropped = True
        self._results.put_nowait(DroppedError())

    def begin(self, transcriber: Transcriber, batch: Batch) -> None:
        """Add the recording to a batch."""
        self._deadline = monotonic() + self._timeout
        self.waiting = False
        try:
            self._recording = self._submission.open(transcriber, self._check)
        except Exception as error:  # noqa: BLE001 # raised again where the result is awaited
            self.finish(error)
        else:
            batch.add(self._recording)

    def advance(self, batch: Batch) -> None:
        """Hand over what is new; the job is done when all is, or there is an error."""
        if self.done:  # it could not begin
            return
        for segment in self._recording.new_segments():
            self._hand_over(segment)
        try:
            self._check()
        except (DroppedError, OvertimeError) as error:
            self.finish(error)
        if self._recording.done and not self.done:
            self.finish(self._recording.result())
        if self.done:
            batch.remove(self._recording)

    def finish(self, result: Transcript | Exception) -> None:
        """Hand over the last result."""
        self.done = True
        self._hand_over(result)

    def _check(self) -> None:
        if self._dropped:
            raise DroppedError
        if monotonic() > self._deadline:
            raise OvertimeError(
                f"transcribing took longer than {self._timeout:g} s, the most that this server "
                "spends on a recording. Cut it into parts."
            )

    def _hand_over(self, result: Segment | Transcript | Exception) -> None:
        """Pass a result, or the error instead of it, to the caller of `result`."""
        with suppress(RuntimeError):  # the event loop has ended, and with it the caller
            self._loop.call_soon_threadsafe(self._results.put_nowait, result)


class Jobs:
    """One transcriber, which `load` returns, and at most `waiting` submissions in its queue.

    A submission may take `timeout` seconds of work. One thread does the work, `TOGETHER` jobs in
    one batch: the engine uses all the threads that it was given already.
    """

    def __init__(
        self, load: Callable[[], Transcriber], waiting: int, timeout: float, metrics: Metrics
    ) -> None:
        self._metrics = metrics
        self._places = waiting + TOGETHER
        self._timeout = timeout
        self._requests = 0
        self._jobs: set[Job] = set()
        self._queue: SimpleQueue[Job | None] = SimpleQueue()  # None: the end
        self._executor = ThreadPoolExecutor(max_workers=1)
        self._engine = self._executor.submit(load)
        self._executor.submit(self._work)
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
        job = Job(submission, self._timeout)
        self._jobs.add(job)
        self._queue.put(job)
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
        """Wait for the current step, and end the thread."""
        self._queue.put(None)
        self._executor.shutdown()

    def _work(self) -> None:
        """Decode jobs until the end of the queue."""
        try:
            transcriber = self._engine.result()
        except Exception as error:  # noqa: BLE001 # raised again where results are awaited
            while job := self._queue.get():
                job.finish(error)
            return
        running: list[Job] = []
        while True:
            try:
                self._decode(transcriber, running)
            except Exception as error:  # noqa: BLE001 # no memory for a larger batch, for example
                for job in running:
                    job.finish(error)
                running.clear()
            else:
                return

    def _decode(self, transcriber: Transcriber, running: list[Job]) -> None:
        """Decode jobs in one batch until the end of the queue; `running` are those in it.

        Raises what the engine raises outside of a decoding: the batch is then of no more use.
        """
        batch = Batch(transcriber.decoder.backend, TOGETHER)
        while True:
            while len(running) < TOGETHER and not (running and self._queue.empty()):
                if (job := self._queue.get()) is None:
                    return
                running.append(job)
                with self._counted_as_work():
                    job.begin(transcriber, batch)
            with self._counted_as_work():
                batch.step()
                for job in running:
                    job.advance(batch)
            running[:] = [job for job in running if not job.done]

    @contextmanager
    def _counted_as_work(self) -> Iterator[None]:
        """Add the time of a block to the metric, also where it fails."""
        started = perf_counter()
        try:
            yield
        finally:
            self._metrics.work.inc(perf_counter() - started)
