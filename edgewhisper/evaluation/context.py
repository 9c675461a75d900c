"""Adaptive audio context: its margin and threshold, chosen for a model on development speech.

A window that is encoded at its own length is kept only where the model is sure of its text
(`edgewhisper_runtime.bundle.Adaptive`). How sure a model is when it is right differs from model to
model, so the threshold is a quantile of the model's own log-probabilities: that share of the
windows of development speech is done again. Word errors only decide between a few such shares,
because so little speech does not tell small differences of WER from chance.
"""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from edgewhisper.evaluation import wer
from edgewhisper.evaluation.datasets import Utterance, development
from edgewhisper.evaluation.normalizing import NormalizerName
from edgewhisper.evaluation.options import EvaluationOptions
from edgewhisper.progress import Progress, ignore
from edgewhisper.workspace import Workspace
from edgewhisper_runtime import audio, load
from edgewhisper_runtime.audio.features import WINDOW_SECONDS
from edgewhisper_runtime.bundle import Adaptive, Artefact, atomic, decode_json, parse, to_json
from edgewhisper_runtime.options import PLAIN
from edgewhisper_runtime.transcriber import Transcriber
from edgewhisper_runtime.transcript import EncodedAgain

MARGINS = (1.0, 2.0)  # seconds
# Without development speech: no loss is shown on whisper-base and whisper-tiny.en
# (docs/results/context.md).
DEFAULT = Adaptive(2.0, -0.25)
_MOST_UTTERANCES = 48  # of a whole split; two minutes of work on a small machine
# Of the development windows, those that are less likely than the threshold.
SHARES = (0.1, 0.15, 0.2, 0.25)
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Window:
    """The text of a window of so many seconds of audio."""

    text: str
    log_probability: float
    encoded_again: EncodedAgain | None
    seconds: float


@dataclass(frozen=True)
class Decoding:
    """A recording's windows in one audio context, and the time that decoding took."""

    windows: tuple[Window, ...]
    seconds: float
    cpu_seconds: float

    @property
    def text(self) -> str:
        """The text of all windows."""
        return "".join(window.text for window in self.windows)


@dataclass(frozen=True)
class Trial:
    """A recording decoded in full windows and, without a threshold, in adaptive context.

    `short` has a decoding for each margin. Because decoding a window in full always gives the same
    text, these tell the text for every threshold.
    """

    reference: str
    full: Decoding
    short: dict[float, Decoding]
    language: str = "en"
    normalizer: NormalizerName | None = None

    def decoding(self, adaptive: Adaptive) -> Decoding:
        """Return the decoding with a margin and a threshold; one of the margins of `short`."""
        short, threshold = self.short[adaptive.margin], adaptive.min_log_probability
        windows = []
        for window, in_full in zip(short.windows, self.full.windows, strict=True):
            unsure = threshold is not None and window.log_probability < threshold
            again = window.encoded_again or ("unsure" if unsure else None)
            windows.append(replace(in_full, encoded_again=again) if again else window)
        # the time of windows that are encoded again only because of the threshold
        added = sum(window.encoded_again == "unsure" for window in windows) / len(windows)
        return Decoding(
            tuple(windows),
            short.seconds + added * self.full.seconds,
            short.cpu_seconds + added * self.full.cpu_seconds,
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the trial as JSON holds it."""
        return asdict(self)

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> Trial:
        """Return the trial that `to_dict` gave, after JSON."""
        short = {float(margin): _decoding(given) for margin, given in content["short"].items()}
        scored = {key: content[key] for key in ("language", "normalizer") if key in content}
        return cls(content["reference"], _decoding(content["full"]), short, **scored)


class Contexts:
    """One artefact in full windows and with every margin, over one loaded backend."""

    def __init__(
        self, artefact: Artefact, threads: int | None = None, margins: Sequence[float] = MARGINS
    ) -> None:
        self._full = load(artefact, threads=threads, audio_context="full")
        decoder = self._full.decoder
        self._short = {
            margin: Transcriber(
                decoder.backend,
                decoder.tokenizer,
                replace(decoder.settings, adaptive=Adaptive(margin)),
                adaptive=True,
            )
            for margin in margins
        }

    def decode(self, path: Path, reference: str, language: str = "en") -> Trial:
        """Decode a recording in each context, one after the other."""
        samples = audio.load(path)
        return Trial(
            reference,
            _timed(self._full, samples, language),
            {margin: _timed(short, samples, language) for margin, short in self._short.items()},
            language,
        )


def choose(
    workspace: Workspace,
    artefact: Artefact,
    options: EvaluationOptions,
    progress: Progress = ignore,
) -> Adaptive:
    """Return the margin and threshold for an artefact; what was chosen before is not chosen again.

    They are chosen on a development split of the same data, on none that is itself evaluated.
    Where there is none, `DEFAULT` is returned.
    """
    speech = development(options.dataset, _MOST_UTTERANCES)
    if not speech:
        _log.info("no development speech beside the data: adaptive context has its usual settings")
        return DEFAULT
    path = _results_path(workspace, artefact, options, speech)
    with suppress(FileNotFoundError, ValueError):  # a damaged choice is made again
        return parse(Adaptive, decode_json(path.read_text(encoding="utf-8")))
    contexts = Contexts(artefact, options.threads)
    trials = []
    for utterance in speech:
        trial = contexts.decode(utterance.path, utterance.reference, utterance.language)
        trials.append(replace(trial, normalizer=utterance.normalizer))
        progress(f"{artefact.path.name} adaptive context", len(trials), len(speech))
    chosen = choose_from(trials)
    atomic.write_text(path, json.dumps(to_json(chosen)) + "\n")
    return chosen


def _results_path(
    workspace: Workspace,
    artefact: Artefact,
    options: EvaluationOptions,
    speech: Sequence[Utterance],
) -> Path:
    """Return the file of a choice: its name changes with all that may change the choice."""
    manifest = artefact.manifest
    identity = {
        "audio": workspace.hashes.digest([utterance.path for utterance in speech]),
        "references": [(each.reference, each.language, each.normalizer) for each in speech],
        "weights": {name: file.sha256 for name, file in manifest.files.items()},
        "libraries": manifest.libraries,
        "threads": options.threads,
        "rule": [MARGINS, SHARES],
    }
    digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
    return workspace.evaluations / f"{manifest.name}-{digest[:12]}" / "adaptive.json"


def choose_from(trials: Sequence[Trial]) -> Adaptive:
    """Return the margin that encodes the least audio, and the lowest safe threshold with it.

    Thresholds are the log-probabilities that `SHARES` of the windows are below. The margin is
    compared at the first of them, with the windows done again counted in. A threshold is safe
    where the texts have no more errors than those of full windows; if none is, the one with the
    fewest errors is returned.
    """
    thresholds = {margin: candidates(trials, margin) for margin in trials[0].short}
    margin = min(thresholds, key=lambda margin: _encoded_seconds(trials, thresholds[margin][0]))
    in_full = _errors(trials, [trial.full for trial in trials])

    def more_errors(adaptive: Adaptive) -> int:
        return max(0, _errors(trials, [trial.decoding(adaptive) for trial in trials]) - in_full)

    return min(thresholds[margin], key=more_errors)  # the first of equals


def candidates(trials: Sequence[Trial], margin: float) -> list[Adaptive]:
    """Return the settings that are tried with a margin: one for each of `SHARES`."""
    log_probabilities = [
        window.log_probability for trial in trials for window in trial.short[margin].windows
    ]
    return [
        Adaptive(margin, round(float(np.quantile(log_probabilities, share)), 3)) for share in SHARES
    ]


def encoded_seconds(decodings: Sequence[Decoding], margin: float) -> float:
    """Return how many seconds of audio the encoder was given for decodings in adaptive context."""
    windows = [window for decoding in decodings for window in decoding.windows]
    again = sum(window.encoded_again is not None for window in windows)
    short = sum(min(window.seconds + margin, WINDOW_SECONDS) for window in windows)
    return short + again * WINDOW_SECONDS


def _encoded_seconds(trials: Sequence[Trial], adaptive: Adaptive) -> float:
    return encoded_seconds([trial.decoding(adaptive) for trial in trials], adaptive.margin)


def _errors(trials: Sequence[Trial], decodings: Sequence[Decoding]) -> int:
    records = [
        wer.Record(
            str(number), "", trial.reference, decoding.text, 0.0, 0.0,
            language=trial.language, normalizer=trial.normalizer,
        )
        for number, (trial, decoding) in enumerate(zip(trials, decodings, strict=True))
    ]  # fmt: skip
    return sum(count.errors for count in wer.count_errors(records))


def _timed(transcriber: Transcriber, samples: audio.Samples, language: str) -> Decoding:
    start, cpu_start = time.perf_counter(), time.process_time()
    transcript = transcriber.transcribe(samples, replace(PLAIN, language=language))
    seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - cpu_start
    windows = (
        Window(
            transcriber.decoder.tokenizer.decode(window.tokens),
            round(window.log_probability, 4),
            window.encoded_again,
            round(window.end - window.start, 3),
        )
        for window in transcript.windows
    )
    return Decoding(tuple(windows), round(seconds, 4), round(cpu_seconds, 4))


def _decoding(content: Mapping[str, Any]) -> Decoding:
    windows = (Window(**window) for window in content["windows"])
    return Decoding(tuple(windows), content["seconds"], content["cpu_seconds"])
