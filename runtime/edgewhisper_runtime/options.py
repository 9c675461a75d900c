"""How a recording is decoded: one value, the same for the command line, the library and servers."""

from __future__ import annotations

import math
import operator
import reprlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields, replace
from functools import cache
from itertools import pairwise, zip_longest
from types import NoneType
from typing import Any, Literal, get_args, get_origin, get_type_hints

from edgewhisper_runtime.errors import EdgeWhisperError, suggest
from edgewhisper_runtime.text import languages

Task = Literal["transcribe", "translate"]
Padding = Literal["silence", "zeros"]
VoiceDetector = Literal["auto", "silero", "energy", "none"]

MAX_PENALTY = 10
MAX_THREADS = 1024  # more than processors have; each costs time and memory to start
_CONDITIONED_BATCH = (
    "windows decoded at once cannot build on each other: leave out batch_size or "
    "condition_on_previous_text."
)
_WORDS_WITHOUT_TIMESTAMPS = (
    "the times of words are found with timestamps: leave out words, or timestamps=False "
    "(--no-timestamps)."
)


@dataclass(frozen=True)
class Options:
    """Whisper's decoding, with the thresholds of Radford et al. 2022, section 4.5.

    Numbers may be given as text, and several of them, or of words, as one text with commas. None
    stands for the default where an option cannot be None.

    `language` is a code such as "en", or a name that `languages.to_code` knows; None detects it.
    `task` is "transcribe", or "translate" for English text of whatever language is spoken.

    A window is decoded at each of `temperatures` in turn until its text neither compresses better
    than `max_compression_ratio` nor is less likely than `min_log_probability` (mean over tokens,
    natural logarithm). At temperature 0 `beam_size` hypotheses are followed (1: greedy), above it
    the best of `best_of` samples is taken; `seed` makes them the same every time. A window that is
    less likely than `min_log_probability`, and silence by more than `max_no_speech` by the model's
    own estimate, has no text. Where the end of a window's text is less likely than
    `min_end_probability` and more than 1 s of sound follows its last word, the text has ended too
    early: what follows is decoded by itself. With timestamps 2 s of sound are enough whatever the
    end is like. None for a threshold does without it.

    Audio longer than a window is cut at pauses, and text comes without times. With `timestamps`
    the model says when each phrase begins and ends, and a window begins where the last phrase of
    the one before ended; `words` asks for the time of each word too, which takes timestamps: where
    `timestamps` is None they are decoded for words only. With a `batch_size` that many
    windows are decoded at once, cut at pauses in any case. `prompt` and `hotwords` are put before
    every window: all hotwords, and as much of the prompt's end as has room beside them in half of
    the decoder's positions, as in openai-whisper. The text of earlier windows is put there only
    with `condition_on_previous_text`.

    Tokens that the text has already are made less likely by `repetition_penalty`, from 1 (none)
    on, and a phrase of `no_repeat_ngram` tokens never comes twice in a window (0: it may).
    `suppress` are ids of tokens that are never written; -1 stands for the model's own list.

    Of the recording only the clips of `clip_timestamps` are transcribed: start, end, start, end and
    so on in seconds, in order; the last end may be left out. With `multilingual` the language is
    detected in every window anew. With `words`, a segment that has the signs of text that nobody
    spoke, and silence of more than `hallucination_silence_threshold` seconds on both sides, is left
    out; None keeps all.

    `vad` is the voice detector that finds the long pauses, which are left out: Silero's model, the
    energy gate, or none; "auto" is Silero's where it is installed, else the energy gate. True and
    False are accepted for "auto" and "none". `padding` fills what is shorter than a window: the
    samples with silence, or the features with zeros, as openai-whisper and faster-whisper do.

    Raises EdgeWhisperError for a value of another type or out of its range.
    """

    language: str | None = None
    task: Task = "transcribe"
    beam_size: int = 1
    best_of: int = 5
    temperatures: tuple[float, ...] = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
    max_compression_ratio: float | None = 2.4
    min_log_probability: float | None = -1.0
    max_no_speech: float | None = 0.6
    min_end_probability: float | None = 0.95
    timestamps: bool | None = None
    words: bool = False
    prompt: str = ""
    hotwords: tuple[str, ...] = ()
    condition_on_previous_text: bool = False
    repetition_penalty: float = 1.0
    no_repeat_ngram: int = 0
    suppress: tuple[int, ...] = (-1,)
    clip_timestamps: tuple[float, ...] = ()
    multilingual: bool = False
    hallucination_silence_threshold: float | None = None
    vad: VoiceDetector = "auto"
    padding: Padding = "silence"
    batch_size: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        """Take the values as their types, and check what types cannot."""
        for field in fields(self):
            value = getattr(self, field.name)
            if value is None and not _may_be_none(field.name):
                value = field.default
            object.__setattr__(self, field.name, _checked(field.name, value))
        for wrong, message in self._faults():
            if wrong:
                raise EdgeWhisperError(message)

    def _faults(self) -> Iterator[tuple[bool, str]]:
        """Yield, for values that may not fit together, whether they do not, and a message."""
        yield bool(self.batch_size) and self.condition_on_previous_text, _CONDITIONED_BATCH
        yield self.words and self.timestamps is False, _WORDS_WITHOUT_TIMESTAMPS
        ordered = all(a <= b for a, b in pairwise(self.clip_timestamps))
        yield (
            not ordered or any(start == end for start, end in self.clips),
            "clip_timestamps are seconds in order: start, end, start, end and so on.",
        )
        yield (
            self.hallucination_silence_threshold is not None and not self.words,
            "hallucination_silence_threshold needs words.",
        )
        yield not self.temperatures, "temperatures must be one or more numbers from 0 to 1."

    def having(self, **named: Any) -> Options:
        """Return these options with other values, by our names or those of `ALIASES`.

        None changes nothing where an option cannot be None. Raises EdgeWhisperError for a name
        that no option has, and as the class does.
        """
        known = [field.name for field in fields(self)]
        values: dict[str, Any] = {}
        for name, value in named.items():
            field = ALIASES.get(name, name)
            if field not in known:
                hint = suggest(name, [*known, *ALIASES], "See `Options`.")
                raise EdgeWhisperError(f"there is no option {name!r}. {hint}")
            if field in values:
                raise EdgeWhisperError(f"{field} is given twice, once as {name}.")
            if value is not None or _may_be_none(field):
                values[field] = value
        return replace(self, **values)

    @property
    def clips(self) -> list[tuple[float, float]]:
        """The clips to transcribe, start and end in seconds; the end of the last may be infinite.

        Empty for the whole recording.
        """
        times = self.clip_timestamps if self.clip_timestamps != (0,) else ()
        return list(zip_longest(times[::2], times[1::2], fillvalue=math.inf))

    @property
    def timed(self) -> bool:
        """Whether timestamps are to be decoded."""
        return bool(self.timestamps or self.words)

    @property
    def sequential(self) -> bool:
        """Whether each window begins where the text of the one before it ended."""
        return self.timed and self.batch_size is None

    @property
    def hint_texts(self) -> tuple[str, str]:
        """The prompt and the hotwords, as they stand before every window; empty for none."""
        texts = (self.prompt.strip(), ", ".join(self.hotwords))
        prompt, hotwords = (f" {text}" if text else "" for text in texts)
        return prompt, hotwords


# What openai-whisper, faster-whisper and other tools call an option, where the meaning is the same.
ALIASES = {
    "word_timestamps": "words",
    "initial_prompt": "prompt",
    "vad_filter": "vad",
    "temperature": "temperatures",
    "compression_ratio_threshold": "max_compression_ratio",
    "logprob_threshold": "min_log_probability",
    "log_prob_threshold": "min_log_probability",
    "no_speech_threshold": "max_no_speech",
    "no_repeat_ngram_size": "no_repeat_ngram",
    "suppress_tokens": "suppress",
}

# The least value of options that are numbers, or several, and the greatest where there is one.
_LIMITS: dict[str, tuple[int, ...]] = {
    "beam_size": (1,),
    "best_of": (1,),
    "temperatures": (0, 1),
    "repetition_penalty": (1, MAX_PENALTY),
    "no_repeat_ngram": (0,),
    "suppress": (-1,),
    "clip_timestamps": (0,),
    "hallucination_silence_threshold": (0,),
    "batch_size": (1,),
    "seed": (0,),
}
_WORDS = {bool: "True or False", int: "a whole number", float: "a number", str: "a text"}
_PLURALS = {int: "whole numbers", float: "numbers", str: "texts"}


def split_words(value: str | Iterable[str]) -> tuple[str, ...]:
    """Return words that are given one by one, or in one text with commas between them."""
    given = value.split(",") if isinstance(value, str) else value
    return tuple(word.strip() for word in given if word.strip())


@cache
def _types() -> dict[str, tuple[Any, ...]]:
    """Return the types of each option; of one that may be None, NoneType is the last."""
    hints = get_type_hints(Options).items()
    return {name: get_args(hint) if NoneType in get_args(hint) else (hint,) for name, hint in hints}


def _may_be_none(name: str) -> bool:
    return _types()[name][-1] is NoneType


def _checked(name: str, value: Any) -> Any:
    """Return a value as one of its option's type; raise EdgeWhisperError for any other."""
    if value is None:
        return None
    if name == "vad" and isinstance(value, bool):
        return "auto" if value else "none"
    kind = _types()[name][0]
    try:
        converted = _converted(kind, value)
        fits = name not in _LIMITS or _is_within(converted, *_LIMITS[name])
    except (TypeError, ValueError, OverflowError):
        fits = False
    if not fits:
        words = _in_words(kind, *_LIMITS.get(name, ()))
        raise EdgeWhisperError(f"{name} must be {words}, not {reprlib.repr(value)}.")
    return languages.to_code(converted) if name == "language" else converted


def _converted(kind: Any, value: Any) -> Any:
    """Return a value as one of a type; raise TypeError, ValueError or OverflowError for others."""
    if get_origin(kind) is tuple:
        several = split_words(value) if isinstance(value, str) else value
        one_by_one = several if isinstance(several, Iterable) else (several,)
        items = tuple(_converted(get_args(kind)[0], item) for item in one_by_one)
        return split_words(items) if str in get_args(kind) else items
    if get_origin(kind) is Literal or kind is bool:
        choices = get_args(kind) or (True, False)
        return choices[choices.index(value)]
    if kind is str and isinstance(value, str):
        return value
    if kind is str or isinstance(value, bool):
        raise TypeError
    if kind is int:
        return int(value) if isinstance(value, str) else operator.index(value)
    if not math.isfinite(number := float(value)):
        raise ValueError
    return number


def _is_within(value: Any, low: float, high: float = math.inf) -> bool:
    """Tell whether a number is within limits, or all of several."""
    return all(low <= number <= high for number in (value if isinstance(value, tuple) else [value]))


def _in_words(kind: Any, low: float | None = None, high: float | None = None) -> str:
    """Return what a value of a type must be."""
    if get_origin(kind) is Literal:
        return f"one of {', '.join(get_args(kind))}"
    words = _PLURALS[get_args(kind)[0]] if get_origin(kind) is tuple else _WORDS[kind]
    if low is None:
        return words
    return f"{words} of at least {low}" if high is None else f"{words} from {low} to {high}"


# As the study evaluates: one greedy pass over each window, whatever its text looks like.
PLAIN = Options(
    temperatures=(0.0,),
    max_compression_ratio=None,
    min_log_probability=None,
    max_no_speech=None,
    min_end_probability=None,
    vad="none",
)
