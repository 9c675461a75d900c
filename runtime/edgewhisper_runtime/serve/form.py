"""A request's multipart form: read within its limits, and checked before any work."""

from __future__ import annotations

import asyncio
import logging
import math
import re
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass
from time import monotonic
from typing import TypeVar

import python_multipart  # Starlette would miss it at the first upload only
from starlette.datastructures import FormData, UploadFile
from starlette.requests import Request
from starlette.types import Message

from edgewhisper_runtime.errors import EdgeWhisperError
from edgewhisper_runtime.options import MAX_PENALTY, Options
from edgewhisper_runtime.serve.errors import Refusal
from edgewhisper_runtime.serve.fields import IGNORED_NAMES, READ
from edgewhisper_runtime.text import languages

FORMATS = ("json", "text", "srt", "verbose_json", "vtt")
_PLAIN_FORMATS = ("json", "text")  # without times; they can be streamed
_GRANULARITIES = ("segment", "word")
_LIST = re.compile(r"\[\d*\]$")  # what clients add to the name for each entry of a list
_TRUTH = {"true": True, "1": True, "false": False, "0": False}
_MOST_FIELDS = 100
_FORM_BYTES = 64 * 1024  # what a form takes beside its file
# A body that stalls for so many seconds, or is slower than so many bytes in a second, is refused.
_STALL_SECONDS = 20
_SLOWEST = 10_000
_MOST_HYPOTHESES = 10
_ROUNDING = 1e-6
_LEAST_INCREMENT = 0.1  # of the temperature: each is another decoding

T = TypeVar("T")

# It would write what is wrong with a client's form to the operator's terminal.
logging.getLogger(python_multipart.__name__).addHandler(logging.NullHandler())


@dataclass(frozen=True)
class Form:
    """What was asked for; `granularities` are those of verbose_json: segment, word.

    `translate` asks for English text, whatever the path; `ignored` are fields that do nothing.
    """

    file: UploadFile
    response_format: str
    granularities: Collection[str]
    stream: bool
    language: str | None
    translate: bool
    options: Options
    ignored: Collection[str]


@asynccontextmanager
async def read(request: Request, largest: int, models: Collection[str]) -> AsyncIterator[Form]:
    """Read the form of a request for one of `models`, with a file of at most `largest` bytes.

    Raises Refusal: 400 for a field that is missing or wrong, 404 for another model, 408 for a
    client that is too slow, 413 as soon as it is too large, 415 when it is no multipart form.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "multipart/form-data":
        raise Refusal(
            415, f"the body is {kind or 'of no type'}; send multipart/form-data with a file."
        )
    fields = await _limited(request, largest).form(max_files=1, max_fields=_MOST_FIELDS)
    try:
        yield _check(fields, models)
    finally:
        await fields.close()


def _limited(request: Request, largest: int) -> Request:
    """Return the request; its body is refused once it is too long or too slow."""
    limit = largest + _FORM_BYTES
    refusal = Refusal(
        413,
        f"the upload is larger than {largest / 1e6:g} MB, the most that this server takes. "
        "Compress the audio (FLAC, Opus, MP3), or cut it.",
        param="file",
    )
    announced = request.headers.get("content-length", "0")
    if announced.isdigit() and int(announced) > limit:
        raise refusal
    begin, received = monotonic(), 0

    async def receive() -> Message:
        nonlocal received
        late = begin + _STALL_SECONDS + received / _SLOWEST - monotonic()
        try:
            async with asyncio.timeout(min(late, _STALL_SECONDS)):
                message = await request.receive()
        except TimeoutError as error:
            raise Refusal(
                408,
                f"the upload stalled for {_STALL_SECONDS} s, or is slower than "
                f"{_SLOWEST // 1000} kB/s.",
            ) from error
        received += len(message.get("body", b""))
        if received > limit:
            raise refusal
        return message

    return Request(request.scope, receive)


def _check(fields: FormData, models: Collection[str]) -> Form:
    for field in fields:
        if field.partition("[")[0] not in IGNORED_NAMES and _LIST.sub("", field) not in READ:
            raise Refusal(
                400, f"parameter {field!r} is not supported. Use {', '.join(READ)}.", param=field
            )
    names = dict.fromkeys(field.partition("[")[0] for field in fields)
    file = fields.get("file")
    if not isinstance(file, UploadFile):
        raise Refusal(400, "there is no file in the form. Add one named file.", param="file")
    model = _text(fields, "model")
    if model and model not in models:
        raise Refusal(
            404,
            f"there is no model {model!r} here. Use {' or '.join(models)}.",
            param="model",
            code="model_not_found",
        )
    response_format = _choice("response_format", _text(fields, "response_format"), FORMATS, "json")
    stream = _truth(fields, "stream", default=False)
    if stream and response_format not in _PLAIN_FORMATS:
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
    if _truth(fields, "word_timestamps", default=False):
        if response_format in _PLAIN_FORMATS:
            raise Refusal(
                400,
                f"{response_format} has no times; word_timestamps go with response_format "
                "verbose_json, srt and vtt.",
                param="word_timestamps",
            )
        granularities += _GRANULARITIES
    granularities = granularities or ["segment"]
    return Form(
        file=file,
        response_format=response_format,
        granularities=granularities,
        stream=stream,
        language=_language(fields),
        translate=_truth(fields, "translate", default=False),
        options=_options(fields, response_format, granularities),
        ignored=[name for name in names if name in IGNORED_NAMES],
    )


def _language(fields: FormData) -> str | None:
    text = _text(fields, "language")
    try:
        return languages.to_code(text)
    except EdgeWhisperError as error:
        raise Refusal(400, str(error), param="language") from error


def _options(fields: FormData, response_format: str, granularities: Collection[str]) -> Options:
    """Return how to decode: with times where the answer shows them, else as fast as can be."""
    plain = Options()
    hotwords = [*_texts(fields, "keywords"), *_text(fields, "hotwords").split(",")]
    return Options(
        beam_size=_count(fields, "beam_size", plain.beam_size),
        best_of=_count(fields, "best_of", plain.best_of),
        temperatures=_temperatures(fields),
        max_compression_ratio=_limit(
            fields, "compression_ratio_threshold", default=plain.max_compression_ratio
        ),
        min_log_probability=_limit(
            fields, "log_prob_threshold", "logprob_thold", default=plain.min_log_probability
        ),
        max_no_speech=_limit(
            fields, "no_speech_threshold", "no_speech_thold", default=plain.max_no_speech
        ),
        timestamps=response_format not in _PLAIN_FORMATS,
        words="word" in granularities,
        prompt=_text(fields, "prompt") or _text(fields, "initial_prompt"),
        hotwords=tuple(word.strip() for word in hotwords if word.strip()),
        condition_on_previous_text=_truth(
            fields, "condition_on_previous_text", default=plain.condition_on_previous_text
        ),
        repetition_penalty=_parsed(
            fields, "repetition_penalty", _penalty, f"a number from 1 to {MAX_PENALTY}"
        )
        or plain.repetition_penalty,
        no_repeat_ngram=_parsed(fields, "no_repeat_ngram_size", _size, "a number from 0") or 0,
        multilingual=_truth(fields, "multilingual", default=False),
        vad=plain.vad if _truth(fields, "vad_filter", "vad", default=True) else "none",
    )


def _temperatures(fields: FormData) -> tuple[float, ...]:
    """Return the temperatures to try: 0 means in OpenAI's API to raise it where the text fails.

    whisper.cpp's clients send how far it is raised at a time; 0: not at all.
    """
    temperature = _parsed(fields, "temperature", _fraction, "a number from 0 to 1") or 0.0
    meaning = f"0 or a number from {_LEAST_INCREMENT:g} to 1"
    increment = _parsed(fields, "temperature_inc", _increment, meaning)
    if increment is None:
        return (temperature,) if temperature else Options().temperatures
    if not increment:
        return (temperature,)
    steps = int((1 - temperature) / increment + _ROUNDING)
    return tuple(min(round(temperature + n * increment, 3), 1.0) for n in range(steps + 1))


def _fraction(text: str) -> float:
    if not 0 <= (number := float(text)) <= 1:
        raise ValueError(text)
    return number


def _increment(text: str) -> float:
    if 0 < (number := _fraction(text)) < _LEAST_INCREMENT:
        raise ValueError(text)
    return number


def _penalty(text: str) -> float:
    if not 1 <= (number := float(text)) <= MAX_PENALTY:
        raise ValueError(text)
    return number


def _size(text: str) -> int:
    if (number := int(text)) < 0:
        raise ValueError(text)
    return number


def _count(fields: FormData, name: str, default: int) -> int:
    def parse(text: str) -> int:
        if not 1 <= (number := int(text)) <= _MOST_HYPOTHESES:
            raise ValueError(text)
        return number

    return _parsed(fields, name, parse, f"a number from 1 to {_MOST_HYPOTHESES}") or default


def _limit(fields: FormData, *names: str, default: float | None) -> float | None:
    """Return the first of some fields that is there."""

    def parse(text: str) -> float:
        if not math.isfinite(number := float(text)):
            raise ValueError(text)
        return number

    numbers = (_parsed(fields, name, parse, "a number") for name in names)
    return next((number for number in numbers if number is not None), default)


def _truth(fields: FormData, *names: str, default: bool) -> bool:
    """Return the first of some fields that is there."""
    values = (
        _parsed(fields, name, lambda text: _TRUTH[text.lower()], "true or false") for name in names
    )
    return next((value for value in values if value is not None), default)


def _text(fields: FormData, name: str) -> str:
    return next(reversed(_texts(fields, name)), "")


def _texts(fields: FormData, name: str) -> list[str]:
    """Return all values of a field, whose name a list may spell with brackets."""
    values = [value for field, value in fields.multi_items() if _LIST.sub("", field) == name]
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
