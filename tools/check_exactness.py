"""Whether exports give the same tokens as their variants, on all the speech there is.

    python tools/check_exactness.py --speech DIR [--model whisper-base] [--recipe NAME ...]

Raw results go to docs/results/exactness/, one file for each model and recipe, the table of all of
them to docs/results/exactness.md. Finished results are not computed again. Without --speech only
the table is written.
"""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

import click

from edgewhisper import backend, checkpoints, pipeline, quantizers
from edgewhisper.recipes import all_recipes, find_recipe
from edgewhisper.workspace import Workspace
from edgewhisper_exporters import eligibility
from edgewhisper_runtime import bundle, loading
from edgewhisper_runtime.bundle import to_json
from edgewhisper_runtime.decode.loop import Backend
from edgewhisper_runtime.measure import machine
from edgewhisper_runtime.options import PLAIN
from edgewhisper_runtime.text.tokens import Tokenizer
from edgewhisper_runtime.transcriber import Transcriber

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "docs" / "results" / "exactness"
TABLE = ROOT / "docs" / "results" / "exactness.md"
AUDIO = (".flac", ".wav", ".mp3", ".ogg", ".opus")
SLOW = {"quanto", "hqq"}  # they unpack their weights at each token
BATCH = 8
INTRODUCTION = """# Exports against their variants

Recipes whose weights alone are quantized, exported to ONNX with the library's own integers,
scales and zero points, and the variant itself through PyTorch: the same loop, the same speech,
full windows, greedy. A window agrees when all its tokens are the same. Both multiply in float32,
in another order; where two tokens are as good as equally likely, that may decide, and the rest of
the window follows from there.

"""


def unpack_once(network: Any, adapter: quantizers.Adapter) -> None:
    """Replace quantized Linear layers by what they multiply with: their map of the unit matrix."""
    import torch

    for name, module in list(network.named_modules()):
        if adapter.describe(module) is None:
            continue
        layer: Any = module
        bias, layer.bias = layer.bias, None
        linear = torch.nn.Linear(layer.in_features, layer.out_features, bias is not None)
        linear.weight = torch.nn.Parameter(layer(torch.eye(layer.in_features)).T.contiguous())
        if bias is not None:
            linear.bias = torch.nn.Parameter(bias, requires_grad=False)
        network.set_submodule(name, linear)


def variant_backend(variant: Path) -> Backend:
    """Return the variant on PyTorch."""
    import torch

    manifest = bundle.verify(variant)
    network = backend.load_model(variant, manifest)
    if manifest.recipe.library in SLOW:
        with torch.no_grad():
            unpack_once(network, quantizers.adapter(manifest.recipe.library))
    return backend.TorchBackend(network)


def tokens(
    transcriber: Transcriber, files: list[Path], languages: list[str]
) -> list[list[list[int]]]:
    """Return the tokens of every window of every file."""
    from tqdm import tqdm

    windows: list[list[list[int]]] = []
    options = replace(PLAIN, batch_size=BATCH)
    progress = tqdm(total=len(files), unit="file", mininterval=2.0)
    for language, group in groupby(zip(files, languages, strict=True), key=itemgetter(1)):
        recordings = (file for file, _ in group)
        named = replace(options, language=language)
        for spoken in transcriber.transcribe_many(recordings, named):
            if isinstance(spoken, Exception):
                raise spoken
            windows.append([window.tokens for window in spoken.windows])
            progress.update()
    progress.close()
    return windows


def compare(model: str, name: str, speech: Path) -> dict[str, Any]:
    """Return how many windows of all speech agree, and those that do not."""
    checkpoint, recipe = checkpoints.resolve(Workspace.from_environment(), model), find_recipe(name)
    variant = pipeline.stage(Workspace.from_environment(), checkpoint, recipe).path
    export = pipeline.stage_export(Workspace.from_environment(), checkpoint, recipe).path
    manifest = bundle.read_manifest(export)
    tokenizer = Tokenizer(export / bundle.TOKENIZER)
    files = sorted(path for path in speech.rglob("*") if path.suffix in AUDIO)
    languages = [_language(path.relative_to(speech), tokenizer) for path in files]
    variant_tokens = tokens(
        Transcriber(variant_backend(variant), tokenizer, manifest.settings), files, languages
    )
    export_tokens = tokens(loading.load(export, audio_context="full"), files, languages)
    differing = [
        {"file": file.name, "window": number, "variant": expected, "export": actual}
        for file, *windows in zip(files, variant_tokens, export_tokens, strict=True)
        for number, (expected, actual) in enumerate(zip(*windows, strict=True))
        if expected != actual
    ]
    return {
        "model": model,
        "recipe": asdict(recipe),
        "machine": to_json(machine.describe()),
        "libraries": manifest.libraries,
        "files": [str(file.relative_to(speech)) for file in files],
        "windows": sum(map(len, variant_tokens)),
        "tokens": sum(len(window) for windows in variant_tokens for window in windows),
        "differing": differing,
    }


def _language(path: Path, tokenizer: Tokenizer) -> str:
    """Return the language that a directory is named after; English elsewhere."""
    languages = set(tokenizer.languages) if tokenizer.multilingual else set()
    return next((part for part in reversed(path.parts) if part in languages), "en")


def to_table(results: list[dict[str, Any]]) -> str:
    """Return the results as Markdown."""
    lines = [
        "| model | recipe | recordings | windows | tokens | windows with the same tokens |",
        "|---|---|---|---|---|---|",
    ]
    for result in results:
        agreeing = result["windows"] - len(result["differing"])
        lines.append(
            f"| {result['model']} | {result['recipe']['name']} | {len(result['files'])} | "
            f"{result['windows']} | {result['tokens']} | {agreeing} |"
        )
    return "\n".join(lines)


@click.command()
@click.option("--speech", type=click.Path(path_type=Path), help="A directory of recordings.")
@click.option("--model", default="whisper-base", show_default=True)
@click.option("--recipe", "names", multiple=True, help="All that qualify, by default.")
def main(speech: Path | None, model: str, names: tuple[str, ...]) -> None:
    """Compare the exports that have no results yet, and write the table."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    exact = [
        recipe.name
        for recipe in all_recipes()
        if eligibility.why_not(asdict(recipe), "onnx") is None
        and recipe.activations.dtype == "float32"
    ]
    for name in (names or exact) if speech else ():
        path = RESULTS / f"{model}-{name}.json"
        if not path.exists():
            result = compare(model, name, Path(str(speech)).resolve())
            path.write_text(json.dumps(result, ensure_ascii=False) + "\n")
    results = [json.loads(path.read_text()) for path in sorted(RESULTS.glob("*.json"))]
    TABLE.write_text(
        f"{INTRODUCTION}{to_table(results)}\n\nWritten by `python tools/check_exactness.py` from "
        "`docs/results/exactness/`.\n"
    )
    click.echo(to_table(results))


if __name__ == "__main__":
    main()
