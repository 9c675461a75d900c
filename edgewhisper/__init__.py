"""EdgeWhisper's host toolkit: quantize Whisper, prove what it cost, ship it.

```python
import edgewhisper

built = edgewhisper.build("whisper-tiny.en", "onnx-int8")
print(built.report.gate.verdict, built.bundle.path)
print(edgewhisper.load(built.bundle).transcribe("speech.wav").text)
```
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edgewhisper.api import Built as Built
    from edgewhisper.api import Tuned as Tuned
    from edgewhisper.api import ablate as ablate
    from edgewhisper.api import build as build
    from edgewhisper.api import compare as compare
    from edgewhisper.api import evaluate as evaluate
    from edgewhisper.api import load as load
    from edgewhisper.api import sweep as sweep
    from edgewhisper.api import tune as tune
    from edgewhisper.evaluation.comparison import Comparison as Comparison
    from edgewhisper.evaluation.datasets import Dataset as Dataset
    from edgewhisper.evaluation.datasets import find_dataset as find_dataset
    from edgewhisper.evaluation.gate import GateVerdict as GateVerdict
    from edgewhisper.evaluation.options import EvaluationOptions as EvaluationOptions
    from edgewhisper.evaluation.wer import WerSummary as WerSummary
    from edgewhisper.progress import Progress as Progress
    from edgewhisper.recipes import Recipe as Recipe
    from edgewhisper.recipes import all_recipes as all_recipes
    from edgewhisper.recipes import find_recipe as find_recipe
    from edgewhisper.reports import Report as Report
    from edgewhisper.reports import SweepResult as SweepResult
    from edgewhisper.reports import SweepRow as SweepRow
    from edgewhisper.reports import SystemComparison as SystemComparison
    from edgewhisper.reports.tuning import Limits as Limits
    from edgewhisper.reports.tuning import TuningResult as TuningResult
    from edgewhisper.workspace import Workspace as Workspace
    from edgewhisper_runtime.bundle import Artefact as Artefact
    from edgewhisper_runtime.errors import AudioError as AudioError
    from edgewhisper_runtime.errors import BundleError as BundleError
    from edgewhisper_runtime.errors import CheckpointError as CheckpointError
    from edgewhisper_runtime.errors import DataError as DataError
    from edgewhisper_runtime.errors import EdgeWhisperError as EdgeWhisperError
    from edgewhisper_runtime.errors import GateFailedError as GateFailedError
    from edgewhisper_runtime.errors import GateNotProvenError as GateNotProvenError
    from edgewhisper_runtime.errors import MissingLibraryError as MissingLibraryError
    from edgewhisper_runtime.errors import NetworkError as NetworkError
    from edgewhisper_runtime.errors import QuantizationError as QuantizationError
    from edgewhisper_runtime.errors import RecipeError as RecipeError
    from edgewhisper_runtime.errors import StorageError as StorageError

    __version__: str

# Imported where they are first used: a program that loads a bundle needs no PyTorch for it.
_HOMES = {
    "Artefact": "edgewhisper_runtime.bundle",
    "AudioError": "edgewhisper_runtime.errors",
    "Built": "edgewhisper.api",
    "BundleError": "edgewhisper_runtime.errors",
    "CheckpointError": "edgewhisper_runtime.errors",
    "Comparison": "edgewhisper.evaluation.comparison",
    "DataError": "edgewhisper_runtime.errors",
    "Dataset": "edgewhisper.evaluation.datasets",
    "EdgeWhisperError": "edgewhisper_runtime.errors",
    "EvaluationOptions": "edgewhisper.evaluation.options",
    "GateFailedError": "edgewhisper_runtime.errors",
    "GateNotProvenError": "edgewhisper_runtime.errors",
    "GateVerdict": "edgewhisper.evaluation.gate",
    "Limits": "edgewhisper.reports.tuning",
    "MissingLibraryError": "edgewhisper_runtime.errors",
    "NetworkError": "edgewhisper_runtime.errors",
    "Progress": "edgewhisper.progress",
    "QuantizationError": "edgewhisper_runtime.errors",
    "Recipe": "edgewhisper.recipes",
    "RecipeError": "edgewhisper_runtime.errors",
    "Report": "edgewhisper.reports",
    "StorageError": "edgewhisper_runtime.errors",
    "SweepResult": "edgewhisper.reports",
    "SweepRow": "edgewhisper.reports",
    "SystemComparison": "edgewhisper.reports",
    "Tuned": "edgewhisper.api",
    "TuningResult": "edgewhisper.reports.tuning",
    "WerSummary": "edgewhisper.evaluation.wer",
    "Workspace": "edgewhisper.workspace",
    "ablate": "edgewhisper.api",
    "all_recipes": "edgewhisper.recipes",
    "build": "edgewhisper.api",
    "compare": "edgewhisper.api",
    "evaluate": "edgewhisper.api",
    "find_dataset": "edgewhisper.evaluation.datasets",
    "find_recipe": "edgewhisper.recipes",
    "load": "edgewhisper.api",
    "sweep": "edgewhisper.api",
    "tune": "edgewhisper.api",
}
__all__ = [
    "Artefact",
    "AudioError",
    "Built",
    "BundleError",
    "CheckpointError",
    "Comparison",
    "DataError",
    "Dataset",
    "EdgeWhisperError",
    "EvaluationOptions",
    "GateFailedError",
    "GateNotProvenError",
    "GateVerdict",
    "Limits",
    "MissingLibraryError",
    "NetworkError",
    "Progress",
    "QuantizationError",
    "Recipe",
    "RecipeError",
    "Report",
    "StorageError",
    "SweepResult",
    "SweepRow",
    "SystemComparison",
    "Tuned",
    "TuningResult",
    "WerSummary",
    "Workspace",
    "__version__",
    "ablate",
    "all_recipes",
    "build",
    "compare",
    "evaluate",
    "find_dataset",
    "find_recipe",
    "load",
    "sweep",
    "tune",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib import metadata

        return metadata.version("edgewhisper")
    if name not in _HOMES:
        raise AttributeError(name)
    return getattr(import_module(_HOMES[name]), name)
