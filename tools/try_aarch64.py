"""A bundle on 64-bit ARM, emulated: whether it runs there, and whether its texts are x86's.

    python tools/try_aarch64.py BUNDLE AUDIO... --work DIR

Needs QEMU's user emulation and mmdebstrap (apt install qemu-user-static mmdebstrap), root and a
mirror of Debian. A root directory of Debian 12 for arm64 is made under --work; the package that
`edgewhisper package --for linux-aarch64` writes is installed there, and `verify`, `transcribe
--words` and `profile` run on each processor, on one core and with adaptive audio context, as
emulation is slow. Emulated times say nothing about real ones and are not kept. Raw results go to
docs/results/aarch64.json, the table to docs/results/aarch64.md. Ends with exit code 1 where a text
differs.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from edgewhisper.devices import package
from edgewhisper_runtime import bundle as bundles
from edgewhisper_runtime import load
from edgewhisper_runtime.bundle import AudioContext, to_json
from edgewhisper_runtime.measure import machine
from edgewhisper_runtime.options import Options

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "docs" / "results"
RELEASE, PYTHON = "bookworm", "3.11"
SOURCES = "/etc/apt/sources.list.d/debian.sources"
CONTEXT: AudioContext = "adaptive"
EMULATOR = "qemu-aarch64-static"
_ARM = "fp asimd aes pmull sha1 sha2 crc32"


@dataclass(frozen=True)
class Processor:
    """A processor by QEMU's name, the part number of its maker, and its features for Linux."""

    name: str
    part: str
    features: str
    where: str


PROCESSORS = (
    Processor("cortex-a72", "0xd08", f"{_ARM} cpuid", "Raspberry Pi 4"),
    Processor(
        "cortex-a76",
        "0xd0b",
        f"{_ARM} atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp",
        "Raspberry Pi 5",
    ),
)


def make_root(work: Path) -> Path:
    """Return a root directory of Debian for arm64 with Python; made if it is not there yet."""
    root = work / "root"
    if not root.exists():
        command = ["mmdebstrap", "--quiet", "--mode=root", "--variant=extract"]
        command += ["--architectures=arm64", "--include=python3,libstdc++6", RELEASE, str(root)]
        subprocess.run([*command, SOURCES], check=True)
    return root


def write_interpreter(work: Path, root: Path, processor: Processor) -> Path:
    """Return a program that is Python on the emulated processor, for child processes too.

    QEMU before 8.1 shows this machine's /proc/cpuinfo, which ONNX Runtime reads to choose its
    kernels, so the root directory gets one.
    """
    rows = {
        "Features": processor.features,
        "CPU implementer": "0x41",
        "CPU architecture": "8",
        "CPU variant": "0x0",
        "CPU part": processor.part,
        "CPU revision": "1",
    }
    text = "".join(f"{name}\t: {value}\n" for name, value in rows.items())
    shown = "\n".join(f"processor\t: {number}\n{text}" for number in range(2)) + "\n"
    (root / "proc").mkdir(exist_ok=True)
    (root / "proc" / "cpuinfo").write_text(shown)
    program = work / f"python{PYTHON}"
    # Python takes its name from argument 0: so it starts its child processes by this program.
    command = [
        "taskset",
        "--cpu-list",
        "0",
        EMULATOR,
        "-0",
        str(program),
        "-cpu",
        processor.name,
        "-L",
        str(root),
    ]
    command += ["-E", f"PYTHONHOME={root}/usr", f"{root}/usr/bin/python{PYTHON}"]
    program.write_text(f'#!/bin/sh\nexec {shlex.join(command)} "$@"\n')
    program.chmod(0o755)
    return program


def install(archive: Path, work: Path) -> Path:
    """Install the package on the first processor; return the program."""
    python = write_interpreter(work, make_root(work), PROCESSORS[0])
    installed = work / "installed"
    shutil.rmtree(installed, ignore_errors=True)
    run([python, archive, "install", installed])
    return installed / "bin" / "edgewhisper-runtime"


def attempt(
    program: Path, bundle: Path, clips: list[Path], work: Path, processor: Processor
) -> dict[str, Any]:
    """Run every command on a processor, and return the results."""
    write_interpreter(work, make_root(work), processor)
    context = ["--audio-context", CONTEXT]
    run([program, "verify", bundle])
    printed = run([program, "transcribe", *clips, "--words", "--json", *context])
    transcripts = [json.loads(line) for line in printed.splitlines()]
    shortest = min(clips, key=lambda clip: clip.stat().st_size)
    options = ["--json", "--repeat", "1", "--audio", shortest, *context]
    profile = json.loads(run([program, "profile", bundle, *options]))
    return {
        "processor": processor.name,
        "transcripts": [described(each) for each in transcripts],
        "machine": profile["machine"],
        "libraries": profile["libraries"],
        "peak_rss_bytes": profile["summary"]["peak_rss_bytes"],
    }


def run(command: list[Any]) -> str:
    """Return a command's stdout; what it says on stderr is shown."""
    click.echo(f"$ {Path(command[0]).name} {' '.join(map(str, command[1:3]))}", err=True)
    environment = {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"}
    done = subprocess.run(
        list(map(str, command)), check=True, stdout=subprocess.PIPE, text=True, env=environment
    )
    return done.stdout


def described(transcript: dict[str, Any]) -> dict[str, Any]:
    """Return what is compared of a transcript in JSON."""
    return {
        "text": transcript["text"],
        "words": [
            [word["text"], word["start"], word["end"]]
            for segment in transcript["segments"]
            for word in segment["words"]
        ],
        "log_probability": min(each["log_probability"] for each in transcript["windows"]),
    }


def here(bundle: Path, clips: list[Path]) -> list[dict[str, Any]]:
    """Return the same of this machine."""
    transcriber = load(bundle, audio_context=CONTEXT)
    options = Options(words=True, timestamps=True, language="en")
    return [described(to_json(transcriber.transcribe(clip, options))) for clip in clips]


def word_times_off(first: dict[str, Any], second: dict[str, Any]) -> float:
    """Return the largest difference of word times, in seconds; the texts must be the same."""
    pairs = zip(first["words"], second["words"], strict=True)
    return max(
        (abs(a - b) for one, other in pairs for a, b in zip(one[1:], other[1:], strict=True)),
        default=0.0,
    )


def to_markdown(result: dict[str, Any]) -> str:
    """Return the page."""
    heads = (
        "recording",
        "processor",
        "text",
        "largest difference of word times",
        "log-probability",
    )
    where = {processor.name: processor.where for processor in PROCESSORS}
    named = ", ".join(
        f"{each['machine']['cpu']} ({' '.join(each['machine']['isa'])})"
        for each in result["attempts"]
    )
    lines = ["# On 64-bit ARM, emulated", ""]
    lines += [
        f"{result['bundle']} as packed by `edgewhisper package --for linux-aarch64`: installed"
    ]
    lines += [f"on Debian's Python {PYTHON} under QEMU, where `verify`, `transcribe --words` and"]
    lines += ["`profile` ran. Emulated times say nothing, so there are none. Log-probabilities are"]
    lines += [f"the means over a window's tokens, there and on {result['machine']['cpu']}. The"]
    lines += [f"runtime names the processors {named}.", ""]
    lines += [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for each in result["attempts"]:
        for name, theirs, ours in zip(
            result["recordings"], each["transcripts"], result["transcripts"], strict=True
        ):
            same = theirs["text"] == ours["text"]
            row = (
                name,
                f"{each['processor']} ({where[each['processor']]})",
                "the same" if same else f"“{theirs['text']}” instead of “{ours['text']}”",
                f"{word_times_off(theirs, ours):.2f} s" if same else "",
                f"{theirs['log_probability']:.3f}, {ours['log_probability']:.3f}",
            )
            lines.append(f"| {' | '.join(row)} |")
    lines += ["", "| recording | text |", "|---|---|"]
    lines += [
        f"| {name} | {ours['text']} |"
        for name, ours in zip(result["recordings"], result["transcripts"], strict=True)
    ]
    command = "python tools/try_aarch64.py BUNDLE AUDIO... --work DIR"
    lines += ["", f"Written by `{command}` from `docs/results/aarch64.json`.", ""]
    return "\n".join(lines)


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@click.argument("clips", metavar="AUDIO...", type=click.Path(path_type=Path), nargs=-1)
@click.option("--work", type=click.Path(path_type=Path), required=True)
def main(bundle: Path, clips: tuple[Path, ...], work: Path) -> None:
    """Try each processor and write the page."""
    work.mkdir(parents=True, exist_ok=True)
    work, bundle = work.resolve(), bundle.resolve()
    files = [clip.resolve() for clip in clips]
    archive = work / "package.zip"
    package.write(bundle, "linux-aarch64", "zip", PYTHON, output=archive)
    program = install(archive, work)
    attempts = [attempt(program, bundle, files, work, processor) for processor in PROCESSORS]
    result = {
        "bundle": bundles.verify(bundle).name,
        "machine": to_json(machine.describe()),
        "recordings": [clip.name for clip in files],
        "transcripts": here(bundle, files),
        "attempts": attempts,
    }
    (RESULTS / "aarch64.json").write_text(json.dumps(result, ensure_ascii=False) + "\n")
    (RESULTS / "aarch64.md").write_text(to_markdown(result))
    click.echo(to_markdown(result))
    texts = [each["text"] for each in result["transcripts"]]
    if any([each["text"] for each in tried["transcripts"]] != texts for tried in attempts):
        sys.exit("a text differs from this machine's")


if __name__ == "__main__":
    main()
