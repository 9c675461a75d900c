"""One adapter module per library, each with the same four functions.

quantize(model, recipe)      quantize the recipe's scope of a float32 model, in place
save(model, path)            write one safetensors file
load(path, config)           build the model from that file alone, without float weights
describe(module)             how a module's weight is stored; None where it is plain float
"""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

from edgewhisper_runtime.errors import MissingLibraryError

if TYPE_CHECKING:
    from torch import nn
    from transformers import WhisperConfig, WhisperForConditionalGeneration

    from edgewhisper.quantizers.census import WeightFormat
    from edgewhisper.recipes import Recipe

# library -> the module that must be importable; the extra of the same name installs it
_IMPORTS = {"pytorch": "torch", "quanto": "optimum.quanto"}


class Adapter(Protocol):
    """What a library's module offers."""

    DISTRIBUTIONS: tuple[str, ...]

    def quantize(self, model: WhisperForConditionalGeneration, recipe: Recipe) -> None:
        """Quantize in place; raise RecipeError for what the library cannot do."""

    def save(self, model: WhisperForConditionalGeneration, path: Path) -> None:
        """Write everything `load` needs into one safetensors file."""

    def load(self, path: Path, config: WhisperConfig) -> WhisperForConditionalGeneration:
        """Build the model from the file; raise BundleError when a key is missing or left over."""

    def describe(self, module: nn.Module) -> WeightFormat | None:
        """Say how a module's weight is stored; None where the library quantized nothing."""


def adapter(library: str) -> Adapter:
    """Return the adapter of a recipe's library; raise MissingLibraryError if it is absent."""
    try:
        present = find_spec(_IMPORTS[library]) is not None
    except ModuleNotFoundError:  # the parent package is absent
        present = False
    if not present:
        raise MissingLibraryError(
            f"this recipe needs the library {library}, which is not installed. "
            f"Install it: pip install 'edgewhisper[{library}]'."
        )
    module: Any = import_module(f"edgewhisper.quantizers.{library}")
    return cast("Adapter", module)
