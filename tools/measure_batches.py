"""What it costs to decode several things together, against one by one.

    python tools/measure_batches.py BUNDLE --short DIR --long FILE [--rounds 3]

Short recordings in batches, windows of a long recording, beams, samples, clients of a server, and
the text so far as a draft, each in turns with one by one, in both audio contexts. Raw results go
to docs/results/batches.json, the table to docs/results/batches.md.
"""

from __future__ import annotations

import json
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from edgewhisper_runtime import audio, load
from edgewhisper_runtime import bundle as bundles
from edgewhisper_runtime.bundle import AudioContext, to_json
from edgewhisper_runtime.decode.window import Request
from edgewhisper_runtime.measure import machine
from edgewhisper_runtime.options import PLAIN, Options
from edgewhisper_runtime.transcriber import Transcriber

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "docs" / "results"
CONTEXTS: tuple[AudioContext, ...] = ("full", "adaptive")
CLIPS = 8
CLIENTS = 4
LIVE_SECONDS = 20
GREEDY = replace(PLAIN, language="en")
BEAMS, SAMPLES = "beam search of 5, of greedy", "the best of 5 samples, of one"

Work = Callable[[], list[str]]  # returns the texts


def cases(transcriber: Transcriber, clips: list[Path], long: Path) -> dict[str, tuple[Work, Work]]:
    """Return what is done one by one, and the same together."""

    def files(options: Options) -> Work:
        return lambda: [_text(each) for each in transcriber.transcribe_many(clips, options)]

    def recording(options: Options) -> Work:
        return lambda: [transcriber.transcribe(long, options).text]

    sampled = replace(GREEDY, temperatures=(0.4,), best_of=1)
    return {
        f"{CLIPS} short recordings, 4 at once": (files(GREEDY), files(_batched(4))),
        f"{CLIPS} short recordings, 8 at once": (files(GREEDY), files(_batched(8))),
        "windows of a long recording, 4 at once": (recording(GREEDY), recording(_batched(4))),
        "windows of a long recording, 8 at once": (recording(GREEDY), recording(_batched(8))),
        BEAMS: (files(GREEDY), files(replace(GREEDY, beam_size=5))),
        SAMPLES: (files(sampled), files(replace(sampled, best_of=5))),
        "live text, the text before as a draft": (
            lambda: _live(transcriber, long, drafts=False),
            lambda: _live(transcriber, long, drafts=True),
        ),
    }


def _batched(size: int) -> Options:
    return replace(GREEDY, batch_size=size)


def _text(transcript: Any) -> str:
    if isinstance(transcript, Exception):
        raise transcript
    return str(transcript.text)


def _live(transcriber: Transcriber, recording: Path, *, drafts: bool) -> list[str]:
    """Decode what has been spoken after each second."""
    samples = audio.load(recording)
    request = Request(GREEDY, timestamps=False, provisional=True)
    tokens: list[int] = []
    for second in range(1, LIVE_SECONDS + 1):
        window = samples[: second * audio.SAMPLE_RATE]
        tokens = transcriber.decoder.decode(window, request, tokens if drafts else ()).tokens
    return [transcriber.decoder.tokenizer.decode(tokens)]


def measure(work: Work) -> dict[str, Any]:
    """Return the seconds and CPU seconds of some work, and its texts."""
    start, cpu = time.perf_counter(), time.process_time()
    texts = work()
    seconds = time.perf_counter() - start
    return {"seconds": seconds, "cpu": time.process_time() - cpu, "texts": texts}


@contextmanager
def server(bundle: Path, context: AudioContext) -> Iterator[int]:
    """Run a server; give its port once it listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    program = "from edgewhisper_runtime.cli import main; main()"
    command = [sys.executable, "-c", program, "serve", str(bundle), "--port", str(port)]
    command += ["--audio-context", context]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        try:
            while process.poll() is None and not _listens(port):
                time.sleep(0.1)
            yield port
        finally:
            process.terminate()


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def clients(port: int, clips: list[Path], count: int) -> list[str]:
    """Send recordings to a server, as many at a time; return the texts."""
    import openai

    client = openai.OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="none")

    def send(clip: Path) -> str:
        sent = client.audio.transcriptions.create(
            file=clip, model="whisper-1", language="en", temperature=0.0
        )
        return sent.text

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(send, clips))


def measure_server(bundle: Path, context: AudioContext, clips: list[Path], rounds: int) -> Any:
    """Return the runs of clients one after the other, and of several at once."""
    runs: dict[str, list[dict[str, Any]]] = {"alone": [], "together": []}
    with server(bundle, context) as port:
        clients(port, clips[:1], 1)
        for _ in range(rounds):
            for name, count in (("alone", 1), ("together", CLIENTS)):
                start = time.perf_counter()
                texts = clients(port, clips, count)
                seconds = time.perf_counter() - start
                runs[name].append({"seconds": seconds, "cpu": None, "texts": texts})
    return runs


def to_markdown(result: dict[str, Any]) -> str:
    """Return the page."""
    host = result["machine"]
    introduction = (
        f"{result['bundle']}, {host['usable_cores']} threads, {host['cpu']}; medians of "
        f"{result['rounds']} rounds in turns. Short recordings: {CLIPS} of "
        f"{result['clip_seconds']:.0f} s together; the long one has {result['long_seconds']:.0f} "
        f"s, of which live text has the first {LIVE_SECONDS} and is decoded after each. The share "
        "is the time together, of the time one by one. Beams and samples are more work: their "
        "share says how much, in adaptive context with the windows that are encoded again. All "
        "tokens of a draft are verified in one call, which adds up in another order than a call "
        "for each: where two words are nearly as likely, live text can differ."
    )
    heads = ["what", "audio context", "one by one, s", "together, s", "share", "of CPU time",
             "same texts"]  # fmt: skip
    lines = ["# Several at once", "", introduction, ""]
    lines += [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for row in result["rows"]:
        alone, together = row["alone"], row["together"]
        seconds = [statistics.median(r["seconds"] for r in runs) for runs in (alone, together)]
        cpu = ""
        if alone[0]["cpu"] is not None:
            medians = [statistics.median(r["cpu"] for r in runs) for runs in (alone, together)]
            cpu = f"{medians[1] / medians[0]:.2f}"
        pairs = list(zip(alone[0]["texts"], together[0]["texts"], strict=True))
        same = f"{sum(a == b for a, b in pairs)} of {len(pairs)}"
        if row["what"] in {BEAMS, SAMPLES}:  # another text is what they are for
            same = ""
        lines.append(
            f"| {row['what']} | {row['audio_context']} | {seconds[0]:.2f} | {seconds[1]:.2f} | "
            f"{seconds[1] / seconds[0]:.2f} | {cpu} | {same} |"
        )
    command = "python tools/measure_batches.py BUNDLE --short DIR --long FILE"
    return "\n".join([*lines, "", f"Written by `{command}` from `docs/results/batches.json`.", ""])


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--short", type=click.Path(path_type=Path), required=True, help="A directory.")
@click.option("--long", type=click.Path(path_type=Path), required=True, help="A recording.")
@click.option("--rounds", default=3, show_default=True)
def main(bundle: Path, short: Path, long: Path, rounds: int) -> None:
    """Measure every case with both audio contexts and write the page."""
    found = sorted(short.rglob("*.flac"))
    clips = found[:: max(1, len(found) // CLIPS)][:CLIPS]
    rows: list[dict[str, Any]] = []
    result = {
        "bundle": bundles.verify(bundle).name,
        "machine": to_json(machine.describe()),
        "rounds": rounds,
        "clips": [clip.name for clip in clips],
        "clip_seconds": sum(map(_seconds, clips)),
        "long": long.name,
        "long_seconds": _seconds(long),
        "rows": rows,
    }
    for context in CONTEXTS:
        transcriber = load(bundle, audio_context=context)
        transcriber.transcribe(clips[0], GREEDY)
        for what, (alone, together) in cases(transcriber, clips, long).items():
            click.echo(f"{context} context: {what}", err=True)
            row: dict[str, Any] = {"what": what, "audio_context": context}
            row |= {"alone": [], "together": []}
            for _ in range(rounds):
                row["alone"].append(measure(alone))
                row["together"].append(measure(together))
            rows.append(row)
        what = f"{CLIPS} requests to a server, {CLIENTS} at once"
        click.echo(f"{context} context: {what}", err=True)
        runs = measure_server(bundle, context, clips, rounds)
        rows.append({"what": what, "audio_context": context, **runs})
    (RESULTS / "batches.json").write_text(json.dumps(result, ensure_ascii=False) + "\n")
    (RESULTS / "batches.md").write_text(to_markdown(result))
    click.echo(to_markdown(result))


def _seconds(recording: Path) -> float:
    return len(audio.load(recording)) / audio.SAMPLE_RATE


if __name__ == "__main__":
    main()
