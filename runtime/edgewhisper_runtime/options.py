"""How a recording is decoded: one value, the same for the command line, the library and servers."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, fields, replace
from itertools import pairwise, zip_longest
from typing import Any, Literal, get_args

from edgewhisper_runtime.errors import EdgeWhisperError, suggest
from edgewhisper_runtime.text import languages

Padding = Literal["silence", "zeros"]
VoiceDetector = Literal["auto", "silero", "energy", "none"]

MAX_PENALTY = 10
MAX_THREADS = 1024  # more than processors have; each costs time and memory to start
_CONDITIONED_BATCH = (
    "windows decoded at once cannot build on each other: leave out batch_size or "
    "condition_on_previous_text."
)


@dataclass(frozen=True)
class Options:
    """Whisper's decoding, with the thresholds of Radford et al. 2022, section 4.5.

    `language` is a code such as "en"; None detects it. `task` is "transcribe", or "translate" for
    English text of whatever language is spoken.

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
    the one before ended; `words` asks for the time of each word too. With a `batch_size` that many
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

    Raises EdgeWhisperError for a value out of its range.
    """

    language: str | None = None
    task: str = "transcribe"
    beam_size: int = 1
    best_of: int = 5
    temperatures: tuple[float, ...] = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
    max_compression_ratio: float | None = 2.4
    min_log_probability: float | None = -1.0
    max_no_speech: float | None = 0.6
    min_end_probability: float | None = 0.95
    timestamps: bool = False
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
        """Check what types cannot."""
        if isinstance(self.vad, bool):
            object.__setattr__(self, "vad", "auto" if self.vad else "none")
        for wrong, message in self._faults():
            if wrong:
                raise EdgeWhisperError(message)

    def _faults(self) -> Iterator[tuple[bool, str]]:
        """Yield, for each value that may be wrong, whether it is, and a message."""
        for name, choices in (("vad", get_args(VoiceDetector)), ("padding", get_args(Padding))):
            value = getattr(self, name)
            yield value not in choices, f"{name} is one of {', '.join(choices)}, not {value!r}."
        batch = 1 if self.batch_size is None else self.batch_size
        yield (
            min(self.beam_size, self.best_of, batch) < 1,
            "beam_size, best_of and batch_size must be at least 1.",
        )
        yield bool(self.batch_size) and self.condition_on_previous_text, _CONDITIONED_BATCH
        negative = min(self.seed, self.no_repeat_ngram) < 0
        yield negative, "seed and no_repeat_ngram must not be negative."
        yield (
            not 1 <= self.repetition_penalty <= MAX_PENALTY,
            f"repetition_penalty must be a number from 1 to {MAX_PENALTY}.",
        )
        times = (0.0, *self.clip_timestamps)
        ordered = all(0 <= a <= b < math.inf for a, b in pairwise(times))
        yield (
            not ordered or any(start == end for start, end in self.clips),
            "clip_timestamps are seconds in order: start, end, start, end and so on.",
        )
        silence = self.hallucination_silence_threshold
        yield (
            silence is not None and not (self.words and silence >= 0),
            "hallucination_silence_threshold is a number of seconds from 0, and needs words.",
        )
        yield (
            not self.temperatures or not all(0 <= t <= 1 for t in self.temperatures),
            "temperatures must be one or more numbers from 0 to 1.",
        )

    def having(self, **named: Any) -> Options:
        """Return these options with other values, by our names or those of `ALIASES`.

        A single temperature, hotwords in one text with commas, and the language's English name are
        accepted too. Raises EdgeWhisperError for a name that no option has, and as the class does.
        """
        known = {field.name for field in fields(self)}
        values: dict[str, Any] = {}
        for name, value in named.items():
            field = ALIASES.get(name, name)
            if field not in known:
                hint = suggest(name, [*known, *ALIASES], "See `Options`.")
                raise EdgeWhisperError(f"there is no option {name!r}. {hint}")
            if field in values:
                raise EdgeWhisperError(f"{field} is given twice, once as {name}.")
            values[field] = _ACCEPTED.get(field, _as_it_is)(value)
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
        return self.timestamps or self.words

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


def _as_it_is(value: Any) -> Any:
    return value


def _language(value: str | None) -> str | None:
    return None if value is None else languages.to_code(value)


def _several(value: Any) -> tuple[Any, ...]:
    return tuple(value) if isinstance(value, Iterable) else (value,)


def numbers(value: str | Iterable[float]) -> tuple[float, ...]:
    """Return numbers that are given one by one, or in one text with commas between them."""
    given = split_words(value) if isinstance(value, str) else value
    return tuple(map(float, given))


def split_words(value: str | Iterable[str]) -> tuple[str, ...]:
    """Return words that are given one by one, or in one text with commas between them."""
    given = value.split(",") if isinstance(value, str) else value
    return tuple(word.strip() for word in given if word.strip())


_ACCEPTED: dict[str, Callable[[Any], Any]] = {
    "language": _language,
    "temperatures": _several,
    "hotwords": split_words,
    "suppress": _several,
    "clip_timestamps": numbers,
}

# As the study evaluates: one greedy pass over each window, whatever its text looks like.
PLAIN = Options(
    temperatures=(0.0,),
    max_compression_ratio=None,
    min_log_probability=None,
    max_no_speech=None,
    min_end_probability=None,
    vad="none",
)
