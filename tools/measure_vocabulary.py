"""How many tokens a vocabulary cut to some languages keeps, and how large bundles then are.

    python tools/measure_vocabulary.py

Sizes are computed from the architectures of whisper-base and whisper-small. Raw results go to
docs/results/vocabulary/sizes.json; tools/write_tables.py writes the table.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from edgewhisper import checkpoints
from edgewhisper.checkpoints import vocabulary
from edgewhisper.recipes import find_recipe
from edgewhisper.recipes.sizes import exported_bytes
from edgewhisper.workspace import Workspace
from peers import random_checkpoint

RESULTS = Path(__file__).parent.parent / "docs" / "results" / "vocabulary"
LANGUAGES: tuple[tuple[str, ...], ...] = ((), ("en", "de"), ("en",), ("de",), ("ja",), ("zh",))
RECIPES = ("onnx-int8", "onnx-int4-gptq")


@click.command()
def main() -> None:
    """Cut whisper-base's vocabulary in several ways, and write what is left."""
    workspace = Workspace.from_environment()
    base = checkpoints.resolve(workspace, "whisper-base")
    small = random_checkpoint.sizes("small")
    rows: list[dict[str, Any]] = []
    for languages in LANGUAGES:
        cut = vocabulary.cut(workspace, base, languages)
        config = cut.config()
        sizes = {
            f"{recipe.name} {name}": exported_bytes(of_model, recipe)
            for recipe in map(find_recipe, RECIPES)
            # Calibration data is English.
            if not recipe.calibrates or not languages or "en" in languages
            for name, of_model in (("base", config), ("small", config | small))
        }
        rows.append({"languages": languages, "tokens": cut.architecture.vocabulary, "bytes": sizes})
        click.echo(f"{', '.join(languages) or 'all'}: {cut.architecture.vocabulary}", err=True)
    (RESULTS / "sizes.json").write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
