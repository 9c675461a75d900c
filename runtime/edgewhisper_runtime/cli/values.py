"""The types of arguments and options: a bundle, a finite number, a limit, several values."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem

from edgewhisper_runtime.errors import BundleError, printable, suggest
from edgewhisper_runtime.options import split_words
from edgewhisper_runtime.text.writers import WRITERS


def completions(incomplete: str, names: Iterable[str]) -> list[CompletionItem]:
    """Return what a shell offers for a value that is one of `names`, or else a path."""
    items = [CompletionItem(name) for name in names if name.startswith(incomplete)]
    return items or [CompletionItem(incomplete, type="file")]


class Bundle(click.ParamType[Path]):
    """A bundle's directory; the host toolkit knows those it has built by their names too.

    Its group keeps a function that returns the directory of all of them as the root context's
    `obj`.
    """

    name = "bundle"

    def convert(self, value: Any, _param: Any, ctx: click.Context | None) -> Path:
        """Return the directory; raise BundleError for one that is not there."""
        named = Path(value)
        if named.exists():
            return named
        find_built = ctx.find_root().obj if ctx else None
        if find_built is None:
            raise BundleError(f"there is no bundle {printable(str(named))}. Name its directory.")
        built = Path(find_built())
        if (built / named).is_dir():
            return built / named
        hint = suggest(named.name, _names(built), "`edgewhisper bundles` lists those here.")
        raise BundleError(f"there is no bundle {printable(str(named))}. {hint}")

    def shell_complete(
        self, ctx: click.Context, _param: Any, incomplete: str
    ) -> list[CompletionItem]:
        """Return the names of bundles that begin like this, else a path."""
        find_built = ctx.find_root().obj
        return completions(incomplete, _names(Path(find_built())) if find_built else ())


def _names(bundles: Path) -> list[str]:
    return sorted(path.name for path in bundles.glob("*") if path.is_dir())


class OutputDirectory(click.Path):
    """A directory, there or not; one whose name ends as a transcript's must be there."""

    def __init__(self) -> None:
        super().__init__(path_type=Path, file_okay=False)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the directory; fail for a name that looks like a file's."""
        path = Path(value)
        ending = path.suffix.lower().removeprefix(".")
        if ending in WRITERS and not path.is_dir():
            self.fail(
                f"{printable(str(path))} is to be a directory, and is named like a file. For one "
                f"file, write `-f {ending} > {printable(str(path))}`; for a directory, `-o "
                f"{printable(str(path.with_suffix('')))} -f {ending}`.",
                param,
                ctx,
            )
        return super().convert(value, param, ctx)


class Number(click.FloatRange):
    """A finite number within a range; `click.FloatRange` lets nan pass, and often inf."""

    name = "number"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the number; fail for any other text."""
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value!r} is not a finite number.", param, ctx)
        return number


class Limit(click.ParamType[float | None]):
    """A finite number, or none."""

    name = "number or none"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float | None:
        """Return the number, None for none; fail for any other text."""
        return None if value == "none" else float(Number().convert(value, param, ctx))


class Several(click.ParamType[tuple[Any, ...]]):
    """Values of a type with commas between them; a tuple is taken as it is."""

    def __init__(self, of: click.ParamType[Any]) -> None:
        self.name, self._of = of.name, of

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[Any, ...]:
        """Return the values; fail for one that is not of the type."""
        return tuple(self._of.convert(word, param, ctx) for word in split_words(value))
