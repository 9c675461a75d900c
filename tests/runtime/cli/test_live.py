"""`edgewhisper-runtime transcribe --live` and `--mic` as processes, on real speech."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import click
import jiwer
import numpy as np
import pytest
import soundfile

from conftest import BundleOf, Run
from edgewhisper_runtime.cli import transcribe

RATE = 16_000
BLOCK = RATE // 10
# A shell's background jobs ignore SIGINT, and so would this process if the tests are one.
PROGRAM = (
    "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
    "from edgewhisper_runtime.cli import main; main()"
)

Listen = Callable[..., "subprocess.Popen[bytes]"]


@pytest.fixture(scope="module")
def bundle(bundle_of: BundleOf) -> Path:
    return bundle_of("whisper-tiny.en", "onnx-int8")


@pytest.fixture
def listen(bundle: Path) -> Iterator[Listen]:
    """Start the command with pipes; what a test leaves running is killed."""
    started = []

    def start(*arguments: str, **settings: object) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-c", PROGRAM, "transcribe", "--bundle", str(bundle)]
        command += ["--audio-context", "adaptive", *arguments]
        pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
        started.append(subprocess.Popen(command, **(pipes | settings)))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()


@pytest.fixture(scope="module")
def speech(data: Path) -> tuple[bytes, str]:
    """Eight seconds as raw samples, the last of them silent, and what is said in them."""
    path = data / "longform" / "librivox_sense_0870.wav"
    samples, rate = soundfile.read(path, dtype="int16")
    assert rate == RATE
    return np.pad(samples, (0, RATE)).tobytes(), path.with_suffix(".txt").read_text()


def words(text: str) -> str:
    return " ".join("".join(c for c in text.lower() if c.isalnum() or c == " ").split())


def speak(samples: bytes, *listeners: subprocess.Popen[bytes]) -> None:
    """Write samples at the pace at which they were spoken, once all listen."""
    for process in listeners:
        assert process.stderr.readline() == b"listening to stdin; Ctrl-C ends it\n"
    begin = time.monotonic()
    for start in range(0, len(samples), 2 * BLOCK):
        end = (start / 2 + BLOCK) / RATE
        time.sleep(max(0.0, begin + end - time.monotonic()))
        for process in listeners:
            process.stdin.write(samples[start : start + 2 * BLOCK])
            process.stdin.flush()


def test_speech_in_real_time(listen: Listen, speech: tuple[bytes, str]) -> None:
    samples, said = speech
    as_text, as_json = listen("--live"), listen("--live", "--json")
    speak(samples[: -2 * RATE], as_text, as_json)
    early = os.read(as_text.stdout.fileno(), 10_000).decode()
    rest, stderr = as_text.communicate(timeout=60)
    assert (as_text.returncode, stderr) == (0, b"")
    assert early
    assert "\n" not in early, "while it is spoken"
    text = early + rest.decode()
    assert text.endswith("\n")
    assert jiwer.wer(words(said), words(text)) < 0.2

    stdout, stderr = as_json.communicate(samples[-2 * RATE :], timeout=60)
    assert (as_json.returncode, stderr) == (0, b"")
    updates = [json.loads(line) for line in stdout.decode().splitlines()]
    assert all(list(one) == ["final", "partial", "ended", "seconds"] for one in updates)
    assert jiwer.wer(words(said), words("".join(one["final"] for one in updates))) < 0.2
    seconds = [one["seconds"] for one in updates]
    assert seconds == sorted(seconds)
    assert seconds[0] < 4
    assert [one["ended"] for one in updates] == [False] * (len(updates) - 1) + [True]
    assert any(one["partial"] for one in updates)
    assert any(one["final"] for one in updates[:-1])


def test_a_line_for_each_utterance(listen: Listen, speech: tuple[bytes, str]) -> None:
    """The source ends in the middle of a sample, as one that is killed does."""
    samples, said = speech
    process = listen("--live")
    stdout, stderr = process.communicate(samples + samples + b"\x01", timeout=60)
    assert process.returncode == 0, stderr
    lines = stdout.decode().splitlines()
    assert len(lines) == 2
    assert all(jiwer.wer(words(said), words(line)) < 0.2 for line in lines)
    assert all(line == line.strip() for line in lines)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_after_the_last_words(
    listen: Listen, speech: tuple[bytes, str], number: signal.Signals
) -> None:
    """There is no pause that would end the utterance, and the pipe stays open."""
    samples, said = speech
    process = listen("--live", "--json")
    process.stdin.write(samples[: -2 * RATE])
    process.stdin.flush()
    update = {"seconds": 0.0}
    while update["seconds"] < 6.5:
        update = json.loads(process.stdout.readline())
    assert not update["ended"]
    process.send_signal(number)
    last = json.loads(process.stdout.read().splitlines()[-1])
    assert process.wait(60) == 0
    assert last["ended"]
    assert words(last["final"]).split()[-2:] == words(said).split()[-2:]


@pytest.mark.parametrize("columns", [0, 40])
def test_a_terminal_shows_what_may_still_change(
    listen: Listen, speech: tuple[bytes, str], columns: int
) -> None:
    """One line is rewritten and never longer than the terminal is wide (0: it does not know)."""
    samples, said = speech
    terminal, ours = pty.openpty()
    fcntl.ioctl(ours, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    process = listen("--live", stdout=ours, stderr=ours)
    os.close(ours)
    process.communicate(samples[: -2 * RATE], timeout=60)
    assert process.returncode == 0
    shown = os.read(terminal, 100_000).decode()
    os.close(terminal)
    _, partial, line = (part for part in shown.split("\r\x1b[K") if part)
    assert 10 < len(partial) < (columns or 80)
    assert partial.startswith("…")
    assert jiwer.wer(words(said), words(line)) < 0.2
    assert line.endswith("\r\n")


def test_a_reader_that_goes_away_ends_it(listen: Listen, speech: tuple[bytes, str]) -> None:
    """The pipe that it listens to stays open."""
    process = listen("--live")
    process.stdout.close()
    process.stdin.write(speech[0])
    process.stdin.flush()
    process.wait(60)
    assert process.stderr.read().splitlines() == [b"listening to stdin; Ctrl-C ends it"]


def test_being_late_is_said(listen: Listen) -> None:
    process = listen("--live")
    stdout, stderr = process.communicate(bytes(2 * 30 * RATE), timeout=60)
    assert (process.returncode, stdout) == (0, b"")
    assert "30 s of sound wait" in stderr.decode()


def test_what_is_no_raw_sound(run: Run, bundle: Path, data: Path, tmp_path: Path) -> None:
    listen = partial(run, "transcribe", "--bundle", bundle, "--live", script="edgewhisper-runtime")
    for wrong, why in {
        data / "longform" / "librivox_sense_0880.wav": "stdin is a WAV file, not raw samples",
        Path(os.devnull): "stdin is empty",
    }.items():
        refused = listen(stdin=wrong)
        assert refused.returncode == 3
        assert why in refused.stderr


def test_a_terminal_is_no_source(listen: Listen) -> None:
    terminal, ours = pty.openpty()
    process = listen("--live", stdin=ours)
    _, stderr = process.communicate(timeout=60)
    os.close(ours)
    os.close(terminal)
    assert process.returncode == 3
    assert "Pipe samples into it: arecord" in stderr.decode()


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["--mic", "--live"], "choose one"),
        (["--live", "-"], "FILES is for recordings"),
        (["--live", "--no-vad"], "'--vad' is for recordings"),
        (["--mic", "--output-dir", "."], "'--output-dir' is for recordings"),
        (["--live", "--format", "srt"], "'--format' is for recordings"),
        (["--input-device", "USB", "-"], "'--input-device' changes nothing without --mic"),
        ([], "name the FILES"),
    ],
)
def test_what_means_nothing_together(
    run: Run, tmp_path: Path, arguments: list[str], why: str
) -> None:
    refused = run("transcribe", "--bundle", tmp_path, *arguments, script="edgewhisper-runtime")
    assert refused.returncode == 2
    assert why in refused.stderr


# Options that change what is done with speech while it comes.
FOLLOWED = {
    "mic", "input_device", "live", "as_json",
    "bundle", "device", "threads", "audio_context",
    "language", "task", "prompt", "hotwords", "condition_on_previous_text", "multilingual",
    "beam_size", "temperatures", "best_of", "repetition_penalty", "no_repeat_ngram", "suppress",
    "seed", "padding", "max_compression_ratio", "min_log_probability", "max_no_speech",
    "min_end_probability",
}  # fmt: skip
# Right values of options that do not take a 1.
VALUES = {"bundle": ".", "language": "en"}


@pytest.mark.parametrize(
    "option", [each for each in transcribe.params if isinstance(each, click.Option)], ids=str
)
def test_every_option_is_followed_or_refused(
    run: Run, tmp_path: Path, option: click.Option
) -> None:
    """What is followed fails later: the directory is no bundle."""
    source = "--mic" if option.name == "input_device" else "--live"
    value = [getattr(option.type, "choices", [VALUES.get(option.name, "1")])[0]]
    for name in (*option.opts, *option.secondary_opts):
        result = run(
            *("transcribe", "--bundle", tmp_path),
            *dict.fromkeys([source, name]),
            *([] if option.is_flag else value),
            script="edgewhisper-runtime",
        )
        if option.name in FOLLOWED and {source, name} != {"--live", "--mic"}:
            assert result.returncode not in {0, 2}, result.stderr
        else:
            assert result.returncode == 2, result.stderr
            assert "for recordings" in result.stderr or name in {"--mic", "--overwrite"}


def test_no_such_microphone(run: Run, bundle: Path) -> None:
    """On a machine without PortAudio there is none at all."""
    refused = run(
        *("transcribe", "--bundle", bundle, "--mic", "--input-device", "no such input"),
        script="edgewhisper-runtime",
    )
    remedy = {3: "`python -m sounddevice` lists the inputs", 7: "apt install libportaudio2"}
    assert remedy[refused.returncode] in refused.stderr
    assert refused.stdout == ""
