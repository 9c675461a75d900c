"""The results of an evaluation and of a sweep: read once with ranges, written once, as JSON.

Files of earlier versions are read too.
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgewhisper.evaluation import normalizing
from edgewhisper.evaluation.comparison import Comparison
from edgewhisper.evaluation.conditions import ConditionedSplit
from edgewhisper.evaluation.gate import GateVerdict
from edgewhisper.evaluation.normalizing import Normalizer, NormalizerName, Rule
from edgewhisper.evaluation.significance import holm
from edgewhisper.evaluation.wer import ErrorSummary, Record, WerSummary
from edgewhisper.recipes import BASELINE, Recipe
from edgewhisper_runtime.bundle import (
    AudioContext,
    CalibrationRecord,
    CensusRow,
    DatasetRecord,
    Manifest,
    Metric,
    Origin,
    Settings,
    Verdict,
    decode_json,
    parse,
    to_json,
)
from edgewhisper_runtime.bundle.fields import Count, Duration, FieldError, FreeText
from edgewhisper_runtime.errors import DataError
from edgewhisper_runtime.measure.figures import ProfileRun, undisturbed
from edgewhisper_runtime.measure.machine import Machine

_ROLES = {"baseline", "variant"}


@dataclass(frozen=True)
class SplitReport:
    """Both models' WER on one split, and their difference."""

    baseline: WerSummary
    variant: WerSummary
    comparison: Comparison


@dataclass(frozen=True)
class ContextTrial:
    """An audio context that a build has tried, and the gate's verdict.

    `overall` compares with the baseline over all splits, `difference` with the same variant in full
    windows (None for full windows). `proven`: the upper end of the interval of `difference` is
    within the limit.
    """

    audio_context: AudioContext
    verdict: Verdict
    overall: Comparison
    difference: Comparison | None = None
    proven: bool = True


@dataclass(frozen=True)
class Report:
    """A variant compared with its baseline: figures, the gate's verdict, and every raw text.

    `records` are by role and split. `conditions` tells which split of the data, in which condition,
    each of these is; it is empty where all speech is clean. `skipped` are the problems of
    utterances that were left out of the data, each with its place. `contexts` are those that were
    tried before the variant's was chosen. `command` is the command line that made it. `speed` has
    timed runs of both roles, None where there are none.
    """

    created: str
    edgewhisper: str
    dataset: DatasetRecord
    device: str
    threads: int | None
    language: str
    machine: Machine
    normalizer: Normalizer
    bundles: dict[str, Manifest]
    summary: dict[str, SplitReport]
    gate: GateVerdict
    records: dict[str, dict[str, tuple[Record, ...]]]
    contexts: tuple[ContextTrial, ...] = ()
    skipped: tuple[FreeText, ...] = ()
    conditions: dict[str, ConditionedSplit] = field(default_factory=dict)
    command: FreeText = ""
    speed: Timing | None = None

    @property
    def language_accuracy(self) -> dict[str, float]:
        """The share of utterances whose detected language is the data's, by role.

        Empty where each utterance was decoded in its own language.
        """
        by_role = {
            role: [record for of_split in splits.values() for record in of_split]
            for role, splits in self.records.items()
        }
        return {
            role: statistics.fmean(r.detected_language == r.language for r in records)
            for role, records in by_role.items()
            if records and all(record.detected_language for record in records)
        }

    @property
    def baseline(self) -> Manifest:
        """The baseline's manifest."""
        return self.bundles["baseline"]

    @property
    def variant(self) -> Manifest:
        """The variant's manifest."""
        return self.bundles["variant"]

    def to_json(self) -> dict[str, Any]:
        """Return the content of report.json, with the size of weights in each manifest."""
        content: dict[str, Any] = to_json(self)
        for role, manifest in self.bundles.items():
            content["bundles"][role]["weight_bytes"] = manifest.weight_bytes
        return content

    @classmethod
    def from_json(cls, content: Any) -> Report:
        """Return the report that JSON holds; raise FieldError if it is none."""
        report = parse(cls, content, ignore_unknown=True)
        for key, by_role in (("bundles", report.bundles), ("records", report.records)):
            if by_role.keys() != _ROLES:
                raise FieldError(f"{key} must have the keys baseline and variant, and no other.")
        splits = report.summary.keys()
        others = (report.gate.splits.keys(), *map(dict.keys, report.records.values()))
        if not splits or any(of != splits for of in others):
            raise FieldError("its summary, gate and records are not of the same splits.")
        for split in splits:
            before, after = ([record.id for record in of[split]] for of in report.records.values())
            if before != after or not before or len({*before}) < len(before):
                raise FieldError(f"baseline and variant have not each utterance of {split} once.")
        return report

    @classmethod
    def read(cls, path: Path) -> Report:
        """Read report.json; raise DataError where it is none."""
        return _read(cls, path, "an evaluation report")


@dataclass(frozen=True)
class SweepDataset(DatasetRecord):
    """The data of a sweep, and the seconds of audio in each split."""

    seconds: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class SweepUtterance:
    """An utterance's fields that all rows of a sweep share; duration in seconds."""

    speaker: str
    reference: FreeText
    duration: Duration
    language: str = "en"
    normalizer: NormalizerName | None = None


@dataclass(frozen=True)
class FailedRow:
    """A recipe that could not be made or evaluated, and why."""

    recipe: Recipe
    error: FreeText


@dataclass(frozen=True)
class SweepRow:
    """A recipe's variant: how it was made, its raw texts by split and utterance, its figures.

    The baseline has no comparison and no gate. `collapsed`: WER is certain to rise so much that the
    evaluation was ended early.
    """

    recipe: Recipe
    weight_bytes: Count
    files: dict[str, str]
    settings: Settings
    decoding: str
    machine: Machine
    census: tuple[CensusRow, ...]
    calibration: CalibrationRecord | None
    libraries: dict[str, str]
    summary: dict[str, ErrorSummary]
    texts: dict[str, dict[str, FreeText]]
    problems: dict[str, dict[str, str]]
    comparison: dict[str, Comparison] | None = None
    gate: GateVerdict | None = None
    collapsed: bool = False


@dataclass(frozen=True)
class Timing:
    """Speed and memory of several variants, measured in turns on the same files.

    `audio` has the SHA-256 of each of the files, `weights` that of each variant's files,
    `libraries` the versions that it ran with, `runs` the figures of each run.
    """

    machine: Machine
    device: str
    threads: Count
    files: tuple[str, ...]
    weights: dict[str, dict[str, str]]
    runs: dict[str, tuple[ProfileRun, ...]]
    audio: tuple[str, ...] = ()
    libraries: dict[str, dict[str, str]] = field(default_factory=dict)


@dataclass(frozen=True)
class SweepHeader:
    """The fields that all rows of a sweep share: model, data, and how speed was measured.

    `conditions` are as a report's.
    """

    created: str
    edgewhisper: str
    command: FreeText
    model: Origin
    dataset: SweepDataset
    device: str
    language: str
    machine: Machine
    normalizer: Normalizer
    utterances: dict[str, dict[str, SweepUtterance]]
    speed: Timing | None = None
    conditions: dict[str, ConditionedSplit] = field(default_factory=dict)


@dataclass(frozen=True)
class SweepResult(SweepHeader):
    """Many recipes of one model on the same utterances; rows by the name of the recipe."""

    rows: dict[str, SweepRow | FailedRow] = field(default_factory=dict)

    @property
    def measured(self) -> dict[str, SweepRow]:
        """The rows that have figures, the baseline's first."""
        return {name: row for name, row in self.rows.items() if isinstance(row, SweepRow)}

    @property
    def baseline(self) -> SweepRow:
        """The row of the baseline."""
        return self.measured[BASELINE]

    @property
    def metric(self) -> Metric:
        """The metric of all splits together."""
        return normalizing.metric(self.rules.values())

    @property
    def rules(self) -> dict[str, Rule]:
        """How each language is scored."""
        every = [u for split in self.utterances.values() for u in split.values()]
        rules = {u.language: normalizing.rule(u.language, u.normalizer) for u in every}
        return dict(sorted(rules.items()))

    @property
    def p_values(self) -> dict[str, float]:
        """The p-values of the recipes that were judged, by name (see `GateVerdict`)."""
        gates = {name: row.gate for name, row in self.measured.items()}
        return {
            name: gate.p_value
            for name, gate in gates.items()
            if gate is not None and gate.p_value is not None
        }

    @property
    def passed_by_holm(self) -> set[str]:
        """The recipes that pass the gate also when all judged recipes are considered."""
        return {
            name
            for name in holm(self.p_values)
            if (gate := self.measured[name].gate) is not None and gate.verdict == "passed"
        }

    def records(self, name: str) -> dict[str, list[Record]]:
        """Return a row's records by split; results hold no times of utterances."""
        row = self.measured[name]
        return {
            split: [
                Record(
                    id=key,
                    hypothesis=text,
                    seconds=0.0,
                    problem=row.problems[split].get(key),
                    **vars(self.utterances[split][key]),
                )
                for key, text in texts.items()
            ]
            for split, texts in row.texts.items()
        }

    def runs(self, name: str) -> tuple[ProfileRun, ...]:
        """Return the timed runs of a row's variant, without those of an earlier variant."""
        row, speed = self.measured[name], self.speed
        if speed is None or speed.weights.get(name) != row.files:
            return ()
        if speed.libraries.get(name, row.libraries) != row.libraries:
            return ()
        return speed.runs.get(name, ())

    def rtf(self, name: str) -> float | None:
        """Return the median real-time factor of a recipe's undisturbed runs; None without one."""
        figures = [run.rtf for run in undisturbed(self.runs(name))]
        return statistics.median(figures) if figures else None

    def peak_rss_bytes(self, name: str) -> float | None:
        """Return the median peak memory of a recipe in bytes; None where it was not timed.

        Of all its runs: other work on the machine makes a process slower, not larger.
        """
        peaks = [run.peak_rss_bytes for run in self.runs(name)]
        return statistics.median(peaks) if peaks else None

    def to_json(self) -> dict[str, Any]:
        """Return the content of results.json: the baseline's row has no comparison and no gate."""
        content: dict[str, Any] = to_json(self)
        for key in ("comparison", "gate", "collapsed"):
            del content["rows"][BASELINE][key]
        return content

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> SweepResult:
        """Return the results that JSON holds; raise ValueError or another error if it is none."""
        rows: dict[str, SweepRow | FailedRow] = {}
        for name, row in content["rows"].items():
            if "error" in row:
                error = " ".join(row["error"].split())
                rows[name] = FailedRow(parse(Recipe, row["recipe"]), error)
            else:
                rows[name] = parse(SweepRow, row, ignore_unknown=True)
        header = parse(SweepHeader, content, ignore_unknown=True)
        result = cls(**vars(header), rows=rows)
        if result.baseline.texts.keys() != result.utterances.keys():
            raise FieldError("its baseline has other splits.")
        for name in result.measured:
            result.records(name)  # every text is of an utterance
        return result

    @classmethod
    def read(cls, path: Path) -> SweepResult:
        """Read results.json; raise DataError where it is something else."""
        return _read(cls, path, "the results of a sweep")


def read_object(path: Path) -> dict[str, Any]:
    """Return the object in a JSON file; an empty one where the file holds something else.

    Raises DataError for a file that cannot be read.
    """
    try:
        content = decode_json(path.read_bytes())
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}). Name another file.") from error
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}


def _read(kind: type[Any], path: Path, what: str) -> Any:
    try:
        return kind.from_json(decode_json(path.read_bytes()))
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise DataError(f"{path} does not hold {what} ({error}). Name another file.") from error
