"""A recording on its way to a transcript: its windows, and what was decoded of them so far."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import accumulate
from typing import TYPE_CHECKING

from edgewhisper_runtime.audio import SAMPLE_RATE, cutting, vad
from edgewhisper_runtime.decode.spans import Span, split_at_timestamps
from edgewhisper_runtime.decode.window import Decoded, Request, WindowDecoder
from edgewhisper_runtime.transcript import Segment, Transcript, Window, Word

if TYPE_CHECKING:
    from edgewhisper_runtime.audio import Samples
    from edgewhisper_runtime.options import Options

_SHORTEST = SAMPLE_RATE // 10  # what is left of a recording and shorter holds no word
WARM = 0.5  # text decoded at a higher temperature is not built upon, as openai-whisper has it


class Recording:
    """Blocks of samples [n] at 16 kHz, and all that is asked for and known of them.

    Raises EdgeWhisperError for a language or task that the model does not have, and for too many
    hotwords.
    """

    def __init__(
        self,
        decoder: WindowDecoder,
        blocks: Iterable[Samples],
        language: str | None,
        task: str,
        options: Options,
    ) -> None:
        tokenizer = decoder.tokenizer
        if not tokenizer.multilingual:
            language = language or "en"
        tokenizer.prompt(language or "en", task)  # a wrong one must fail before the work
        self._error: Exception | None = None
        self._decoder = decoder
        self._blocks, self._timeline = blocks, vad.Timeline()
        if options.vad:
            self._blocks, self._timeline = vad.speech_only(blocks, vad.load_detector())
        self._language = language
        self._language_probability: float | None = None
        self._task = task
        self._options = options
        self._hints = decoder.hints(options)
        self._said: list[int] = []
        self._samples = 0
        self._until = 0.0  # seconds, the end of what was said last
        self._segments: list[Segment] = []
        self._windows: list[Window] = []

    def walk(self) -> Iterator[Segment]:
        """Decode window after window, each from where the timestamps say the last was done with."""
        reader, start = cutting.Reader(self._blocks), 0
        while len(samples := reader.window(start)) >= (_SHORTEST if start else 1):
            seconds, new = self._window(samples, start)
            yield from new
            start += cutting.pause_near(samples, round(seconds * SAMPLE_RATE))

    def _window(self, samples: Samples, start: int) -> tuple[float, list[Segment]]:
        """Decode a window; what the encoder made of it is let go before the next."""
        request = self.request(samples)
        decoded = self._decoder.decode(samples, request)
        return self.add(decoded, request, start, len(samples))

    def windows(self) -> Iterator[tuple[Recording, int, Samples]]:
        """Yield where each window begins and its samples, cut at pauses.

        Where reading fails they end; the error is the recording's result.
        """
        start = 0
        try:
            for samples in cutting.windows(self._blocks):
                yield self, start, samples
                start += len(samples)
        except Exception as error:  # noqa: BLE001 # whoever asks for the result gets it
            self._error = error

    def request(self, samples: Samples) -> Request:
        """Return what a window is to be decoded as."""
        if self._language is None:
            found = self._decoder.detect_language(samples, self._options.padding)
            self._language = max(found, key=found.__getitem__)
            self._language_probability = found[self._language]
        return Request(
            self._language,
            self._task,
            self._options.timed,
            self._options,
            self._hints,
            self._said,
        )

    def add(
        self, decoded: Decoded, request: Request, start: int, samples: int, *, whole: bool = False
    ) -> tuple[float, list[Segment]]:
        """Take the text of a window of so many `samples` that begins at sample `start`.

        Returns the seconds of it that are done with (all of a `whole` one) and its segments.
        """
        offset, length = start / SAMPLE_RATE, samples / SAMPLE_RATE
        first_timestamp = self._decoder.tokenizer.first_timestamp
        spans, seconds = split_at_timestamps(decoded.tokens, first_timestamp, length, whole)
        begin, end = self._interval(offset, offset + seconds)
        self._windows.append(
            Window(
                start=begin,
                end=end,
                tokens=decoded.tokens,
                temperature=decoded.temperature,
                log_probability=decoded.log_probability,
                compression_ratio=decoded.compression_ratio,
                no_speech_probability=decoded.no_speech_probability,
                looping=decoded.looping,
                fell_back=decoded.fell_back,
            )
        )
        words: list[Word] = []
        if request.options.words and spans:
            at = [span.at + n for span in spans for n in range(len(span.tokens))]
            words = self._decoder.words(decoded, at, seconds, request)
        elif request.options.timed and spans and self._decoder.settings.alignment_heads:
            spans[0] = self._from_first_word(spans[0], decoded, request)
        texts = [self._decoder.tokenizer.decode(span.tokens) for span in spans]
        shares = share(words, list(map(len, texts)))
        new = [
            self._segment(span, text, own, offset)
            for span, text, own in zip(spans, texts, shares, strict=True)
        ]
        self._segments += new
        self._samples = start + round(seconds * SAMPLE_RATE)
        if request.options.condition_on_previous_text:
            said = [token for span in spans for token in span.tokens]
            self._said = [] if decoded.temperature > WARM else [*self._said, *said]
        return seconds, new

    def _from_first_word(self, span: Span, decoded: Decoded, request: Request) -> Span:
        """Return a window's first span from where its first word is heard.

        Its timestamp cannot say so: decoding allows none after the first second.
        """
        at = range(span.at, span.at + len(span.tokens))
        first, *_ = self._decoder.words(decoded, at, span.end, request)
        return replace(span, start=max(span.start, min(first.start, span.end)))

    def _segment(self, span: Span, text: str, words: Sequence[Word], offset: float) -> Segment:
        """Return the segment of a span with its words, at their times in the recording."""
        own = []
        for word in words:
            start, end = self._spoken(offset + word.start, offset + word.end)
            own.append(replace(word, start=start, end=end))
        if own:
            start, end = own[0].start, own[-1].end
        else:
            start, end = self._spoken(offset + span.start, offset + span.end)
        return Segment(
            start=start,
            end=end,
            text=text,
            tokens=span.tokens,
            window=len(self._windows) - 1,
            words=own,
        )

    def result(self) -> Transcript | Exception:
        """Return what was found, or the error that reading ended with."""
        return self._error or Transcript(
            text="".join(segment.text for segment in self._segments).strip(),
            language=self._language or "en",
            language_probability=self._language_probability,
            duration=self._timeline.duration if self._options.vad else self._samples / SAMPLE_RATE,
            segments=self._segments,
            windows=self._windows,
        )

    def _spoken(self, start: float, end: float) -> tuple[float, float]:
        """Return the same of what is said next, which does not begin before the last has ended."""
        start, end = self._interval(start, end)
        start = max(start, self._until)
        self._until = max(start, end)
        return start, self._until

    def _interval(self, start: float, end: float) -> tuple[float, float]:
        """Return when in the recording something of the shortened stream begins and ends."""
        start, end = self._timeline.interval(start, end)
        return round(start, 3), round(end, 3)


def share(words: Sequence[Word], lengths: Sequence[int]) -> list[list[Word]]:
    """Return for texts of so many characters, one after the other, the words that begin in each.

    The words make up the same characters; one may reach into the next text.
    """
    shares: list[list[Word]] = [[] for _ in lengths]
    ends = list(accumulate(lengths))
    at = 0
    for word in words:
        shares[min(bisect_right(ends, at), len(ends) - 1)].append(word)
        at += len(word.text)
    return shares
