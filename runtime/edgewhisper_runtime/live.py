"""Speech as it comes: text that is final as soon as two looks at the audio agree on it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from edgewhisper_runtime.audio import SAMPLE_RATE, checked, vad
from edgewhisper_runtime.decode.window import Decoded, Request
from edgewhisper_runtime.options import Options
from edgewhisper_runtime.recording import WARM
from edgewhisper_runtime.text.splitting import split

if TYPE_CHECKING:
    from edgewhisper_runtime.audio import Samples
    from edgewhisper_runtime.transcriber import Transcriber

# In frames of 32 ms:
_STEP = 31  # 1 s of new audio is worth a look
_PAUSE = 19  # 0.6 s of silence end an utterance
_SHORT_PAUSE = 6  # 0.2 s end a long one
_LONG = 469  # 15 s
_LONGEST = 875  # 28 s: an utterance is one window
_NEAR = 156  # 5 s before the end of a full one: it is cut in the longest pause there
_BEFORE = 16  # 0.5 s are kept of the silence before speech
_FEWEST = 5  # that sound like speech, 0.16 s: a click is shorter
_ENOUGH = 94  # 3 s tell which language is spoken
_RESERVE = 64  # tokens: more are not found between two looks

_UNSURE = 1.0  # seconds before a cut in speech whose words may be cut too
_DEFAULT = Options()


@dataclass(frozen=True)
class Update:
    """What is new: `final` follows all that was final before; `partial` may still change.

    `ended`: the utterance is complete, and the next update begins another. `seconds` of audio were
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
    a real-time transcription system); later looks are made to begin with them. An utterance ends
    with a pause, or when a window would soon have no more room, and is then decoded with all that
    the options ask for. Those about times, batches and `vad` mean nothing here.
    """

    def __init__(
        self,
        transcriber: Transcriber,
        language: str | None = None,
        task: str = "transcribe",
        options: Options = _DEFAULT,
    ) -> None:
        """Raise EdgeWhisperError for a language or task that the model does not have.

        Also for too many hotwords.
        """
        self._decoder = transcriber.decoder
        self._tokenizer = transcriber.decoder.tokenizer
        self._options = options
        self._task = task
        self._language = language if self._tokenizer.multilingual else language or "en"
        self._tokenizer.prompt(self._language or "en", task)
        self._hints = self._decoder.hints(options)
        self._said: list[int] = []  # in earlier utterances, where the options build on them
        self._detector = vad.load_detector()
        self._rest = np.zeros(0, dtype=np.float32)  # samples that are no whole frame yet
        self._frames = 0
        self._begin([])

    def feed(self, samples: Samples) -> Iterator[Update]:
        """Take the next samples [n] at 16 kHz, n above 0; yield what they bring, mostly nothing.

        It looks at most once for each call, at the end: who is late catches up by giving all that
        waits at once. Raises AudioError for NaN or another shape.
        """
        samples = checked(samples)
        likely = self._detector.feed(samples)
        samples = np.concatenate([self._rest, samples])
        self._rest = samples[len(likely) * vad.FRAME :]
        frames = samples[: len(likely) * vad.FRAME].reshape(-1, vad.FRAME)
        for frame, probability in zip(frames, likely, strict=True):
            self._hear(frame, float(probability))
            if self._speaks and self._is_over:
                yield self._end()
            elif len(self._heard) == _LONGEST or self._is_full:
                yield self._end(paused=False)
        if self._speaks and len(self._heard) - self._looked_at >= _STEP:
            yield self._look()

    def finish(self) -> Iterator[Update]:
        """Yield what was said last, if it was not final before: nothing more comes."""
        if self._speaks:
            self._heard.append(self._rest)
            yield self._end()

    def _begin(self, heard: list[Samples]) -> None:
        """Await an utterance, which may have begun with frames that were heard already."""
        self._heard = heard
        self._looked_at = 0  # frames
        self._spoken = _FEWEST if heard else 0  # frames that sounded like speech
        self._silence = 0  # frames since the last that did
        self._final: list[int] = []
        self._last_look: list[int] = []

    @property
    def _speaks(self) -> bool:
        return self._spoken >= _FEWEST

    @property
    def _is_over(self) -> bool:
        return self._silence >= (_PAUSE if len(self._heard) < _LONG else _SHORT_PAUSE)

    @property
    def _is_full(self) -> bool:
        """Whether the text may soon be longer than what has room in a window."""
        return len(self._final) > self._decoder.most_text - _RESERVE

    def _hear(self, frame: Samples, probability: float) -> None:
        self._frames += 1
        self._heard.append(frame)
        self._spoken += probability >= vad.ENTER
        self._silence = 0 if probability >= vad.LEAVE else self._silence + 1
        if not self._speaks:
            self._spoken = 0 if self._is_over else self._spoken
            self._heard = self._heard[-_BEFORE:]

    def _look(self) -> Update:
        """Decode what there is once; the words that the last look found too are final."""
        self._looked_at = len(self._heard)
        greedy = replace(self._options, beam_size=1, temperatures=(0.0,))
        decoded, request = self._decode(greedy)
        found = [*self._final, *decoded.tokens]
        agreed = 0 if decoded.looping else _common(found, self._last_look)
        words = split(self._tokenizer, found, request.text_language)
        done = max((word.end for word in words if word.end <= agreed), default=0)
        self._last_look = found
        return self._update(found, max(done, len(self._final)))

    def _end(self, *, paused: bool = True) -> Update:
        """Decode what there is for good, and await the next utterance.

        Where nobody paused it is cut before its last words, which the next one begins with.
        """
        decoded, request = self._decode(replace(self._options, words=not paused))
        found = [*self._final, *decoded.tokens]
        done, rest = len(found), len(self._heard)
        if not paused:
            decoded = replace(decoded, tokens=found, probabilities=[1.0] * len(found))
            done, rest = self._cut(decoded, request)
        update = self._update(found[:done], done, ended=True)
        if self._options.condition_on_previous_text:
            said = [*self._said, *found[:done]][-self._decoder.settings.max_tokens :]
            self._said = [] if decoded.temperature > WARM else said
        self._begin(self._heard[rest:])
        return update

    def _cut(self, decoded: Decoded, request: Request) -> tuple[int, int]:
        """Return how many tokens to end an utterance after, and the frame where the next begins."""
        length = len(self._heard)
        seconds = length * vad.FRAME / SAMPLE_RATE
        spans = split(self._tokenizer, decoded.tokens, request.text_language)
        at = range(len(decoded.tokens))
        words = self._decoder.words(decoded, at, seconds, request) if at else []
        final = len(self._final)
        nexts = [*(word.start for word in words[1:]), seconds]
        sure = [
            (after - word.end, span.end, round((word.end + after) / 2 * SAMPLE_RATE / vad.FRAME))
            for span, word, after in zip(spans, words, nexts, strict=True)
            if span.end == final or (span.end > final and word.end <= seconds - _UNSURE)
        ]
        # Cut right at a word, it would be heard twice: the longest pause is the safest place.
        near = [place for place in sure if place[2] >= length - _NEAR] or sure[-1:]
        _, done, frame = max(near, default=(0.0, len(decoded.tokens), length))
        return done, max(frame, length - _LONG)

    def _update(self, found: list[int], done: int, *, ended: bool = False) -> Update:
        """Take the first tokens that were found for final."""
        final = self._tokenizer.decode(found[len(self._final) : done])
        self._final = found[:done]
        partial = self._tokenizer.decode(found[done:])
        return Update(final, partial, ended, self._frames * vad.FRAME / SAMPLE_RATE)

    def _decode(self, options: Options) -> tuple[Decoded, Request]:
        """Return what follows the tokens that are final."""
        heard = np.concatenate(self._heard)
        language = self._language
        if language is None:
            likely = self._decoder.detect_language(heard, options.padding)
            language = max(likely, key=likely.__getitem__)
            self._language = language if len(self._heard) >= _ENOUGH else None
        request = Request(
            language, self._task, False, options, self._hints, self._said, self._final
        )
        return self._decoder.decode(heard, request), request


def _common(one: Sequence[int], other: Sequence[int]) -> int:
    """Return how many tokens two texts have in common at their start."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((at for at, (a, b) in pairs if a != b), min(len(one), len(other)))
