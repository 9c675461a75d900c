"""Options by other tools' names, and values that are refused."""

from __future__ import annotations

from typing import Any

import pytest

from edgewhisper_runtime.errors import EdgeWhisperError
from edgewhisper_runtime.options import Options


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


@pytest.mark.parametrize(
    ("named", "message"),
    [
        ({"word_timestamp": True}, r"no option 'word_timestamp'\. Did you mean word_timestamps\?"),
        ({"words": True, "word_timestamps": True}, "words is given twice"),
        ({"repetition_penalty": 0.5}, "repetition_penalty must be a number from 1"),
        ({"repetition_penalty": float("nan")}, "repetition_penalty must be a number from 1"),
        ({"no_repeat_ngram": -1}, "must not be negative"),
        ({"clip_timestamps": "5,3"}, "clip_timestamps are seconds in order"),
        ({"clip_timestamps": [2, 2]}, "clip_timestamps are seconds in order"),
        ({"clip_timestamps": [-1, 2]}, "clip_timestamps are seconds in order"),
        ({"clip_timestamps": [float("nan")]}, "clip_timestamps are seconds in order"),
        ({"hallucination_silence_threshold": 2.0}, "needs words"),
        ({"language": "Germn"}, r"Did you mean german \(de\)"),
    ],
)
def test_what_is_refused(named: dict[str, Any], message: str) -> None:
    with pytest.raises(EdgeWhisperError, match=message):
        Options().having(**named)


def test_clips_are_pairs() -> None:
    assert Options().having(clip_timestamps="0,2.5,4").clips == [(0, 2.5), (4, float("inf"))]
    assert Options(clip_timestamps=(0,)).clips == []  # as openai-whisper's default
