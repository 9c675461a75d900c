"""Decoding parity: the same fp32 weights through our decoding, openai-whisper's, faster-whisper's.

    pip install openai-whisper faster-whisper
    python tools/compare_decoding.py --speech DIR [--model whisper-base --model whisper-tiny.en]

DIR holds LibriSpeech/, longform/ and multilingual/, recordings beside their texts. Each engine
transcribes as a user would have it: timestamps, fallback by its own thresholds, language detected
where there is a choice. Greedy, so that nothing but the decoding differs. Raw texts go to
docs/results/decoding/, the table to docs/results/decoding.md. Resumable; without --speech only the
table is written.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
import numpy as np

from edgewhisper import checkpoints, pipeline
from edgewhisper.checkpoints import Checkpoint
from edgewhisper.evaluation import librispeech, wer
from edgewhisper.recipes import find_recipe
from edgewhisper_runtime import audio, features, load, machine
from edgewhisper_runtime.errors import DataError
from edgewhisper_runtime.options import Options
from edgewhisper_runtime.windows import WindowDecoder

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "docs" / "results" / "decoding"
TABLE = ROOT / "docs" / "results" / "decoding.md"
SPLITS = ("test-clean", "test-other")
AUDIO = (".flac", ".wav", ".mp3", ".ogg", ".opus")
ENGLISH = (*SPLITS, "longform", "en")
WITHOUT_SPACES = ("zh",)
REFERENCE = "openai-whisper"
THREADS = 2
INTRODUCTION = """# Decoding parity

The same float32 weights decoded by three engines as their users would have it: greedy at first,
with temperature fallback and, but for our plain text, timestamps. "pauses" is how we cut long audio
for plain text, "timestamps" where times are asked for; "zeros" pads the features of short audio
with zeros, as both others do and we do not: that, not the decoding, is what sets our texts apart
from theirs (docs/evaluation.md). Word error rates in percent, each language by Whisper's normalizer
for it; of zh the rate of characters.

"""

Engine = Callable[[Path, bool], tuple[str, str]]  # file, whether English is known -> text, language


class PaddedWithZeros(WindowDecoder):
    """Pads features with zeros to 30 s, where ours pad the samples with silence."""

    def _encode(self, windows: Sequence[Any], frames: int = features.WINDOW_FRAMES) -> Any:
        mels = [features.log_mel(window, self.settings.mels, frames) for window in windows]
        for window, mel in zip(windows, mels, strict=True):
            mel[:, len(window) // features.HOP :] = 0
        return self.backend.encode(np.stack(mels))


def ours(checkpoint: Checkpoint, *, zeros: bool = False, **options: Any) -> Engine:
    """Our runtime over the fp32 export."""
    directory = pipeline.stage_export(checkpoint, find_recipe("fp32"))
    transcriber = load(directory, threads=THREADS, audio_context="full")
    if zeros:
        own = transcriber.decoder
        padding = PaddedWithZeros(own.backend, own.tokenizer, own.settings, adaptive=False)
        transcriber.decoder = padding
    asked = Options(**options)

    def transcribe(path: Path, english: bool) -> tuple[str, str]:
        found = transcriber.transcribe(path, "en" if english else None, options=asked)
        return found.text, found.language

    return transcribe


def openai_whisper(checkpoint: Checkpoint) -> Engine:
    """openai-whisper over the checkpoint's tensors, renamed."""
    import torch
    import whisper
    from safetensors.torch import load_file

    torch.set_num_threads(THREADS)
    config = json.loads((checkpoint.path / "config.json").read_text())
    width = config["d_model"]
    dimensions = whisper.model.ModelDimensions(
        n_mels=config["num_mel_bins"],
        n_audio_ctx=config["max_source_positions"],
        n_audio_state=width,
        n_audio_head=config["encoder_attention_heads"],
        n_audio_layer=config["encoder_layers"],
        n_vocab=config["vocab_size"],
        n_text_ctx=config["max_target_positions"],
        n_text_state=width,
        n_text_head=config["decoder_attention_heads"],
        n_text_layer=config["decoder_layers"],
    )
    model = whisper.model.Whisper(dimensions)
    tensors = {
        _openai_name(name): tensor.float()
        for name, tensor in load_file(checkpoint.path / "model.safetensors").items()
        if name != "proj_out.weight"
    }
    missing, unexpected = model.load_state_dict(tensors, strict=False)
    if unexpected or set(missing) - {"encoder.positional_embedding", "decoder.mask"}:
        raise DataError(f"the tensors do not fit openai-whisper: {missing}, {unexpected}")

    def transcribe(path: Path, english: bool) -> tuple[str, str]:
        found = model.eval().transcribe(
            audio.load(path),
            language="en" if english else None,
            fp16=False,
            condition_on_previous_text=False,
        )
        return str(found["text"]).strip(), str(found["language"])

    return transcribe


def _openai_name(name: str) -> str:
    """Return what openai-whisper calls a tensor of transformers' Whisper."""
    renamed = {
        "model.": "",
        "layers": "blocks",
        "encoder_attn_layer_norm": "cross_attn_ln",
        "encoder_attn": "cross_attn",
        "self_attn_layer_norm": "attn_ln",
        "self_attn": "attn",
        "final_layer_norm": "mlp_ln",
        "fc1": "mlp.0",
        "fc2": "mlp.2",
        "q_proj": "query",
        "k_proj": "key",
        "v_proj": "value",
        "out_proj": "out",
        "encoder.layer_norm": "encoder.ln_post",
        "decoder.layer_norm": "decoder.ln",
        "embed_positions.weight": "positional_embedding",
        "embed_tokens": "token_embedding",
    }
    for theirs, openai in renamed.items():
        name = name.replace(theirs, openai)
    return name


def faster_whisper(checkpoint: Checkpoint) -> Engine:
    """faster-whisper in float32, converted from the same checkpoint."""
    from ctranslate2.converters import TransformersConverter
    from faster_whisper import WhisperModel

    directory = Path(tempfile.mkdtemp()) / "model"
    converter = TransformersConverter(str(checkpoint.path), copy_files=["tokenizer.json"])
    converter.convert(str(directory), quantization="float32")
    model = WhisperModel(str(directory), compute_type="float32", cpu_threads=THREADS)

    def transcribe(path: Path, english: bool) -> tuple[str, str]:
        segments, found = model.transcribe(
            audio.load(path),
            language="en" if english else None,
            beam_size=1,
            condition_on_previous_text=False,
        )
        return "".join(segment.text for segment in segments).strip(), found.language

    return transcribe


ENGINES: dict[str, Callable[[Checkpoint], Engine]] = {
    "ours, pauses": ours,
    "ours, timestamps": lambda checkpoint: ours(checkpoint, timestamps=True),
    "ours, timestamps, zeros": lambda checkpoint: ours(checkpoint, timestamps=True, zeros=True),
    "openai-whisper": openai_whisper,
    "faster-whisper": faster_whisper,
}


def recordings(speech: Path, multilingual: bool) -> dict[str, list[tuple[Path, str]]]:
    """Return files and their texts by what they are: splits, long form, languages."""
    dataset = librispeech.find(speech / "LibriSpeech", SPLITS)
    found = {
        split: [(u.path, u.reference) for u in librispeech.utterances(dataset, split)]
        for split in SPLITS
    }
    for directory in [speech / "longform", *sorted((speech / "multilingual").iterdir())]:
        if directory.name == "en" or multilingual or directory.name == "longform":
            found[directory.name] = [
                (path, path.with_suffix(".txt").read_text())
                for path in sorted(directory.iterdir())
                if path.suffix in AUDIO
            ]
    return found


def run(name: str, checkpoint: Checkpoint, speech: Path) -> None:
    """Write an engine's texts; what is there is not done again."""
    path = raw(checkpoint.name, name)
    stored = json.loads(path.read_text())["records"] if path.exists() else {}
    engine: Engine | None = None
    multilingual = "en" not in checkpoint.name.split(".")
    for kind, files in recordings(speech, multilingual).items():
        if len(stored.get(kind, [])) == len(files):
            continue
        engine = engine or ENGINES[name](checkpoint)
        records = []
        for file, reference in files:
            start = time.perf_counter()
            text, language = engine(file, kind in (*SPLITS, "longform"))
            seconds = time.perf_counter() - start
            duration = sum(map(len, audio.stream(file))) / audio.SAMPLE_RATE
            record = wer.Record(file.stem, kind, reference, text, duration, seconds)
            records.append(asdict(record) | {"language": language})
        stored[kind] = records
        libraries = machine.versions(
            ("torch", "onnxruntime", "ctranslate2", "faster-whisper", "openai-whisper")
        )
        content = {"model": checkpoint.name, "engine": name, "libraries": libraries}
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(
            json.dumps(content | {"records": stored}, indent=0, ensure_ascii=False) + "\n"
        )
        click.echo(f"{checkpoint.name}, {name}: {kind} done", err=True)


def raw(model: str, engine: str) -> Path:
    """Return where an engine's texts are kept."""
    return RESULTS / f"{model}-{engine}.json".replace(", ", "-")


def error_rate(kind: str, records: list[dict[str, Any]]) -> float:
    """Return WER in percent by Whisper's normalizer of that language; of zh the characters'."""
    import jiwer
    from whisper_normalizer.basic import BasicTextNormalizer
    from whisper_normalizer.english import EnglishTextNormalizer

    normalize = EnglishTextNormalizer() if kind in ENGLISH else BasicTextNormalizer()
    said = [normalize(row["reference"]) for row in records]
    found = [normalize(row["hypothesis"]) for row in records]
    if kind in WITHOUT_SPACES:
        said, found = (["".join(text.split()) for text in texts] for texts in (said, found))
        return 100 * float(jiwer.cer(said, found))
    return 100 * float(jiwer.wer(said, found))


def to_markdown(results: dict[str, dict[str, dict[str, list[dict[str, Any]]]]]) -> str:
    """Return the page; results by model, engine and kind of recording."""
    lines = []
    for model, engines in results.items():
        kinds = list(next(iter(engines.values())))
        columns = ("engine", *kinds, "languages found", f"same text as {REFERENCE}")
        lines += [f"## {model}", "", f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
        for name, records in engines.items():
            figures = [f"{error_rate(kind, records[kind]):.2f}" for kind in kinds]
            spoken = [
                (row["language"], kind)
                for kind in kinds
                if kind not in (*SPLITS, "longform")
                for row in records[kind]
            ]
            detected = f"{sum(found == kind for found, kind in spoken)} of {len(spoken)}"
            same = _same(records, engines[REFERENCE])
            lines.append(f"| {name} | {' | '.join(figures)} | {detected} | {same} |")
        counts = ", ".join(
            f"{len(rows)} {kind}" for kind, rows in next(iter(engines.values())).items()
        )
        lines += ["", f"Recordings: {counts}.", ""]
    command = "python tools/compare_decoding.py"
    return (
        INTRODUCTION
        + "\n".join(lines)
        + f"\nWritten by `{command}` from the raw texts in `docs/results/decoding/`.\n"
    )


def _same(records: dict[str, list[dict[str, Any]]], others: dict[str, list[dict[str, Any]]]) -> str:
    """Return of how many recordings both have the same text, to the letter."""
    pairs = [
        pair for kind, rows in records.items() for pair in zip(rows, others[kind], strict=True)
    ]
    same = sum(one["hypothesis"] == other["hypothesis"] for one, other in pairs)
    return f"{same} of {len(pairs)}"


@click.command()
@click.option("--speech", type=click.Path(path_type=Path), help="Where the recordings are.")
@click.option("--model", "models", multiple=True, default=("whisper-base", "whisper-tiny.en"))
@click.option("--engine", "engines", multiple=True, type=click.Choice(list(ENGINES)))
def main(speech: Path | None, models: tuple[str, ...], engines: tuple[str, ...]) -> None:
    """Run every engine on every model and write the table."""
    if speech is not None:
        for model in models:
            for name in engines or ENGINES:
                run(name, checkpoints.resolve(model), speech)
    results: dict[str, dict[str, Any]] = {}
    for model in models:
        found = {name: raw(model, name) for name in ENGINES}
        texts = {n: json.loads(p.read_text())["records"] for n, p in found.items() if p.exists()}
        most = max(map(len, texts.values()), default=0)
        results[model] = {name: kinds for name, kinds in texts.items() if len(kinds) == most}
    TABLE.write_text(to_markdown(results))
    click.echo(TABLE.read_text())


if __name__ == "__main__":
    main()
