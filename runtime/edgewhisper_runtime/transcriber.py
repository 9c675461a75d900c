"""From audio to text: a loaded model and the loop around it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from edgewhisper_runtime import audio
from edgewhisper_runtime.builder import TranscriptBuilder
from edgewhisper_runtime.decode import loop
from edgewhisper_runtime.decode.window import WindowDecoder
from edgewhisper_runtime.options import Options

if TYPE_CHECKING:
    from edgewhisper_runtime.audio import Samples, Source
    from edgewhisper_runtime.bundle import Settings
    from edgewhisper_runtime.text.tokens import Tokenizer
    from edgewhisper_runtime.transcript import Segment, Transcript

    # a window: whose it is, its first sample in the recording, its samples
    Windows = Iterable[tuple[TranscriptBuilder, int, Samples]]

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
        options: Options = _DEFAULT,
        on_segment: Callable[[Segment], object] = lambda _segment: None,
        **named: Any,
    ) -> Transcript:
        """Transcribe a file, a file's bytes, or samples float32 [n] at 16 kHz, of any length.

        Where the options name no language it is detected in the first window; an English-only
        model has one. `on_segment` is called with each segment as soon as it is there. `named`
        are single options, as `Options.having` takes them: `word_timestamps=True`.
        Raises AudioError for unusable audio, EdgeWhisperError for an unknown language or task.
        """
        stream = self.stream(source, options.having(**named))
        while True:
            try:
                on_segment(next(stream))
            except StopIteration as end:
                transcript: Transcript = end.value
                return transcript

    def stream(
        self, source: Source, options: Options = _DEFAULT
    ) -> Generator[Segment, None, Transcript]:
        """Transcribe as `transcribe` does, segment by segment; return the transcript at the end.

        A segment is the text between two timestamps, or of a window where there are none.
        """
        builder = TranscriptBuilder(self.decoder, audio.blocks(source), options)
        yield from self._segments(builder, options)
        result = builder.result()
        if isinstance(result, Exception):
            raise result
        return result

    def transcribe_many(
        self, sources: Iterable[Source], options: Options = _DEFAULT
    ) -> Iterator[Transcript | Exception]:
        """Transcribe recordings in order; for one that fails its error is yielded.

        With a batch size, that many windows of all the recordings are decoded at once, in the
        memory that they take together. The texts are those of `transcribe` with the same options,
        apart from rounding.
        """
        size = options.batch_size
        if size is None:
            for source in sources:
                builder = TranscriptBuilder(self.decoder, audio.blocks(source), options)
                outcome: Transcript | Exception
                try:
                    deque(self._segments(builder, options), maxlen=0)
                    outcome = builder.result()
                except Exception as error:  # noqa: BLE001 # the caller gets it
                    outcome = error
                yield outcome
            return
        open_builders: deque[TranscriptBuilder] = deque()

        def windows() -> Windows:
            for source in sources:
                builder = TranscriptBuilder(self.decoder, audio.blocks(source), options)
                open_builders.append(builder)
                yield from builder.windows()

        for builder, _ in self._decoded(windows(), size):
            while open_builders[0] is not builder:
                yield open_builders.popleft().result()
        yield from (builder.result() for builder in open_builders)

    def _decoded(
        self, windows: Windows, size: int
    ) -> Iterator[tuple[TranscriptBuilder, list[Segment]]]:
        """Decode windows, up to `size` at once; yield the segments that each adds."""
        for batch in _batches(windows, size):
            requests = [builder.request for builder, *_ in batch]
            results = self.decoder.decode_all([samples for *_, samples in batch], requests)
            for (builder, start, samples), decoded in zip(batch, results, strict=True):
                _, segments = builder.add(decoded, start, len(samples), whole=True)
                yield builder, segments
            del results, decoded  # and what the encoder made of them, before the next

    def _segments(self, builder: TranscriptBuilder, options: Options) -> Iterator[Segment]:
        """Decode all of a recording."""
        if options.sequential:
            yield from builder.sequential()
        else:
            for _, segments in self._decoded(builder.windows(), options.batch_size or 1):
                yield from segments


def _batches(windows: Windows, size: int) -> Iterator[list[tuple[TranscriptBuilder, int, Samples]]]:
    """Group windows into batches of at most `size`.

    While a recording's language is not known, only its first window is in a batch: that window
    tells the language of the others.
    """
    batch: list[tuple[TranscriptBuilder, int, Samples]] = []
    for window in windows:
        builder = window[0]
        if not builder.language_is_known and any(builder is other for other, *_ in batch):
            yield batch
            batch = []
        batch.append(window)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch
