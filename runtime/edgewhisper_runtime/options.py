"""How a recording is decoded: one value, the same for the command line, the library and servers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from edgewhisper_runtime.errors import EdgeWhisperError

Padding = Literal["silence", "zeros"]
VoiceDetector = Literal["auto", "silero", "energy", "none"]


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
    own estimate, has no text. None for a threshold does without it.

    Audio longer than a window is cut at pauses, and text comes without times. With `timestamps`
    the model says when each phrase begins and ends, and a window begins where the last phrase of
    the one before ended; `words` asks for the time of each word too. With a `batch_size` that many
    windows are decoded at once, cut at pauses in any case. `prompt` and `hotwords` are put before
    every window: all hotwords, and as much of the prompt's end as has room beside them in half of
    the decoder's positions, as in openai-whisper. The text of earlier windows is put there only
    with `condition_on_previous_text`.

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
    timestamps: bool = False
    words: bool = False
    prompt: str = ""
    hotwords: tuple[str, ...] = ()
    condition_on_previous_text: bool = False
    vad: VoiceDetector = "auto"
    padding: Padding = "silence"
    batch_size: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        """Check what types cannot."""
        if isinstance(self.vad, bool):
            object.__setattr__(self, "vad", "auto" if self.vad else "none")
        for name, choices in (("vad", get_args(VoiceDetector)), ("padding", get_args(Padding))):
            if (value := getattr(self, name)) not in choices:
                raise EdgeWhisperError(f"{name} is one of {', '.join(choices)}, not {value!r}.")
        batch = 1 if self.batch_size is None else self.batch_size
        if min(self.beam_size, self.best_of, batch) < 1:
            raise EdgeWhisperError("beam_size, best_of and batch_size must be at least 1.")
        if self.batch_size and self.condition_on_previous_text:
            raise EdgeWhisperError(
                "windows decoded at once cannot build on each other: leave out batch_size or "
                "condition_on_previous_text."
            )
        if self.seed < 0:
            raise EdgeWhisperError("seed must not be negative.")
        if not self.temperatures or not all(0 <= t <= 1 for t in self.temperatures):
            raise EdgeWhisperError("temperatures must be one or more numbers from 0 to 1.")

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


# As the study evaluates: one greedy pass over each window, whatever its text looks like.
PLAIN = Options(
    temperatures=(0.0,),
    max_compression_ratio=None,
    min_log_probability=None,
    max_no_speech=None,
    vad="none",
)
