"""Whether exports give the same tokens as their variants, on all the speech there is.

    python tools/check_exactness.py --librispeech DIR [--speech DIR ...] [--recipe NAME ...]

A recipe that quantizes activations too is compared with its weights alone: the same integers,
multiplied in float32. Raw results go to docs/results/exactness/, one file for each model and
recipe, the table of all of them to docs/results/exactness.md. Finished results are not computed
again. Without --librispeech only the table is written.
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
from edgewhisper.recipes import Recipe, all_recipes, find_recipe
from edgewhisper.workspace import Workspace
from edgewhisper_exporters import eligibility
from edgewhisper_runtime import bundle, loading
from edgewhisper_runtime.bundle import to_json
from edgewhisper_runtime.decode.loop import Backend
from edgewhisper_runtime.engines.groups import Grouped
from edgewhisper_runtime.measure import machine
from edgewhisper_runtime.options import PLAIN
from edgewhisper_runtime.text.tokens import Tokenizer
from edgewhisper_runtime.transcriber import Transcriber

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "docs" / "results" / "exactness"
TABLE = ROOT / "docs" / "results" / "exactness.md"
AUDIO = (".flac", ".wav", ".mp3", ".ogg", ".opus")
SLOW = {"quanto", "hqq", "edgewhisper"}  # they unpack their weights at each token
BATCH = 8
IN_FLOAT = "-in-float32"
INTRODUCTION = """# Exports against their variants

Quantized weights, exported to ONNX with the library's own integers, scales and zero points, and
the variant itself through PyTorch: the same loop, the same speech, full windows, greedy. A window
agrees when all its tokens are the same. Both multiply in float32, in another order; where two
tokens are as good as equally likely, that may decide, and the rest of the window follows from
there. "Weights of": the recipe quantizes activations too, on the device, where PyTorch has nothing
to compare with; here its weights are multiplied in float32 as well.

"""


def unpack_once(network: Any, adapter: quantizers.Adapter) -> None:
    """Replace quantized Linear layers by what they multiply with: their map of the unit matrix.

    Of EdgeWhisper's own layers, whose embedding is also the output layer, the codes are replaced.
    """
    import torch

    from edgewhisper.quantizers.layers import Codes

    for name, module in list(network.named_modules()):
        if isinstance(module, Codes):
            values = module.values()
            object.__setattr__(module, "values", lambda rows=..., values=values: values[rows])
        if not hasattr(module, "in_features") or adapter.describe(module) is None:
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
    return Grouped(backend.TorchBackend(network))


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


def weights_of(recipe: Recipe) -> Recipe:
    """Return a recipe that quantizes the same weights, and no activations."""
    if recipe.activations.granularity == "none":
        return recipe
    return replace(recipe, name=recipe.name + IN_FLOAT, activations=type(recipe.activations)())


def compare(model: str, name: str, speech: list[Path]) -> dict[str, Any]:
    """Return how many windows of all speech agree, and those that do not.

    The first directory of `speech` is LibriSpeech's, which recipes calibrate on.
    """
    workspace, recipe = Workspace.from_environment(), weights_of(find_recipe(name))
    checkpoint = checkpoints.resolve(workspace, model)
    variant = pipeline.stage(workspace, checkpoint, recipe, speech[0]).path
    export = pipeline.stage_export(workspace, checkpoint, recipe, speech[0]).path
    manifest = bundle.read_manifest(export)
    tokenizer = Tokenizer(export / bundle.TOKENIZER)
    recordings = [
        (path, str(path.relative_to(root.parent)))
        for root in speech
        for path in sorted(root.rglob("*"))
        if path.suffix in AUDIO
    ]
    files = [path for path, _ in recordings]
    languages = [_language(path, tokenizer) for path in files]
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
        "files": [name for _, name in recordings],
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
            f"| {result['model']} | {_label(result['recipe'])} | {len(result['files'])} | "
            f"{result['windows']} | {result['tokens']} | {agreeing} |"
        )
    return "\n".join(lines)


def _label(recipe: dict[str, Any]) -> str:
    name = recipe["name"]
    return f"weights of {name.removesuffix(IN_FLOAT)}" if name.endswith(IN_FLOAT) else name


@click.command()
@click.option("--librispeech", type=click.Path(path_type=Path), help="LibriSpeech's splits.")
@click.option(
    "--speech", multiple=True, type=click.Path(path_type=Path), help="More recordings (repeatable)."
)
@click.option("--model", default="whisper-base", show_default=True)
@click.option("--recipe", "names", multiple=True, help="All that qualify, by default.")
def main(
    librispeech: Path | None, speech: tuple[Path, ...], model: str, names: tuple[str, ...]
) -> None:
    """Compare the exports that have no results yet, and write the table."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    exact = [
        recipe.name
        for recipe in all_recipes()
        if eligibility.why_not(asdict(recipe), "onnx") is None
        and recipe.activations.granularity == "none"
    ]
    for name in (names or exact) if librispeech else ():
        path = RESULTS / f"{model}-{name}.json"
        if not path.exists():
            roots = [Path(root).resolve() for root in (librispeech, *speech) if root]
            result = compare(model, name, roots)
            path.write_text(json.dumps(result, ensure_ascii=False) + "\n")
    results = [json.loads(path.read_text()) for path in sorted(RESULTS.glob("*.json"))]
    TABLE.write_text(
        f"{INTRODUCTION}{to_table(results)}\n\nWritten by `python tools/check_exactness.py` from "
        "`docs/results/exactness/`.\n"
    )
    click.echo(to_table(results))


if __name__ == "__main__":
    main()
