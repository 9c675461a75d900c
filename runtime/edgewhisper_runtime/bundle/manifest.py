"""The bundle: a directory that ships, every file of it listed and verified before it is opened.

manifest.json       what is here, where it comes from and what it was measured to be
encoder.onnx, decoder.onnx (or one safetensors file) and what else the backend reads
tokenizer.json      the model's vocabulary
LICENSE             the terms of the weights
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal

from edgewhisper_runtime.bundle import atomic
from edgewhisper_runtime.bundle.fields import (
    Count,
    FieldError,
    OtherKeys,
    Rule,
    at_most,
    between,
    decode_json,
    matching,
    parse,
    to_json,
)
from edgewhisper_runtime.errors import BundleError

MANIFEST = "manifest.json"
TOKENIZER = "tokenizer.json"
SCHEMA = "1.1"  # a reader refuses another major version
# "full": the 30 s that Whisper was trained on; "adaptive": as much as there is, and a margin
AudioContext = Literal["full", "adaptive"]
Verdict = Literal["passed", "failed", "not proven", "not judged"]
# Errors per word, per character, or of a mixture of both (the mixed error rate).
Metric = Literal["WER", "CER", "MER"]
_WEIGHTS = (".safetensors", ".onnx")
_LARGEST_MANIFEST = 4 * 2**20  # bytes


def _is_date(text: str) -> bool:
    try:
        datetime.fromisoformat(text)
    except ValueError:
        return False
    return True


Name = Annotated[str, matching(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}", "a plain name")]
FileName = Annotated[Name, Rule(lambda name: name != MANIFEST, f"not be {MANIFEST}")]
Date = Annotated[str, Rule(_is_date, "be a date and time in ISO 8601")]
Sha256 = Annotated[str, matching(r"[0-9a-f]{64}", "a SHA-256: 64 hexadecimal digits")]
Bytes = Annotated[int, between(0, 2**40)]
TokenIds = Annotated[tuple[Annotated[int, between(0, 2**20)], ...], at_most(2**16)]
Layer = Annotated[int, between(0, 255)]
Libraries = Annotated[dict[Name, str], at_most(256)]
Hashes = Annotated[dict[Name, Sha256], at_most(256)]


@dataclass(frozen=True)
class Adaptive:
    """When a window that is encoded at its own length is encoded again in full.

    A window encoded at its own length plus `margin` seconds is encoded in full instead where the
    mean log-probability of its tokens is below `min_log_probability`.
    """

    margin: Annotated[float, between(0, 30)] = 2.0
    min_log_probability: Annotated[float, between(-100, 0)] | None = None


@dataclass(frozen=True)
class Settings:
    """What decoding must know of the model: mel bands, positions and suppressed token ids.

    `alignment_heads` are (layer, head) of the cross-attention that tells when a word is spoken.
    """

    mels: Annotated[int, between(1, 256)]
    max_tokens: Annotated[int, between(1, 4096)]
    suppress: TokenIds = ()
    suppress_first: TokenIds = ()
    alignment_heads: Annotated[tuple[tuple[Layer, Layer], ...], at_most(2**12)] = ()
    adaptive: Adaptive = Adaptive()


@dataclass(frozen=True)
class File:
    """A file's size in bytes and its SHA-256 in hex."""

    bytes: Bytes
    sha256: Sha256


@dataclass(frozen=True)
class Origin:
    """The checkpoint: its name, where it came from, and each weight file's SHA-256.

    `source` is as the checkpoint store recorded it.
    """

    name: Name
    source: Annotated[dict[str, Any], at_most(256)]
    weights: Hashes


@dataclass(frozen=True)
class ActivationsRecord:
    """How inputs of quantized layers are represented, in the recipe's words."""

    dtype: str
    granularity: str = "none"


@dataclass(frozen=True)
class RecipeRecord:
    """What was done to the model: the recipe's keys, of which the runtime reads these five.

    `languages` are those that the vocabulary was cut to; none: it is the model's own.
    """

    name: Name
    library: Name
    summary: str = ""
    languages: Annotated[tuple[Name, ...], at_most(128)] = ()
    activations: ActivationsRecord = ActivationsRecord("float32")
    other_keys: OtherKeys = field(default_factory=dict)


@dataclass(frozen=True)
class CensusRow:
    """All weights of one part of the model, of one module class and format; `bytes` of all."""

    part: str
    module: str
    dtype: str
    granularity: str
    quantized: bool
    count: Count
    bytes: Bytes


@dataclass(frozen=True)
class CalibrationRecord:
    """The speech that ranges of activations were found on: ids, and a SHA-256 of all audio."""

    utterances: Annotated[tuple[str, ...], at_most(2**16)]
    sha256: Sha256


@dataclass(frozen=True)
class GraphRecord:
    """A graph's size, and how often it has each operator: as stored, and as loaded."""

    bytes: Bytes
    operators: Annotated[dict[Name, Count], at_most(256)]
    operators_loaded: Annotated[dict[Name, Count], at_most(256)]


@dataclass(frozen=True)
class ExportRecord:
    """What an export was made of (each file's SHA-256) and how: format and layout version."""

    format: Name
    layout: Count
    variant: Hashes
    graphs: Annotated[dict[Name, GraphRecord], at_most(256)] = field(default_factory=dict)


@dataclass(frozen=True)
class DatasetRecord:
    """The data that was evaluated on; `limit` counts utterances of a split, None: all.

    `skipped` counts what could not be used and was left out.
    """

    name: str
    synthetic: bool
    limit: Count | None = None
    licence: str = ""
    skipped: Count = 0

    def named(self, split: str) -> str:
        """Return the name of a split in reports, with the data set's."""
        return self.name if self.synthetic or split == self.name else f"{self.name} {split}"


@dataclass(frozen=True)
class Interval:
    """A 95 % interval, in percent or percentage points of an error rate."""

    low: float
    high: float


@dataclass(frozen=True)
class Score:
    """One model's error rate on a split in percent, with its interval and what else was counted.

    `wer` and `words` are of what `metric` counts.
    """

    wer: Annotated[float, between(0, 1e6)]
    interval: Interval
    utterances: Count
    words: Count
    metric: Metric = "WER"
    other_keys: OtherKeys = field(default_factory=dict)


@dataclass(frozen=True)
class Difference:
    """`d`: the variant's error rate less the baseline's on a split, in percentage points."""

    d: float
    interval: Interval
    utterances: Count
    other_keys: OtherKeys = field(default_factory=dict)


@dataclass(frozen=True)
class EvaluationRecord:
    """What the bundle was measured to do, by split, and the gate's verdict.

    The report is in the bundle; `report_sha256` is of its report.json, `created` its date.
    """

    verdict: Verdict
    dataset: DatasetRecord
    baseline: Annotated[dict[str, Score], at_most(64)]
    variant: Annotated[dict[str, Score], at_most(64)]
    comparison: Annotated[dict[str, Difference], at_most(64)]
    report_sha256: Sha256
    created: Date | None = None  # None in bundles of earlier versions
    other_keys: OtherKeys = field(default_factory=dict)


def _same_splits(evaluation: EvaluationRecord) -> bool:
    return evaluation.baseline.keys() == evaluation.variant.keys() == evaluation.comparison.keys()


Evaluation = Annotated[EvaluationRecord, Rule(_same_splits, "be of the same splits throughout")]


@dataclass(frozen=True)
class Manifest:
    """The contents of manifest.json.

    `model` tells where the weights come from, `recipe` what was done to them, `census` what the
    saved variant holds, `calibration` the speech that activations' ranges were found on, `export`
    what it was exported from and to, `audio_context` how much of a window it encodes unless asked
    otherwise, `evaluation` what it was measured to do and the gate's verdict.
    """

    name: Name
    created: Date  # in UTC
    backend: Name  # the engine: an entry point of the group edgewhisper.backends
    settings: Settings
    model: Origin
    recipe: RecipeRecord
    census: Annotated[tuple[CensusRow, ...], at_most(2**10)]
    libraries: Libraries
    files: Annotated[dict[FileName, File], at_most(256)] = field(default_factory=dict)
    calibration: CalibrationRecord | None = None
    export: ExportRecord | None = None
    audio_context: AudioContext = "full"
    evaluation: Evaluation | None = None

    @property
    def weight_bytes(self) -> int:
        """Size of all weight files."""
        return sum(f.bytes for name, f in self.files.items() if name.endswith(_WEIGHTS))


def describe_files(directory: Path) -> dict[str, File]:
    """Return size and hash of every file in the directory but the manifest."""
    return {
        path.name: describe_file(path)
        for path in sorted(directory.iterdir())
        if path.name != MANIFEST
    }


def write_manifest(directory: Path, manifest: Manifest) -> None:
    """Write manifest.json, whole or not at all."""
    content = {"schema": SCHEMA, **to_json(manifest)}
    atomic.write_text(directory / MANIFEST, json.dumps(content, indent=1) + "\n")


def read_manifest(directory: Path) -> Manifest:
    """Read manifest.json without looking at the other files; raise BundleError if it is wrong.

    Keys that this version does not know are ignored: a later minor version may add some.
    """
    path = directory / MANIFEST
    if not os.path.lexists(path):
        raise BundleError(f"{directory} is not a bundle: it has no {MANIFEST}. Name another one.")
    content = read_json(path, _LARGEST_MANIFEST)
    schema = str(content.pop("schema", None) if isinstance(content, dict) else None)
    if schema.partition(".")[0] != SCHEMA.partition(".")[0]:
        raise BundleError(
            f"{path} has schema {schema[:32]}; this version reads {SCHEMA}. "
            "Use a matching edgewhisper-runtime, or build the bundle again."
        )
    try:
        return parse(Manifest, content, ignore_unknown=True)
    except FieldError as error:
        raise BundleError(f"{path} is malformed: {error} Build the bundle again.") from error


def verify(directory: Path, describe: Callable[[Path], File] | None = None) -> Manifest:
    """Check that the bundle is exactly what its manifest lists, and return the manifest.

    Every file is hashed, unless `describe` is given, which returns a file's size and SHA-256.
    Raises BundleError for a file that is missing, altered, unlisted or not a regular file.
    """
    manifest = read_manifest(directory)
    present = {path.name for path in directory.iterdir()} - {MANIFEST}
    if unlisted := sorted(present - manifest.files.keys()):
        raise BundleError(
            f"{directory} holds files that its manifest does not list: {', '.join(unlisted)}. Move "
            "them elsewhere, or copy the bundle again."
        )
    for name, expected in manifest.files.items():
        path = directory / name
        size = regular_file_size(path)
        if size != expected.bytes:
            raise BundleError(
                f"{path} has {size} bytes, its manifest says {expected.bytes}. "
                "Copy the bundle again."
            )
        if (describe or describe_file)(path) != expected:
            raise BundleError(
                f"{path} was altered: its SHA-256 is not the manifest's. Copy the bundle again."
            )
    return manifest


def describe_file(path: Path) -> File:
    """Return size and hash of one file."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return File(bytes=path.stat().st_size, sha256=digest)


def read_json(path: Path, largest: int) -> Any:
    """Return the content of a bundle's JSON file of at most `largest` bytes.

    Raises BundleError for what is no regular file, too large, or no JSON (NaN and Infinity are
    none either).
    """
    if (size := regular_file_size(path)) > largest:
        raise BundleError(f"{path} has {size} bytes, more than the {largest} it may have. Refused.")
    try:
        with path.open("rb") as file:
            return decode_json(file.read(largest).decode(), constants=False)
    except (OSError, ValueError) as error:
        raise BundleError(f"{path} is malformed: {error}. Build the bundle again.") from error


def regular_file_size(path: Path) -> int:
    """Return a file's size in bytes; raise BundleError for a link or special file, or none."""
    try:
        status = path.lstat()
    except (OSError, ValueError) as error:
        raise BundleError(f"{path} is missing ({error}). Copy the bundle again.") from error
    if not stat.S_ISREG(status.st_mode):
        raise BundleError(f"{path} is a link or special file. Refused.")
    return status.st_size
