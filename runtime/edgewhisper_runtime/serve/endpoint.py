"""The endpoints that take a recording: from its upload to the last byte of the answer."""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers, UploadFile
from starlette.requests import ClientDisconnect, Request
from starlette.types import Receive, Scope, Send

from edgewhisper_runtime.errors import AudioError, EdgeWhisperError
from edgewhisper_runtime.options import Task
from edgewhisper_runtime.serve import answers
from edgewhisper_runtime.serve.errors import STOPPING, Refusal, report
from edgewhisper_runtime.serve.form import read
from edgewhisper_runtime.serve.jobs import DroppedError, Job, Jobs, OvertimeError, Submission
from edgewhisper_runtime.serve.metrics import Metrics
from edgewhisper_runtime.transcript import Segment, Transcript

_EVENT_STREAM = {"content-type": "text/event-stream", "cache-control": "no-cache"}
IGNORED_HEADER = "X-EdgeWhisper-Ignored"
# Errors of the transcriber that the request causes, and the field that is wrong, if known; all
# other errors are the server's.
_REQUEST_ERRORS = {AudioError: "file", EdgeWhisperError: None}


@dataclass(frozen=True)
class Uploads:
    """Where uploads are kept while they are needed, and the largest one in bytes."""

    directory: Path
    largest: int

    @asynccontextmanager
    async def store(self, upload: UploadFile) -> AsyncIterator[Path]:
        """Keep an upload for this block, in a file with a name, as decoders need one."""
        handle, name = tempfile.mkstemp(dir=self.directory)
        try:
            with os.fdopen(handle, "wb") as file:
                await run_in_threadpool(shutil.copyfileobj, upload.file, file)
            await upload.close()  # deletes the first copy, which has no name
            yield Path(name)
        finally:
            with suppress(PermissionError):  # Windows: an open file stays until the server ends
                os.unlink(name)


class TranscriptEndpoint:
    """The endpoint of one task, transcribe or translate."""

    def __init__(
        self, task: Task, jobs: Jobs, metrics: Metrics, uploads: Uploads, models: tuple[str, ...]
    ) -> None:
        self._task = task
        self._jobs = jobs
        self._metrics = metrics
        self._uploads = uploads
        self._models = models

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request; its place in the queue and its file are released in any case."""
        with self._jobs.admission():
            async with (
                read(Request(scope, receive), self._uploads.largest, self._models) as form,
                self._uploads.store(form.file) as path,
            ):
                task: Task = "translate" if form.translate else self._task
                submission = Submission(path, form.language, task, form.options)
                headers = {IGNORED_HEADER: ", ".join(form.ignored)} if form.ignored else {}
                with self._jobs.job(submission) as job:
                    disconnect = asyncio.create_task(_drop_on_disconnect(receive, job))
                    try:
                        name = form.file.filename or "the file"
                        results = self._results(job, path, name, disconnect)
                        if form.stream:
                            await _send_events(results, headers, send)
                        else:
                            transcript = await _transcript_of(results)
                            answer = answers.response(transcript, form, task)
                            answer.headers.update(headers)
                            await answer(scope, receive, send)
                    finally:
                        disconnect.cancel()

    async def _results(
        self, job: Job, path: Path, name: str, disconnect: asyncio.Task[None]
    ) -> AsyncIterator[Segment | Transcript]:
        """Yield the results of a job; raise an error as the Refusal to answer with."""
        try:
            while isinstance(result := await job.result(), Segment):
                yield result
        except DroppedError as error:
            raise (ClientDisconnect() if disconnect.done() else Refusal(*STOPPING)) from error
        except OvertimeError as error:
            raise Refusal(504, str(error), code="timeout") from error
        except EdgeWhisperError as error:
            if type(error) not in _REQUEST_ERRORS:
                raise
            message = str(error).replace(str(path), name)
            raise Refusal(400, message, _REQUEST_ERRORS[type(error)]) from error
        self._metrics.audio.inc(result.duration)
        if result.problem:
            self._metrics.problems.labels(result.problem).inc()
        yield result


async def _drop_on_disconnect(receive: Receive, job: Job) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    job.drop()


async def _transcript_of(results: AsyncIterator[Segment | Transcript]) -> Transcript:
    async for result in results:
        if isinstance(result, Transcript):
            return result
    raise AssertionError("a job ends with its transcript")


async def _send_events(
    results: AsyncIterator[Segment | Transcript], headers: Mapping[str, str], send: Send
) -> None:
    """Send segments as they come; an error before the first one gets an HTTP status."""
    started = False
    start = {
        "type": "http.response.start",
        "status": 200,
        "headers": Headers({**_EVENT_STREAM, **headers}).raw,
    }

    async def send_event(event: dict[str, Any]) -> None:
        nonlocal started
        if not started:
            started = True
            await send(start)
        body = answers.event_bytes(event)
        await send({"type": "http.response.body", "body": body, "more_body": True})

    try:
        async for event in answers.events(results):
            await send_event(event)
    except ClientDisconnect:
        if not started:
            raise
        return
    except Exception as error:
        if not started:
            raise
        refusal = error if isinstance(error, Refusal) else report(error)
        await send_event(refusal.content)
    await send({"type": "http.response.body", "body": b"", "more_body": False})
