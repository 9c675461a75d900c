"""One process's work on an evaluation: batches of utterances in, records out."""

from __future__ import annotations

import time
from collections.abc import Generator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from edgewhisper.evaluation.datasets import Utterance
from edgewhisper.evaluation.wer import Record
from edgewhisper_runtime.audio import load as load_audio
from edgewhisper_runtime.bundle import Artefact
from edgewhisper_runtime.loading import load
from edgewhisper_runtime.options import PLAIN

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from edgewhisper.evaluation.options import EvaluationOptions
    from edgewhisper_runtime.transcriber import Transcriber

LANGUAGE = "en"


def transcribe(
    artefact: Artefact, options: EvaluationOptions, batches: Sequence[Sequence[Utterance]]
) -> Generator[list[Record]]:
    """Load a bundle and yield the records of each batch in turn."""
    if batches:
        transcriber = load(artefact, options.device, options.threads, options.audio_context)
        for batch in batches:
            yield records(transcriber, batch, samples(batch))


def samples(batch: Sequence[Utterance]) -> list[NDArray[np.float32]]:
    """Return each utterance's audio, float32 [n] at 16 kHz."""
    return [load_audio(utterance.path) for utterance in batch]


def records(
    transcriber: Transcriber, batch: Sequence[Utterance], audio: list[NDArray[np.float32]]
) -> list[Record]:
    """Transcribe utterances at once; each gets the time of all by its share of the audio."""
    start = time.perf_counter()
    options = replace(PLAIN, language=LANGUAGE, batch_size=len(batch))
    transcripts = []
    for transcript in transcriber.transcribe_many(audio, options):
        if isinstance(transcript, Exception):
            raise transcript
        transcripts.append(transcript)
    rtf = (time.perf_counter() - start) / sum(utterance.duration for utterance in batch)
    return [
        Record(
            id=utterance.id,
            speaker=utterance.speaker,
            reference=utterance.reference,
            hypothesis=transcript.text,
            duration=utterance.duration,
            seconds=rtf * utterance.duration,
            problem=transcript.problem,
        )
        for utterance, transcript in zip(batch, transcripts, strict=True)
    ]
