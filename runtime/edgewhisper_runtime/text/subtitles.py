"""Segments to subtitle cues: short enough to read, broken where a speaker would pause.

Lines of at most 42 columns, two to a cue, and 7 s a cue, where nothing else is asked for, are the
limits of Netflix's Timed Text Style Guide for Latin scripts. A column is a character; those that
Unicode calls wide or fullwidth take two.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise

from edgewhisper_runtime.errors import EdgeWhisperError
from edgewhisper_runtime.transcript import Segment, Word

SECONDS = 7
_LONGEST_PAUSE = 1000  # ms; a longer one ends a cue
_TOO_SHORT, _SHOWN = 0.1, 1.0  # seconds: segments that nobody can read, and how long they are shown

_SENTENCE = re.compile(r"[.!?\u2026\u3002\uff01\uff1f\u0964\u06d4]\W*$")
_CLAUSE = re.compile(r"[,;:\u2014\u3001\uff0c\uff1b\uff1a\u060c]\W*$")

# Thai, Lao, Tibetan, Myanmar, Khmer; kana, ideographs and their punctuation; fullwidth forms.
_WITHOUT_SPACES = re.compile(
    r"[\u0e00-\u0fff\u1000-\u109f\u1780-\u17ff\u3000-\u30ff\u3400-\u9fff"
    r"\uf900-\ufaff\uff00-\uffef\U00020000-\U0003ffff]"
)
# Vowels written before their consonant (Thai, Lao) do not end a line; vowels written after it,
# small kana and repetition marks do not begin one.
_NEVER_LAST = frozenset("เแโใไເແໂໃໄ")
_NEVER_FIRST = frozenset("ะาำๅຯะາຳぁぃぅぇぉっゃゅょゎァィゥェォッャュョヮ々ゝゞヽヾ〜")
_OPENING = frozenset({"Ps", "Pi"})
_BOUND = frozenset({"Mn", "Mc", "Me", "Pe", "Pf", "Po", "Lm"})


@dataclass(frozen=True)
class Layout:
    """How much text a cue shows: lines of at most so many columns, and of so many words if given.

    Where lines are not broken at spaces, each place where one may end counts as the end of a word.
    Raises EdgeWhisperError for a number below 1.
    """

    columns: int = 42
    lines: int = 2
    words: int | None = None

    def __post_init__(self) -> None:
        """Check what types cannot."""
        words = 1 if self.words is None else self.words
        if min(self.columns, self.lines, words) < 1:
            raise EdgeWhisperError("subtitles have at least one line, one column and one word.")


STANDARD = Layout()


@dataclass(frozen=True)
class Cue:
    """Lines of text, and when to show them, in milliseconds."""

    start: int
    end: int
    lines: tuple[str, ...]


@dataclass(frozen=True)
class _Piece:
    """Text that is never broken, with the space before it; times in milliseconds."""

    text: str
    start: int
    end: int

    @cached_property
    def width(self) -> int:
        """Columns, those of the space before it included."""
        return columns(self.text)

    @cached_property
    def space(self) -> bool:
        return self.text.startswith(" ")

    @cached_property
    def reluctance(self) -> float:
        """From 0 to 1: how bad it is to break after this piece."""
        if _SENTENCE.search(self.text):
            return 0.0
        return 0.3 if _CLAUSE.search(self.text) else 1.0


def columns(text: str) -> int:
    """Return how many columns the text takes (Unicode Standard Annex 11)."""
    return sum(2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


def cues(segments: Iterable[Segment], layout: Layout = STANDARD) -> list[Cue]:
    """Return the segments as cues, in order and without overlaps.

    Words keep their own times; in a segment without words, each character takes an equal share of
    its time. A segment that is too short to read is shown in the pause beside it, or together with
    the segment there.
    """
    unclipped: list[Cue] = []
    for segment in _lengthened(list(segments)):
        laid_out = _lay_out(_pieces(segment, layout), layout)
        if any(cue.start == cue.end for cue in laid_out):  # words may have no length
            laid_out = _lay_out(_pieces(replace(segment, words=[]), layout), layout)
        unclipped += laid_out
    return [
        replace(cue, end=max(cue.start, min(cue.end, following.start)))
        for cue, following in pairwise(unclipped)
    ] + unclipped[-1:]


def _lengthened(segments: Sequence[Segment]) -> list[Segment]:
    """Return the segments, without any that is too short to read.

    Such a one takes a second of the pause before it. Where there is none it is joined to the
    segment there; the first takes a second after it, or is joined to the next.
    """
    lengthened: list[Segment] = []
    nexts = [*(segment.start for segment in segments[1:]), math.inf]
    for segment, following in zip(segments, nexts, strict=False):
        own, last = segment, lengthened[-1] if lengthened else None
        if _is_too_short(own):
            if own.start - _SHOWN >= (last.end if last else 0.0):
                own = replace(own, start=own.start - _SHOWN)
            elif not last and own.end + _SHOWN <= following:
                own = replace(own, end=own.end + _SHOWN)
        if last and (_is_too_short(last) or _is_too_short(own)):
            words = [*last.words, *own.words] if last.words and own.words else []
            lengthened[-1] = replace(last, end=own.end, text=last.text + own.text, words=words)
        else:
            lengthened.append(own)
    return lengthened


def _is_too_short(segment: Segment) -> bool:
    return segment.end - segment.start < _TOO_SHORT


def _pieces(segment: Segment, layout: Layout) -> list[_Piece]:
    """Cut the segment's text wherever a line may end."""
    pieces: list[_Piece] = []
    text, start, end, last = "", 0, 0, ""
    for character, begin, until in _characters(segment):
        full = columns((text + character).strip()) > layout.columns
        if text.strip() and (full or _may_break(last, character)):
            pieces.append(_Piece(text, start, end))
            text = ""
        if not text.strip():
            start = begin
        text, end, last = text + character, until, character
    return [*pieces, _Piece(text, start, end)] if text.strip() else pieces


def _characters(segment: Segment) -> Iterator[tuple[str, int, int]]:
    """Yield each character, runs of white space as one, with its times; spaces take none."""
    now, last = segment.start, segment.end
    space = False
    timed: Sequence[Word | Segment] = segment.words or [segment]
    for word in timed:
        now = max(now, min(word.start, last))
        seconds = max(0.0, min(word.end, last) - now)
        letters, begin, done = len("".join(word.text.split())), now, 0
        for character in word.text:
            if character.isspace():
                if not space:
                    yield " ", round(1000 * now), round(1000 * now)
            else:
                done += 1
                until = begin + seconds * done / letters
                yield character, round(1000 * now), round(1000 * until)
                now = until
            space = character.isspace()


def _may_break(before: str, after: str) -> bool:
    """Whether a line may end between two characters (a small part of Unicode Annex 14)."""
    if " " in {before, after}:
        return after == " "
    if before in _NEVER_LAST or unicodedata.category(before) in _OPENING:
        return False
    if after in _NEVER_FIRST or unicodedata.category(after) in _BOUND:
        return False
    return any(map(_WITHOUT_SPACES.match, (before, after)))


def _lay_out(pieces: Sequence[_Piece], layout: Layout) -> list[Cue]:
    """Group pieces into the cues of least cost: few, of similar lengths, with ends of clauses.

    Dynamic programming over the ends of cues; a cue of one piece is always possible.
    """
    best = [(0.0, 0)]  # for the first n pieces: the cost, and where their last cue begins
    for end in range(1, len(pieces) + 1):
        best.append(
            min(
                (best[at][0] + _cost(pieces[at:end], layout), at)
                for at in _beginnings(pieces, end, layout)
            )
        )
    backwards: list[Cue] = []
    end = len(pieces)
    while end:
        begin = best[end][1]
        group = pieces[begin:end]
        stop = min(group[-1].end, group[0].start + 1000 * SECONDS)
        backwards.append(Cue(group[0].start, stop, _lines(group, layout)))
        end = begin
    return backwards[::-1]


def _beginnings(pieces: Sequence[_Piece], end: int, layout: Layout) -> Iterator[int]:
    """Yield where a cue that ends before piece `end` may begin."""
    yield end - 1
    for begin in range(end - 2, -1, -1):
        piece, following = pieces[begin], pieces[begin + 1]
        if (
            following.start - piece.end > _LONGEST_PAUSE
            or pieces[end - 1].end - piece.start > 1000 * SECONDS
            or _fewest_lines(pieces[begin:end], layout) > layout.lines
        ):
            return
        yield begin


def _cost(group: Sequence[_Piece], layout: Layout) -> float:
    full = _width(group) / (layout.lines * layout.columns)
    return 1 + full**2 + group[-1].reluctance


def _fits(line: Sequence[_Piece], layout: Layout) -> bool:
    return _width(line) <= layout.columns and len(line) <= (layout.words or len(line))


def _fewest_lines(group: Sequence[_Piece], layout: Layout) -> int:
    """Return how many lines a group takes where each line is filled before the next begins."""
    begin, lines = 0, 1
    for end in range(2, len(group) + 1):
        if not _fits(group[begin:end], layout):
            begin, lines = end - 1, lines + 1
    return lines


def _lines(group: Sequence[_Piece], layout: Layout) -> tuple[str, ...]:
    """Break a group into as few lines as it takes, the best of that number.

    Lines of similar lengths are better, and so are those that end a clause. Dynamic programming
    over the ends of lines.
    """
    count = _fewest_lines(group, layout)
    mean = _width(group) / count
    best: dict[int, tuple[float, tuple[int, ...]]] = {
        0: (0.0, ())
    }  # by the pieces in the lines so far: the cost, and where lines begin
    for last in (False,) * (count - 1) + (True,):
        longer: dict[int, tuple[float, tuple[int, ...]]] = {}
        for begin, (cost, begins) in best.items():
            for end in range(begin + 1, len(group) + 1):
                line = group[begin:end]
                if not _fits(line, layout) and end > begin + 1:
                    break
                reluctance = 0.0 if last else layout.columns / 2 * line[-1].reluctance
                candidate = (cost + abs(_width(line) - mean) + reluctance, (*begins, begin))
                longer[end] = min(candidate, longer.get(end, candidate))
        best = longer
    begins = (*best[len(group)][1], len(group))
    return tuple(
        "".join(piece.text for piece in group[begin:end]).strip() for begin, end in pairwise(begins)
    )


def _width(group: Sequence[_Piece]) -> int:
    """Return the columns of a line, without the space before it."""
    return sum(piece.width for piece in group) - group[0].space
