"""From audio to text: a loaded model and the loop around it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgewhisper_runtime import audio, decoding, features, longform
from edgewhisper_runtime.tokens import Tokenizer

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edgewhisper_runtime.bundle import Settings


_MARGIN_FRAMES = 2 * features.FRAMES_PER_SECOND


@dataclass(frozen=True)
class Segment:
    """One decoded window: its place in the audio in seconds, its text and its token ids.

    `fell_back`: it was encoded at its own length first, and once more in a full window.
    """

    start: float
    end: float
    text: str
    tokens: list[int]
    looping: bool
    fell_back: bool = False


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
    """A backend with the tokenizer and settings of its model. Not safe for concurrent calls.

    With `adaptive` context a window is encoded at its own length and a margin, instead of the
    30 s that Whisper was trained on: several times faster for short audio. Decoding may then run
    on after the last word, repeating itself; such a window is done again in full.
    """

    def __init__(
        self,
        backend: decoding.Backend,
        tokenizer: Tokenizer,
        settings: Settings,
        adaptive: bool = False,
    ) -> None:
        self.backend = backend
        self.adaptive = adaptive
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
        if not self.tokenizer.multilingual:
            language = language or "en"
        if language is not None:
            self.tokenizer.prompt(language, task)  # a wrong one must fail before the work
        segments: list[Segment] = []
        start = 0
        for window in longform.windows(_blocks(source)):
            segment, language = self._transcribe_window(window, start, language, task)
            segments.append(segment)
            start += len(window)
        return _transcript(segments, language or "en")

    def transcribe_batch(
        self,
        sources: Sequence[str | Path | NDArray[np.float32]],
        language: str,
        task: str = "transcribe",
    ) -> list[Transcript]:
        """Transcribe several recordings at once: all their windows are decoded as one batch.

        Takes the memory of that many windows. The texts are those of `transcribe`, but for
        rounding, where the engine computes each row of a batch by itself. With adaptive context
        each window has a length of its own, so they are taken one by one.
        """
        if self.adaptive:
            return [self.transcribe(source, language, task) for source in sources]
        windows = [list(longform.windows(_blocks(source))) for source in sources]
        flat = [window for of_source in windows for window in of_source]
        decoded = iter(self._decode(self._encode(flat), len(flat), language, task))
        transcripts = []
        for of_source in windows:
            starts = np.cumsum([0, *map(len, of_source)])
            segments = [
                self._segment(next(decoded), int(start), len(window))
                for window, start in zip(of_source, starts, strict=False)
            ]
            transcripts.append(_transcript(segments, language))
        return transcripts

    def _transcribe_window(
        self, window: NDArray[np.float32], start: int, language: str | None, task: str
    ) -> tuple[Segment, str]:
        """Return the segment of a window and its language, detected if there was none."""
        frames = self._frames(window)
        encoded = self._encode([window], frames)
        if language is None:
            language = decoding.detect_language(
                self.backend, encoded, self.tokenizer.start_of_transcript, self.tokenizer.languages
            )
        cut = frames < features.WINDOW_FRAMES
        failed = decoding.is_suspect if cut else decoding.is_hopeless
        (tokens,) = self._decode(encoded, 1, language, task, failed)
        fell_back = cut and failed(tokens)
        if fell_back:
            del encoded  # two at a time would take twice the memory
            (tokens,) = self._decode(self._encode([window]), 1, language, task)
        return self._segment(tokens, start, len(window), fell_back), language

    def _frames(self, window: NDArray[np.float32]) -> int:
        """Return how many frames a window is encoded in."""
        if not self.adaptive:
            return features.WINDOW_FRAMES
        heard = -(-len(window) // features.HOP) + _MARGIN_FRAMES
        return min(heard + heard % 2, features.WINDOW_FRAMES)

    def _encode(
        self, windows: list[NDArray[np.float32]], frames: int = features.WINDOW_FRAMES
    ) -> Any:
        mels = [features.log_mel(window, self.settings.mels, frames) for window in windows]
        return self.backend.encode(np.stack(mels))

    def _decode(
        self,
        encoded: Any,
        rows: int,
        language: str,
        task: str,
        failed: Callable[[Sequence[int]], bool] = decoding.is_hopeless,
    ) -> list[list[int]]:
        prompts = np.array([self.tokenizer.prompt(language, task)] * rows, dtype=np.int64)
        return decoding.greedy(self.backend, encoded, prompts, self.rules, failed)

    def _segment(
        self, tokens: list[int], start: int, samples: int, fell_back: bool = False
    ) -> Segment:
        text = self.tokenizer.decode(tokens)
        return Segment(
            start=start / audio.SAMPLE_RATE,
            end=(start + samples) / audio.SAMPLE_RATE,
            text=text,
            tokens=tokens,
            looping=decoding.is_looping(tokens, text),
            fell_back=fell_back,
        )


def _blocks(source: str | Path | NDArray[np.float32]) -> Iterator[NDArray[np.float32]]:
    if isinstance(source, (str, Path)):
        return audio.stream(source)
    return iter([audio.checked(source)])


def _transcript(segments: list[Segment], language: str) -> Transcript:
    return Transcript(
        text="".join(segment.text for segment in segments).strip(),
        language=language,
        duration=segments[-1].end if segments else 0.0,
        segments=segments,
    )
