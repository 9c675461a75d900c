"""The command lines of openai-whisper and faster-whisper, word for word."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from conftest import BundleOf, Run
from edgewhisper_runtime.cli import transcribe
from edgewhisper_runtime.cli.spellings import translate


@pytest.mark.parametrize(
    ("typed", "translated"),
    [
        ("a.wav --output_dir out", "a.wav --output-dir out"),
        ("a.wav --output_format=srt", "a.wav --format=srt"),
        ("--word_timestamps True a.wav", "--words a.wav"),
        ("--word_timestamps False a.wav", "a.wav"),
        ("--vad_filter=False a.wav", "--no-vad a.wav"),
        ("--vad_filter True a.wav", "--vad a.wav"),
        ("--initial_prompt Hi --hotwords x", "--prompt Hi --hotwords x"),
        ("--condition_on_previous_text True", "--condition-on-previous-text"),
        ("--compression_ratio_threshold 2 --no_speech_threshold none",
         "--max-compression-ratio 2 --max-no-speech none"),
        ("--logprob_threshold=-1", "--min-log-probability=-1"),
        ("--no_repeat_ngram_size 3 --suppress_tokens -1,5", "--no-repeat-ngram 3 --suppress -1,5"),
        ("--model base", "--bundle base"),
        ("--max_line_width 20 --max_line_count 1", "--max-line-width 20 --max-line-count 1"),
        ("--verbose True a.wav", "--verbose a.wav"),
        ("--fp16 False", "--fp16 False"),  # means nothing here, so it is refused
        ("-- --word_timestamps", "-- --word_timestamps"),
        ("--words true", "--words true"),  # a file of that name
    ],
)  # fmt: skip
def test_options_of_other_tools(typed: str, translated: str) -> None:
    assert translate(typed.split(), transcribe) == translated.split()


def test_a_command_line_of_openai_whisper(
    run: Run, bundle_of: BundleOf, smoke_clip: Path, tmp_path: Path
) -> None:
    bundle = bundle_of("whisper-tiny.en", "onnx-int8")
    line = (
        f"--model {bundle} --language English --word_timestamps True --output_format all "
        f"--output_dir {tmp_path} --beam_size 2 --max_words_per_line 3 --verbose True"
    )
    done = run("transcribe", smoke_clip, *line.split(), script="edgewhisper-runtime")
    assert done.returncode == 0, done.stderr
    assert done.stderr.startswith("[00:00:0")  # text as it comes
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [
        ".json", ".srt", ".tsv", ".txt", ".vtt",
    ]  # fmt: skip
    record = json.loads((tmp_path / f"{smoke_clip.stem}.json").read_text())
    assert record["segments"][0]["words"]
    lines = [
        line
        for line in (tmp_path / f"{smoke_clip.stem}.srt").read_text().splitlines()
        if line and not line.isdecimal() and "-->" not in line
    ]
    assert lines
    assert all(len(line.split()) <= 3 for line in lines)


def test_a_bundle_that_is_not_there_is_said_to_be_so(run: Run, tmp_path: Path) -> None:
    done = run("info", tmp_path / "absent", script="edgewhisper-runtime")
    assert done.returncode == 6
    assert f"there is no bundle {tmp_path / 'absent'}" in done.stderr
