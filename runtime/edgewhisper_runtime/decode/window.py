"""One window of at most 30 s to tokens: encode, decode, and again where that failed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from edgewhisper_runtime.audio import SAMPLE_RATE, cutting, features
from edgewhisper_runtime.decode import alignment, loop, repetition, search
from edgewhisper_runtime.decode.rules import TokenRules
from edgewhisper_runtime.decode.search import Hypothesis
from edgewhisper_runtime.errors import EdgeWhisperError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edgewhisper_runtime.bundle import Settings
    from edgewhisper_runtime.options import Options
    from edgewhisper_runtime.text.tokens import Tokenizer
    from edgewhisper_runtime.transcript import EncodedAgain, Word

    Samples = NDArray[np.float32]

# Seconds of sound that may follow the text of a window: noise, or the end of a slow word.
_AFTER_UNSURE_END, _AFTER_END = 1.0, 2.0


@dataclass(frozen=True)
class Request:
    """What a window is decoded as.

    Where `options.language` is None it is detected in the window. Tokens before the window's own
    prompt: `hints`, then the end of `previous` as far as there is room. `prefix` are the tokens
    that its text begins with; only what follows them is decoded. The text of a `provisional`
    request may still change, so it need not reach the model's threshold for adaptive context.
    `language_probability` is that of a detected language.
    """

    options: Options
    timestamps: bool
    hints: Sequence[int] = ()
    previous: Sequence[int] = ()
    prefix: Sequence[int] = ()
    provisional: bool = False
    language_probability: float | None = None

    @property
    def language(self) -> str:
        """The language that is spoken; English as long as none is known."""
        return self.options.language or "en"

    @property
    def text_language(self) -> str:
        """The language of the text: a translation is English."""
        return "en" if self.options.task == "translate" else self.language


@dataclass(frozen=True)
class Decoded:
    """The tokens of a window, and the evidence for and against them.

    `request` is what the window was decoded as, with the language where that was detected.
    `log_probability` is the mean over the tokens, the end included; `end_probability` is that of
    the end alone, 1 where decoding did not end by itself. `failed`: the text is beyond the
    thresholds of the options. `encoded_again`: see `transcript.Window`.
    """

    request: Request
    tokens: list[int]
    probabilities: list[float]  # of each token
    log_probability: float
    end_probability: float
    temperature: float
    compression_ratio: float
    no_speech_probability: float | None
    looping: bool
    failed: bool
    encoded: Any | None  # the backend's encoding of the window; None without times
    pauses: Sequence[tuple[float, float]] = ()  # see `cutting.pauses`; none without times
    encoded_again: EncodedAgain | None = None

    @property
    def is_unsure_of_end(self) -> bool:
        """Whether the end of the text is less likely than the options ask for."""
        threshold = self.request.options.min_end_probability
        return threshold is not None and self.end_probability < threshold

    def ends_early(self, end: float, seconds: float) -> bool:
        """Tell whether a text that ends at a time leaves out speech of a window of so many seconds.

        It does where more than 2 s of sound follow, or more than 1 s after an unsure end.
        """
        quiet = sum(max(0.0, after - max(start, end)) for start, after in self.pauses)
        most = _AFTER_UNSURE_END if self.is_unsure_of_end else _AFTER_END
        return seconds - end - quiet > most


class WindowDecoder:
    """A backend with the tokenizer and settings of its model.

    With `adaptive` context a window is encoded at its own length and a margin, instead of the
    30 s that Whisper was trained on: several times faster for short audio. Its text may then be
    wrong, or run on after the last word and repeat itself. So where the text looks like a
    repetition, or is less likely than `settings.adaptive` demands, the window is encoded once
    more, in full.
    """

    def __init__(
        self, backend: loop.Backend, tokenizer: Tokenizer, settings: Settings, adaptive: bool
    ) -> None:
        self.backend = backend
        self.tokenizer = tokenizer
        self.settings = settings
        self.adaptive = adaptive

    @property
    def max_text_tokens(self) -> int:
        """How many tokens of text have room in any window: half of the decoder's positions.

        As many may stand before the window's own prompt.
        """
        return self.settings.max_tokens // 2 - 1

    def request(self, options: Options, timestamps: bool) -> Request:
        """Return what the first window of a recording is decoded as.

        Its hints are the end of the prompt, as far as there is room, and all hotwords. Raises
        EdgeWhisperError for a language, task or token to suppress that the model does not have, for
        the end of text among the latter, and for hotwords that are too long.
        """
        if options.multilingual and options.language is not None:
            raise EdgeWhisperError("multilingual detects the language: leave out language.")
        language = options.language or self.tokenizer.only_language
        any_language = next(iter(self.tokenizer.languages), "en")
        # A wrong language or task fails before the work.
        self.tokenizer.prompt(language or any_language, options.task)
        if absent := [id_ for id_ in options.suppress if not -1 <= id_ < self.backend.vocabulary]:
            raise EdgeWhisperError(
                f"suppress has {absent[0]}; the model's token ids go up to "
                f"{self.backend.vocabulary - 1}."
            )
        if self.tokenizer.end_of_text in options.suppress:
            raise EdgeWhisperError(
                f"suppress has {self.tokenizer.end_of_text}, the end of a text: without it no text "
                "would end. Leave it out."
            )
        prompt, hotwords = map(self.tokenizer.encode, options.hint_texts)
        room = self.max_text_tokens - len(hotwords)
        if room < 0:
            raise EdgeWhisperError(
                f"the hotwords are {len(hotwords)} tokens long, and there is room for "
                f"{self.max_text_tokens} before a window. Name fewer."
            )
        hints = prompt[max(len(prompt) - room, 0) :] + hotwords
        return Request(replace(options, language=language), timestamps, hints)

    def decode(self, window: Samples, request: Request, draft: Sequence[int] = ()) -> Decoded:
        """Decode one window by itself; see `decoding`."""
        (decoded,) = loop.run(self.backend, [self.decoding(window, request, draft)])
        return decoded

    def decoding(
        self, window: Samples, request: Request, draft: Sequence[int] = ()
    ) -> loop.Decoding[Decoded]:
        """Decode samples [n] at 16 kHz, n at most 480,000, in a step loop.

        The encoder runs once or twice, and again for what follows where a text without timestamps
        has ended too early. `draft` is what the tokens will probably be, as those of an earlier
        decoding of the same speech are: the text is the same in fewer steps.
        """
        decoded, end = yield from self._up_to_end(window, request, draft)
        if end is None:
            return decoded
        rest = yield from self.decoding(window[end:], decoded.request)
        return decoded if rest.failed else _joined(decoded, rest)

    def _up_to_end(
        self, window: Samples, request: Request, draft: Sequence[int]
    ) -> loop.Decoding[tuple[Decoded, int | None]]:
        """Decode a window; return the sample where its text ends too early, or None."""
        mels = features.log_mel(window, self.settings.mels, padding=request.options.padding)[None]
        frames = self._frames(window)
        encoded = self.backend.encode(mels[:, :, :frames])
        request = self._with_language(request, encoded)
        short = frames < features.WINDOW_FRAMES
        encoded_again: EncodedAgain | None = None
        attempts: list[Decoded] = []
        for temperature in request.options.temperatures:
            attempt = yield from self._attempt(encoded, request, temperature, short, draft)
            if short and (encoded_again := self._reason_to_encode_again(attempt)):
                short, draft = False, attempt.tokens
                del encoded, attempt  # two at a time would take twice the memory
                encoded = self.backend.encode(mels)
                attempt = yield from self._attempt(encoded, request, temperature, short, draft)
            attempts.append(attempt)
            if not attempt.failed:
                break
        else:
            attempt = max(attempts, key=lambda text: (not text.looping, text.log_probability))
        end = self._early_end(window, attempt, encoded)
        pauses = cutting.pauses(window) if request.options.timed else ()
        return replace(attempt, encoded_again=encoded_again, pauses=pauses), end

    def words(self, decoded: Decoded, at: Sequence[int], seconds: float) -> list[Word]:
        """Return the words of the text tokens at positions `at` of a window of so many seconds.

        Raises ValueError for a window that was decoded without asking for words.
        """
        if decoded.encoded is None:
            raise ValueError("the window was decoded without asking for words")
        request = decoded.request
        prompt = self.tokenizer.prompt(request.language, request.options.task)
        tokens = [decoded.tokens[i] for i in at]
        weights = self.backend.attention(
            np.array([*prompt, *tokens]), decoded.encoded, 0, self.settings.alignment_heads
        )
        probabilities = [decoded.probabilities[i] for i in at]
        return alignment.words(
            self.tokenizer, tokens, probabilities, weights, seconds, request.text_language,
            decoded.pauses,
        )  # fmt: skip

    def _early_end(self, window: Samples, decoded: Decoded, encoded: Any) -> int | None:
        """Return the sample after the last word of a text that more than 1 s of sound follows.

        None where the text is whole, or shorter than that itself: noise has such texts. Words are
        aligned only where the model is unsure of the end. Text with timestamps, or after a prefix,
        is not looked at.
        """
        request = decoded.request
        if request.options.timed or request.prefix or request.provisional:
            return None
        if not decoded.is_unsure_of_end or decoded.failed or not decoded.tokens:
            return None
        if not self.settings.alignment_heads:
            return None
        seconds = len(window) / SAMPLE_RATE
        aligned = replace(decoded, encoded=encoded, pauses=cutting.pauses(window))
        *_, last = self.words(aligned, range(len(decoded.tokens)), seconds)
        if last.end <= _AFTER_UNSURE_END or not aligned.ends_early(last.end, seconds):
            return None
        return cutting.pause_near(window, round(last.end * SAMPLE_RATE))

    def _with_language(self, request: Request, encoded: Any) -> Request:
        """Return the request with the language that its window is in."""
        if request.options.language:
            return request
        first = np.array([[self.tokenizer.start_of_transcript]])
        (logits,) = self.backend.step(first, self.backend.start(encoded))
        probabilities = search.language_probabilities(logits, self.tokenizer.languages)
        language = max(probabilities, key=probabilities.__getitem__)
        return replace(
            request,
            options=replace(request.options, language=language),
            language_probability=probabilities[language],
        )

    def _attempt(
        self,
        encoded: Any,
        request: Request,
        temperature: float,
        short: bool,
        draft: Sequence[int],
    ) -> loop.Decoding[Decoded]:
        """Decode at one temperature; in `short` context, until the first suspicion of a loop."""
        options, prompt = request.options, self._prompt(request)
        rules = self._rules(request, prompt)
        cache = self.backend.start(encoded)
        logits = self.backend.step(np.array([prompt]), cache)
        chosen: search.Search
        if temperature > 0:
            random = np.random.default_rng([options.seed, round(100 * temperature)])
            chosen = search.samples(rules, options.best_of, temperature, random)
            rows = np.zeros(options.best_of, dtype=np.int64)
            yield loop.start(self.backend, chosen, self.backend.reorder(cache, rows), logits[rows])
        elif options.beam_size > 1:
            chosen = search.Beam(rules, options.beam_size)
            yield loop.start(self.backend, chosen, cache, logits)
        else:
            has_failed = repetition.is_suspect if short else repetition.is_hopeless
            chosen = search.Texts(rules, has_failed=has_failed)
            yield loop.start(self.backend, chosen, cache, logits, draft[: rules.room - 1])
        return self._assess(chosen.best, temperature, request, encoded)

    def _reason_to_encode_again(self, short: Decoded) -> EncodedAgain | None:
        """Return why the text of a window in short context is not kept; None where it is."""
        if short.looping or repetition.is_suspect(short.tokens):
            return "looping"
        threshold = self.settings.adaptive.min_log_probability
        if threshold is None or short.request.provisional:
            return "unsure" if short.failed else None
        return "unsure" if short.failed or short.log_probability < threshold else None

    def _no_speech_probability(self, encoded: Any, request: Request) -> float:
        """Return the model's estimate that nobody speaks, from where the transcript starts."""
        prompt = self._prompt(request)
        head = prompt[: prompt.index(self.tokenizer.start_of_transcript) + 1]
        (logits,) = self.backend.step(np.array([head]), self.backend.start(encoded))
        return search.probability(logits, self.tokenizer.no_speech)

    def _prompt(self, request: Request) -> list[int]:
        task = request.options.task
        prompt = self.tokenizer.prompt(request.language, task, request.timestamps)
        room = self.max_text_tokens - len(request.hints)
        previous = request.previous[max(len(request.previous) - room, 0) :]
        if request.hints or previous:
            prompt = [self.tokenizer.start_of_previous, *request.hints, *previous, *prompt]
        return [*prompt, *request.prefix]

    def _rules(self, request: Request, prompt: Sequence[int]) -> TokenRules:
        options, own = request.options, self.settings.suppress
        if -1 not in options.suppress:  # special tokens are never text
            own = tuple(token for token in own if token >= self.tokenizer.end_of_text)
        return TokenRules(
            suppress=(*own, *(token for token in options.suppress if token >= 0)),
            suppress_first=() if request.prefix else self.settings.suppress_first,
            end_of_text=self.tokenizer.end_of_text,
            room=self.settings.max_tokens - len(prompt),
            first_timestamp=self.tokenizer.first_timestamp if request.timestamps else None,
            repetition_penalty=options.repetition_penalty,
            no_repeat_ngram=options.no_repeat_ngram,
        )

    def _assess(
        self, text: Hypothesis, temperature: float, request: Request, encoded: Any
    ) -> Decoded:
        """Return a text with the evidence for and against it; silence has no tokens.

        It is silence where the text is unlikely and the model estimates that nobody speaks. The
        options may do without either threshold; the model is asked only where the first is passed.
        """
        options, likely = request.options, text.log_probability
        ratio = repetition.compression_ratio(self.tokenizer.decode(text.tokens))
        repeats = repetition.is_looping(text.tokens)
        unlikely = options.min_log_probability is not None and likely < options.min_log_probability
        no_speech = None
        if options.max_no_speech is not None and (unlikely or options.min_log_probability is None):
            no_speech = self._no_speech_probability(encoded, request)
        silent = no_speech is not None and no_speech > (options.max_no_speech or 0)
        compressible = options.max_compression_ratio is not None and (
            repeats or ratio > options.max_compression_ratio
        )
        return Decoded(
            request=request,
            tokens=[] if silent else text.tokens,
            probabilities=[] if silent else np.exp(text.log_probabilities).tolist(),
            log_probability=likely,
            end_probability=text.end_probability,
            temperature=temperature,
            compression_ratio=0.0 if silent else ratio,
            no_speech_probability=no_speech,
            looping=(repeats or ratio > repetition.MAX_RATIO) and not silent,
            failed=(unlikely or compressible) and not silent,
            encoded=encoded if options.timed else None,
        )

    def _frames(self, window: Samples) -> int:
        """Return how many frames a window is first encoded in: an even number."""
        if not self.adaptive:
            return features.WINDOW_FRAMES
        margin = round(self.settings.adaptive.margin * features.FRAMES_PER_SECOND)
        frames = -(-len(window) // features.HOP) + margin
        return min(frames + frames % 2, features.WINDOW_FRAMES)


def _joined(first: Decoded, second: Decoded) -> Decoded:
    """Return the text of a window whose rest was decoded by itself."""
    counts = [len(text.tokens) + 1 for text in (first, second)]
    likely = np.average([first.log_probability, second.log_probability], weights=counts)
    return replace(
        first,
        tokens=[*first.tokens, *second.tokens],
        probabilities=[*first.probabilities, *second.probabilities],
        log_probability=float(likely),
        end_probability=second.end_probability,
        temperature=max(first.temperature, second.temperature),
        compression_ratio=max(first.compression_ratio, second.compression_ratio),
        looping=first.looping or second.looping,
        encoded_again=first.encoded_again or second.encoded_again,
    )
