"""One window of at most 30 s to tokens: encode, decode, and again where that failed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from edgewhisper_runtime.audio import features
from edgewhisper_runtime.decode import alignment, loop, repetition
from edgewhisper_runtime.decode.loop import Hypothesis
from edgewhisper_runtime.decode.rules import TokenRules
from edgewhisper_runtime.errors import EdgeWhisperError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edgewhisper_runtime.bundle import Settings
    from edgewhisper_runtime.options import Options, Padding
    from edgewhisper_runtime.text.tokens import Tokenizer
    from edgewhisper_runtime.transcript import Word

    Samples = NDArray[np.float32]

_MARGIN_FRAMES = 2 * features.FRAMES_PER_SECOND


@dataclass(frozen=True)
class Request:
    """What a window is decoded as.

    `hints` and then `previous`, as much of its end as there is room for, are tokens that stand
    before the window's own prompt, `prefix` those that its text begins with; what is decoded
    follows them.
    """

    language: str
    task: str
    timestamps: bool
    options: Options
    hints: Sequence[int] = ()
    previous: Sequence[int] = ()
    prefix: Sequence[int] = ()

    @property
    def text_language(self) -> str:
        """The language of the text: of what is said, but a translation is English."""
        return "en" if self.task == "translate" else self.language


@dataclass(frozen=True)
class Decoded:
    """The tokens of a window and how they were come by.

    `unsure`: not good enough by the options' thresholds. `fell_back`: it was encoded at its own
    length first.
    """

    tokens: list[int]
    probabilities: list[float]  # of each token
    log_probability: float  # mean, the end included
    temperature: float
    compression_ratio: float
    no_speech_probability: float | None
    looping: bool
    unsure: bool
    fell_back: bool
    # what the backend made of the batch, and the window's row in it; None where no times are asked
    encoded: tuple[Any, int] | None


class WindowDecoder:
    """A backend with the tokenizer and settings of its model.

    With `adaptive` context a window is encoded at its own length and a margin, instead of the
    30 s that Whisper was trained on: several times faster for short audio. Decoding may then run
    on after the last word, repeating itself; such a window is done again in full.
    """

    def __init__(
        self, backend: loop.Backend, tokenizer: Tokenizer, settings: Settings, adaptive: bool
    ) -> None:
        self.backend = backend
        self.tokenizer = tokenizer
        self.settings = settings
        self.adaptive = adaptive
        # The window whose language was detected, encoded: it is decoded next.
        self._heard: tuple[Samples, int, Padding, Any] | None = None

    @property
    def most_text(self) -> int:
        """How many tokens of text have room in any window: half of the positions.

        As many may stand before the window's own prompt.
        """
        return self.settings.max_tokens // 2 - 1

    def hints(self, options: Options) -> list[int]:
        """Return the tokens of the prompt, as much of its end as has room, and of all hotwords.

        Raises EdgeWhisperError for hotwords that leave no room.
        """
        prompt, hotwords = map(self.tokenizer.encode, options.hint_texts)
        room = self.most_text - len(hotwords)
        if room < 0:
            raise EdgeWhisperError(
                f"the hotwords are {len(hotwords)} tokens long, and there is room for "
                f"{self.most_text} before a window. Name fewer."
            )
        return prompt[max(len(prompt) - room, 0) :] + hotwords

    def detect_language(self, window: Samples, padding: Padding) -> dict[str, float]:
        """Return how likely each of the model's languages is in samples [n] at 16 kHz."""
        frames = self._frames(window)
        encoded = self._encode([window], padding, frames)
        first = np.array([[self.tokenizer.start_of_transcript]])
        logits = self.backend.step(first, self.backend.start(encoded))[0]
        self._heard = (window, frames, padding, encoded)
        return loop.language_probabilities(logits, self.tokenizer.languages)

    def decode(self, window: Samples, request: Request, first: Decoded | None = None) -> Decoded:
        """Decode samples [n] at 16 kHz, n at most 480,000.

        `first` is what the first temperature gave, where that is known.
        """
        frames = self._frames(window)
        cut = frames < features.WINDOW_FRAMES
        padding = request.options.padding
        encoded = self._encode([window], padding, frames)
        attempts = [first] if first else []
        for temperature in request.options.temperatures[len(attempts) :]:
            attempt = self._attempt(encoded, request, temperature, cut)
            if cut and (attempt.unsure or repetition.is_suspect(attempt.tokens)):
                cut = False
                del encoded, attempt  # two at a time would take twice the memory
                encoded = self._encode([window], padding)
                attempt = self._attempt(encoded, request, temperature, cut)
            attempts.append(attempt)
            if not attempt.unsure:
                break
        else:
            attempt = max(attempts, key=lambda one: (not one.looping, one.log_probability))
        return replace(attempt, fell_back=not cut and frames < features.WINDOW_FRAMES)

    def words(
        self, decoded: Decoded, at: Sequence[int], seconds: float, request: Request
    ) -> list[Word]:
        """Return the words of the text tokens at some places of a window of so many seconds.

        Raises ValueError for a window that was decoded without asking for words.
        """
        if decoded.encoded is None:
            raise ValueError("nothing was kept to time words by")
        prompt = self.tokenizer.prompt(request.language, request.task)
        tokens = [decoded.tokens[i] for i in at]
        weights = self.backend.attention(
            np.array([*prompt, *tokens]), *decoded.encoded, self.settings.alignment_heads
        )
        likely = [decoded.probabilities[i] for i in at]
        language = request.text_language
        return alignment.words(self.tokenizer, tokens, likely, weights, seconds, language)

    def decode_all(self, windows: Sequence[Samples], requests: Sequence[Request]) -> list[Decoded]:
        """Decode several windows as one batch where that is possible; the results are the same.

        Beams and samples are batches themselves, and with adaptive context every window has a
        length of its own: these are taken one by one. The options of all requests are the same.
        """
        options = requests[0].options
        alone = len(windows) == 1 or self.adaptive
        if alone or options.beam_size > 1 or options.temperatures[0] > 0:
            return [self.decode(*one) for one in zip(windows, requests, strict=True)]
        encoded = self._encode(windows, options.padding)
        cache, logits = self._prompted(encoded, requests)
        rules = self._rules(requests[0])
        texts = loop.follow(self.backend, cache, logits, rules)
        found = [
            self._judged(text, 0.0, request, encoded, row)
            for row, (text, request) in enumerate(zip(texts, requests, strict=True))
        ]
        if len(options.temperatures) == 1:
            return found
        del encoded, cache  # a window's second encoding would come on top
        return [
            self.decode(window, request, one) if one.unsure else one
            for window, request, one in zip(windows, requests, found, strict=True)
        ]

    def _attempt(self, encoded: Any, request: Request, temperature: float, cut: bool) -> Decoded:
        options, rules = request.options, self._rules(request)
        cache, logits = self._prompted(encoded, [request])
        if temperature > 0:
            random = np.random.default_rng([options.seed, round(100 * temperature)])
            count = options.best_of
            text = loop.sample(self.backend, cache, logits, rules, count, temperature, random)
        elif options.beam_size > 1:
            text = loop.beam(self.backend, cache, logits, rules, options.beam_size)
        else:
            failed = repetition.is_suspect if cut else repetition.is_hopeless
            (text,) = loop.follow(self.backend, cache, logits, rules, failed=failed)
        return self._judged(text, temperature, request, encoded, 0)

    def _prompted(
        self, encoded: Any, requests: Sequence[Request]
    ) -> tuple[Any, NDArray[np.float32]]:
        """Return the cache after the prompts, which are of one length, and the logits there."""
        cache = self.backend.start(encoded)
        prompts = np.array([self._prompt(request) for request in requests])
        return cache, self.backend.step(prompts, cache)

    def _silence(self, encoded: Any, row: int, request: Request) -> float:
        """Return how likely it is that nobody speaks: the model says so where transcripts start."""
        prompt = self._prompt(request)
        head = prompt[: prompt.index(self.tokenizer.start_of_transcript) + 1]
        cache = self.backend.reorder(self.backend.start(encoded), np.array([row]))
        logits = self.backend.step(np.array([head]), cache)
        return loop.probability(logits[0], self.tokenizer.no_speech)

    def _prompt(self, request: Request) -> list[int]:
        own = self.tokenizer.prompt(request.language, request.task, request.timestamps)
        room = self.most_text - len(request.hints)
        previous = request.previous[max(len(request.previous) - room, 0) :]
        if request.hints or previous:
            own = [self.tokenizer.start_of_previous, *request.hints, *previous, *own]
        return [*own, *request.prefix]

    def _rules(self, request: Request) -> TokenRules:
        return TokenRules(
            suppress=self.settings.suppress,
            suppress_first=() if request.prefix else self.settings.suppress_first,
            end_of_text=self.tokenizer.end_of_text,
            room=self.settings.max_tokens - len(self._prompt(request)),
            first_timestamp=self.tokenizer.first_timestamp if request.timestamps else None,
        )

    def _judged(
        self, text: Hypothesis, temperature: float, request: Request, encoded: Any, row: int
    ) -> Decoded:
        """Return a text with what speaks for and against it; silence has no tokens.

        Whether nobody speaks is asked only of what is unlikely: it takes both to be silence, where
        the options have a limit for both.
        """
        options, likely = request.options, text.log_probability
        ratio = repetition.compression_ratio(self.tokenizer.decode(text.tokens))
        repeats = repetition.is_looping(text.tokens)
        unlikely = options.min_log_probability is not None and likely < options.min_log_probability
        silence = None
        if options.max_no_speech is not None and (unlikely or options.min_log_probability is None):
            silence = self._silence(encoded, row, request)
        silent = silence is not None and silence > (options.max_no_speech or 0)
        squeezed = options.max_compression_ratio is not None and (
            repeats or ratio > options.max_compression_ratio
        )
        return Decoded(
            tokens=[] if silent else text.tokens,
            probabilities=[] if silent else np.exp(text.log_probabilities).tolist(),
            log_probability=likely,
            temperature=temperature,
            compression_ratio=0.0 if silent else ratio,
            no_speech_probability=silence,
            looping=(repeats or ratio > repetition.MAX_RATIO) and not silent,
            unsure=(unlikely or squeezed) and not silent,
            fell_back=False,
            encoded=(encoded, row) if options.timed else None,
        )

    def _frames(self, window: Samples) -> int:
        """Return how many frames a window is encoded in."""
        if not self.adaptive:
            return features.WINDOW_FRAMES
        heard = -(-len(window) // features.HOP) + _MARGIN_FRAMES
        return min(heard + heard % 2, features.WINDOW_FRAMES)

    def _encode(
        self,
        windows: Sequence[Samples],
        padding: Padding,
        frames: int = features.WINDOW_FRAMES,
    ) -> Any:
        heard, self._heard = self._heard, None
        how = (frames, padding)
        if heard and len(windows) == 1 and heard[0] is windows[0] and heard[1:3] == how:
            return heard[3]
        del heard  # two at a time would take twice the memory
        bands = self.settings.mels
        mels = [features.log_mel(window, bands, frames, padding) for window in windows]
        return self.backend.encode(np.stack(mels))
