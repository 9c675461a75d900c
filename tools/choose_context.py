"""Choose the settings of adaptive audio context on development speech, and measure them on others.

    python tools/choose_context.py [--speech DIR] [--model NAME] [--threads N]

Each recording under --speech (LibriSpeech/, multilingual/, longform/) is decoded in full windows
and in adaptive context with every margin, in turn; what docs/results/context/ has already is not
done again. Without --speech the page is written from what is there.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
import numpy as np

from edgewhisper import checkpoints, pipeline
from edgewhisper.evaluation import context, datasets, normalizing, wer
from edgewhisper.evaluation.context import Decoding, Trial
from edgewhisper.evaluation.significance import estimate
from edgewhisper.recipes import find_recipe
from edgewhisper.workspace import Workspace
from edgewhisper_runtime.bundle import Adaptive, atomic, to_json
from edgewhisper_runtime.measure import machine

RESULTS = Path(__file__).parent.parent / "docs" / "results" / "context"
PAGE = RESULTS.with_suffix(".md")
MODELS = ("whisper-base", "whisper-tiny.en")
RECIPE = "onnx-int8"
DEVELOPMENT = "dev-clean"
TEST = ("test-clean", "test-other")
LANGUAGES = ("de", "es", "fr", "zh")  # of sets that are not in English
OTHERS = ("longform", *LANGUAGES)
AUDIO = {".flac", ".mp3", ".ogg", ".opus", ".wav"}
INTRODUCTION = f"""# Adaptive audio context

With adaptive context a window is encoded at its own length plus a margin instead of 30 s. It is
encoded again, in full, where its text repeats itself or where the mean log-probability of its
tokens is below a threshold ([how to use it](../exports.md#adaptive-audio-context)). Margin and
threshold belong to the model. They are chosen on {DEVELOPMENT} alone. A threshold is the
log-probability that a given share of the windows of that speech is below. The margin is the one
that encodes the least audio at the first share, the threshold the first one whose texts have no
more word errors than those of full windows.

Every window was decoded in full and, without a threshold, with each margin. From these the text
for any threshold follows. Greedy, one text for each window, recipe `{RECIPE}`. WER in percent by
Whisper's normalizers (zh: characters); differences in points, with 95 % intervals by a paired
jackknife over utterances, all splits together. Time is CPU time against full windows, decoded in
turn by one thread on a busy machine: rough.
"""


def recordings(
    workspace: Workspace, speech: Path, multilingual: bool
) -> Iterator[tuple[str, str, Path, str]]:
    """Yield the set, language, file and reference of every recording."""
    for split in (DEVELOPMENT, *TEST):
        dataset = datasets.find_dataset(workspace, splits=(split,), librispeech=speech)
        for utterance in datasets.utterances(dataset, split):
            yield split, "en", utterance.path, utterance.reference
    for name in OTHERS:
        directory = speech / name if name == "longform" else speech / "multilingual" / name
        for path in sorted(directory.iterdir()):
            language = "en" if name == "longform" else name
            if path.suffix in AUDIO and (multilingual or language == "en"):
                yield name, language, path, path.with_suffix(".txt").read_text().strip()


def decode(model: str, speech: Path, threads: int) -> None:
    """Decode the recordings that a model's results lack, and store each."""
    workspace = Workspace.from_environment()
    checkpoint = checkpoints.resolve(workspace, model)
    export = pipeline.stage_export(workspace, checkpoint, find_recipe(RECIPE))
    contexts = context.Contexts(export, threads)
    path = RESULTS / f"{model}.json"
    stored = {
        "model": model,
        "recipe": RECIPE,
        "machine": to_json(machine.describe()),
        "libraries": export.manifest.libraries,
        "threads": threads,
        "recordings": read(model)["recordings"] if path.exists() else [],
    }
    done = {(entry["set"], entry["name"]) for entry in stored["recordings"]}
    multilingual = not model.endswith(".en")
    for name, language, file, reference in recordings(workspace, speech, multilingual):
        if (name, file.stem) not in done:
            click.echo(f"{model}: {name} {file.stem}", err=True)
            trial = contexts.decode(file, reference, language)
            stored["recordings"].append({"set": name, "name": file.stem, **trial.to_dict()})
            atomic.write_text(path, json.dumps(stored, ensure_ascii=False) + "\n")


def read(model: str) -> dict[str, Any]:
    """Return a model's stored results."""
    stored: dict[str, Any] = json.loads((RESULTS / f"{model}.json").read_text())
    return stored


def trials(stored: dict[str, Any], *sets: str) -> list[Trial]:
    """Return the trials of sets of recordings."""
    return [Trial.from_dict(entry) for entry in stored["recordings"] if entry["set"] in sets]


def count(
    tried: Sequence[Trial], decodings: Sequence[Decoding], name: str
) -> tuple[np.ndarray, np.ndarray]:
    """Return the errors and the reference words of each recording, both int64 [recordings]."""
    rule = normalizing.rule(name if name in LANGUAGES else "en")
    counts = [
        wer.align(trial.reference, decoding.text, rule)
        for trial, decoding in zip(tried, decodings, strict=True)
    ]
    return np.array([c.errors for c in counts]), np.array([c.words for c in counts])


def row(tried: Sequence[Trial], adaptive: Adaptive, name: str) -> list[str]:
    """Return WER in full windows and in adaptive context, the difference, and what it costs."""
    decodings = [trial.decoding(adaptive) for trial in tried]
    full = [trial.full for trial in tried]
    in_full, words = count(tried, full, name)
    errors, _ = count(tried, decodings, name)
    interval = estimate(errors - in_full, words).interval()
    windows = [window for decoding in decodings for window in decoding.windows]
    again = {
        reason: sum(window.encoded_again == reason for window in windows)
        for reason in ("looping", "unsure")
    }
    encoded = context.encoded_seconds(decodings, adaptive.margin) / (30 * len(windows))
    cpu = sum(d.cpu_seconds for d in decodings) / sum(d.cpu_seconds for d in full)
    difference = 100 * (errors - in_full).sum() / words.sum()
    return [
        f"{100 * in_full.sum() / words.sum():.2f}",
        f"{100 * errors.sum() / words.sum():.2f}",
        f"{difference:+.2f} ({interval.low:+.2f} to {interval.high:+.2f})",
        f"{sum(again.values()) / len(windows):.0%} ({again['looping']}, {again['unsure']})",
        f"{encoded:.2f}",
        f"{cpu:.2f}",
    ]


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return the lines of a Markdown table, and an empty one."""
    lines = [header, ["---"] * len(header), *rows]
    return [*("| " + " | ".join(cells) + " |" for cells in lines), ""]


FIGURES = (
    "full", "adaptive", "difference", "encoded again (looping, unsure)", "audio encoded", "time",
)  # fmt: skip


def choice(stored: dict[str, Any], best: Adaptive) -> list[str]:
    """Return the lines that show how a model's settings were chosen."""
    tried = trials(stored, DEVELOPMENT)
    _, words = count(tried, [trial.full for trial in tried], DEVELOPMENT)
    summary = (
        f"{DEVELOPMENT}, {len(tried)} utterances, {words.sum()} words. Chosen: a margin of "
        f"{best.margin:g} s and a threshold of {best.min_log_probability:g}."
    )
    rows = [
        [
            f"{adaptive.margin:g}",
            f"{share:.0%}",
            f"{adaptive.min_log_probability:g}" + (" (chosen)" if adaptive == best else ""),
            *row(tried, adaptive, DEVELOPMENT),
        ]
        for margin in context.MARGINS
        for share, adaptive in zip(context.SHARES, context.candidates(tried, margin), strict=True)
    ]
    header = ("margin, s", "share", "threshold", *FIGURES)
    return [f"## {stored['model']}: the choice", "", summary, "", *table(header, rows)]


def page(results: Sequence[dict[str, Any]]) -> str:
    """Return the whole page."""
    lines = [INTRODUCTION]
    chosen = [(stored, context.choose_from(trials(stored, DEVELOPMENT))) for stored in results]
    for stored, best in chosen:
        lines += choice(stored, best)
    rows = [
        [stored["model"], f"{best.margin:g}", name, *row(trials(stored, *TEST), adaptive, TEST[0])]
        for stored, best in chosen
        for name, adaptive in (
            ("none", Adaptive(best.margin)),
            (f"{best.min_log_probability:g}", best),
        )
    ]
    utterances = len(trials(results[0], *TEST))
    lines += [f"## {' and '.join(TEST)} together", "", f"{utterances} utterances.", ""]
    lines += table(("model", "margin, s", "threshold", *FIGURES), rows)
    rows = [
        [stored["model"], name, str(len(tried)), *row(tried, best, name)]
        for stored, best in chosen
        for name in OTHERS
        if (tried := trials(stored, name))
    ]
    lines += ["## Long recordings and other languages", "", "With the settings chosen above.", ""]
    lines += table(("model", "set", "recordings", *FIGURES), rows)
    lines.append("Written by `python tools/choose_context.py` from `docs/results/context/`.")
    return "\n".join(lines) + "\n"


@click.command()
@click.option("--speech", type=click.Path(path_type=Path), help="The directory of LibriSpeech/.")
@click.option("--model", "models", multiple=True, default=MODELS, show_default=True)
@click.option("--threads", default=1, show_default=True)
def main(speech: Path | None, models: tuple[str, ...], threads: int) -> None:
    """Decode what is not decoded yet, and write the page."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    for model in models if speech else ():
        decode(model, Path(str(speech)), threads)
    results = [read(model) for model in MODELS if (RESULTS / f"{model}.json").exists()]
    PAGE.write_text(page(results))
    for stored in results:
        best = context.choose_from(trials(stored, DEVELOPMENT))
        click.echo(f"{stored['model']}: {json.dumps(asdict(best))}")


if __name__ == "__main__":
    main()
