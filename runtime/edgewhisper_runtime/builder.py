"""The transcript of one recording, built window by window."""

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

_MIN_REST = SAMPLE_RATE // 10  # samples: a rest that is shorter holds no word
# Text decoded at a higher temperature is not put before later windows, as in openai-whisper.
MAX_PROMPT_TEMPERATURE = 0.5


class TranscriptBuilder:
    """Reads a recording, blocks of samples [n] at 16 kHz, and collects the text of its windows.

    `request` is what its next window is to be decoded as. Raises EdgeWhisperError for a language or
    task that the model does not have, and for hotwords that are too long.
    """

    def __init__(self, decoder: WindowDecoder, blocks: Iterable[Samples], options: Options) -> None:
        self._decoder = decoder
        self.request = decoder.request(options, options.timed)
        self._blocks, self._timeline = blocks, vad.Timeline()
        self._detector = vad.load_detector(options.vad)
        if self._detector:
            self._blocks, self._timeline = vad.speech_only(blocks, self._detector)
        self._error: Exception | None = None
        self._samples = 0
        self._last_end = 0.0  # seconds, of the last word or segment
        self._segments: list[Segment] = []
        self._windows: list[Window] = []

    @property
    def language_is_known(self) -> bool:
        """Whether the language was given, or detected in an earlier window."""
        return self.request.options.language is not None

    def sequential(self) -> Iterator[Segment]:
        """Decode windows one after the other, each from where the last one's timestamps end."""
        reader, start = cutting.Reader(self._blocks), 0
        while len(samples := reader.window(start)) >= (_MIN_REST if start else 1):
            seconds, segments = self._decode(samples, start)
            yield from segments
            start += cutting.pause_near(samples, round(seconds * SAMPLE_RATE))

    def _decode(self, samples: Samples, start: int) -> tuple[float, list[Segment]]:
        """Decode and add a window; its encoding is released when this returns."""
        decoded = self._decoder.decode(samples, self.request)
        return self.add(decoded, start, len(samples))

    def windows(self) -> Iterator[tuple[TranscriptBuilder, int, Samples]]:
        """Yield the first sample of each window and its samples, cut at pauses.

        They end where reading fails; the error is then the result.
        """
        start = 0
        try:
            for samples in cutting.windows(self._blocks):
                yield self, start, samples
                start += len(samples)
        except Exception as error:  # noqa: BLE001 # whoever asks for the result gets it
            self._error = error

    def add(
        self, decoded: Decoded, start: int, samples: int, *, whole: bool = False
    ) -> tuple[float, list[Segment]]:
        """Add the text of a window of so many `samples` that begins at sample `start`.

        Returns how many seconds of the window its segments cover (all of a `whole` one), and the
        segments.
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
                encoded_again=decoded.encoded_again,
            )
        )
        words: list[Word] = []
        if decoded.request.options.words and spans:
            at = [span.at + n for span in spans for n in range(len(span.tokens))]
            words = self._decoder.words(decoded, at, seconds)
        elif decoded.request.options.timed and spans and self._decoder.settings.alignment_heads:
            spans[0] = self._from_first_word(spans[0], decoded)
        texts = [self._decoder.tokenizer.decode(span.tokens) for span in spans]
        words_of_texts = assign_words(words, list(map(len, texts)))
        new = [
            self._segment(span, text, own, offset)
            for span, text, own in zip(spans, texts, words_of_texts, strict=True)
        ]
        self._segments += new
        self._samples = start + round(seconds * SAMPLE_RATE)
        self.request = self._next_request(decoded, spans)
        return seconds, new

    def _next_request(self, decoded: Decoded, spans: Sequence[Span]) -> Request:
        """Return the request of the next window: with this one's text, if the options say so."""
        request = decoded.request
        if not request.options.condition_on_previous_text:
            return request
        if decoded.temperature > MAX_PROMPT_TEMPERATURE:
            return replace(request, previous=[])
        text = [token for span in spans for token in span.tokens]
        return replace(request, previous=[*request.previous, *text])

    def _from_first_word(self, span: Span, decoded: Decoded) -> Span:
        """Return a window's first span with the start of its first word.

        Its timestamp cannot tell: decoding allows none after the first second.
        """
        at = range(span.at, span.at + len(span.tokens))
        first, *_ = self._decoder.words(decoded, at, span.end)
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
        """Return the transcript, or the error that reading ended with."""
        return self._error or Transcript(
            text="".join(segment.text for segment in self._segments).strip(),
            language=self.request.language,
            language_probability=self.request.language_probability,
            duration=self._timeline.duration if self._detector else self._samples / SAMPLE_RATE,
            segments=self._segments,
            windows=self._windows,
            vad=self._detector.name if self._detector else "none",
        )

    def _spoken(self, start: float, end: float) -> tuple[float, float]:
        """Return `_interval` of the next word or segment: it begins after the last one's end."""
        start, end = self._interval(start, end)
        start = max(start, self._last_end)
        self._last_end = max(start, end)
        return start, self._last_end

    def _interval(self, start: float, end: float) -> tuple[float, float]:
        """Return the times in the recording of an interval of the shortened stream."""
        start, end = self._timeline.interval(start, end)
        return round(start, 3), round(end, 3)


def assign_words(words: Sequence[Word], lengths: Sequence[int]) -> list[list[Word]]:
    """Return the words that begin in each of several texts, given the texts' lengths.

    Texts and words, joined, are the same characters; a word may reach into the next text.
    """
    words_of_texts: list[list[Word]] = [[] for _ in lengths]
    ends = list(accumulate(lengths))
    at = 0
    for word in words:
        words_of_texts[min(bisect_right(ends, at), len(ends) - 1)].append(word)
        at += len(word.text)
    return words_of_texts
