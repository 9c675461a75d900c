"""What a transcription returns: typed, in seconds, ready for `dataclasses.asdict` and JSON."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

# Why a window that was encoded at its own length was encoded again, in full: its text repeated
# itself, or the mean log-probability of its tokens was below the model's threshold.
EncodedAgain = Literal["looping", "unsure"]


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

    `window` is the number of the window that it was decoded in, `language` what was spoken there;
    `words` is empty unless word times were asked for.
    """

    start: float
    end: float
    text: str
    tokens: list[int]
    window: int
    words: list[Word] = field(default_factory=list)
    language: str = ""


@dataclass(frozen=True)
class Window:
    """How one stretch of at most 30 s was decoded; times in seconds.

    `log_probability` is the mean over the tokens, `compression_ratio` that of the text by zlib.
    `no_speech_probability` is the model's own estimate, computed where the text is unlikely.
    `encoded_again` is None for a window that was encoded once.
    """

    start: float
    end: float
    tokens: list[int]
    temperature: float
    log_probability: float
    compression_ratio: float
    no_speech_probability: float | None
    looping: bool
    encoded_again: EncodedAgain | None = None


@dataclass(frozen=True)
class Transcript:
    """The text of one recording, the language it was decoded in, and how each window was decoded.

    `language_probability` is None where the language was given, or is the only one. Where none was
    given and no window holds speech to detect one in, `language` is empty. `vad` is the voice
    detector that ran: "silero", "energy" or "none".
    """

    text: str
    language: str
    language_probability: float | None
    duration: float
    segments: list[Segment]
    windows: list[Window]
    vad: str = "none"

    @property
    def problem(self) -> str | None:
        """What is wrong with the text as a whole: "empty", "looping" or nothing."""
        if not self.text:
            return "empty"
        return "looping" if any(window.looping for window in self.windows) else None
