"""Data sets of three German clips, written in every format that is read."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from edgewhisper_runtime import audio

Row = tuple[Path, str]


def clips(data: Path) -> list[Row]:
    """Return the clips and their texts."""
    paths = sorted((data / "multilingual" / "de").glob("*.ogg"))[:3]
    return [(path, path.with_suffix(".txt").read_text().strip()) for path in paths]


def linked(german: list[Row], directory: Path) -> Path:
    """Return a directory that has the clips below clips/."""
    (directory / "clips").mkdir()
    for clip, _ in german:
        (directory / "clips" / clip.name).symlink_to(clip)
    return directory


def jsonl(directory: Path, german: list[Row]) -> Path:
    path = directory / "werk.jsonl"
    rows = [
        {"audio_filepath": f"clips/{clip.name}", "text": text, "duration": audio_seconds(clip),
         "lang": "de", "speaker": f"s{n}", "id": f"u{n}", "split": "test"}
        for n, (clip, text) in enumerate(german)
    ]  # fmt: skip
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    return path


def table(directory: Path, german: list[Row]) -> Path:
    path = directory / "werk.csv"
    with path.open("w", encoding="utf-8-sig", newline="") as file:  # as Excel writes it
        writer = csv.writer(file, delimiter=";")
        writer.writerow(["Path", "Transcript", "Language", "Speaker", "ID", "Split"])
        writer.writerows(
            [f"clips/{clip.name}", text, "German", f"s{n}", f"u{n}", "test"]
            for n, (clip, text) in enumerate(german)
        )
    return path


def common_voice(directory: Path, german: list[Row]) -> Path:
    rows = "".join(f"s{n}\t{clip.name}\t{text}\tde\n" for n, (clip, text) in enumerate(german))
    header = "client_id\tpath\tsentence\tlocale\n"
    (directory / "test.tsv").write_text(header + rows)
    (directory / "validated.tsv").write_text(header + rows)
    (directory / "clip_durations.tsv").write_text("clip\tduration[ms]\n")
    return directory


def kaldi(directory: Path, german: list[Row]) -> Path:
    where = directory / "test"
    where.mkdir()
    keys = [f"u{n}" for n in range(len(german))]
    files = {
        "wav.scp": [f"../clips/{clip.name}" for clip, _ in german],
        "text": [text for _, text in german],
        "utt2spk": [f"s{n}" for n in range(len(german))],
        "utt2lang": ["de"] * len(german),
    }
    for name, values in files.items():
        lines = [f"{key} {value}\n" for key, value in zip(keys, values, strict=True)]
        (where / name).write_text("".join(lines))
    return where


def librispeech(directory: Path, german: list[Row]) -> Path:
    for n, (clip, text) in enumerate(german):
        chapter = directory / "layout" / "test" / f"s{n}" / "1"
        chapter.mkdir(parents=True)
        (chapter / f"u{n}.ogg").symlink_to(clip)
        (chapter / f"s{n}-1.trans.txt").write_text(f"u{n} {text}\n")
    return directory / "layout"


def beside(directory: Path, german: list[Row]) -> Path:
    where = directory / "test"
    where.mkdir()
    for n, (clip, text) in enumerate(german):
        (where / f"u{n}.ogg").symlink_to(clip)
        (where / f"u{n}.txt").write_text(text + "\n")
    return where


def hugging_face(directory: Path, german: list[Row]) -> Path:
    datasets = pytest.importorskip("datasets", reason="needs Hugging Face's datasets")
    rows = [
        {"audio": {"bytes": clip.read_bytes(), "path": clip.name}, "sentence": text,
         "locale": "de", "client_id": f"s{n}", "id": n}
        for n, (clip, text) in enumerate(german)
    ]  # fmt: skip
    whole = datasets.Dataset.from_list(rows).cast_column("audio", datasets.Audio())
    whole = whole.cast_column("locale", datasets.ClassLabel(names=["en", "de"]))
    datasets.DatasetDict({"test": whole, "train": whole}).save_to_disk(directory / "saved")
    return directory / "saved"


def parquet(directory: Path, german: list[Row]) -> Path:
    datasets = pytest.importorskip("datasets", reason="needs Hugging Face's datasets")
    saved = datasets.load_from_disk(hugging_face(directory, german))
    where = directory / "tables"
    where.mkdir()
    for split in saved:
        saved[split].to_parquet(where / f"{split}-00000-of-00001.parquet")
    return where


FORMATS: dict[str, Callable[[Path, list[Row]], Path]] = {
    "jsonl": jsonl,
    "table": table,
    "table (Common Voice)": common_voice,
    "kaldi": kaldi,
    "librispeech": librispeech,
    "directory": beside,
    "huggingface": hugging_face,
    "huggingface (parquet)": parquet,
}


def audio_seconds(path: Path) -> float:
    return round(len(audio.load(path)) / audio.SAMPLE_RATE, 2)
