"""Transcripts as the responses of OpenAI's API."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Collection
from typing import Any

from starlette.responses import JSONResponse, PlainTextResponse, Response

from edgewhisper_runtime.audio.features import FRAMES_PER_SECOND
from edgewhisper_runtime.serve.form import Form
from edgewhisper_runtime.text.writers import WRITERS
from edgewhisper_runtime.transcript import Segment, Transcript, Window


def response(transcript: Transcript, form: Form, task: str) -> Response:
    """Return a transcript as a response in the requested format."""
    match form.response_format:
        case "json":
            return JSONResponse(_common(transcript))
        case "verbose_json":
            return JSONResponse(_verbose(transcript, task, form.granularities))
        case "text":
            return PlainTextResponse(transcript.text + "\n")
        case subtitles:
            return PlainTextResponse(WRITERS[subtitles](transcript))


async def events(results: AsyncIterator[Segment | Transcript]) -> AsyncIterator[dict[str, Any]]:
    """Yield an event for each result of a recording; their deltas joined are its text."""
    started = False
    async for result in results:
        if isinstance(result, Transcript):
            text = result.text
            yield {"type": "transcript.text.done", "text": text, **_problem(result)}
        elif delta := result.text if started else result.text.lstrip():
            started = True
            yield {"type": "transcript.text.delta", "delta": delta}


def event_bytes(event: dict[str, Any]) -> bytes:
    """Return an event as the bytes of a server-sent event."""
    return f"data: {json.dumps(event, ensure_ascii=False)}\n\n".encode()


def _common(transcript: Transcript) -> dict[str, Any]:
    usage = {"type": "duration", "seconds": transcript.duration}
    return {"text": transcript.text, "usage": usage, **_problem(transcript)}


def _problem(transcript: Transcript) -> dict[str, str]:
    """Return the field for a transcript's problem, which OpenAI's API does not have."""
    return {"problem": transcript.problem} if transcript.problem else {}


def _verbose(transcript: Transcript, task: str, granularities: Collection[str]) -> dict[str, Any]:
    content = {
        "task": task,
        # The language of the text, as a code; OpenAI's own server gives a name.
        "language": "en" if task == "translate" else transcript.language,
        "duration": transcript.duration,
        **_common(transcript),
    }
    if "segment" in granularities:
        content["segments"] = [
            _segment(number, segment, transcript.windows[segment.window])
            for number, segment in enumerate(transcript.segments)
        ]
    if "word" in granularities:
        content["words"] = [
            {"word": word.text.strip(), "start": word.start, "end": word.end}
            for segment in transcript.segments
            for word in segment.words
        ]
    return content


def _segment(number: int, segment: Segment, window: Window) -> dict[str, Any]:
    return {
        "id": number,
        "seek": round(window.start * FRAMES_PER_SECOND),
        "start": segment.start,
        "end": segment.end,
        "text": segment.text,
        "tokens": segment.tokens,
        "temperature": window.temperature,
        "avg_logprob": window.log_probability,
        "compression_ratio": window.compression_ratio,
        # Computed only where the text has a low probability; clients expect a number.
        "no_speech_prob": window.no_speech_probability or 0.0,
    }
