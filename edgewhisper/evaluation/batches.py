"""One process's work on an evaluation: batches of utterances in, records out."""

from __future__ import annotations

import time
from collections.abc import Generator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from edgewhisper.evaluation.conditions import CLEAN
from edgewhisper.evaluation.datasets import Utterance
from edgewhisper.evaluation.wer import Record
from edgewhisper_runtime.bundle import Artefact
from edgewhisper_runtime.loading import load
from edgewhisper_runtime.options import PLAIN

if TYPE_CHECKING:
    from edgewhisper.evaluation.options import EvaluationOptions
    from edgewhisper_runtime.audio import Samples
    from edgewhisper_runtime.transcriber import Transcriber


def transcribe(
    artefact: Artefact, options: EvaluationOptions, batches: Sequence[Sequence[Utterance]]
) -> Generator[list[Record]]:
    """Load a bundle and yield the records of each batch in turn; audio is read as it is needed."""
    if batches:
        transcriber = load(artefact, options.device, options.threads, options.audio_context)
        for batch in batches:
            audio = [u.path if u.condition == CLEAN else u.samples() for u in batch]
            yield records(transcriber, batch, audio, detect_language=options.detect_language)


def records(
    transcriber: Transcriber,
    batch: Sequence[Utterance],
    audio: Sequence[Path | bytes | Samples],
    *,
    detect_language: bool,
) -> list[Record]:
    """Transcribe utterances of one language at once, each from its file, its bytes or samples.

    Each gets the time of all by its share of the audio. Raises AudioError for a file whose damage
    its headers did not show.
    """
    start = time.perf_counter()
    language = None if detect_language else batch[0].language
    options = replace(PLAIN, language=language, batch_size=len(batch))
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
            language=utterance.language,
            normalizer=utterance.normalizer,
            detected_language=transcript.language if detect_language else None,
        )
        for utterance, transcript in zip(batch, transcripts, strict=True)
    ]
