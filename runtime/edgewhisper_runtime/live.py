"""Speech as it comes: text that is final as soon as two looks at the audio agree on it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from edgewhisper_runtime import vad
from edgewhisper_runtime.audio import SAMPLE_RATE, checked
from edgewhisper_runtime.options import Options
from edgewhisper_runtime.windows import Request

if TYPE_CHECKING:
    from edgewhisper_runtime.audio import Samples
    from edgewhisper_runtime.transcriber import Transcriber

_STEP = 1.0  # seconds of new audio after which to look again
_PAUSE = 0.6  # seconds of silence that end an utterance
_SHORT_PAUSE = 0.2  # the same, of a long one
_LONG = 15.0  # seconds
_LONGEST = 28.0  # seconds: an utterance is one window
_BEFORE = 0.5  # seconds kept of the silence before speech
_FEWEST_FRAMES = 5  # that sound like speech, 0.16 s: a click is shorter
_FIRST_OF_SEVERAL = b"\xc0"  # from here on a byte is the first of a letter's in UTF-8


@dataclass(frozen=True)
class Update:
    """What is new: `final` follows all that was final before; `partial` may still change.

    `ended`: a pause follows, and the next update begins an utterance. `seconds` of audio were
    heard so far.
    """

    final: str
    partial: str
    ended: bool
    seconds: float


class Live:
    """Transcribes one stream of samples while it is being spoken. Not safe for concurrent calls.

    What was said since the last pause is decoded again and again. The words that two looks one
    after the other agree on are final (local agreement: Macháček et al. 2023, Turning Whisper into
    a real-time transcription system); later looks are made to begin with them.
    """

    def __init__(
        self,
        transcriber: Transcriber,
        language: str | None = None,
        task: str = "transcribe",
        options: Options | None = None,
    ) -> None:
        """Raise EdgeWhisperError for a language or task that the model does not have."""
        self._decoder = transcriber.decoder
        self._tokenizer = transcriber.decoder.tokenizer
        self._options = options or Options()
        self._task = task
        self._language = language if self._tokenizer.multilingual else language or "en"
        self._tokenizer.prompt(self._language or "en", task)
        self._prompt = self._tokenizer.encode(self._options.prompt_text)
        self._detector = vad.load_detector()
        self._seconds = 0.0
        self._begin()

    def feed(self, samples: Samples) -> Iterator[Update]:
        """Take the next samples [n] at 16 kHz, any number; yield what they bring, mostly nothing.

        Raises AudioError for NaN or another shape.
        """
        samples = checked(samples)
        for start in range(0, len(samples), SAMPLE_RATE):
            yield from self._take(samples[start : start + SAMPLE_RATE])

    def finish(self) -> Iterator[Update]:
        """Yield what was said last, if it was not final before: nothing more comes."""
        if self._speaks:
            yield self._end()

    def _begin(self) -> None:
        """Await an utterance."""
        self._heard = np.zeros(0, dtype=np.float32)
        self._new = 0
        self._spoken = 0  # frames that sounded like speech
        self._silence = 0  # frames since the last that did
        self._final: list[int] = []
        self._last_look: list[int] = []

    @property
    def _speaks(self) -> bool:
        return self._spoken >= _FEWEST_FRAMES

    def _take(self, samples: Samples) -> Iterator[Update]:
        self._seconds += len(samples) / SAMPLE_RATE
        self._heard = np.concatenate([self._heard, samples])
        self._new += len(samples)
        for likely in self._detector.feed(samples):
            self._spoken += int(likely >= vad.ENTER)
            self._silence = 0 if likely >= vad.LEAVE else self._silence + 1
        pause = self._silence * vad.FRAME / SAMPLE_RATE
        if not self._speaks:
            self._spoken = 0 if pause >= _PAUSE else self._spoken
            self._heard = self._heard[-round(_BEFORE * SAMPLE_RATE) :]
            return
        length = len(self._heard) / SAMPLE_RATE
        if pause >= (_PAUSE if length < _LONG else _SHORT_PAUSE) or length >= _LONGEST:
            yield self._end()
        elif self._new >= _STEP * SAMPLE_RATE:
            yield self._look()

    def _look(self) -> Update:
        """Decode what there is once; what the last look said too is final, to the last word."""
        self._new = 0
        greedy = replace(self._options, beam_size=1, temperatures=(0.0,))
        found = [*self._final, *self._decode(greedy)]
        agreed = 0
        while found[agreed : agreed + 1] and found[: agreed + 1] == self._last_look[: agreed + 1]:
            agreed += 1
        while agreed > len(self._final) and not self._is_start(found, agreed):
            agreed -= 1
        final = found[len(self._final) : max(agreed, len(self._final))]
        self._final += final
        self._last_look = found
        partial = self._tokenizer.decode(found[len(self._final) :])
        return Update(self._tokenizer.decode(final), partial, ended=False, seconds=self._seconds)

    def _end(self) -> Update:
        """Decode what there is for good, and await the next utterance."""
        final = self._tokenizer.decode(self._decode(self._options))
        self._begin()
        return Update(final, "", ended=True, seconds=self._seconds)

    def _decode(self, options: Options) -> list[int]:
        """Return the tokens that follow those that are final."""
        if self._language is None:
            found = self._decoder.detect_language(self._heard)
            self._language = max(found, key=found.__getitem__)
        request = Request(
            self._language, self._task, timestamps=False, options=options,
            previous=self._prompt, prefix=self._final,
        )  # fmt: skip
        return self._decoder.decode(self._heard, request).tokens

    def _is_start(self, tokens: list[int], at: int) -> bool:
        """Tell whether a word, or a letter of a script without spaces, begins with that token."""
        piece = self._tokenizer.piece(tokens[at]) if at < len(tokens) else b" "
        return piece[:1] == b" " or piece[:1] >= _FIRST_OF_SEVERAL
