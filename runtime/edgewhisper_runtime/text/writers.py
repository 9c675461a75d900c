"""A transcript as text, subtitles, a table or JSON."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from edgewhisper_runtime.text import subtitles
from edgewhisper_runtime.text.subtitles import STANDARD, Layout
from edgewhisper_runtime.transcript import Transcript

_VTT_ESCAPES = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})


def to_txt(transcript: Transcript, _layout: Layout = STANDARD, **_facts: Any) -> str:
    """Return the text on one line."""
    return transcript.text.strip() + "\n"


def to_srt(transcript: Transcript, layout: Layout = STANDARD, **_facts: Any) -> str:
    """Return SubRip subtitles, laid out by `subtitles.cues`."""
    return "\n".join(
        f"{number}\n{_time(cue.start, ',')} --> {_time(cue.end, ',')}\n" + _lines(cue)
        for number, cue in enumerate(subtitles.cues(transcript.segments, layout), 1)
    )


def to_vtt(transcript: Transcript, layout: Layout = STANDARD, **_facts: Any) -> str:
    """Return WebVTT subtitles (W3C), laid out by `subtitles.cues`."""
    return "\n".join(
        [
            "WEBVTT\n",
            *(
                f"{_time(cue.start, '.')} --> {_time(cue.end, '.')}\n"
                + _lines(cue).translate(_VTT_ESCAPES)
                for cue in subtitles.cues(transcript.segments, layout)
            ),
        ]
    )


def to_tsv(transcript: Transcript, _layout: Layout = STANDARD, **_facts: Any) -> str:
    """Return one row for each segment: start and end in milliseconds, and its text."""
    rows = [
        f"{round(1000 * segment.start)}\t{round(1000 * segment.end)}\t{text}\n"
        for segment in transcript.segments
        if (text := " ".join(segment.text.split()))
    ]
    return "".join(["start\tend\ttext\n", *rows])


def to_json(transcript: Transcript, _layout: Layout = STANDARD, **facts: Any) -> str:
    """Return one line of JSON: `facts`, the problem, and the transcript's own fields."""
    record = {**facts, "problem": transcript.problem, **asdict(transcript)}
    return json.dumps(record, ensure_ascii=False) + "\n"


# Each takes a transcript, the layout of subtitles, and `facts`: further fields, such as `file` and
# `seconds`, for which only JSON has room.
WRITERS: dict[str, Callable[..., str]] = {
    "txt": to_txt,
    "srt": to_srt,
    "vtt": to_vtt,
    "tsv": to_tsv,
    "json": to_json,
}


def clock(seconds: float) -> str:
    """Return a time as HH:MM:SS.mmm, as WebVTT writes it."""
    return _time(round(1000 * seconds), ".")


def _lines(cue: subtitles.Cue) -> str:
    return "".join(f"{line}\n" for line in cue.lines)


def _time(milliseconds: int, point: str) -> str:
    """Return HH:MM:SS and three decimals after `point`."""
    seconds, rest = divmod(milliseconds, 1000)
    return f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}{point}{rest:03}"
