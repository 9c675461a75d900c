"""From audio to text: a loaded model and the loop around it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgewhisper_runtime import audio, decoding, features, longform
from edgewhisper_runtime.tokens import Tokenizer

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edgewhisper_runtime.bundle import Settings


@dataclass(frozen=True)
class Segment:
    """One decoded window: its place in the audio in seconds, its text and its token ids."""

    start: float
    end: float
    text: str
    tokens: list[int]
    looping: bool


@dataclass(frozen=True)
class Transcript:
    """The text of one recording, the language it was decoded in, and its windows."""

    text: str
    language: str
    duration: float
    segments: list[Segment]

    @property
    def problem(self) -> str | None:
        """What is wrong with the text as a whole: "empty", "looping" or nothing."""
        if not self.text:
            return "empty"
        return "looping" if any(segment.looping for segment in self.segments) else None


class Transcriber:
    """A backend with the tokenizer and settings of its model. Not safe for concurrent calls."""

    def __init__(self, backend: decoding.Backend, tokenizer: Tokenizer, settings: Settings) -> None:
        self.backend = backend
        self.tokenizer = tokenizer
        self.settings = settings
        self.rules = decoding.TokenRules(
            suppress=settings.suppress,
            suppress_first=settings.suppress_first,
            end_of_text=tokenizer.end_of_text,
            max_tokens=settings.max_tokens,
        )

    def transcribe(
        self,
        source: str | Path | NDArray[np.float32],
        language: str | None = None,
        task: str = "transcribe",
    ) -> Transcript:
        """Transcribe a file, or samples [n] at 16 kHz, of any length.

        Without `language` it is detected from the first window; an English-only model has one.
        Raises AudioError for unusable audio, EdgeWhisperError for an unknown language.
        """
        if isinstance(source, (str, Path)):
            blocks = audio.stream(source)
        else:
            blocks = iter([audio.checked(source)])
        if not self.tokenizer.multilingual:
            language = language or "en"
        if language is not None:
            self.tokenizer.prompt(language, task)  # a wrong one must fail before the work
        segments: list[Segment] = []
        start = 0
        for window in longform.windows(blocks):
            mels = features.log_mel(window, self.settings.mels)[None]
            encoded = self.backend.encode(mels)
            if language is None:
                language = decoding.detect_language(
                    self.backend,
                    encoded,
                    self.tokenizer.start_of_transcript,
                    self.tokenizer.languages,
                )
            prompt = np.array([self.tokenizer.prompt(language, task)], dtype=np.int64)
            (tokens,) = decoding.greedy(self.backend, encoded, prompt, self.rules)
            text = self.tokenizer.decode(tokens)
            end = start + len(window)
            segments.append(
                Segment(
                    start=start / audio.SAMPLE_RATE,
                    end=end / audio.SAMPLE_RATE,
                    text=text,
                    tokens=tokens,
                    looping=decoding.is_looping(tokens, text),
                )
            )
            start = end
        return Transcript(
            text="".join(segment.text for segment in segments).strip(),
            language=language or "en",
            duration=start / audio.SAMPLE_RATE,
            segments=segments,
        )
