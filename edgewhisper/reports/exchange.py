"""A report written as other tools read it: normalized texts, or the entry of a model card.

Texts are written as they are scored, because the tools that read them do not normalize: words or
characters, separated by spaces. The raw texts are in report.json.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Literal
from urllib.parse import quote

from edgewhisper.evaluation import normalizing
from edgewhisper.evaluation.wer import Record
from edgewhisper.reports.results import Report
from edgewhisper_runtime.bundle import atomic
from edgewhisper_runtime.errors import amount

Role = Literal["baseline", "variant"]
# LibriSpeech's splits as the hub has them: configuration and split of librispeech_asr.
_LIBRISPEECH = re.compile(r"(?P<split>dev|test)-(?P<config>clean|other)")
_HUB_SPLITS = {"dev": "validation", "test": "test"}


def write_leaderboard(report: Report, role: Role, directory: Path) -> list[Path]:
    """Write a file of JSON lines for each split, named and laid out as by the Open ASR leaderboard.

    Its `audio_filepath` is the utterance's id.
    """

    def line(record: Record) -> str:
        content = {
            "audio_filepath": record.id,
            "duration": record.duration,
            "time": record.seconds,
            "text": _normalized(record.reference, record),
            "pred_text": _normalized(record.hypothesis, record),
        }
        return json.dumps(content, ensure_ascii=False)

    name = f"MODEL_{report.bundles[role].name}_DATASET_{_slug(report.dataset.name)}"
    return [
        _write(directory / f"{name}_{_file_name(split)}.jsonl", records, line)
        for split, records in report.records[role].items()
    ]


def write_trn(report: Report, role: Role, directory: Path) -> list[Path]:
    """Write a pair of trn files for each split: references, and hypotheses (NIST's sclite)."""

    def reference(record: Record) -> str:
        return f"{_normalized(record.reference, record)} ({_trn_id(record.id)})"

    def hypothesis(record: Record) -> str:
        return f"{_normalized(record.hypothesis, record)} ({_trn_id(record.id)})"

    return [
        _write(directory / f"{_name(report, role)}.{_file_name(split)}.{kind}.trn", records, line)
        for split, records in report.records[role].items()
        for kind, line in (("ref", reference), ("hyp", hypothesis))
    ]


def write_model_card(report: Report, role: Role, directory: Path) -> list[Path]:
    """Write the metadata of a Hugging Face model card with its results (`model-index`).

    One result for each split and language, so each is a WER or a CER, with the number of utterances
    that it is of.
    """
    from huggingface_hub import EvalResult, ModelCardData

    manifest = report.bundles[role]
    results = []
    for split, summary in report.summary.items():
        scores = (summary.baseline if role == "baseline" else summary.variant).by_language
        for language, score in scores.items():
            size = amount(score.utterances, "utterance")
            known = _LIBRISPEECH.fullmatch(split) if report.dataset.name == "LibriSpeech" else None
            results.append(
                EvalResult(
                    task_type="automatic-speech-recognition",
                    task_name="Automatic Speech Recognition",
                    dataset_name=f"{report.dataset.name} {split} ({size})",
                    dataset_type="librispeech_asr" if known else _slug(report.dataset.name),
                    dataset_config=known["config"] if known else language,
                    dataset_split=_HUB_SPLITS[known["split"]] if known else split,
                    dataset_args={"language": language, "utterances": score.utterances},
                    metric_type=score.metric.lower(),
                    metric_name=f"{score.metric} ({score.normalizer})",
                    metric_value=round(score.wer, 2),
                )
            )
    card = ModelCardData(model_name=manifest.name, eval_results=results)
    path = directory / f"{_name(report, role)}.model-card.md"
    atomic.write_text(path, f"---\n{card.to_yaml()}\n---\n")
    return [path]


WRITERS: dict[str, Callable[[Report, Role, Path], list[Path]]] = {
    "leaderboard": write_leaderboard,
    "trn": write_trn,
    "model-card": write_model_card,
}


def _write(path: Path, records: tuple[Record, ...], line: Callable[[Record], str]) -> Path:
    atomic.write_text(path, "".join(f"{line(record)}\n" for record in records))
    return path


def _normalized(text: str, record: Record) -> str:
    return " ".join(normalizing.units(text, record.rule))


def _trn_id(name: str) -> str:
    """Return an id without what would end it early in a trn file."""
    return _without(r"[\s()]", name)


def _name(report: Report, role: Role) -> str:
    """Return the beginning of file names: a bundle's results on several data sets lie together."""
    return f"{report.bundles[role].name}.{_slug(report.dataset.name)}"


def _slug(name: str) -> str:
    return re.sub(r"[^\w.-]+", "-", name).strip("-").lower()


def _file_name(split: str) -> str:
    """Return a split's name without what would lead to another directory."""
    return _without(r"[/\\:]", split)


def _without(unwanted: str, name: str) -> str:
    """Return a name with some characters as in a URL, so that no two names become one."""
    return re.sub(f"{unwanted}|%", lambda found: quote(found[0], safe=""), name)
