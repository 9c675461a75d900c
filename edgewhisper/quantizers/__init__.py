"""One adapter module per library, each with the same few functions.

quantize(model, recipe, calibrate)   quantize the recipe's scope of a float32 model, in place
save(model, path)                    write one safetensors file
load(path, config)                   build the model from that file alone, without float weights
describe(module)                     how a module's weight is stored; None for a plain float one
grid(module)                         the integers of the weight, for exports; None without any
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

from edgewhisper_exporters import plugins
from edgewhisper_runtime.errors import MissingLibraryError, RecipeError

if TYPE_CHECKING:
    from torch import nn
    from transformers import WhisperConfig, WhisperForConditionalGeneration

    from edgewhisper.quantizers.census import WeightFormat
    from edgewhisper.recipes import Recipe
    from edgewhisper_exporters.layers import Grid


@dataclass(frozen=True)
class Library:
    """A quantization library that recipes can name.

    To add one: write its adapter (see `Adapter`), an object of this class, and register that as
    an entry point of the group "edgewhisper.libraries" under the name that recipes use.

    `adapter` is the module to import, `imports` a module that the library installs, `install` how
    to install it, `color` its color in plots. `no_integers` is the reason why exports cannot keep
    the library's integers, if they cannot.
    """

    adapter: str
    imports: str
    install: str
    color: str = "#555555"
    no_integers: str | None = None


class Adapter(Protocol):
    """What a library's module offers."""

    DISTRIBUTIONS: tuple[str, ...]  # whose versions a report names
    CPU_ONLY: Mapping[str, str]  # dtypes of weights that run on the CPU only, and why

    def quantize(
        self,
        model: WhisperForConditionalGeneration,
        recipe: Recipe,
        calibrate: Callable[[], None],
    ) -> None:
        """Quantize in place; raise RecipeError for what the library cannot do.

        A static recipe calls `calibrate`, which runs the model on the calibration data.
        """

    def save(self, model: WhisperForConditionalGeneration, path: Path) -> None:
        """Write everything `load` needs into one safetensors file."""

    def load(self, path: Path, config: WhisperConfig) -> WhisperForConditionalGeneration:
        """Build the model from the file; raise BundleError when a key is missing or left over."""

    def describe(self, module: nn.Module) -> WeightFormat | None:
        """Return how a module's weight is stored; None where the library did not quantize it."""

    def grid(self, module: nn.Module) -> Grid | None:
        """Return a quantized weight's integers; None where an export could not keep them."""


def names() -> tuple[str, ...]:
    """Return the libraries that are registered, in alphabetical order."""
    return plugins.names(plugins.LIBRARIES)


def find(library: str) -> Library:
    """Return a library by its name; raise RecipeError for an unknown one."""
    if library not in names():
        raise RecipeError(f"there is no library {library!r}. Use one of {', '.join(names())}.")
    return cast("Library", plugins.load(plugins.LIBRARIES, library))


def unavailable(library: str) -> str | None:
    """Return why a recipe's library cannot be used here and what to do; None if it can."""
    entry = find(library)
    try:
        present = find_spec(entry.imports) is not None
    except ModuleNotFoundError:  # the parent package is absent
        present = False
    return None if present else f"not installed; {entry.install}"


def adapter(library: str) -> Adapter:
    """Return the adapter of a recipe's library; raise MissingLibraryError if it is absent."""
    if reason := unavailable(library):
        raise MissingLibraryError(f"this recipe needs the library {library}: {reason}.")
    module: Any = import_module(find(library).adapter)
    return cast("Adapter", module)
