"""Utterances are decoded in their own languages, or in those that the model detects."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from conftest import BundleOf, Run
from edgewhisper.evaluation import wer
from edgewhisper.evaluation.datasets import Dataset, find_dataset
from edgewhisper.evaluation.options import EvaluationOptions
from edgewhisper.evaluation.run import evaluate
from edgewhisper.workspace import Workspace
from edgewhisper_runtime.bundle import Artefact


def manifest(path: Path, clips: Sequence[Path], **values: object) -> Path:
    """Write a manifest of clips that have their texts beside them."""
    with path.open("w", encoding="utf-8") as file:
        for clip in clips:
            text = clip.with_suffix(".txt").read_text(encoding="utf-8").strip()
            row = {"audio_filepath": str(clip), "text": text, "lang": clip.parent.name} | values
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
    return path


@pytest.fixture(scope="module")
def mixed(data: Path, workspace: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Two German clips, one Chinese between them."""
    german = sorted((data / "multilingual" / "de").glob("*.ogg"))[:2]
    (chinese,) = (data / "multilingual" / "zh").glob("*.wav")
    path = tmp_path_factory.mktemp("mixed") / "mixed.jsonl"
    return find_dataset(workspace, manifest(path, [german[0], chinese, german[1]]))


@pytest.fixture
def multilingual(bundle_of: BundleOf) -> Artefact:
    return Artefact.verified(bundle_of("whisper-base", "onnx-int8"))


def of_language(records: list[wer.Record], language: str) -> list[wer.Record]:
    return [record for record in records if record.language == language]


@pytest.mark.parametrize("detect", [False, True])
def test_each_utterance_is_decoded_in_its_language(
    detect: bool, mixed: Dataset, multilingual: Artefact, tmp_path: Path
) -> None:
    options = EvaluationOptions(mixed, detect_language=detect)
    records = evaluate(Workspace(tmp_path), multilingual, options)["mixed"]
    assert [record.language for record in records] == ["de", "zh", "de"]
    assert {"que" in r.hypothesis or "the " in r.hypothesis for r in records} == {False}
    assert wer.summarize_errors(of_language(records, "de")).wer < 50
    (chinese,) = of_language(records, "zh")
    assert sum("\u4e00" <= character <= "\u9fff" for character in chinese.hypothesis) > 5
    detected = [record.detected_language for record in records]
    assert detected == (["de", "zh", "de"] if detect else [None] * 3)


def test_an_english_model_refuses_other_languages_before_any_work(
    mixed: Dataset, run: Run, tmp_path: Path
) -> None:
    for command in (
        ("build", "--recipe", "onnx-int8", "--model", "tiny.en", "--data", mixed.card.path),
        ("evaluate", "--model", "tiny.en", "--data", mixed.card.path),
        ("sweep", "--model", "tiny.en", "--recipe", "onnx-int8", "--data", mixed.card.path),
        ("ablate", "--model", "tiny.en", "--recipe", "onnx-int8", "--data", mixed.card.path),
    ):
        result = run(*command, env_home=tmp_path)
        assert result.returncode == 8
        assert "mixed has utterances in german (2), chinese (1)" in result.stderr
        assert "whisper-tiny.en only knows English" in result.stderr
        assert not (tmp_path / "variants").exists()
    result = run("evaluate", "--model", "tiny.en", "--detect-language", env_home=tmp_path)
    assert result.returncode == 8
    assert "so it detects no language" in result.stderr


def test_a_report_names_the_data_and_what_was_left_out(
    data: Path, onnx_bundle: Path, run: Run, tmp_path: Path
) -> None:
    clips = sorted((data / "multilingual" / "en").glob("*.ogg"))[:2]
    path = manifest(tmp_path / "Werk 7.jsonl", clips)
    path.write_text(path.read_text() + '{"audio_filepath": "absent.wav", "text": "Hello."}\n')
    command = ("evaluate", "--bundle", onnx_bundle, "--data", path, "--accept-not-proven",
               "--rounds=0")  # fmt: skip
    refused = run(*command)
    assert refused.returncode == 8
    assert f"{path}:3: " in refused.stderr
    assert "absent.wav does not exist" in refused.stderr
    output = tmp_path / "report"
    result = run(*command, "--skip-bad", "--output", output)
    assert result.returncode == 0, result.stderr
    assert "Werk 7, 2 utterances" in result.stdout
    assert "LibriSpeech" not in result.stdout
    report = json.loads((output / "report.json").read_text())
    assert report["dataset"]["name"] == "Werk 7"
    assert report["dataset"]["skipped"] == 1
    assert report["language"] == "en"
    (problem,) = report["skipped"]
    assert problem.startswith(f"{path}:3: ")
    assert problem in (output / "report.md").read_text()
    assert "absent.wav" in (output / "report.html").read_text()


def test_a_report_is_scored_by_the_normalizer_of_the_data_card(
    data: Path, onnx_bundle: Path, run: Run, tmp_path: Path
) -> None:
    clips = sorted((data / "multilingual" / "en").glob("*.ogg"))[:1]
    manifest(tmp_path / "clip.jsonl", clips)
    card = tmp_path / "card.toml"
    card.write_text('path = "clip.jsonl"\nnormalizer = "characters"\n')
    output = tmp_path / "report"
    result = run(
        "evaluate", "--bundle", onnx_bundle, "--data", card, "--accept-not-proven", "--rounds=0",
        "--output", output,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert "CER" in result.stdout
    for page in ("report.md", "report.html"):
        assert "basic normalizer, split letters" in (output / page).read_text()
    again = run("score", output / "report.json")
    assert again.returncode == 0, again.stderr


def test_a_profile_measures_with_a_data_set(
    data: Path, onnx_bundle: Path, run: Run, tmp_path: Path
) -> None:
    clips = sorted((data / "multilingual" / "en").glob("*.ogg"))[:3]
    path = manifest(tmp_path / "en.jsonl", clips)
    result = run("profile", onnx_bundle, "--data", path, "--limit", 1, "--repeat", 1, "--json")
    assert result.returncode == 0, result.stderr
    assert clips[0].name in result.stdout
    assert clips[1].name not in result.stdout
    assert run("profile", onnx_bundle, "--data", path, "--audio", clips[0]).returncode == 2
