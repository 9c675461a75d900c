"""Speech while it is spoken: text is final as soon as two decodings of the audio agree on it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from edgewhisper_runtime.audio import SAMPLE_RATE, checked, vad
from edgewhisper_runtime.builder import MAX_PROMPT_TEMPERATURE
from edgewhisper_runtime.decode.window import Decoded, Request
from edgewhisper_runtime.options import Options
from edgewhisper_runtime.text.splitting import split

if TYPE_CHECKING:
    from edgewhisper_runtime.audio import Samples
    from edgewhisper_runtime.transcriber import Transcriber

# In frames of 32 ms:
_INTERVAL = 31  # 1 s: new audio of this length is decoded together with the utterance so far
_PAUSE = 19  # 0.6 s of silence end an utterance
_SHORT_PAUSE = 6  # 0.2 s end a long one
_LONG = 469  # 15 s
_LONGEST = 875  # 28 s: an utterance is one window
_CUT_WITHIN = 156  # 5 s before the end of a full one: it is cut in the longest pause there
_BEFORE = 16  # 0.5 s of the silence before speech are kept
_MIN_SPEECH = 5  # 0.16 s that sound like speech begin an utterance: a click is shorter
_LANGUAGE_KNOWN = 94  # 3 s are enough to detect the language
_RESERVE = 64  # tokens: two decodings in a row do not differ by more

_UNCERTAIN_END = 1.0  # seconds before a cut in speech in which a word may be cut too
_DEFAULT = Options()


@dataclass(frozen=True)
class Update:
    """New text: `final` follows all earlier final text; `partial` may still change.

    `ended`: the utterance is complete, and the next update begins another. `seconds` is the length
    of the audio so far.
    """

    final: str
    partial: str
    ended: bool
    seconds: float


class Live:
    """Transcribes one stream of samples while it is being spoken. Not safe for concurrent calls.

    The utterance under way, the audio since the last pause, is decoded about once a second. Words
    that two decodings in a row agree on are final (local agreement: Macháček et al. 2023, Turning
    Whisper into a real-time transcription system); later decodings begin with them. An utterance
    ends with a pause, or when a window would soon have no more room, and is then decoded with all
    that the options ask for. With `multilingual` the language is detected anew in every decoding.
    Options about times, clips and batches have no effect. Utterances need a voice detector: where
    `vad` is "none" it is the energy gate.
    """

    def __init__(self, transcriber: Transcriber, options: Options = _DEFAULT) -> None:
        """Raise EdgeWhisperError for a language or task that the model does not have.

        Also for too many hotwords.
        """
        self._decoder = transcriber.decoder
        self._tokenizer = transcriber.decoder.tokenizer
        untimed = replace(
            options, timestamps=None, words=False, hallucination_silence_threshold=None
        )
        self._request = self._decoder.request(untimed, timestamps=False)
        self._detector = vad.load_detector(options.vad) or vad.EnergyGate()
        self._rest = np.zeros(0, dtype=np.float32)  # samples that are no whole frame yet
        self._frames = 0
        self._begin([])

    def feed(self, samples: Samples) -> Iterator[Update]:
        """Take the next samples [n] at 16 kHz, n above 0; yield the updates, often none.

        Audio is decoded at most once for each call, at its end: a caller that is late catches up
        by passing all the audio that waits at once. Raises AudioError for NaN or another shape.
        """
        samples = checked(samples)
        probabilities = self._detector.feed(samples)
        samples = np.concatenate([self._rest, samples])
        self._rest = samples[len(probabilities) * vad.FRAME :]
        frames = samples[: len(probabilities) * vad.FRAME].reshape(-1, vad.FRAME)
        for frame, probability in zip(frames, probabilities, strict=True):
            self._add_frame(frame, float(probability))
            if self._has_speech and self._is_over:
                yield self._end()
            elif len(self._utterance) == _LONGEST or self._is_full:
                yield self._end(paused=False)
        if self._has_speech and len(self._utterance) - self._decoded_frames >= _INTERVAL:
            yield self._decode_so_far()

    def finish(self) -> Iterator[Update]:
        """Yield the rest of the text, if it is not final yet: no more audio comes."""
        if self._has_speech:
            self._utterance.append(self._rest)
            yield self._end()

    def _begin(self, frames: list[Samples]) -> None:
        """Start a new utterance with frames that are left of the last one, if any."""
        self._utterance = frames
        self._decoded_frames = 0
        self._speech = _MIN_SPEECH if frames else 0  # frames that sounded like speech
        self._silence = 0  # frames since the last that did
        self._final: list[int] = []
        self._last_tokens: list[int] = []

    @property
    def _has_speech(self) -> bool:
        return self._speech >= _MIN_SPEECH

    @property
    def _is_over(self) -> bool:
        return self._silence >= (_PAUSE if len(self._utterance) < _LONG else _SHORT_PAUSE)

    @property
    def _is_full(self) -> bool:
        """Whether the text may soon have more tokens than a window has room for."""
        return len(self._final) > self._decoder.max_text_tokens - _RESERVE

    def _add_frame(self, frame: Samples, probability: float) -> None:
        self._frames += 1
        self._utterance.append(frame)
        self._speech += probability >= vad.ENTER
        self._silence = 0 if probability >= vad.LEAVE else self._silence + 1
        if not self._has_speech:
            self._speech = 0 if self._is_over else self._speech
            self._utterance = self._utterance[-_BEFORE:]

    def _decode_so_far(self) -> Update:
        """Decode the utterance so far; words that are equal in the last decoding are final."""
        self._decoded_frames = len(self._utterance)
        options = replace(self._request.options, beam_size=1, temperatures=(0.0,))
        # Speech that is cut off always has a low probability; agreement decides what is kept.
        decoded = self._decode(replace(self._request, options=options, provisional=True))
        tokens = [*self._final, *decoded.tokens]
        agreed = 0 if decoded.looping else _common_length(tokens, self._last_tokens)
        words = split(self._tokenizer, tokens, decoded.request.text_language)
        done = max((word.end for word in words if word.end <= agreed), default=0)
        self._last_tokens = tokens
        return self._update(tokens, max(done, len(self._final)))

    def _end(self, *, paused: bool = True) -> Update:
        """Decode the whole utterance, and start the next one.

        Without a pause it is cut before its last words, and the next one begins with them.
        """
        options = replace(self._request.options, words=not paused)
        decoded = self._decode(replace(self._request, options=options))
        tokens = [*self._final, *decoded.tokens]
        done, rest = len(tokens), len(self._utterance)
        if not paused:
            done, rest = self._cut(
                replace(decoded, tokens=tokens, probabilities=[1.0] * len(tokens))
            )
        update = self._update(tokens[:done], done, ended=True)
        if self._request.options.condition_on_previous_text:
            text = [*self._request.previous, *tokens[:done]][-self._decoder.settings.max_tokens :]
            reliable = decoded.temperature <= MAX_PROMPT_TEMPERATURE
            self._request = replace(self._request, previous=text if reliable else [])
        self._begin(self._utterance[rest:])
        return update

    def _cut(self, decoded: Decoded) -> tuple[int, int]:
        """Return how many tokens to end an utterance after, and the frame where the next begins."""
        length = len(self._utterance)
        seconds = length * vad.FRAME / SAMPLE_RATE
        spans = split(self._tokenizer, decoded.tokens, decoded.request.text_language)
        at = range(len(decoded.tokens))
        words = self._decoder.words(decoded, at, seconds) if at else []
        final = len(self._final)
        next_starts = [*(word.start for word in words[1:]), seconds]
        # after each word: the pause in seconds, the tokens so far, the frame in the pause
        places = [
            (after - word.end, span.end, round((word.end + after) / 2 * SAMPLE_RATE / vad.FRAME))
            for span, word, after in zip(spans, words, next_starts, strict=True)
            if span.end == final or (span.end > final and word.end <= seconds - _UNCERTAIN_END)
        ]
        # A cut at a word would make it part of both utterances: the longest pause is the safest.
        near = [place for place in places if place[2] >= length - _CUT_WITHIN] or places[-1:]
        _, done, frame = max(near, default=(0.0, len(decoded.tokens), length))
        return done, max(frame, length - _LONG)

    def _update(self, tokens: list[int], done: int, *, ended: bool = False) -> Update:
        """Make the first `done` tokens final."""
        final = self._tokenizer.decode(tokens[len(self._final) : done])
        self._final = tokens[:done]
        partial = self._tokenizer.decode(tokens[done:])
        return Update(final, partial, ended, self._frames * vad.FRAME / SAMPLE_RATE)

    def _decode(self, request: Request) -> Decoded:
        """Decode the text after the final tokens.

        Enough speech settles the language, unless each utterance may have its own.
        """
        samples = np.concatenate(self._utterance)
        draft = self._last_tokens[len(self._final) :]
        decoded = self._decoder.decode(samples, replace(request, prefix=self._final), draft)
        if len(self._utterance) >= _LANGUAGE_KNOWN and not request.options.multilingual:
            options = replace(self._request.options, language=decoded.request.language)
            self._request = replace(self._request, options=options)
        return decoded


def _common_length(first: Sequence[int], second: Sequence[int]) -> int:
    """Return how many tokens two texts have in common at their start."""
    pairs = enumerate(zip(first, second, strict=False))
    return next((at for at, (a, b) in pairs if a != b), min(len(first), len(second)))
