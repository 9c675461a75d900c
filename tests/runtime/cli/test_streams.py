"""Names and streams of any kind, with processes of their own: encodings are theirs."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

SCRIPT = Path(sys.executable).parent / "edgewhisper-runtime"
NOT_UTF8 = os.fsdecode(b"caf\xe9.opus")
CONTROLS = "red\x1b[31m\nline.opus"
LONG = "a" * 250 + ".opus"
WORDS = "soup on the stove."
STDOUT_REFUSED = "error: stdout may not be written"

Shell = Callable[..., "subprocess.CompletedProcess[bytes]"]


@pytest.fixture
def shell(onnx_bundle: Path, tmp_path: Path) -> Shell:
    """Run `transcribe` with the rest of a shell's command line, in a directory of its own."""

    def call(rest: str, **variables: str) -> subprocess.CompletedProcess[bytes]:
        line = f"set -o pipefail; '{SCRIPT}' transcribe --audio-context adaptive {rest}"
        own = {"EDGEWHISPER_BUNDLE": str(onnx_bundle), "PYTHONUNBUFFERED": ""}
        return subprocess.run(
            ["bash", "-c", line],
            cwd=tmp_path,
            env=os.environ | own | variables,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=300,
            check=False,
        )

    return call


@pytest.fixture
def clips(tmp_path: Path, smoke_clip: Path) -> list[str]:
    """Recordings whose names no encoding, terminal or file system likes, and a plain one."""
    names = [NOT_UTF8, CONTROLS, LONG, "plain.opus"]
    for name in names:
        shutil.copy(smoke_clip, tmp_path / name)
    return names


def test_any_name_and_any_encoding(shell: Shell, clips: list[str], tmp_path: Path) -> None:
    (tmp_path / "headerless.raw").write_bytes(bytes(1000))
    (tmp_path / "loop.opus").symlink_to("loop.opus")
    absent = "b" * 300 + ".opus"
    for encoding in ("cp1252", "ascii"):
        done = shell(
            f"*.opus headerless.raw {absent} --json --batch-size 2", PYTHONIOENCODING=encoding
        )
        records = [json.loads(line) for line in done.stdout.decode("utf-8").splitlines()]
        assert {record["file"] for record in records} == {"caf\ufffd.opus", *clips[1:]}
        assert all(WORDS in record["text"] for record in records)
        *errors, summary = done.stderr.decode("utf-8").splitlines()
        assert len(errors) == 3
        assert all(line.startswith("error: ") for line in errors)
        assert summary.startswith("3 of 7 failed: loop.opus, headerless.raw, bbb")
        assert done.returncode != 0


def test_names_on_stdout_are_one_line(shell: Shell, clips: list[str]) -> None:
    done = shell("*.opus")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.decode("utf-8").splitlines()
    assert len(lines) == len(clips)
    assert any(line.startswith(r"red\x1b[31m\nline.opus: ") for line in lines)


def test_files_of_any_name_and_resume(shell: Shell, clips: list[str], tmp_path: Path) -> None:
    done = shell("*.opus --output-dir out --format txt --format json")
    assert (done.returncode, done.stderr) == (0, b"")
    names = sorted(os.listdir(tmp_path / "out"))  # noqa: PTH208 # the names as they are
    stems = [NOT_UTF8[:-5], CONTROLS[:-5], "plain"]
    expected = [stem + suffix for stem in stems for suffix in (".json", ".txt")]
    assert names == sorted([*expected, "a" * 250 + ".json", "a" * 250 + ".txt"])
    for path in (tmp_path / "out").glob("*.json"):
        assert WORDS in json.loads(path.read_bytes())["text"]
    again = shell("*.opus --output-dir out --format txt --format json")
    assert again.stderr.count(b": skipped, ") == len(clips)
    assert again.returncode == 0


def test_a_name_as_long_as_may_be(shell: Shell, smoke_clip: Path, tmp_path: Path) -> None:
    shutil.copy(smoke_clip, tmp_path / ("é" * 125 + "a.wav"))
    done = shell("*.wav --output-dir out --json")
    assert done.returncode == 0, done.stderr
    (written,) = (tmp_path / "out").iterdir()
    assert written.name == "é" * 125 + ".json"
    assert b"skipped" in shell("*.wav --output-dir out --json").stderr


def test_an_output_that_is_a_directory(shell: Shell, clips: list[str], tmp_path: Path) -> None:
    (tmp_path / "out" / "plain.txt").mkdir(parents=True)
    done = shell("*.opus --output-dir out --format txt --format srt")
    assert done.returncode == 12
    assert done.stderr.splitlines()[0] == b"error: Is a directory: out/plain.txt"
    assert len(list((tmp_path / "out").glob("*.srt"))) == len(clips)
    assert len(list((tmp_path / "out").glob("*.txt"))) == len(clips)


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("where", [">&-", ">/dev/full"])
def test_a_stdout_that_takes_nothing(
    shell: Shell, clips: list[str], where: str, unbuffered: str
) -> None:
    done = shell(f"{clips[3]} {clips[3]} {where}", PYTHONUNBUFFERED=unbuffered)
    assert done.returncode == 12
    (line,) = done.stderr.decode().splitlines()
    assert line.startswith(STDOUT_REFUSED)


def test_no_streams_at_all(shell: Shell, clips: list[str], tmp_path: Path) -> None:
    done = shell(f"{clips[3]} --output-dir out <&- >&- 2>&-")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    assert WORDS in (tmp_path / "out" / "plain.txt").read_text()
    assert shell(f"{clips[3]} absent.wav 2>/dev/full").stdout.endswith(f"{WORDS}\n".encode())


def test_a_pipe_that_closes(shell: Shell, clips: list[str]) -> None:
    done = shell(f"{clips[3]} {clips[3]} {clips[3]} | true")
    assert (done.returncode, done.stderr) == (1, b"")
