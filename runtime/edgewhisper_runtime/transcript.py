"""What a transcription gives: typed, in seconds, ready for `dataclasses.asdict` and JSON."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Word:
    """One word, with the space and the punctuation that belong to it; times in seconds."""

    start: float
    end: float
    text: str
    probability: float


@dataclass(frozen=True)
class Segment:
    """A sentence or phrase between two timestamps, in seconds from the start of the recording.

    `window` is the number of the window that it was decoded in; `words` is empty unless word
    times were asked for.
    """

    start: float
    end: float
    text: str
    tokens: list[int]
    window: int
    words: list[Word] = field(default_factory=list)


@dataclass(frozen=True)
class Window:
    """How one stretch of at most 30 s was decoded; times in seconds.

    `log_probability` is the mean over the tokens, `compression_ratio` that of the text by zlib.
    `no_speech_probability` is the model's own guess, asked for where the text is unlikely.
    `fell_back`: it was encoded at its own length first, and once more in a full window.
    """

    start: float
    end: float
    tokens: list[int]
    temperature: float
    log_probability: float
    compression_ratio: float
    no_speech_probability: float | None
    looping: bool
    fell_back: bool


@dataclass(frozen=True)
class Transcript:
    """The text of one recording, the language it was decoded in, and how it came about.

    `language_probability` is None where the language was given, or is the only one.
    """

    text: str
    language: str
    language_probability: float | None
    duration: float
    segments: list[Segment]
    windows: list[Window]

    @property
    def problem(self) -> str | None:
        """What is wrong with the text as a whole: "empty", "looping" or nothing."""
        if not self.text:
            return "empty"
        return "looping" if any(window.looping for window in self.windows) else None
