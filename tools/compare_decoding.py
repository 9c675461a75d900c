"""Decoding parity: the same fp32 weights through our decoding, openai-whisper's, faster-whisper's.

    pip install openai-whisper faster-whisper
    python tools/compare_decoding.py --speech DIR [--model whisper-base --model whisper-tiny.en]

DIR holds LibriSpeech/, longform/ and multilingual/, recordings beside their texts. Fallback is by
each engine's own thresholds, language detected where there is a choice. Greedy, so that nothing
but the decoding differs. Raw texts go to docs/results/decoding/, the tables to
docs/results/decoding.md. Resumable; without --speech only the tables are written.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray

from edgewhisper import checkpoints, pipeline
from edgewhisper.checkpoints import Checkpoint
from edgewhisper.evaluation import datasets, normalizing, wer
from edgewhisper.evaluation.significance import estimate
from edgewhisper.recipes import find_recipe
from edgewhisper.workspace import Workspace
from edgewhisper_runtime import audio, load
from edgewhisper_runtime.errors import DataError
from edgewhisper_runtime.measure import machine
from edgewhisper_runtime.options import Options

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "docs" / "results" / "decoding"
TABLE = ROOT / "docs" / "results" / "decoding.md"
SPLITS = ("test-clean", "test-other")
AUDIO = (".flac", ".wav", ".mp3", ".ogg", ".opus")
ENGLISH = (*SPLITS, "longform", "en")
DECODE, TRANSCRIBE = "openai-whisper, decode", "openai-whisper, transcribe"
THREADS = 2
INTRODUCTION = """# Decoding parity

The same float32 weights decoded by three engines, greedy, the first two rows of each table as our
users have it: "pauses" is how we cut long audio for plain text, "timestamps" where times are asked
for. Word error rates in percent, each language by Whisper's normalizer for it; of zh the rate of
characters.

openai-whisper has two ways. Its `decode` takes at most 30 s, pads the samples with silence, as we
do, and writes no timestamps; "ours, pauses" is to be compared with it. Its `transcribe`, and
faster-whisper, pad the features with zeros; "ours, timestamps, no VAD, zeros" asks for the same:
`--timestamps --no-vad --padding zeros`. The second table of each model gives the difference of the
word error rates over all words of both (not zh) in points with its 95 % interval, paired by
recording, and the texts that are the same to the letter.

Cases that tests keep right, of whisper-tiny.en on chapter 1089-134686 of test-clean where no other
recording is named:

- Words that are in two windows, because the second begins in a pause before the end of the first
  one's text, are written once ("feel the the more deeply", "boys through the through the
  responses"). Where there is no pause within 0.4 s of that end, the second begins at the end, and
  no word is left out ("the dusk, deepening in the schoolroom"). A word that is said on both sides
  of the pause is kept twice ("feast day is Saturday. Saturday, August 15th").
- A window whose text ends more than 2 s of sound before the window does is not done: the next one
  begins where that text ends (two sentences with 4 s of silence between them, without VAD). After
  an end that is less likely than 0.95, 1 s is enough ("What do I care for food?", 2902-9008-0008 of
  dev-clean, after the longer 84-121123-0005). So it is in a batch too (5639-40744-0020, 1 s of
  silence and 3081-166546-0016).
- A pause within a sentence belongs to no word ("indifference", 1.86 to 4.06 s, with a pause from
  1.83 to 3.33 s): where the samples are quiet for 0.3 s or more, the word beside that is cut.
- A text without timestamps that is one phrase although speech goes on is not done: what follows is
  decoded by itself (whisper-base, 3005-163389-0001 of test-other: of "tear down the fence", said
  twice, openai-whisper's `decode` writes the first). The model gives the end a probability of 0.36
  there, and 2.6 s of sound follow the last word.

"""

Records = list[dict[str, Any]]
Engine = Callable[[Path, bool], tuple[str, str]]  # file, whether English is known -> text, language


def ours(checkpoint: Checkpoint, **options: Any) -> Engine:
    """Our runtime over the fp32 export."""
    directory = pipeline.stage_export(
        Workspace.from_environment(), checkpoint, find_recipe("fp32")
    ).path
    transcriber = load(directory, threads=THREADS, audio_context="full")
    given_options = Options(**options)

    def transcribe(path: Path, english: bool) -> tuple[str, str]:
        transcript = transcriber.transcribe(
            path, replace(given_options, language="en" if english else None)
        )
        return transcript.text, transcript.language

    return transcribe


def openai_transcribe(checkpoint: Checkpoint) -> Engine:
    """openai-whisper's `transcribe`: features padded with zeros, text with timestamps."""
    model = _openai_model(checkpoint)

    def transcribe(path: Path, english: bool) -> tuple[str, str]:
        result = model.transcribe(
            audio.load(path),
            language="en" if english else None,
            fp16=False,
            condition_on_previous_text=False,
        )
        return str(result["text"]).strip(), str(result["language"])

    return transcribe


def openai_decode(checkpoint: Checkpoint) -> Engine:
    """openai-whisper's `decode`: at most 30 s, padded with silence, text without timestamps."""
    import whisper

    model = _openai_model(checkpoint)

    def transcribe(path: Path, english: bool) -> tuple[str, str]:
        samples = whisper.pad_or_trim(audio.load(path))
        mel = whisper.log_mel_spectrogram(samples, model.dims.n_mels)
        language = "en" if english or not model.is_multilingual else None
        options = whisper.DecodingOptions(language=language, without_timestamps=True, fp16=False)
        result = whisper.decode(model, mel, options)
        return result.text.strip(), result.language

    return transcribe


def _openai_model(checkpoint: Checkpoint) -> Any:
    """Return openai-whisper's model with the checkpoint's tensors, renamed."""
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
    model = whisper.model.Whisper(dimensions).eval()
    tensors = {
        _openai_name(name): tensor.float()
        for name, tensor in load_file(checkpoint.path / "model.safetensors").items()
        if name != "proj_out.weight"
    }
    missing, unexpected = model.load_state_dict(tensors, strict=False)
    if unexpected or set(missing) - {"encoder.positional_embedding", "decoder.mask"}:
        raise DataError(f"the tensors do not fit openai-whisper: {missing}, {unexpected}")
    return model


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
    for hugging_face, openai in renamed.items():
        name = name.replace(hugging_face, openai)
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
        segments, info = model.transcribe(
            audio.load(path),
            language="en" if english else None,
            beam_size=1,
            condition_on_previous_text=False,
        )
        return "".join(segment.text for segment in segments).strip(), info.language

    return transcribe


ENGINES: dict[str, Callable[[Checkpoint], Engine]] = {
    "ours, pauses": ours,
    "ours, timestamps": partial(ours, timestamps=True),
    DECODE: openai_decode,
    "ours, pauses, no VAD": partial(ours, vad="none"),
    TRANSCRIBE: openai_transcribe,
    "faster-whisper": faster_whisper,
    "ours, timestamps, no VAD, zeros": partial(ours, timestamps=True, vad="none", padding="zeros"),
}


def recordings(speech: Path, multilingual: bool) -> dict[str, list[tuple[Path, str]]]:
    """Return files and their texts by kind: splits, long form, languages."""
    dataset = datasets.find_dataset(Workspace.from_environment(), splits=SPLITS, librispeech=speech)
    by_kind = {
        split: [(u.path, u.reference) for u in datasets.utterances(dataset, split)]
        for split in SPLITS
    }
    for directory in [speech / "longform", *sorted((speech / "multilingual").iterdir())]:
        if directory.name == "en" or multilingual or directory.name == "longform":
            by_kind[directory.name] = [
                (path, path.with_suffix(".txt").read_text())
                for path in sorted(directory.iterdir())
                if path.suffix in AUDIO
            ]
    return by_kind


def run(name: str, checkpoint: Checkpoint, speech: Path) -> None:
    """Write an engine's texts; what is there is not done again."""
    path = raw(checkpoint.name, name)
    stored = json.loads(path.read_text())["records"] if path.exists() else {}
    engine: Engine | None = None
    multilingual = "en" not in checkpoint.name.split(".")
    for kind, files in recordings(speech, multilingual).items():
        if len(stored.get(kind, [])) == len(files) or (name, kind) == (DECODE, "longform"):
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
    """Return the file of an engine's texts."""
    return RESULTS / f"{model}-{engine.replace(', ', '-').replace(' ', '-')}.json"


def errors(kind: str, records: Records) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return each recording's errors, and its words, of zh its characters; both int64 [n]."""
    rule = rule_of(kind)
    counts = [wer.align(row["reference"], row["hypothesis"], rule) for row in records]
    return np.array([c.errors for c in counts]), np.array([c.words for c in counts])


def rule_of(kind: str) -> normalizing.Rule:
    """Return how a set's texts are scored."""
    return normalizing.rule("en" if kind in ENGLISH else kind)


def difference(first: dict[str, Records], second: dict[str, Records]) -> str:
    """Return the difference of WER, first minus second, in points, with its interval."""
    both = [kind for kind in first if kind in second and rule_of(kind).metric == "WER"]
    pairs = [(errors(kind, first[kind]), errors(kind, second[kind])) for kind in both]
    words = np.concatenate([own[1] for own, _ in pairs])
    apart = np.concatenate([own[0] - other[0] for own, other in pairs])
    difference = estimate(apart, words)
    interval = difference.interval()
    return f"{difference.rate:+.2f} ({interval.low:+.2f} to {interval.high:+.2f})"


def same(first: dict[str, Records], second: dict[str, Records]) -> str:
    """Return how many recordings have exactly the same text in both."""
    pairs = [
        (own["hypothesis"], other["hypothesis"])
        for kind, rows in first.items()
        for own, other in zip(rows, second.get(kind, ()), strict=kind in second)
    ]
    return f"{sum(own == other for own, other in pairs)} of {len(pairs)}"


def to_markdown(results: dict[str, dict[str, dict[str, Records]]]) -> str:
    """Return the page; results by model, engine and kind of recording."""
    lines = []
    for model, engines in results.items():
        kinds = list(engines[TRANSCRIBE])
        columns = ("engine", *kinds, "languages found")
        lines += [f"## {model}", "", f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
        for name, records in engines.items():
            figures = [rate(kind, records[kind]) if kind in records else "-" for kind in kinds]
            spoken = [
                (row["language"], kind)
                for kind, rows in records.items()
                if kind not in (*SPLITS, "longform")
                for row in rows
            ]
            detected = f"{sum(language == kind for language, kind in spoken)} of {len(spoken)}"
            lines.append(f"| {name} | {' | '.join(figures)} | {detected} |")
        counts = ", ".join(f"{len(rows)} {kind}" for kind, rows in engines[TRANSCRIBE].items())
        lines += ["", f"Recordings: {counts}.", "", *_against(engines), ""]
    command = "python tools/compare_decoding.py"
    return (
        INTRODUCTION
        + "\n".join(lines)
        + f"\nWritten by `{command}` from the raw texts in `docs/results/decoding/`.\n"
    )


def rate(kind: str, records: Records) -> str:
    """Return the error rate in percent."""
    wrong, words = errors(kind, records)
    return f"{100 * wrong.sum() / words.sum():.2f}"


def _against(engines: dict[str, dict[str, Records]]) -> list[str]:
    """Return the table that compares the others with openai-whisper's two ways."""
    titles = [
        f"{what} `{how}`" for how in ("decode", "transcribe") for what in ("minus", "same text as")
    ]
    lines = [f"| engine | {' | '.join(titles)} |", "|---" * 5 + "|"]
    for name, records in engines.items():
        figures = [
            figure(records, engines[how])
            for how in (DECODE, TRANSCRIBE)
            for figure in (difference, same)
        ]
        if name not in (DECODE, TRANSCRIBE):
            lines.append(f"| {name} | {' | '.join(figures)} |")
    return lines


@click.command()
@click.option("--speech", type=click.Path(path_type=Path), help="Where the recordings are.")
@click.option("--model", "models", multiple=True, default=("whisper-base", "whisper-tiny.en"))
@click.option("--engine", "engines", multiple=True, type=click.Choice(list(ENGINES)))
def main(speech: Path | None, models: tuple[str, ...], engines: tuple[str, ...]) -> None:
    """Run every engine on every model and write the table."""
    if speech is not None:
        for model in models:
            for name in engines or ENGINES:
                run(name, checkpoints.resolve(Workspace.from_environment(), model), speech)
    results: dict[str, dict[str, dict[str, Records]]] = {}
    for model in models:
        paths = {name: raw(model, name) for name in ENGINES}
        results[model] = {n: json.loads(p.read_text())["records"] for n, p in paths.items()}
    TABLE.write_text(to_markdown(results))
    click.echo(TABLE.read_text())


if __name__ == "__main__":
    main()
