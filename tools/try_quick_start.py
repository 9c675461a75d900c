"""The quick start of the docs, done as a new user does it: in a fresh clone, by its commands alone.

    python tools/try_quick_start.py LIBRISPEECH --work DIR

Clones this repository's last commit into DIR, and runs there every command of
docs/index.md, in order and as printed, in one shell. What is the reader's own on that page is
made of utterances of LIBRISPEECH/test-clean. Needs root, sshd, a package index, and 5 GB. Raw
results go to docs/results/trial/steps.json, the profile that came over ssh to pi.json there, and
the page to docs/results/trial.md. Ends with the exit code of the first command that fails, and then
writes nothing there; the same call goes on with that command.
"""

from __future__ import annotations

import csv
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

import click

from edgewhisper import checkpoints
from edgewhisper.workspace import Workspace
from edgewhisper_runtime import audio
from edgewhisper_runtime.bundle import to_json
from edgewhisper_runtime.measure import machine

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "docs" / "results"
sys.path.insert(0, str(ROOT / "tests"))

from devices import ssh_server  # noqa: E402 # from the path above

CALLS = 12
# What is the reader's own, and what stands for it.
STAND_INS = {
    "talk.m4a, talk.wav": "an utterance of LibriSpeech's test-clean",
    "talks/": "three more",
    "calls.csv": f"{CALLS} utterances of test-clean and their texts, as WAV files in calls/",
    "path/to/checkpoint": "whisper-tiny.en, saved by transformers",
    "pi@raspberrypi": "a server for ssh on the same machine, with a home of its own",
    "linux-aarch64": "linux-x86_64: the package is installed on the same machine",
    "the commands on the device": "run without a network",
}
REPLACED = {"linux-aarch64": "linux-x86_64"}
ON_DEVICE = ("python3.11 ", "whisper/bin/")  # what its commands begin with
LEFT_OUT = {"--mic": "there is no microphone"}
# What runs until it is stopped, and after how many seconds of waiting that is.
STOPPED = {"edgewhisper serve": 20}
SHOWN = 12  # last lines of an output
_END = "end of the command:"


@dataclass(frozen=True)
class Step:
    """A command of the page: its exit code, seconds, and its last lines on stdout and stderr.

    `reason` says why it was left out.
    """

    heading: str
    command: str
    exit_code: int = 0
    seconds: float = 0.0
    lines: tuple[str, ...] = ()
    reason: str = ""


def commands(page: str) -> Iterator[tuple[str, str]]:
    """Yield each command of a page's shell blocks, with the heading that it stands under."""
    heading = ""
    pattern = re.compile(r"^#+ ([^\n]+)$|^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)
    for match in pattern.finditer(page):
        heading = match[1] or heading
        for line in (match[2] or "").replace("\\\n", " ").splitlines():
            if command := line.partition("  #")[0].strip():
                yield heading, command


class Shell:
    """A shell in a directory: what a command sets there holds for those after it.

    A context manager that ends it, with what still runs in it.
    """

    def __init__(self, directory: Path, environment: dict[str, str]) -> None:
        self._process = subprocess.Popen(
            ["bash"],
            cwd=directory,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        os.killpg(self._process.pid, signal.SIGTERM)
        self._process.wait()

    def run(self, command: str) -> tuple[int, list[str]]:
        """Return a command's exit code and the lines that it printed."""
        process = self._process
        if process.stdin is None or process.stdout is None:
            raise ValueError("the shell has no pipes")
        process.stdin.write(f"{{ {command}\n}} < /dev/null\nprintf '\\n%s\\n' \"{_END} $?\"\n")
        process.stdin.flush()
        lines: list[str] = []
        for line in process.stdout:
            if line.startswith(_END):
                return int(line.removeprefix(_END)), lines
            lines.append(line.rstrip("\n"))
        sys.exit(f"the shell ended in: {command}")


def attempt(shell: Shell, heading: str, command: str, work: Path) -> Step:
    """Run a command; return what came of it."""
    if reasons := [why for part, why in LEFT_OUT.items() if part in command]:
        return Step(heading, command, reason=reasons[0])
    click.echo(f"$ {command}")
    typed = command
    for name, stand_in in REPLACED.items():
        typed = typed.replace(name, stand_in)
    for name, waited in STOPPED.items():
        if command.startswith(name):
            typed = f"timeout --preserve-status --signal=INT {waited} {typed}"
    if command.startswith(ON_DEVICE):
        typed = f"unshare --net {typed}"
    start = time.perf_counter()
    exit_code, lines = shell.run(typed)
    seconds = time.perf_counter() - start
    shown = [line.replace(str(work), "~") for line in lines if line.strip()][-SHOWN:]
    return Step(heading, command, exit_code, round(seconds, 1), tuple(shown))


def make_files(clone: Path, speech: Path) -> None:
    """Make what the page takes to be there already."""
    import soundfile
    from transformers import GenerationConfig, WhisperTokenizerFast

    texts = dict(
        line.split(" ", 1)
        for file in sorted(speech.rglob("*.trans.txt"))
        for line in file.read_text().splitlines()
    )
    clips = [path for path in sorted(speech.rglob("*.flac")) if path.stem in texts]
    talk, *talks = clips[1:5]
    (clone / "talks").mkdir()
    for clip in talks:
        (clone / "talks" / clip.name).write_bytes(clip.read_bytes())
    soundfile.write(clone / "talk.wav", audio.load(talk), audio.SAMPLE_RATE)
    write_m4a(clone / "talk.m4a", talk)
    (clone / "calls").mkdir()
    with (clone / "calls.csv").open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["path", "text"])
        for number, clip in enumerate(clips[:: max(1, len(clips) // CALLS)][:CALLS], 1):
            path = clone / "calls" / f"{number:04}.wav"
            soundfile.write(path, audio.load(clip), audio.SAMPLE_RATE)
            rows.writerow([path.relative_to(clone), texts[clip.stem]])
    checkpoint = checkpoints.resolve(Workspace(clone.parent / "fine-tune"), "whisper-tiny.en")
    directory = clone / "path" / "to" / "checkpoint"
    model = checkpoint.load()
    model.generation_config = GenerationConfig.from_pretrained(checkpoint.path)
    model.save_pretrained(directory)
    WhisperTokenizerFast.from_pretrained(checkpoint.path).save_pretrained(directory)


def write_m4a(path: Path, clip: Path) -> None:
    """Write a recording as AAC in an MP4 file."""
    import av

    with av.open(path, "w") as container:
        stream = container.add_stream("aac", audio.SAMPLE_RATE)
        frame = av.AudioFrame.from_ndarray(audio.load(clip)[None], "fltp", "mono")
        frame.sample_rate = audio.SAMPLE_RATE
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def write_ssh(directory: Path, options: tuple[str, ...]) -> None:
    """Write an ssh that reaches the server of this trial by the name on the page."""
    configured = ["-F", "none", "-l", os.environ.get("USER", "root"), "-o", "HostName=127.0.0.1"]
    configured += [part for option in options for part in ("-o", option)]
    program = directory / "ssh"
    program.write_text(f'#!/bin/sh\nexec /usr/bin/ssh {shlex.join(configured)} "$@"\n')
    program.chmod(0o755)


def to_markdown(result: dict[str, Any]) -> str:
    """Return the page."""
    steps, host = [Step(**step) for step in result["steps"]], result["machine"]
    done = [step for step in steps if not step.reason]
    minutes = sum(step.seconds for step in done) / 60
    lines = ["# The quick start, tried", ""]
    lines += ["Every command of the [quick start](../index.md), in order and as printed there, in"]
    lines += [
        f"a fresh clone, on {result['date']}: {len(done)} commands, {minutes:.0f} minutes. The"
    ]
    lines += ["first installs PyTorch and all else, and builds a bundle."]
    lines += [f"{host['cpu']}, {host['usable_cores']} cores, Python {host['python']}; in its last"]
    lines += [f"quarter of an hour {result['load']:.1f} processes ran or waited on average, so a"]
    lines += ["quiet machine is faster. A command that fails ends the trial without a page.", ""]
    lines += ["| on the page | here |", "|---|---|"]
    lines += [f"| {name} | {stand_in} |" for name, stand_in in STAND_INS.items()]
    for name, seconds in STOPPED.items():
        lines += [f"| `{name}` | stopped by Ctrl-C after {seconds} s |"]
    for heading in dict.fromkeys(step.heading for step in steps):
        of_heading = [step for step in steps if step.heading == heading]
        lines += ["", f"## {heading}", "", "| command | seconds |", "|---|---|"]
        for step in of_heading:
            shown = f"left out: {step.reason}" if step.reason else f"{step.seconds:.1f}"
            lines += [f"| `{step.command}` | {shown} |"]
        lines += ["", f"The last lines of each, {SHOWN} at most:", "", "```text"]
        for step in of_heading:
            lines += [f"$ {step.command}", *step.lines] if step.lines else []
        lines += ["```"]
    command = "python tools/try_quick_start.py LIBRISPEECH --work DIR"
    lines += ["", f"Written by `{command}` from `docs/results/trial/steps.json`.", ""]
    return "\n".join(lines)


@click.command()
@click.argument("librispeech", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--work", type=click.Path(path_type=Path), required=True)
def main(librispeech: Path, work: Path) -> None:
    """Follow the quick start and write the page."""
    work = work.resolve()
    clone, programs, device = work / "edgewhisper", work / "bin", work / "device"
    so_far = work / "steps.json"
    if not so_far.exists():
        programs.mkdir(parents=True)
        subprocess.run(["git", "clone", "--quiet", ROOT, clone], check=True)
        make_files(clone, librispeech / "test-clean")
        so_far.write_text("[]")
    done = {step["command"]: Step(**step) for step in json.loads(so_far.read_text())}
    environment = {k: v for k, v in os.environ.items() if not k.startswith("EDGEWHISPER_")}
    environment["PATH"] = f"{programs}:{environment['PATH']}"
    environment["PIP_QUIET"] = "2"  # it names the places that packages come from
    shutil.rmtree(device, ignore_errors=True)
    device.mkdir()
    with ssh_server(device) as host, Shell(clone, environment) as shell:
        write_ssh(programs, host.options)
        for heading, command in commands((clone / "docs" / "index.md").read_text()):
            again = command not in done or command.startswith(". ")  # sets the shell's variables
            step = attempt(shell, heading, command, work) if again else done[command]
            if step.exit_code:
                click.echo("\n".join(step.lines), err=True)
                sys.exit(step.exit_code)
            done[command] = step
            so_far.write_text(json.dumps([asdict(each) for each in done.values()]))
    result = {
        "date": datetime.now(UTC).date().isoformat(),
        "machine": to_json(machine.describe()),
        "load": os.getloadavg()[-1],
        "steps": [asdict(step) for step in done.values()],
    }
    raw = RESULTS / "trial"
    raw.mkdir(exist_ok=True)
    (raw / "steps.json").write_text(json.dumps(result, ensure_ascii=False, indent=1) + "\n")
    (raw / "pi.json").write_bytes((clone / "pi.json").read_bytes())
    (RESULTS / "trial.md").write_text(to_markdown(result))


if __name__ == "__main__":
    main()
