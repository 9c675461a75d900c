"""Every format is read back by a reader that is not ours, and says what the transcript says."""

from __future__ import annotations

import csv
import html
import io
import json
from dataclasses import asdict

import pytest
import srt
import webvtt
from hypothesis import given
from hypothesis import strategies as st

from edgewhisper_runtime.text import subtitles
from edgewhisper_runtime.text.writers import WRITERS
from edgewhisper_runtime.transcript import Segment, Transcript, Window, Word

TEXTS = st.lists(st.text(st.characters(codec="utf-8"), max_size=100))


def transcript(*texts: str, start: float = 0.0, looping: bool = False) -> Transcript:
    """One segment of 3 s for each text."""
    segments = [
        Segment(start + 3 * n, start + 3 * n + 3, text, [n], 0) for n, text in enumerate(texts)
    ]
    end = start + 3 * len(texts)
    window = Window(0, end, [], 0.0, -0.1, 1.2, None, looping)
    return Transcript("".join(texts).strip(), "en", None, end, segments, [window])


@given(TEXTS)
def test_srt_is_read_back(texts: list[str]) -> None:
    spoken = transcript(*texts)
    cues = subtitles.cues(spoken.segments)
    found = list(srt.parse(WRITERS["srt"](spoken), ignore_errors=False))
    assert [cue.index for cue in found] == list(range(1, len(cues) + 1))
    for ours, theirs in zip(cues, found, strict=True):
        assert theirs.start.total_seconds() == ours.start / 1000
        assert theirs.end.total_seconds() == ours.end / 1000
        assert theirs.content == "\n".join(ours.lines)


@given(TEXTS)
def test_vtt_is_read_back(texts: list[str]) -> None:
    spoken = transcript(*texts)
    cues = subtitles.cues(spoken.segments)
    found = list(webvtt.from_buffer(io.StringIO(WRITERS["vtt"](spoken))))
    for ours, theirs in zip(cues, found, strict=True):
        assert theirs.start_in_seconds == ours.start // 1000
        assert html.unescape("\n".join(theirs.lines)) == "\n".join(ours.lines)


@given(TEXTS)
def test_tsv_is_read_back(texts: list[str]) -> None:
    spoken = transcript(*texts)
    lines = io.StringIO(WRITERS["tsv"](spoken), newline="\n")
    rows = list(csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE))
    said = [segment for segment in spoken.segments if segment.text.strip()]
    assert [row["text"] for row in rows] == [" ".join(segment.text.split()) for segment in said]
    assert [int(row["start"]) for row in rows] == [1000 * segment.start for segment in said]
    assert [int(row["end"]) for row in rows] == [1000 * segment.end for segment in said]


def test_times_are_written_as_the_formats_say() -> None:
    late = transcript(" Yes.", start=3599.9996)
    assert WRITERS["srt"](late) == "1\n01:00:00,000 --> 01:00:03,000\nYes.\n"
    assert WRITERS["vtt"](late) == "WEBVTT\n\n01:00:00.000 --> 01:00:03.000\nYes.\n"
    assert WRITERS["tsv"](late) == "start\tend\ttext\n3600000\t3603000\tYes.\n"
    assert "100:00:00,000 -->" in WRITERS["srt"](transcript(" Yes.", start=360_000))


def test_vtt_escapes_markup() -> None:
    assert "a &lt;b&gt; &amp; c --&gt; d\n" in WRITERS["vtt"](transcript("a <b> & c --> d"))


def test_json_holds_everything() -> None:
    word = Word(0.0, 1.0, " naïve", 0.5)
    segment = Segment(0.0, 1.0, " naïve", [7], 0, [word])
    window = Window(0.0, 1.0, [7], 0.2, -0.5, 0.9, 0.1, looping=True)
    spoken = Transcript("naïve", "fr", 0.75, 1.0, [segment], [window])
    text = WRITERS["json"](spoken, file="a.wav", seconds=0.5)
    assert text.endswith("}\n")
    assert "naïve" in text
    record = json.loads(text)
    assert (record.pop("file"), record.pop("seconds")) == ("a.wav", 0.5)
    assert record.pop("problem") == "looping"
    assert record == asdict(spoken)


@pytest.mark.parametrize("name", WRITERS)
def test_nothing_said_is_a_file_all_the_same(name: str) -> None:
    text = WRITERS[name](transcript(), file="a.wav", seconds=0.5)
    expected = {"txt": "\n", "srt": "", "vtt": "WEBVTT\n", "tsv": "start\tend\ttext\n"}
    assert text == expected[name] if name in expected else json.loads(text)["problem"] == "empty"
