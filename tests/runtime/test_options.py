"""Options by other tools' names, and values that are refused."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import numpy as np
import pytest

from edgewhisper_runtime.errors import EdgeWhisperError
from edgewhisper_runtime.options import ALIASES, Options


def test_names_of_faster_whisper_and_openai_whisper() -> None:
    options = Options().having(
        word_timestamps=True,
        vad_filter=False,
        initial_prompt="Good day.",
        temperature=0,
        hotwords="Ada, Grace",
        language="German",
        log_prob_threshold=None,
        suppress_tokens=[-1, 7],
        no_repeat_ngram_size=3,
    )
    assert options == Options(
        words=True,
        vad="none",
        prompt="Good day.",
        temperatures=(0,),
        hotwords=("Ada", "Grace"),
        language="de",
        min_log_probability=None,
        suppress=(-1, 7),
        no_repeat_ngram=3,
    )


# Each option by values that are taken, with what they become, and by values that are refused.
A_TEXT = {"Good day.": "Good day.", "": ""}
NO_TEXT = (7, b"Good day.", ["Good day."], True)
TRUTH = {True: True, False: False}
NO_TRUTH = ("true", "", 2, [], float("nan"))
NO_NUMBER = ("", "high", "nan", float("nan"), float("inf"), [0.5], object(), True, 1j)
NO_COUNT = (*NO_NUMBER, -1, 1.5, "1.5")
A_LIMIT = {0.5: 0.5, "-1": -1.0, None: None}
TABLE: dict[str, tuple[dict[Any, Any], tuple[Any, ...]]] = {
    "language": (
        {"de": "de", "German": "de", "de-CH": "de", "auto": None, None: None},
        ("Germn", 7, b"de", ["de"], True),
    ),
    "task": ({"translate": "translate"}, (*NO_TEXT, "translation")),
    "beam_size": ({5: 5, "5": 5}, (*NO_COUNT, 0)),
    "best_of": ({1: 1}, (*NO_COUNT, 0)),
    "temperatures": (
        {"0.2": (0.2,), "0, .5": (0.0, 0.5), 0: (0.0,), (0, "1"): (0.0, 1.0)},
        ("", (), "high", "0.2;0.4", "nan", [float("nan")], 1.5, [None], [[0.2]], object(), True),
    ),
    "max_compression_ratio": (A_LIMIT, NO_NUMBER),
    "min_log_probability": (A_LIMIT, NO_NUMBER),
    "max_no_speech": (A_LIMIT, NO_NUMBER),
    "min_end_probability": (A_LIMIT, NO_NUMBER),
    "timestamps": ({**TRUTH, None: None}, NO_TRUTH),
    "words": (TRUTH, NO_TRUTH),
    "prompt": (A_TEXT, NO_TEXT),
    "hotwords": (
        {
            "EdgeWhisper": ("EdgeWhisper",),
            "Ada, Grace ,": ("Ada", "Grace"),
            (" Ada", "Grace"): ("Ada", "Grace"),
            "": (),
        },
        (7, b"Ada", ["Ada", 7], [["Ada"]], True),
    ),
    "condition_on_previous_text": (TRUTH, NO_TRUTH),
    "repetition_penalty": ({1.2: 1.2, "1.2": 1.2}, (*NO_NUMBER, 0.5, 11)),
    "no_repeat_ngram": ({3: 3, 0: 0}, NO_COUNT),
    "suppress": (
        {"-1": (-1,), "-1, 7": (-1, 7), 7: (7,), (): (), "": ()},
        ("a,b", [1.5], [-2], [None], ["x"], object(), True),
    ),
    "clip_timestamps": (
        {"0": (0.0,), "1,2.5": (1.0, 2.5), (): (), "": (), 3: (3.0,)},
        ("a,b", "5,3", [2, 2], [-1, 2], [float("nan")], [0, float("inf")], [None], object()),
    ),
    "multilingual": (TRUTH, NO_TRUTH),
    "hallucination_silence_threshold": (
        {2: 2.0, "2": 2.0, None: None},
        (*NO_NUMBER, -1),
    ),
    "vad": ({"energy": "energy", True: "auto", False: "none"}, ("", "loud", 1, ["auto"])),
    "padding": ({"zeros": "zeros"}, ("noise", 0, True)),
    "batch_size": ({8: 8, "8": 8, None: None}, (*NO_COUNT, 0)),
    "seed": ({0: 0, 7: 7}, NO_COUNT),
}
OTHERS = {"hallucination_silence_threshold": {"words": True}}  # options that it needs
NAMES = [*TABLE, *ALIASES]


def test_the_table_has_every_option() -> None:
    assert list(TABLE) == [field.name for field in fields(Options)]


@pytest.mark.parametrize("name", NAMES)
def test_values_of_every_option(name: str) -> None:
    option = ALIASES.get(name, name)
    taken, _ = TABLE[option]
    others = OTHERS.get(option, {})
    for value, becomes in taken.items():
        options = Options().having(**{name: value}, **others)
        assert getattr(options, option) == becomes
        assert type(getattr(options, option)) is type(becomes)
        assert Options(**{option: value}, **others) == options


@pytest.mark.parametrize("name", NAMES)
def test_what_is_no_value_of_an_option_is_refused_by_its_name(name: str) -> None:
    option = ALIASES.get(name, name)
    _, refused = TABLE[option]
    for value in refused:
        for make in (Options, Options().having):
            by = option if make is Options else name
            with pytest.raises(EdgeWhisperError, match=rf"\b{option}\b") as error:
                make(**{by: value}, **OTHERS.get(option, {}))
            assert len(str(error.value)) < 300


def test_values_of_numpy() -> None:
    options = Options(
        words=np.True_,
        beam_size=np.int64(5),
        max_no_speech=np.float32(0.5),
        temperatures=np.array([0, 0.5]),
        suppress=np.array([-1, 7]),
    )
    assert options == Options(
        words=True, beam_size=5, max_no_speech=0.5, temperatures=(0, 0.5), suppress=(-1, 7)
    )
    assert type(options.beam_size) is type(options.suppress[0]) is int


def test_the_value_is_in_the_message() -> None:
    with pytest.raises(EdgeWhisperError, match=r"clip_timestamps must be numbers .* not 'a,b'"):
        Options().having(clip_timestamps="a,b")
    with pytest.raises(EdgeWhisperError, match=r"temperatures must be .* from 0 to 1, not 'hot'"):
        Options().having(temperature="hot")
    with pytest.raises(EdgeWhisperError, match="padding must be one of silence, zeros, not 7"):
        Options(padding=7)  # type: ignore[arg-type] # a wrong one is the point


@pytest.mark.parametrize("name", NAMES)
def test_none_is_not_given(name: str) -> None:
    """Where an option has None as a value it means that value."""
    option = ALIASES.get(name, name)
    taken, _ = TABLE[option]
    value = next(value for value in taken if value is not None)
    options = Options().having(**{option: value}, **OTHERS.get(option, {}))
    kept = None if None in taken else getattr(options, option)
    assert getattr(options.having(**{name: None}), option) == kept
    default = None if None in taken else getattr(Options(), option)
    assert getattr(Options(**{option: None}), option) == default


@pytest.mark.parametrize(
    ("named", "message"),
    [
        ({"word_timestamp": True}, r"no option 'word_timestamp'\. Did you mean word_timestamps\?"),
        ({"words": True, "word_timestamps": True}, "words is given twice"),
        ({"clip_timestamps": "5,3"}, "clip_timestamps are seconds in order"),
        ({"hallucination_silence_threshold": 2.0}, "needs words"),
        ({"words": True, "timestamps": False}, "leave out words, or timestamps=False"),
        ({"language": "Germn"}, r"Did you mean german \(de\)"),
    ],
)
def test_what_is_refused(named: dict[str, Any], message: str) -> None:
    with pytest.raises(EdgeWhisperError, match=message):
        Options().having(**named)


def test_clips_are_pairs() -> None:
    assert Options().having(clip_timestamps="0,2.5,4").clips == [(0, 2.5), (4, float("inf"))]
    assert Options(clip_timestamps=(0,)).clips == []  # as openai-whisper's default
