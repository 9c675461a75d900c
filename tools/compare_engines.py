"""Check the harness: the same fp32 weights through our loop and through independent engines.

    python tools/compare_engines.py --librispeech DIR [--model whisper-base --model whisper-tiny.en]

Engines: ours (audio padded with silence), ours with the features padded with zeros instead,
transformers' own `generate`, faster-whisper in float32. All greedy, English, no timestamps.
Raw texts go to docs/results/engines/, the table to docs/results/engines.md. Resumable.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import click
import numpy as np

from edgewhisper import checkpoints
from edgewhisper.backend import TorchBackend
from edgewhisper.evaluation import comparison, datasets, wer
from edgewhisper.workspace import Workspace
from edgewhisper_runtime import audio
from edgewhisper_runtime.engines.groups import Grouped
from edgewhisper_runtime.measure import machine
from edgewhisper_runtime.options import PLAIN, Padding
from edgewhisper_runtime.text.tokens import Tokenizer
from edgewhisper_runtime.transcriber import Transcriber
from peers import worker

RESULTS = Path(__file__).parent.parent / "docs" / "results"
TABLE = RESULTS / "engines.md"
SPLITS = ("dev-clean", "test-clean", "test-other")
Engine = Callable[[np.ndarray], str]


def ours(checkpoint: checkpoints.Checkpoint, padding: Padding) -> Engine:
    """Our features, loop and tokens over the Hugging Face model in float32."""
    import torch
    from transformers import WhisperForConditionalGeneration

    model = WhisperForConditionalGeneration.from_pretrained(checkpoint.path, dtype=torch.float32)
    tokenizer = Tokenizer(checkpoint.path / "tokenizer.json")
    transcriber = Transcriber(Grouped(TorchBackend(model)), tokenizer, checkpoint.settings())
    options = replace(PLAIN, language="en", padding=padding)

    def transcribe(samples: np.ndarray) -> str:
        return transcriber.transcribe(samples, options).text

    return transcribe


def transformers_generate(checkpoint: checkpoints.Checkpoint) -> Engine:
    """Hugging Face's feature extractor, `generate` and tokenizer."""
    import torch
    from transformers import (
        GenerationConfig,
        WhisperFeatureExtractor,
        WhisperForConditionalGeneration,
        WhisperTokenizerFast,
    )

    model = WhisperForConditionalGeneration.from_pretrained(checkpoint.path, dtype=torch.float32)
    model.generation_config = GenerationConfig.from_pretrained(checkpoint.path)
    extractor = WhisperFeatureExtractor(feature_size=model.config.num_mel_bins)
    tokenizer = WhisperTokenizerFast.from_pretrained(checkpoint.path)
    named = {}
    if getattr(model.generation_config, "is_multilingual", False):
        named = {"language": "en", "task": "transcribe"}

    def transcribe(samples: np.ndarray) -> str:
        inputs = extractor(samples, sampling_rate=audio.SAMPLE_RATE, return_tensors="pt")
        with torch.no_grad():
            tokens = model.generate(inputs.input_features, num_beams=1, do_sample=False, **named)
        return str(tokenizer.decode(tokens[0], skip_special_tokens=True)).strip()

    return transcribe


def faster_whisper(checkpoint: checkpoints.Checkpoint) -> Engine:
    """faster-whisper in float32, converted from the same checkpoint."""
    from ctranslate2.converters import TransformersConverter

    directory = Path(tempfile.mkdtemp()) / "model"
    TransformersConverter(str(checkpoint.path), copy_files=["tokenizer.json"]).convert(
        str(directory), quantization="float32"
    )
    transcribe = worker.faster_whisper(str(directory), 2, "greedy", compute_type="float32")
    return lambda samples: transcribe([samples])[0].strip()


ENGINES: dict[str, Callable[[checkpoints.Checkpoint], Engine]] = {
    "ours, silence": lambda checkpoint: ours(checkpoint, "silence"),
    "ours, zeros": lambda checkpoint: ours(checkpoint, "zeros"),
    "transformers": transformers_generate,
    "faster-whisper": faster_whisper,
}


def run_engine(
    name: str, checkpoint: checkpoints.Checkpoint, dataset: datasets.Dataset
) -> dict[str, list[wer.Record]]:
    """Return the engine's records by split, from the raw results where they are complete."""
    path = (
        RESULTS / "engines" / f"{checkpoint.name} {name}.json".replace(", ", "-").replace(" ", "-")
    )
    stored = json.loads(path.read_text())["splits"] if path.exists() else {}
    engine: Engine | None = None
    for split in dataset.splits:
        utterances = datasets.utterances(dataset, split)
        if {record["id"] for record in stored.get(split, [])} == {u.id for u in utterances}:
            continue
        engine = engine or ENGINES[name](checkpoint)
        stored[split] = []
        for utterance in utterances:
            samples = audio.load(utterance.path)
            start = time.perf_counter()
            text = engine(samples)
            record = wer.Record(
                utterance.id,
                utterance.speaker,
                utterance.reference,
                text,
                utterance.duration,
                time.perf_counter() - start,
            )
            stored[split].append(asdict(record))
        click.echo(f"{checkpoint.name} {name} {split} done", err=True)
    versions = machine.versions(
        ("torch", "transformers", "ctranslate2", "faster-whisper", "edgewhisper-runtime")
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {"model": checkpoint.name, "engine": name, "libraries": versions, "splits": stored}
    path.write_text(json.dumps(content, indent=0, ensure_ascii=False) + "\n")
    return {split: [wer.Record(**r) for r in stored[split]] for split in dataset.splits}


def to_table(results: dict[str, dict[str, dict[str, list[wer.Record]]]]) -> str:
    """Return WER by engine and split, and the difference from ours with silence."""
    lines = [
        f"| model | engine, padding | {' | '.join(SPLITS)} | all | same text as ours |",
        "|---|---|" + "---|" * (len(SPLITS) + 2),
    ]
    for model, engines in results.items():
        for name, splits in engines.items():
            everything = [record for split in SPLITS for record in splits[split]]
            figures = [f"{wer.summarize(splits[split]).wer:.2f}" for split in SPLITS]
            compared = comparison.compare(engines["ours, silence"], splits)
            low, high = compared.interval.low, compared.interval.high
            total = f"{wer.summarize(everything).wer:.2f}"
            if name != "ours, silence":
                total += f" ({compared.d:+.2f}, 95 %: {low:+.2f} to {high:+.2f})"
            same = f"{100 * compared.share_same_text:.0f} %"
            lines.append(f"| {model} | {name} | {' | '.join(figures)} | {total} | {same} |")
    return "\n".join(lines)


@click.command()
@click.option("--librispeech", "directory", type=click.Path(path_type=Path), required=True)
@click.option("--model", "models", multiple=True, default=("whisper-base", "whisper-tiny.en"))
def main(directory: Path, models: tuple[str, ...]) -> None:
    """Run every engine on every model and write the table."""
    dataset = datasets.find_dataset(
        Workspace.from_environment(), splits=SPLITS, librispeech=directory
    )
    results = {}
    for model in models:
        checkpoint = checkpoints.resolve(Workspace.from_environment(), model)
        results[model] = {name: run_engine(name, checkpoint, dataset) for name in ENGINES}
    table = to_table(results)
    counts = ", ".join(
        f"{len(next(iter(results.values()))['ours, silence'][s])} {s}" for s in SPLITS
    )
    TABLE.write_text(
        "# The harness against independent engines\n\n"
        f"WER %, fp32 weights, greedy, English, no timestamps; utterances: {counts}.\n"
        "In brackets: the difference from ours over all splits, with its paired interval.\n\n"
        f"{table}\n\n"
        "Written by `python tools/compare_engines.py --librispeech DIR` from the raw texts in\n"
        "`docs/results/engines/`.\n"
    )
    click.echo(table)


if __name__ == "__main__":
    main()
