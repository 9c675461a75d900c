"""The transcript of one recording, built window by window."""

from __future__ import annotations

import unicodedata
from bisect import bisect_right
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate
from typing import TYPE_CHECKING

from edgewhisper_runtime.audio import SAMPLE_RATE, cutting, vad
from edgewhisper_runtime.decode.hallucination import hallucinated
from edgewhisper_runtime.decode.loop import Decoding
from edgewhisper_runtime.decode.spans import Span, split_at_timestamps
from edgewhisper_runtime.decode.window import Decoded, Request, WindowDecoder
from edgewhisper_runtime.text.splitting import split
from edgewhisper_runtime.transcript import Segment, Transcript, Window, Word

if TYPE_CHECKING:
    from edgewhisper_runtime.audio import Samples
    from edgewhisper_runtime.options import Options

_MIN_REST = SAMPLE_RATE // 10  # samples: a rest that is shorter holds no word
_NEAR = 0.05  # seconds: times of words are not more exact
# Text decoded at a higher temperature is not put before later windows, as in openai-whisper.
MAX_PROMPT_TEMPERATURE = 0.5


@dataclass(eq=False)
class _Stream:
    """What is decoded of a recording: all of it, or one of its clips.

    The timeline leads from the stream to the recording. The text so far ends at sample `end` of the
    stream; `overlap` are the words of it that are spoken after that.
    """

    blocks: Iterable[Samples]
    timeline: vad.Timeline
    end: int = 0
    overlap: list[str] = field(default_factory=list)


@dataclass(eq=False)
class _Open:
    """A window that is being decoded: its stream, its first sample there, and its samples.

    When it is decoded its spans are there; its text ends after so many seconds, and what follows
    begins at sample `cut` of the window.
    """

    stream: _Stream
    start: int
    samples: Samples
    decoded: Decoded | None = None
    spans: list[Span] = field(default_factory=list)
    seconds: float = 0.0
    cut: int = 0

    def reaches_cut(self, word: Word) -> bool:
        """Tell whether a word may be in the next window too.

        It is where more than half of it is after the cut, or where the cut is in no pause but at
        the end of the text, and so of this word.
        """
        cut = self.cut / SAMPLE_RATE
        at_end = self.cut == round(self.seconds * SAMPLE_RATE)
        return (at_end and word.end > cut - _NEAR) or word.start + word.end > 2 * cut

    def interval(self, start: float, end: float) -> tuple[float, float]:
        """Return the times in the recording of an interval of the window, in seconds."""
        offset = self.start / SAMPLE_RATE
        start, end = self.stream.timeline.interval(offset + start, offset + end)
        return round(start, 3), round(end, 3)


class TranscriptBuilder:
    """Reads a recording, blocks of samples [n] at 16 kHz, and collects the text of its windows.

    `label` is what messages call it. Raises EdgeWhisperError as `WindowDecoder.request` does.
    """

    def __init__(
        self, decoder: WindowDecoder, blocks: Iterable[Samples], options: Options, label: str
    ) -> None:
        self._decoder = decoder
        self._options = options
        self._request = decoder.request(options, options.timed)  # of the next window
        self._blocks, self._label = blocks, label
        self._timeline = vad.Timeline()  # of the stream that is read
        self._detector = vad.load_detector(options.vad)
        self._decodings = self._read()
        self._all_read = False
        self._open: deque[_Open] = deque()
        self._error: Exception | None = None
        self._language: tuple[str, float | None] | None = None  # the first window's
        self._last_end = 0.0  # seconds, of the last word or segment
        self._segments: list[Segment] = []
        self._returned = 0  # segments
        self._windows: list[Window] = []

    def next_decoding(self) -> Decoding[None] | None:
        """Return the decoding of the next window; None where there is none, or none yet.

        It adds the window's text here. It ends with nothing raised: an error is the result.
        """
        return next(self._decodings, None)

    @property
    def done(self) -> bool:
        """Whether all windows are decoded."""
        return self._all_read and not self._open

    def new_segments(self) -> list[Segment]:
        """Return the segments that are new since the last call."""
        new = self._segments[self._returned :]
        self._returned = len(self._segments)
        return new

    def _read(self) -> Iterator[Decoding[None] | None]:
        """Yield the decoding of each window, and None while it needs the text of those before it.

        The windows end where reading fails; the error is then the result.
        """
        find_windows = self._continued if self._options.sequential else self._cut
        try:
            for stream in self._streams():
                for start, samples in find_windows(stream):
                    self._open.append(_Open(stream, start, samples))
                    yield self._decode(self._open[-1], self._request)
                    while len(self._open) >= self._most_open:
                        yield None
        except Exception as error:  # noqa: BLE001 # whoever asks for the result gets it
            self._error = error
        self._all_read = True

    def _streams(self) -> Iterator[_Stream]:
        """Yield what is decoded of the recording; a detector leaves the long pauses out."""
        intervals = self._options.clips
        whole = [(0, self._blocks)]
        clips = cutting.clips(self._blocks, intervals, self._label) if intervals else whole
        for start, blocks in clips:
            self._timeline = timeline = vad.Timeline(start)
            if self._detector is None:
                yield _Stream(vad.whole(blocks, timeline), timeline)
            else:
                yield _Stream(vad.speech_only(blocks, self._detector, timeline), timeline)

    @property
    def _most_open(self) -> int:
        """How many windows may be decoded at once: one, as long as it has to tell the language."""
        ready = self._options.multilingual or self._request.options.language
        return (self._options.batch_size or 1) if ready else 1

    def _continued(self, stream: _Stream) -> Iterator[tuple[int, Samples]]:
        """Yield the first sample and the samples of windows, each from where the text ended."""
        reader, start = cutting.Reader(stream.blocks), 0
        while len(samples := reader.window(start)) >= (_MIN_REST if start else 1):
            yield start, samples
            start = stream.end

    def _cut(self, stream: _Stream) -> Iterator[tuple[int, Samples]]:
        """Yield the first sample and the samples of windows that are cut at pauses."""
        start = 0
        for samples in cutting.windows(stream.blocks):
            yield start, samples
            start += len(samples)

    def _decode(self, window: _Open, request: Request) -> Decoding[None]:
        """Decode a window, and what follows where its text ends too early.

        Texts are added in the order of their windows.
        """
        following: _Open | None = window
        try:
            while following:
                window = following
                window.decoded = yield from self._decoder.decoding(window.samples, request)
                if window not in self._open:  # an error in another window has ended the recording
                    return
                request = window.decoded.request
                self._find_end(window, window.decoded)
                following = self._following(window)
                self._add_decoded()
        except Exception as error:  # noqa: BLE001 # whoever asks for the result gets it
            self._error = self._error or error
            self._all_read = True
            self._decodings = iter(())
            self._open.clear()

    def _following(self, window: _Open) -> _Open | None:
        """Open the window from where the text of another ends too early; None where it does not.

        Only windows that are cut in advance have one: the next of the others begins there.
        """
        rest = window.samples[window.cut :]
        if self._options.sequential or len(rest) < _MIN_REST:
            return None
        following = _Open(window.stream, window.start + window.cut, rest)
        self._open.insert(self._open.index(window) + 1, following)
        return following

    def _add_decoded(self) -> None:
        """Add the texts of the windows that are decoded and have no other before them."""
        while self._open and (decoded := self._open[0].decoded):
            self._add(decoded, self._open.popleft())

    def _find_end(self, window: _Open, decoded: Decoded) -> None:
        """Split the text of a window, and find where what follows it begins."""
        length, whole = len(window.samples) / SAMPLE_RATE, not self._options.sequential
        first_timestamp = self._decoder.tokenizer.first_timestamp
        window.spans, window.seconds = split_at_timestamps(
            decoded.tokens, first_timestamp, length, whole
        )
        if window.spans and decoded.ends_early(window.spans[-1].end, length):
            window.seconds = window.spans[-1].end
        window.cut = cutting.pause_near(window.samples, round(window.seconds * SAMPLE_RATE))

    def _add(self, decoded: Decoded, window: _Open) -> None:
        """Add the text of a window."""
        language = decoded.request.text_language
        spans = self._without_repeated_words(window.spans, window.stream.overlap, language)
        window.stream.end, seconds = window.start + window.cut, window.seconds
        begin, end = window.interval(0, seconds)
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
        if decoded.request.options.timed and spans and self._decoder.settings.alignment_heads:
            at = [span.at + n for span in spans for n in range(len(span.tokens))]
            words = self._decoder.words(decoded, at, seconds)
            # Its timestamp cannot tell: decoding allows none after the first second.
            start = min(max(spans[0].start, words[0].start), spans[0].end)
            spans[0] = replace(spans[0], start=start)
        texts = [self._decoder.tokenizer.decode(span.tokens) for span in spans]
        words_of_texts = assign_words(words, list(map(len, texts)))
        kept = list(zip(spans, texts, words_of_texts, strict=True))
        silence = decoded.request.options.hallucination_silence_threshold
        if silence is not None:
            length = len(window.samples) / SAMPLE_RATE
            verdicts = hallucinated(words_of_texts, length, silence)
            kept = [each for each, wrong in zip(kept, verdicts, strict=True) if not wrong]
        window.stream.overlap = [
            word.text for *_, own in kept for word in own if window.reaches_cut(word)
        ]
        request = decoded.request
        self._segments += [
            self._segment(
                span, text, own if request.options.words else [], window, request.language
            )
            for span, text, own in kept
        ]
        self._language = self._language or (request.language, request.language_probability)
        self._request = self._next_request(decoded, [span for span, *_ in kept])

    def _without_repeated_words(
        self, spans: list[Span], overlap: Sequence[str], language: str
    ) -> list[Span]:
        """Return the spans without words at their start that the text before them ends with.

        The window begins before the end of that text: those words are in both windows.
        """
        if not spans or not overlap:
            return spans
        first = spans[0]
        words = split(self._decoder.tokenizer, first.tokens, language)
        count = repeated_words(overlap, [word.text for word in words])
        if not count:
            return spans
        done = words[count - 1].end
        rest = replace(first, at=first.at + done, tokens=first.tokens[done:])
        return [rest, *spans[1:]] if rest.tokens else spans[1:]

    def _next_request(self, decoded: Decoded, spans: Sequence[Span]) -> Request:
        """Return the request of the next window: with this one's text, if the options say so."""
        request = decoded.request
        if request.options.multilingual and self._decoder.tokenizer.multilingual:
            request = replace(request, options=replace(request.options, language=None))
        if not request.options.condition_on_previous_text:
            return request
        if decoded.temperature > MAX_PROMPT_TEMPERATURE:
            return replace(request, previous=[])
        text = [token for span in spans for token in span.tokens]
        return replace(request, previous=[*request.previous, *text])

    def _segment(
        self, span: Span, text: str, words: Sequence[Word], window: _Open, language: str
    ) -> Segment:
        """Return the segment of a span with its words, at their times in the recording."""
        own = []
        for word in words:
            start, end = self._spoken(window, word.start, word.end)
            own.append(replace(word, start=start, end=end))
        if own:
            start, end = own[0].start, own[-1].end
        else:
            start, end = self._spoken(window, span.start, span.end)
        return Segment(
            start=start,
            end=end,
            text=text,
            tokens=span.tokens,
            window=len(self._windows) - 1,
            words=own,
            language=language,
        )

    def result(self) -> Transcript | Exception:
        """Return the transcript, or the error that reading ended with."""
        language, probability = self._language or (self._request.options.language or "", None)
        return self._error or Transcript(
            text="".join(segment.text for segment in self._segments).strip(),
            language=language,
            language_probability=probability,
            duration=self._timeline.duration,
            segments=self._segments,
            windows=self._windows,
            vad=self._detector.name if self._detector else "none",
        )

    def _spoken(self, window: _Open, start: float, end: float) -> tuple[float, float]:
        """Return the times of the next word or segment: it begins after the last one's end."""
        start, end = window.interval(start, end)
        start = max(start, self._last_end)
        self._last_end = max(start, end)
        return start, self._last_end


def repeated_words(before: Sequence[str], after: Sequence[str]) -> int:
    """Return how many words at the start of a text are those that the text before it ends with.

    Case, punctuation and spaces do not count.
    """
    end, begin = ([_letters(word) for word in words] for words in (before, after))
    return max((n for n in range(1, len(end) + 1) if begin[:n] == end[-n:]), default=0)


def _letters(word: str) -> str:
    """Return the letters, numbers and marks: in many scripts the marks are the vowels."""
    return "".join(c for c in word if unicodedata.category(c)[0] in "LNM").casefold()


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
