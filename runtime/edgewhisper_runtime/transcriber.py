"""From audio to text: a loaded model and the loop around it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING

from edgewhisper_runtime import audio
from edgewhisper_runtime.decode import loop
from edgewhisper_runtime.decode.window import WindowDecoder
from edgewhisper_runtime.options import Options
from edgewhisper_runtime.recording import Recording

if TYPE_CHECKING:
    from edgewhisper_runtime.audio import Samples, Source
    from edgewhisper_runtime.bundle import Settings
    from edgewhisper_runtime.text.tokens import Tokenizer
    from edgewhisper_runtime.transcript import Segment, Transcript

_DEFAULT = Options()


class Transcriber:
    """A backend with the tokenizer and settings of its model. Not safe for concurrent calls.

    `adaptive`: windows are encoded at their own length where that goes well (WindowDecoder).
    """

    def __init__(
        self,
        backend: loop.Backend,
        tokenizer: Tokenizer,
        settings: Settings,
        adaptive: bool = False,
    ) -> None:
        self.decoder = WindowDecoder(backend, tokenizer, settings, adaptive)

    def transcribe(
        self,
        source: Source,
        language: str | None = None,
        task: str = "transcribe",
        options: Options = _DEFAULT,
        on_segment: Callable[[Segment], object] = lambda _segment: None,
    ) -> Transcript:
        """Transcribe a file, a file's bytes, or samples float32 [n] at 16 kHz, of any length.

        Without `language` it is detected from the first window; an English-only model has one.
        `on_segment` is called with each segment as soon as it is there.
        Raises AudioError for unusable audio, EdgeWhisperError for an unknown language or task.
        """
        stream = self.stream(source, language, task, options)
        while True:
            try:
                on_segment(next(stream))
            except StopIteration as end:
                transcript: Transcript = end.value
                return transcript

    def stream(
        self,
        source: Source,
        language: str | None = None,
        task: str = "transcribe",
        options: Options = _DEFAULT,
    ) -> Generator[Segment, None, Transcript]:
        """Transcribe as `transcribe` does, segment by segment; the generator returns the whole.

        A segment is what two timestamps enclose, or a window where none are asked for.
        """
        recording = self._recording(source, language, task, options)
        yield from self._segments(recording, options)
        found = recording.result()
        if isinstance(found, Exception):
            raise found
        return found

    def transcribe_many(
        self,
        sources: Iterable[Source],
        language: str | None = None,
        task: str = "transcribe",
        options: Options = _DEFAULT,
    ) -> Iterator[Transcript | Exception]:
        """Transcribe recordings in order; one that fails gives its error in its place.

        With a batch size, windows of them all are decoded so many at once, in the memory that so
        many take. The texts are those of `transcribe` with the same options, but for rounding.
        """
        size = options.batch_size
        if size is None:
            for source in sources:
                recording = self._recording(source, language, task, options)
                try:
                    deque(self._segments(recording, options), maxlen=0)
                    outcome = recording.result()
                except Exception as error:  # noqa: BLE001 # the caller gets it
                    outcome = error
                yield outcome
            return
        opened: deque[Recording] = deque()

        def windows() -> Iterator[tuple[Recording, int, Samples]]:
            for source in sources:
                opened.append(self._recording(source, language, task, options))
                yield from opened[-1].windows()

        for recording, _ in self._in_batches(windows(), size):
            while opened[0] is not recording:
                yield opened.popleft().result()
        yield from (recording.result() for recording in opened)

    def _recording(
        self, source: Source, language: str | None, task: str, options: Options
    ) -> Recording:
        return Recording(self.decoder, audio.blocks(source), language, task, options)

    def _segments(self, recording: Recording, options: Options) -> Iterator[Segment]:
        """Decode all of a recording."""
        if options.sequential:
            yield from recording.walk()
        else:
            for _, new in self._in_batches(recording.windows(), options.batch_size or 1):
                yield from new

    def _in_batches(
        self, windows: Iterator[tuple[Recording, int, Samples]], size: int
    ) -> Iterator[tuple[Recording, list[Segment]]]:
        """Decode windows so many at a time; yield what each adds to its recording."""
        while batch := list(islice(windows, size)):
            yield from self._batch(batch)

    def _batch(
        self, batch: Sequence[tuple[Recording, int, Samples]]
    ) -> Iterator[tuple[Recording, list[Segment]]]:
        """Decode windows at once; what the encoder made of them is let go before the next."""
        requests = [recording.request(samples) for recording, _, samples in batch]
        decoded = self.decoder.decode_all([samples for *_, samples in batch], requests)
        for (recording, start, samples), asked, found in zip(batch, requests, decoded, strict=True):
            _, new = recording.add(found, asked, start, len(samples), whole=True)
            yield recording, new
