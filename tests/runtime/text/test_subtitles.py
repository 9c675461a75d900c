"""Cues are readable, in order, and lose nothing, whatever the text and its times."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from edgewhisper_runtime.errors import EdgeWhisperError
from edgewhisper_runtime.text.subtitles import SECONDS, STANDARD, Layout, columns, cues
from edgewhisper_runtime.transcript import Segment, Word

COLUMNS = STANDARD.columns
LATIN = st.text("abcdefghij", min_size=1, max_size=12)
SPACED = st.lists(
    st.tuples(LATIN, st.sampled_from(["", ",", ".", "?", ";", '."'])), max_size=40
).map(lambda words: "".join(f" {word}{mark}" for word, mark in words))
UNSPACED = st.text("天地玄黃宇宙洪荒、。「」ぁかゃーカ東ﾊ", max_size=90)
UNSPACED |= st.text("กขเแาิ่ำๆ", max_size=90)
ANY = st.text(st.characters(codec="utf-8"), max_size=120)
TEXT = SPACED | UNSPACED | ANY | st.text("x-", min_size=60, max_size=130)


@st.composite
def segments(draw: st.DrawFn, text: st.SearchStrategy[str] = TEXT) -> list[Segment]:
    """Segments in order, the later ones after pauses; some with words at any times at all."""
    found = []
    now = draw(st.floats(0, 1e5))
    for content in draw(st.lists(text, max_size=4)):
        now += draw(st.sampled_from([0, 0.02, 3]))
        length = draw(st.sampled_from([0, 1]) | st.floats(1, 30))
        words = []
        if draw(st.booleans()):
            moments = st.floats(now - 1, now + length + 1)
            words = [
                Word(draw(moments), draw(moments), f" {word}", 1.0) for word in content.split()
            ]
        found.append(Segment(now, now + length, content, [], 0, words))
        now += length
    return found


@given(segments())
@example([Segment(0, 1, "a" * 43, [], 0)])
@example([Segment(0, 9, " one", [], 0, [Word(0, 9, " one", 1.0)])])
@example([Segment(0, 9, "a b", [], 0, [Word(3, 3, " a", 1.0), Word(8, 8, " b", 1.0)])])
def test_every_cue_can_be_read(spoken: list[Segment]) -> None:
    found = cues(spoken)
    for cue in found:
        assert len(cue.lines) in {1, 2}
        for line in cue.lines:
            assert line == line.strip() != ""
            assert columns(line) <= COLUMNS
        assert cue.start < cue.end <= cue.start + 1000 * SECONDS
    for before, after in pairwise(found):
        assert before.end <= after.start


@given(segments())
def test_no_text_is_lost(spoken: list[Segment]) -> None:
    shown = "".join(line for cue in cues(spoken) for line in cue.lines)
    assert "".join(shown.split()) == "".join("".join(s.text for s in spoken).split())


@given(segments(SPACED))
def test_words_stay_whole(spoken: list[Segment]) -> None:
    shown = " ".join(line for cue in cues(spoken) for line in cue.lines)
    assert shown.split() == [word for segment in spoken for word in segment.text.split()]


@given(segments())
def test_cues_stay_within_their_segments(spoken: list[Segment]) -> None:
    beside = 1000 if any(s.start == s.end for s in spoken) else 0  # ms: it is shown there
    spans = [(round(1000 * s.start), round(1000 * s.end)) for s in spoken]
    for cue in cues(spoken):
        assert any(start - beside <= cue.start and cue.end <= end + beside for start, end in spans)


def spoken(text: str, start: float = 0, seconds: float = 0.3) -> list[Word]:
    """Words that follow each other without a pause."""
    return [
        Word(start + n * seconds, start + (n + 1) * seconds, f" {word}", 1.0)
        for n, word in enumerate(text.split())
    ]


def shown(segment: Segment) -> list[tuple[int, int, str]]:
    return [(cue.start, cue.end, " / ".join(cue.lines)) for cue in cues([segment])]


def test_words_bring_their_times() -> None:
    words = [*spoken("It was late.", 1.5), *spoken("Nobody came.", 4)]
    assert shown(Segment(0, 30, "It was late. Nobody came.", [], 0, words)) == [
        (1500, 2400, "It was late."),
        (4000, 4600, "Nobody came."),
    ]


def test_a_pause_of_half_a_second_is_no_end() -> None:
    words = [*spoken("It was late.", 1.5), *spoken("Nobody came.", 2.9)]
    assert shown(Segment(0, 30, "It was late. Nobody came.", [], 0, words)) == [
        (1500, 3500, "It was late. Nobody came.")
    ]


def test_breaks_come_after_punctuation() -> None:
    text = (
        "We walked down to the river before the sun was up, and there we saw the boats come in "
        "one by one. Some of them carried fish, others carried nothing at all."
    )
    by_words = Segment(0, 10, text, [], 0, spoken(text))
    for cue in cues([by_words])[:-1]:
        assert cue.lines[-1].endswith((",", "."))
    assert any(cue.lines[-1].endswith("one by one.") for cue in cues([by_words]))


def test_lines_of_a_cue_are_of_like_lengths() -> None:
    ((_, _, text),) = shown(Segment(0, 5, "aaaa " * 9 + "bbbb", [], 0))
    upper, lower = text.split(" / ")
    assert abs(len(upper) - len(lower)) <= 5


def test_without_words_time_is_shared_by_length() -> None:
    text = f"{'a' * 40} {'b' * 40} {'c' * 20}"
    assert shown(Segment(10, 20, text, [], 0)) == [
        (10_000, 14_000, "a" * 40),
        (14_000, 20_000, f"{'b' * 40} / {'c' * 20}"),
    ]


@pytest.mark.parametrize(
    ("text", "bad_starts", "bad_ends"),
    [
        ("在很久很久以前、有一个老人住在海边的一个小村庄里。" * 4, "、。", ""),
        ("「ちょっと待って」と彼は言った。" * 6, "」。ょっ", "「"),
        ("เขาออกไปจับปลาทุกวันแต่ก็ยังจับไม่ได้เลย" * 4, "าิีัุ่้็", "เแไ"),
    ],
    ids=["zh", "ja", "th"],
)
def test_scripts_without_spaces_break_between_characters(
    text: str, bad_starts: str, bad_ends: str
) -> None:
    lines = [line for cue in cues([Segment(0, 30, text, [], 0)]) for line in cue.lines]
    assert len(lines) > 2
    assert "".join(lines) == text
    for line in lines:
        assert columns(line) <= COLUMNS
        assert line[0] not in bad_starts
        assert line[-1] not in bad_ends


def test_wide_characters_take_two_columns() -> None:
    assert columns("ab天ｱ \uff21") == 2 + 2 + 1 + 1 + 2


LAYOUTS = st.builds(Layout, st.integers(4, 60), st.integers(1, 4), st.none() | st.integers(1, 5))


@given(segments(SPACED), LAYOUTS)
def test_a_layout_of_ones_own_holds_and_loses_nothing(spoken: list[Segment], own: Layout) -> None:
    laid_out = cues(spoken, own)
    for cue in laid_out:
        assert 1 <= len(cue.lines) <= own.lines
        for line in cue.lines:
            assert columns(line) <= own.columns
            assert own.words is None or len(line.split()) <= own.words
    shown = "".join(line for cue in laid_out for line in cue.lines)
    assert shown.replace(" ", "") == "".join(s.text for s in spoken).replace(" ", "")


def test_three_lines_are_of_similar_lengths() -> None:
    text = "the quick brown fox jumps over the lazy dog and runs far away from it"
    (cue,) = cues([Segment(0, 6, text, [], 0)], Layout(columns=26, lines=3))
    assert [columns(line) for line in cue.lines] == [19, 23, 25]


@pytest.mark.parametrize("wrong", [{"columns": 0}, {"lines": 0}, {"words": 0}])
def test_a_layout_without_room_is_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(EdgeWhisperError, match="at least one"):
        Layout(**wrong)


def at(start: float, end: float, text: str, words: bool = False) -> Segment:
    return Segment(start, end, text, [], 0, [Word(start, end, text, 1.0)] if words else [])


@pytest.mark.parametrize("words", [False, True])
@pytest.mark.parametrize(
    ("others", "expected"),
    [
        ([at(0, 2.9, " Hello there.")], [(0, 3000, "Hello there. Thank you.")]),
        ([at(0, 1.5, " Hello.")], [(0, 1500, "Hello."), (2000, 3000, "Thank you.")]),
        ([], [(2000, 3000, "Thank you.")]),
        (
            [at(0, 3, " Hello there."), at(3, 5, " How are you?")],
            [(0, 3000, "Hello there. Thank you."), (3000, 5000, "How are you?")],
        ),
    ],
)
def test_a_segment_without_length_is_shown_before_its_end(
    others: list[Segment], expected: list[tuple[int, int, str]], words: bool
) -> None:
    """Its timestamps were after the end of its window."""
    given = [at(s.start, s.end, s.text, words) for s in others]
    given.insert(1, at(3, 3, " Thank you.", words))
    assert [(c.start, c.end, " / ".join(c.lines)) for c in cues(given)] == expected


@pytest.mark.parametrize("following", [0.0, 0.5, 4.0])
def test_a_first_segment_without_length_is_shown_after_its_start(following: float) -> None:
    first, *rest = cues([at(0, 0, " Thank you."), at(following, following + 2, " Hello.")])
    assert (first.start, first.lines[0][:10]) == (0, "Thank you.")
    assert first.end >= 1000
    assert all(cue.start == 1000 * following for cue in rest)
