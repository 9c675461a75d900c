"""The command line as a user has it: data on stdout, talk on stderr, exit codes."""

from __future__ import annotations

import json
import shutil
from functools import partial
from pathlib import Path

import pytest
from click.shell_completion import ShellComplete

from conftest import Run
from edgewhisper import cli
from edgewhisper.checkpoints import Checkpoint


def test_help_lists_every_command(run: Run, run_afresh: Run) -> None:
    result = run_afresh("--help")
    assert result.returncode == 0
    for name in ("build", "data", "evaluate", "fetch", "models", "profile", "recipes", "score",
                 "transcribe", "verify"):  # fmt: skip
        assert f"\n  {name} " in result.stdout
        assert run(name, "--help").returncode == 0


def test_models_and_recipes(run: Run, tiny_en: Checkpoint) -> None:
    listed = {row["name"]: row for row in json.loads(run("models", "--json").stdout)}
    assert len(listed) == 12
    assert listed["whisper-tiny.en"]["local"] == str(tiny_en.path)
    assert listed["whisper-small"]["local"] is None
    assert "whisper-large-v3-turbo" in run("models").stdout
    recipes = [row["name"] for row in json.loads(run("recipes", "--json").stdout)]
    assert recipes[0] == "fp32"
    assert {"quanto-int8", "pytorch-int8"} <= set(recipes)
    assert json.loads(run("recipes", "quanto-int8").stdout)["weights"]["dtype"] == "int8"


def test_fetch_prints_where_it_is(run: Run, tiny_en: Checkpoint) -> None:
    assert run("fetch", "tiny.en").stdout.strip() == str(tiny_en.path)


def test_the_whole_job(
    run: Run, run_afresh: Run, tiny_en: Checkpoint, smoke_clip: Path, tmp_path: Path
) -> None:
    absent = run_afresh("transcribe", smoke_clip, env_home=tmp_path / "none")
    assert absent.returncode == 6
    assert "edgewhisper build" in absent.stderr

    built = run_afresh(
        "build", "--model", "tiny.en", "--recipe", "quanto-int8", "--limit", 3, "--rounds=1"
    )
    assert built.returncode == 0, built.stderr
    assert "synthetic smoke set" in built.stdout
    assert "65 of 65 Linear layers" in built.stdout
    bundle = Path(built.stdout.strip().splitlines()[-1].removeprefix("bundle: "))

    text = run("transcribe", smoke_clip)
    assert text.returncode == 0, text.stderr
    assert text.stdout.startswith("There is")

    record = json.loads(run("transcribe", "--json", "--bundle", bundle, smoke_clip).stdout)
    assert record["text"] == text.stdout.strip()
    assert (record["language"], record["problem"]) == ("en", None)
    assert 0 <= record["segments"][0]["start"] < 1

    verified = run("verify", bundle)
    assert verified.returncode == 0
    assert "files intact" in verified.stdout
    informed = run("info", bundle).stdout
    for line in (
        "gate",
        "not judged",
        "synthetic smoke set, utterances: 3 of smoke",
        "report.html",
    ):
        assert line in informed
    content = json.loads((bundle / "report.json").read_text())
    assert content["created"] in informed

    profiled = run("profile", bundle, "--audio", smoke_clip, "--repeat", 1, "--json")
    assert profiled.returncode == 0, profiled.stderr
    assert json.loads(profiled.stdout)["summary"]["rtf"] > 0

    evaluated = run("evaluate", "--bundle", bundle, "--limit", 3, "--rounds=0", "--json")
    assert evaluated.returncode == 0, evaluated.stderr
    assert json.loads(evaluated.stdout)["summary"]["smoke"]["comparison"]["utterances"] == 3


def test_a_failed_gate_installs_nothing_and_shows_what_it_measured(
    run: Run, tiny_en: Checkpoint, data: Path, tmp_path: Path, home: Path
) -> None:
    target = tmp_path / "bundle"
    common = ("--model=tiny.en", "--recipe=quanto-int2", "--limit=8", "--rounds=0",
              "--split=test-clean", "--librispeech", data)  # fmt: skip
    result = run("build", *common, "--export=none", "--output", target)
    assert result.returncode == 9, result.stderr
    assert "gate: failed" in result.stdout
    assert "variant WER" in result.stdout
    assert "the gate failed: WER changed by" in result.stderr
    assert not target.exists()
    reports = home / "reports" / "whisper-tiny.en-quanto-int2"
    report = json.loads((reports / "latest" / "report.json").read_text())
    assert report["gate"]["verdict"] == "failed"
    assert report["summary"]["test-clean"]["variant"]["wer"] > 50

    evaluated = run("evaluate", *common, "--output", tmp_path / "report")
    assert evaluated.returncode == 9
    assert (tmp_path / "report" / "report.json").is_file()
    lenient = run("evaluate", *common, "--max-wer-increase=100000", "--strict")
    assert lenient.returncode == 0, lenient.stderr


def test_one_bad_file_does_not_stop_the_others(
    run: Run, tiny_bundle: Path, smoke_clip: Path, tmp_path: Path
) -> None:
    result = run("transcribe", "--bundle", tiny_bundle, tmp_path / "absent.wav", smoke_clip)
    assert result.returncode == 3
    assert result.stdout.startswith(f"{smoke_clip}: ")
    assert "absent.wav does not exist" in result.stderr


def test_languages_are_checked(run: Run, tiny_bundle: Path, smoke_clip: Path) -> None:
    result = run("transcribe", "--bundle", tiny_bundle, "--language", "de", smoke_clip)
    assert result.returncode == 1
    assert "only transcribes English" in result.stderr


def test_inspect_counts_what_is_there(run: Run, tiny_bundle: Path, tmp_path: Path) -> None:
    shown = run("inspect", tiny_bundle)
    assert shown.returncode == 0, shown.stderr
    assert shown.stdout.splitlines()[0].split() == [
        "part", "module", "count", "quantized", "dtype", "granularity", "MB",
    ]  # fmt: skip
    assert "65 of 65 Linear layers, int8 per-channel" in shown.stdout
    rows = json.loads(run("inspect", tiny_bundle, "--json").stdout)
    assert sum(row["count"] for row in rows if row["quantized"]) == 65

    other = tmp_path / "other"
    shutil.copytree(tiny_bundle, other)
    manifest = json.loads((other / "manifest.json").read_text())
    manifest["recipe"]["scope"].remove("output")
    (other / "manifest.json").write_text(json.dumps(manifest))
    assert run("inspect", other).returncode == 14


def test_the_list_of_recipes_fits_80_columns(run: Run) -> None:
    short, whole = run("recipes").stdout, run("recipes", "--all").stdout
    assert max(map(len, whole.splitlines())) <= 80
    assert "onnx-int8 *" in short
    assert "hqq-int1-g16" not in short
    assert "hqq-int1-g16" in whole
    only = run("recipes", "--library", "quanto", "--json").stdout
    assert {recipe["library"] for recipe in json.loads(only)} == {"quanto"}


def test_bundles_are_known_by_name(run: Run, onnx_bundle: Path, tmp_path: Path) -> None:
    here = partial(run, env_home=tmp_path)
    assert "no bundle was built here" in here("bundles").stderr
    shutil.copytree(onnx_bundle, tmp_path / "bundles" / "tiny")
    (bundle,) = json.loads(here("bundles", "--json").stdout)
    assert bundle["path"] == str(tmp_path / "bundles" / "tiny")
    assert here("bundles").stdout.splitlines()[1].startswith("tiny ")
    assert here("info", "tiny").returncode == 0
    absent = here("info", "tini")
    assert absent.returncode == 6
    assert "there is no bundle tini. Did you mean tiny?" in absent.stderr


def test_all_that_is_wrong_is_said_at_once_with_what_was_meant(run: Run, data: Path) -> None:
    wrong = ("--model=whisper-bse", "--recipe=onnx-in8", "--data=absent.csv", "--rounds=-1")
    result = run("build", *wrong)
    assert result.returncode == 2
    for message in (
        "no model 'whisper-bse'. Did you mean whisper-base?",
        "no recipe 'onnx-in8'. Did you mean onnx-int8?",
        "no data 'absent.csv'",
        "'--rounds': -1",
    ):
        assert message in result.stderr
    assert [run("build", option).returncode for option in wrong] == [4, 5, 8, 2]
    split = run("evaluate", "--librispeech", data, "--split", "test-claen")
    assert split.returncode == 8
    assert "Did you mean test-clean?" in split.stderr
    assert "Did you mean build?" in run("biuld").stderr
    assert "Did you mean check?" in run("data", "chekc").stderr


def test_shells_complete_names(
    onnx_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(onnx_bundle, tmp_path / "bundles" / "tiny")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "factory.toml").write_text(f'path = "{tmp_path}"\n')
    monkeypatch.setenv("EDGEWHISPER_HOME", str(tmp_path))
    shell = ShellComplete(cli.group, {}, "edgewhisper", "_EDGEWHISPER_COMPLETE")

    def offered(*words: str) -> list[tuple[str, str]]:
        *before, last = words
        return [(item.type, item.value) for item in shell.get_completions(before, last)]

    assert offered("build", "-m", "whisper-large-v3-") == [("plain", "whisper-large-v3-turbo")]
    assert offered("sweep", "-r", "onnx-int8-w") == [("plain", "onnx-int8-weights")]
    assert offered("build", "--data", "fac") == [("plain", "factory")]
    assert offered("info", "ti") == [("plain", "tiny")]
    assert offered("transcribe", "--bundle", "ti") == [("plain", "tiny")]
    assert offered("build", "-r", "own") == [("file", "own")]


@pytest.mark.parametrize(
    ("command", "faults"),
    [
        (["tune", "--max-rtf", "nan", "--max-size", "80", "--threads", "9999"],
         ["'nan' is not a finite number", "'80' is not a size", "'--threads': 9999 is not"]),
        (["evaluate", "--max-wer-increase", "inf"], ["'inf' is not a finite number"]),
        (["tune", "--search"], ["'--search' changes nothing without --max-size"]),
        (["score", __file__, "--role", "baseline", "-o", "x"],
         ["'--role' changes nothing without --export", "'--output' changes nothing without"]),
        (["score", __file__, __file__, "--export", "trn"], ["leave out OTHER"]),
        (["report", "absent.json"], ["'absent.json' does not exist"]),
        (["report", "."], ["'.' is a directory"]),
    ],
    ids=lambda value: " ".join(value[:2]).replace(__file__, "FILE"),
)  # fmt: skip
def test_wrong_command_lines(run: Run, command: list[str], faults: list[str]) -> None:
    refused = run(*command)
    assert refused.returncode == 2
    for fault in faults:
        assert fault in refused.stderr


def test_what_changes_nothing_is_refused(run: Run, onnx_bundle: Path, smoke_clip: Path) -> None:
    for arguments, owner in (
        (["--keep", "--ssh-option", "Port=2222"], "--on"), (["--limit", "3"], "--data"),
    ):  # fmt: skip
        refused = run("profile", onnx_bundle, *arguments)
        assert refused.returncode == 2
        assert f"{arguments[0]}' changes nothing without {owner}" in refused.stderr
    refused = run("package", onnx_bundle, "--for", "linux-aarch64", "--base", smoke_clip)
    assert refused.returncode == 15
    assert "a zip file is built on no base" in refused.stderr


def test_libraries_are_suggested_by_every_command(run: Run) -> None:
    for command in (["recipes"], ["sweep", "-m", "whisper-tiny.en"]):
        refused = run(*command, "--library", "hq")
        assert refused.returncode == 5
        assert "no recipe is of the library 'hq'. Did you mean hqq?" in refused.stderr


def test_a_directory_is_not_said_to_be_absent(run: Run, tmp_path: Path) -> None:
    refused = run("fetch", tmp_path)
    assert refused.returncode == 4
    assert f"{tmp_path} is a directory, and has no model card" in refused.stderr


def test_summaries_of_commands_are_whole(run: Run) -> None:
    for help_text in (run("data", "--help"), run("--help", script="edgewhisper-runtime")):
        assert "..." not in help_text.stdout.partition("Commands:")[2].partition("Examples:")[0]
