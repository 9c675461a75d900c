"""A request's multipart form: read within its limits, and checked before any work."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TypeVar

import python_multipart  # Starlette would miss it at the first upload only
from starlette.datastructures import FormData, UploadFile
from starlette.requests import Request
from starlette.types import Message

from edgewhisper_runtime.errors import EdgeWhisperError
from edgewhisper_runtime.options import Options
from edgewhisper_runtime.serve.errors import Refusal
from edgewhisper_runtime.text import languages

FORMATS = ("json", "text", "srt", "verbose_json", "vtt")
_STREAMED_FORMATS = ("json", "text")
_GRANULARITIES = ("segment", "word")
_TRUTH = {"true": True, "1": True, "false": False, "0": False}
_PARAMETERS = (
    "file", "model", "language", "prompt", "keywords", "response_format", "temperature",
    "timestamp_granularities", "stream",
)  # fmt: skip
_MOST_FIELDS = 100
_FORM_BYTES = 64 * 1024  # what a form takes beside its file
_UPLOAD_SECONDS = 300  # an upload holds a place in the queue, so it may not take for ever

T = TypeVar("T")

# It would write what is wrong with a client's form to the operator's terminal.
logging.getLogger(python_multipart.__name__).addHandler(logging.NullHandler())


@dataclass(frozen=True)
class Form:
    """What was asked for; `granularities` are those of verbose_json: segment, word."""

    file: UploadFile
    response_format: str
    granularities: Collection[str]
    stream: bool
    language: str | None
    options: Options


@asynccontextmanager
async def read(request: Request, largest: int, models: Collection[str]) -> AsyncIterator[Form]:
    """Read the form of a request for one of `models`, with a file of at most `largest` bytes.

    Raises Refusal: 400 for what is missing or means nothing, 404 for another model, 408 when it
    takes too long, 413 as soon as it is too large, 415 when it is no multipart form.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "multipart/form-data":
        raise Refusal(
            415, f"the body is {kind or 'of no type'}; send multipart/form-data with a file."
        )
    request = _limited(request, largest)
    try:
        async with asyncio.timeout(_UPLOAD_SECONDS):
            fields = await request.form(max_files=1, max_fields=_MOST_FIELDS)
    except TimeoutError as error:
        raise Refusal(408, f"the upload took longer than {_UPLOAD_SECONDS} s.") from error
    try:
        yield _check(fields, models)
    finally:
        await fields.close()


def _limited(request: Request, largest: int) -> Request:
    """Return the request with a body that is refused at the first byte too many."""
    most = largest + _FORM_BYTES
    refusal = Refusal(
        413,
        f"the upload is larger than {largest / 1e6:g} MB, the most that this server takes. "
        "Compress the audio (FLAC, Opus, MP3), or cut it.",
        param="file",
    )
    announced = request.headers.get("content-length", "0")
    if announced.isdigit() and int(announced) > most:
        raise refusal
    received = 0

    async def receive() -> Message:
        nonlocal received
        message = await request.receive()
        received += len(message.get("body", b""))
        if received > most:
            raise refusal
        return message

    return Request(request.scope, receive)


def _check(fields: FormData, models: Collection[str]) -> Form:
    for name in fields:
        if name.removesuffix("[]") not in _PARAMETERS:
            known = ", ".join(_PARAMETERS)
            raise Refusal(400, f"parameter {name!r} is not supported. Use {known}.", param=name)
    file = fields.get("file")
    if not isinstance(file, UploadFile):
        raise Refusal(400, "there is no file in the form. Add one named file.", param="file")
    model = _text(fields, "model")
    if not model:
        raise Refusal(400, f"model is missing. Use {' or '.join(models)}.", param="model")
    if model not in models:
        raise Refusal(
            404,
            f"there is no model {model!r} here. Use {' or '.join(models)}.",
            param="model",
            code="model_not_found",
        )
    response_format = _choice("response_format", _text(fields, "response_format"), FORMATS, "json")
    stream = _parsed(fields, "stream", lambda text: _TRUTH[text.lower()], "true or false") or False
    if stream and response_format not in _STREAMED_FORMATS:
        raise Refusal(
            400, f"{response_format} cannot be streamed; use json.", param="response_format"
        )
    granularities = [
        _choice("timestamp_granularities", text, _GRANULARITIES, "segment")
        for text in _texts(fields, "timestamp_granularities")
    ]
    if granularities and response_format != "verbose_json":
        raise Refusal(
            400,
            "timestamp_granularities go with response_format verbose_json only.",
            param="timestamp_granularities",
        )
    granularities = granularities or ["segment"]
    return Form(
        file=file,
        response_format=response_format,
        granularities=granularities,
        stream=stream,
        language=_language(fields),
        options=_options(fields, response_format, granularities),
    )


def _language(fields: FormData) -> str | None:
    text = _text(fields, "language")
    try:
        return languages.to_code(text) if text else None
    except EdgeWhisperError as error:
        raise Refusal(400, str(error), param="language") from error


def _options(fields: FormData, response_format: str, granularities: Collection[str]) -> Options:
    """Return how to decode: with times where the answer shows them, else as fast as can be."""
    plain = Options()
    # 0 means in OpenAI's API: warmer where the text fails, which is what the default does.
    temperature = _parsed(fields, "temperature", _temperature, "a number from 0 to 1")
    return Options(
        temperatures=(temperature,) if temperature else plain.temperatures,
        timestamps=response_format not in _STREAMED_FORMATS,
        words="word" in granularities,
        prompt=_text(fields, "prompt"),
        hotwords=tuple(_texts(fields, "keywords")),
    )


def _temperature(text: str) -> float:
    if not 0 <= (temperature := float(text)) <= 1:
        raise ValueError(text)
    return temperature


def _text(fields: FormData, name: str) -> str:
    return next(reversed(_texts(fields, name)), "")


def _texts(fields: FormData, name: str) -> list[str]:
    """Return all values of a field, which a list's may spell with brackets."""
    values = [*fields.getlist(name), *fields.getlist(f"{name}[]")]
    return [value for value in values if isinstance(value, str)]


def _choice(name: str, text: str, choices: Collection[str], default: str) -> str:
    if (text or default) not in choices:
        raise Refusal(400, f"{name} is {text!r}; use one of {', '.join(choices)}.", param=name)
    return text or default


def _parsed(fields: FormData, name: str, parse: Callable[[str], T], meaning: str) -> T | None:
    text = _text(fields, name)
    try:
        return parse(text) if text else None
    except (ValueError, KeyError) as error:
        raise Refusal(400, f"{name} is {text!r}; it must be {meaning}.", param=name) from error
