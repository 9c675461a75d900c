"""`edgewhisper-runtime transcribe` as a user has it, on the synthetic clips."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import soundfile
import srt

from conftest import BundleOf, Run
from edgewhisper_runtime.measure.profile import SPEECH
from edgewhisper_runtime.text.writers import WRITERS

Transcribe = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="module")
def bundle(bundle_of: BundleOf) -> Path:
    return bundle_of("whisper-tiny.en", "onnx-int8")


@pytest.fixture(scope="module")
def transcribe(run: Run, bundle: Path) -> Transcribe:
    return partial(run, "transcribe", "--bundle", bundle, script="edgewhisper-runtime")


@pytest.fixture
def talks(tmp_path: Path, smoke_clip: Path) -> Path:
    """Three clips in a directory, at two depths."""
    directory = tmp_path / "talks"
    (directory / "monday").mkdir(parents=True)
    clips = sorted(smoke_clip.parent.glob("*.opus"))
    shutil.copy(clips[0], directory / "one.opus")
    shutil.copy(clips[1], directory / "two.opus")
    shutil.copy(clips[2], directory / "monday" / "one.opus")
    return directory


def below(directory: Path) -> list[str]:
    """Return every file below, hidden ones included."""
    return sorted(
        str(path.relative_to(directory)) for path in directory.rglob("*") if path.is_file()
    )


def test_a_directory_into_a_directory(transcribe: Transcribe, talks: Path, tmp_path: Path) -> None:
    output = tmp_path / "deep" / "output"
    formats = [argument for name in WRITERS for argument in ("--format", name)]
    done = transcribe(talks, "--output-dir", output, *formats)
    assert done.returncode == 0, done.stderr
    assert (done.stdout, done.stderr) == ("", "")
    stems = ("monday/one", "one", "two")
    assert below(output) == sorted(f"{stem}.{name}" for stem in stems for name in WRITERS)
    for stem in stems:
        record = json.loads((output / f"{stem}.json").read_text())
        assert record["file"] == str(talks / f"{stem}.opus")
        assert record["problem"] is None
        assert record["seconds"] > 0
        text = (output / f"{stem}.txt").read_text()
        assert text == record["text"] + "\n"
        cues = list(srt.parse((output / f"{stem}.srt").read_text()))
        assert " ".join(cue.content for cue in cues).split() == text.split()
        assert cues[-1].end.total_seconds() <= record["duration"] + 0.001

    before = {name: (output / name).stat().st_mtime_ns for name in below(output)}
    again = transcribe(talks, "--output-dir", output, *formats)
    assert again.returncode == 0, again.stderr
    assert again.stderr.count("skipped") == 3
    assert {name: (output / name).stat().st_mtime_ns for name in before} == before


def test_a_pipe_is_never_done_already(
    transcribe: Transcribe, smoke_clip: Path, tmp_path: Path
) -> None:
    pipe, output = tmp_path / "pipe.opus", tmp_path / "output"
    os.mkfifo(pipe)
    os.utime(pipe, (0, 0))
    for name, text in (("slt-1-0001.opus", "There is"), ("slt-1-0002.opus", "Could you")):
        clip = smoke_clip.with_name(name)
        with subprocess.Popen(["dd", f"if={clip}", f"of={pipe}", "status=none"]) as writer:
            result = transcribe(pipe, "--output-dir", output)
            writer.kill()
        assert result.returncode == 0, result.stderr
        assert (output / "pipe.txt").read_text().startswith(text)


def test_what_changed_is_done_again(transcribe: Transcribe, talks: Path, tmp_path: Path) -> None:
    output = tmp_path / "output"
    assert transcribe(talks, "--output-dir", output).returncode == 0
    written = {name: (output / name).stat().st_mtime_ns for name in below(output)}
    later = max(written.values()) + 10**9
    os.utime(talks / "two.opus", ns=(later, later))
    (output / "monday" / "one.txt").unlink()
    (output / "one.txt").write_text("by hand")

    again = transcribe(talks, "--output-dir", output)
    assert again.returncode == 0, again.stderr
    assert again.stderr.count("skipped") == 1
    assert (output / "one.txt").read_text() == "by hand"
    assert (output / "two.txt").stat().st_mtime_ns > written["two.txt"]
    assert (output / "monday" / "one.txt").exists()

    assert transcribe(talks / "one.opus", "--output-dir", output, "--overwrite").returncode == 0
    assert (output / "one.txt").read_text() != "by hand"


def test_another_format_is_not_there_yet(
    transcribe: Transcribe, smoke_clip: Path, tmp_path: Path
) -> None:
    (tmp_path / f"{smoke_clip.stem}.txt").write_text("by hand")
    done = transcribe(smoke_clip, "--output-dir", tmp_path, "--format", "txt", "--format", "vtt")
    assert done.stderr == ""
    assert below(tmp_path) == [f"{smoke_clip.stem}.txt", f"{smoke_clip.stem}.vtt"]


def test_stdout(transcribe: Transcribe, talks: Path) -> None:
    paths = [str(talks / name) for name in ("one.opus", "two.opus", "monday/one.opus")]
    records = [json.loads(line) for line in transcribe(talks, "--json").stdout.splitlines()]
    assert [record["file"] for record in records] == paths
    lines = transcribe(f"{talks}/*.opus").stdout.splitlines()
    assert lines == [f"{record['file']}: {record['text']}" for record in records[:2]]
    cues = list(srt.parse(transcribe(paths[0], "--format", "srt").stdout))
    assert " ".join(cue.content for cue in cues).split() == records[0]["text"].split()


def test_stdin(transcribe: Transcribe, smoke_clip: Path, tmp_path: Path) -> None:
    assert transcribe("-", stdin=smoke_clip).stdout.startswith("There is")
    nothing = transcribe("-", "--output-dir", tmp_path)
    assert nothing.returncode == 3
    assert nothing.stderr.startswith("error: stdin is empty")
    assert below(tmp_path) == []


def test_one_bad_file_among_good_ones(transcribe: Transcribe, talks: Path, tmp_path: Path) -> None:
    (talks / "broken.wav").write_text("This is no audio. " * 100)
    soundfile.write(talks / "empty.wav", [0.0] * 0, 16_000)
    done = transcribe(talks, talks / "absent.flac", "--output-dir", tmp_path / "output")
    assert done.returncode == 3
    assert below(tmp_path / "output") == ["monday/one.txt", "one.txt", "two.txt"]
    *errors, summary = done.stderr.splitlines()
    assert [line.split(": ")[0] for line in errors] == ["error"] * 3
    failed = ", ".join(str(talks / name) for name in ("broken.wav", "empty.wav", "absent.flac"))
    assert summary == f"3 of 6 failed: {failed}"


def test_a_directory_that_cannot_be_read_costs_no_other(
    transcribe: Transcribe, talks: Path, tmp_path: Path
) -> None:
    """Its path is longer than any that the system takes."""
    here = os.open(talks, os.O_RDONLY)
    top = talks / ("d" * 200)
    for _ in range(21):
        os.mkdir(top.name, dir_fd=here)
        inside = os.open(top.name, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = inside
    os.close(here)
    (tmp_path / "nothing").mkdir()
    done = transcribe(tmp_path / "nothing", talks, "--output-dir", tmp_path / "output")
    subprocess.run(["rm", "-r", top], check=True)
    assert done.returncode == 3
    assert below(tmp_path / "output") == ["monday/one.txt", "one.txt", "two.txt"]
    none, deep, summary = done.stderr.splitlines()
    assert none.startswith(f"error: {tmp_path / 'nothing'} holds no audio file")
    assert deep.startswith(f"error: {top}/")
    assert "could not be read (File name too long)" in deep
    assert summary.startswith(f"2 of 5 failed: {tmp_path / 'nothing'}, {top}/")


def test_a_transcript_that_is_no_good_is_written_and_reported(
    transcribe: Transcribe, smoke_clip: Path, tmp_path: Path
) -> None:
    quiet = tmp_path / "quiet.wav"
    soundfile.write(quiet, [0.0] * 32_000, 16_000)
    done = transcribe(quiet, smoke_clip, "--output-dir", tmp_path / "output", "--format", "json")
    record = json.loads((tmp_path / "output" / "quiet.json").read_text())
    if record["problem"]:  # a model may hear words in silence
        assert done.returncode == 13
        assert f"the transcript of {quiet} is {record['problem']}" in done.stderr
    assert (tmp_path / "output" / f"{smoke_clip.stem}.json").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["one.opus", "monday/one.opus"], "would both be written"),
        (["one.opus", "one.opus"], "would both be written"),
        (["one.opus", "one.txt"], "is to be transcribed, and would be overwritten"),
    ],
)
def test_names_that_collide(
    transcribe: Transcribe, talks: Path, arguments: list[str], message: str
) -> None:
    shutil.copy(talks / "one.opus", talks / "one.txt")
    before = (talks / "one.txt").read_bytes()
    done = transcribe(*(talks / name for name in arguments), "--output-dir", talks)
    assert done.returncode == 2
    assert message in " ".join(done.stderr.split())
    assert (talks / "one.txt").read_bytes() == before
    assert len(below(talks)) == 4


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["a.wav", "--format", "srt", "--format", "vtt"], 2, "stdout takes one format"),
        (["a.wav", "--json", "--format", "vtt"], 2, "stdout takes one format"),
        (["a.wav", "b.wav", "--format", "srt"], 2, "stdout takes the srt of one file"),
        (["a.wav", "--format", "tsv", "--no-timestamps"], 2, "leave out --no-timestamps"),
        (["a.wav", "--words", "--no-timestamps"], 1, "leave out words"),
        (["a.wav", "--words", "--no-timestamps", "--json"], 1, "leave out words"),
        (["a.wav", "--format", "doc"], 2, "'doc' is not one of"),
        (["a.wav", "--output-dir", __file__], 2, "is a file"),
        (["a.wav", "--temperature", "0,hot"], 2, "--temperature"),
        (["a.wav", "--temperature", "2"], 1, "from 0 to 1"),
        (["a.wav", "--max-no-speech", "any"], 2, "--max-no-speech"),
        (["a.wav", "--language", "germn"], 1, "Did you mean german (de)?"),
        (["a.wav", "--language", "German"], 1, "only transcribes English"),
        (["a.wav", "--language", "en", "--task", "translate"], 1, "only transcribes English"),
    ],
)  # fmt: skip
def test_what_makes_no_sense(
    transcribe: Transcribe, arguments: list[str], code: int, message: str
) -> None:
    done = transcribe(*arguments)
    assert done.returncode == code, done.stderr
    assert message in " ".join(done.stderr.split())


@pytest.mark.parametrize("name", ["talk.srt", "talk.JSON", "deep/talk.vtt", "there.txt"])
def test_an_output_directory_that_is_named_like_a_file(
    transcribe: Transcribe, smoke_clip: Path, tmp_path: Path, name: str
) -> None:
    (tmp_path / "there.txt").write_text("by hand")
    path = tmp_path / name
    refused = transcribe(smoke_clip, "-o", path)
    assert refused.returncode == 2
    ending = path.suffix[1:].lower()
    assert f"`-f {ending} > {path}`" in refused.stderr
    assert f"`-o {path.with_suffix('')} -f {ending}`" in refused.stderr
    assert below(tmp_path) == ["there.txt"]


def test_an_output_directory_may_have_any_name_that_is_there(
    transcribe: Transcribe, smoke_clip: Path, tmp_path: Path
) -> None:
    for name in ("of.2024", "subtitles.srt"):
        output = tmp_path / name
        if output.suffix == ".srt":
            output.mkdir()
        assert transcribe(smoke_clip, "-o", output).returncode == 0
        assert below(output) == [f"{smoke_clip.stem}.txt"]


def test_every_option_of_decoding_is_taken(transcribe: Transcribe, smoke_clip: Path) -> None:
    done = transcribe(
        smoke_clip, "--language", "ENGLISH", "--beam-size", 1, "--best-of", 2, "--temperature", 0,
        "--no-timestamps", "--prompt", "Supper.", "--hotwords", "bread, soup", "--no-vad",
        "--batch-size", 1, "--seed", 3, "--max-compression-ratio", "none",
        "--min-log-probability", "none", "--max-no-speech", "none",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "soup" in done.stdout


def test_a_full_disk_keeps_what_was_there(
    transcribe: Transcribe, talks: Path, small_disk: Callable[[str], Path]
) -> None:
    disk = small_disk("64k")
    (disk / "output").mkdir()
    (disk / "output" / "one.txt").write_text("before")
    with contextlib.suppress(OSError):
        (disk / "filler").write_bytes(bytes(10**5))
    full = transcribe(talks, "--output-dir", disk / "output", "--overwrite")
    assert full.returncode == 12
    assert "no space left" in full.stderr
    assert below(disk / "output") == ["one.txt"]
    assert (disk / "output" / "one.txt").read_text() == "before"


def test_a_file_that_grows_too_large_is_named(
    bundle: Path, smoke_clip: Path, tmp_path: Path
) -> None:
    script = Path(sys.executable).parent / "edgewhisper-runtime"
    limited = ["sh", "-c", 'ulimit -f 0; exec "$@"', "sh", script]
    command = [*limited, "transcribe", "-m", bundle, smoke_clip, "-o", tmp_path]
    refused = subprocess.run(command, capture_output=True, text=True, check=False)
    assert refused.returncode == 12
    assert f"no space left while writing {tmp_path}" in refused.stderr
    assert below(tmp_path) == []


def test_a_directory_that_may_not_be_written(
    transcribe: Transcribe, talks: Path, small_disk: Callable[[str], Path]
) -> None:
    disk = small_disk("64k")
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    for output in (disk, disk / "output"):
        refused = transcribe(talks / "absent.wav", "--output-dir", output)
        assert refused.returncode == 12, "before the first file was looked at"
        assert "may not be written" in refused.stderr


def test_a_terminal_gets_a_bar(bundle: Path, talks: Path, tmp_path: Path) -> None:
    (talks / "broken.wav").write_text("This is no audio.")
    terminal, ours = pty.openpty()
    script = Path(sys.executable).parent / "edgewhisper-runtime"
    command = [script, "transcribe", talks, "--bundle", bundle, "--output-dir", tmp_path / "output"]
    done = subprocess.run(command, stderr=ours, stdout=subprocess.PIPE, check=False, timeout=600)
    os.close(ours)
    shown = os.read(terminal, 100_000).decode()
    os.close(terminal)
    assert done.returncode == 3
    assert done.stdout == b""
    assert "transcribing" in shown
    assert "4/4" in shown
    assert "\x1b[Kerror: " in shown
    assert shown.strip().endswith(f"1 of 4 failed: {talks / 'broken.wav'}")


def test_ctrl_c_keeps_what_is_finished(bundle: Path, tmp_path: Path) -> None:
    # A shell's background jobs ignore SIGINT, and so would this process if the tests are one.
    program = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
        "from edgewhisper_runtime.cli import main; main()"
    )
    arguments = ["transcribe", "--bundle", bundle, SPEECH, "--output-dir", tmp_path, "--json"]
    process = subprocess.Popen(
        [sys.executable, "-c", program, *arguments], stderr=subprocess.PIPE, text=True
    )
    while not list(tmp_path.rglob("*.json")) and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "what was finished is kept" in stderr
    finished = [name for name in below(tmp_path) if name.endswith(".json")]
    assert 1 <= len(finished) < len(list(SPEECH.rglob("*.opus")))
    assert finished == below(tmp_path), "nothing half-written is left"
    for name in finished:
        assert json.loads((tmp_path / name).read_text())["text"]
