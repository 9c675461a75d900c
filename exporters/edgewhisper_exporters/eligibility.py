"""The recipes that an export format can hold exactly, and the reasons why others are refused."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

from edgewhisper_exporters import plugins
from edgewhisper_runtime.errors import RecipeError

if TYPE_CHECKING:
    from torch import nn

    from edgewhisper_exporters.layers import Variant
    from edgewhisper_runtime.bundle import GraphRecord


class ExportFormat(Protocol):
    """A format that variants are exported to, and that an engine of the same name runs.

    To add one: write a class with these members, register it as an entry point of the group
    "edgewhisper.exports" under the engine's name, and register the engine as one of
    "edgewhisper.backends" (see `edgewhisper_runtime.loading`). Import heavy modules inside
    the methods: recipes are checked against every format.
    """

    distributions: tuple[str, ...]  # whose versions a manifest names
    layout: int  # counted up when the files change: older exports are then made again
    engine_megabytes: int  # the engine's rough size on a device's disk: "auto" is the leanest
    tensors_are_cast: bool  # whether float weights may be stored in another float type

    def why_not(self, recipe: Mapping[str, Any], no_integers: str | None) -> str | None:
        """Return why a recipe, as a mapping of its keys, cannot be exported; None where it can.

        `no_integers` is the reason why its library gives no integers to export, if it gives none.
        """

    def export(self, variant: Variant, directory: Path) -> dict[str, GraphRecord]:
        """Write a variant into a directory and check it; return its graphs, if it has any.

        Raises QuantizationError where the files do not hold what the recipe says.
        """

    def stored(self, directory: Path) -> nn.Module | Iterable[Path]:
        """Return the object of a census: the network as its engine loads it, or ONNX files."""


def names() -> tuple[str, ...]:
    """Return the formats that are registered, the leanest first."""
    registered = plugins.names(plugins.EXPORTS)
    return tuple(sorted(registered, key=lambda name: find(name).engine_megabytes))


def find(name: str) -> ExportFormat:
    """Return a format by its name; raise RecipeError for an unknown one."""
    if name not in plugins.names(plugins.EXPORTS):
        registered = ", ".join(plugins.names(plugins.EXPORTS))
        raise RecipeError(f"there is no export format {name!r}. Use one of {registered}.")
    return cast("ExportFormat", plugins.load(plugins.EXPORTS, name)())


def why_not(recipe: Mapping[str, Any], to_format: str) -> str | None:
    """Return why a recipe, as a mapping of its keys, cannot be exported; None where it can."""
    library = plugins.load(plugins.LIBRARIES, recipe["library"])
    return find(to_format).why_not(recipe, library.no_integers)


def check(recipe: Mapping[str, Any], to_format: str) -> None:
    """Raise RecipeError where a recipe has no such export."""
    if reason := why_not(recipe, to_format):
        raise RecipeError(
            f"{recipe['name']} cannot be exported to {to_format}: {reason}. `edgewhisper recipes` "
            "shows what can; --export none ships the variant itself, for the host toolkit."
        )


def leanest(recipe: Mapping[str, Any]) -> str | None:
    """Return the export whose engine is smallest on the device; None where a recipe has none."""
    return next((name for name in names() if why_not(recipe, name) is None), None)
