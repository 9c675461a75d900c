"""From audio to text: a loaded model and the loop around it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from edgewhisper_runtime import audio
from edgewhisper_runtime.batch import Batch
from edgewhisper_runtime.builder import TranscriptBuilder
from edgewhisper_runtime.decode import loop
from edgewhisper_runtime.decode.window import WindowDecoder
from edgewhisper_runtime.options import Options

if TYPE_CHECKING:
    from edgewhisper_runtime.audio import Source
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
        options: Options = _DEFAULT,
        on_segment: Callable[[Segment], object] = lambda _segment: None,
        **named: Any,
    ) -> Transcript:
        """Transcribe a file, a file's bytes, or samples float32 [n] at 16 kHz, of any length.

        Where the options name no language it is detected in the first window, unless the model
        has one only. `on_segment` is called with each segment as soon as it is there. `named`
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
        recording = self.open(source, options)
        batch = Batch(self.decoder.backend, options.batch_size or 1)
        batch.add(recording)
        while True:
            yield from recording.new_segments()
            if recording.done:
                break
            batch.step()
        result = recording.result()
        if isinstance(result, Exception):
            raise result
        return result

    def transcribe_many(
        self, sources: Iterable[Source], options: Options = _DEFAULT
    ) -> Iterator[Transcript | Exception]:
        """Transcribe recordings in order; for one that fails its error is yielded.

        With a batch size, that many windows of as many recordings are decoded at once, in the
        memory that they take together. The texts are those of `transcribe` with the same options,
        apart from rounding.
        """
        waiting = iter(sources)
        size = options.batch_size or 1
        batch = Batch(self.decoder.backend, size)
        recordings: deque[TranscriptBuilder] = deque()
        while True:
            while recordings and recordings[0].done:
                yield recordings.popleft().result()
            more = batch.has_room and len(recordings) < size
            if more and (source := next(waiting, None)) is not None:
                recordings.append(self.open(source, options))
                batch.add(recordings[-1])
            elif recordings:
                batch.step()
            else:
                return

    def open(self, source: Source, options: Options = _DEFAULT) -> TranscriptBuilder:
        """Return a recording for a `Batch`, of what `transcribe` takes; nothing is read yet."""
        return TranscriptBuilder(self.decoder, audio.blocks(source), options, audio.label(source))
