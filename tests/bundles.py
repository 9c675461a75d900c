"""The bundles that tests of the runtime use, made by the host toolkit.

    python -P tests/bundles.py DIR

writes them into DIR, for a test run that has the runtime alone (EDGEWHISPER_TEST_BUNDLES=DIR).
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edgewhisper.workspace import Workspace

# Models, recipes and exports that run without PyTorch.
LEAN = (
    ("whisper-tiny.en", "onnx-int8", "onnx"),
    ("whisper-tiny.en", "onnx-int4", "onnx"),
    ("whisper-tiny.en", "fp32", "onnx"),
    ("whisper-base", "onnx-int8", "onnx"),
)


def directory_of(model: str, recipe: str, export: str) -> str:
    """Return the name of a bundle's directory."""
    return f"{model}-{recipe}-{export}"


def make(workspace: Workspace, model: str, recipe: str, export: str) -> Path:
    """Quantize and export a model, without evaluating it; return the directory."""
    from edgewhisper import checkpoints, pipeline
    from edgewhisper.recipes import find_recipe

    checkpoint, how = checkpoints.resolve(workspace, model), find_recipe(recipe)
    if export == "none":
        return pipeline.stage(workspace, checkpoint, how).path
    return pipeline.stage_export(workspace, checkpoint, how, to_format=export).path


def main(target: Path) -> None:
    """Make the bundles of `LEAN`."""
    from edgewhisper.workspace import Workspace

    workspace = Workspace.from_environment()
    for names in LEAN:
        directory = target / directory_of(*names)
        shutil.rmtree(directory, ignore_errors=True)
        shutil.copytree(make(workspace, *names), directory)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
