"""The recipe schema, and the one way to read a recipe: from a TOML file that it must fit."""

from __future__ import annotations

import re
import tomllib
import typing
from dataclasses import MISSING, dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

from edgewhisper_runtime.errors import RecipeError

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")

Library = Literal["pytorch", "quanto"]
Scheme = Literal["none", "dynamic", "static"]
DType = Literal["float32", "int8", "int4", "int2", "float8_e4m3fn", "float8_e5m2"]
Method = Literal["none", "symmetric", "asymmetric"]
Granularity = Literal["none", "per-tensor", "per-channel", "per-group"]
Part = Literal[
    "encoder.attention",
    "encoder.feed_forward",
    "decoder.attention",
    "decoder.feed_forward",
    "output",
    "embedding",
    "convolution",
]


@dataclass(frozen=True)
class Weights:
    """How weights are stored. `group_size` counts input values that share a scale; 0: no groups."""

    dtype: DType
    method: Method = "none"
    granularity: Granularity = "none"
    group_size: int = 0

    @property
    def bits(self) -> int:
        """Bits per weight, scales left out."""
        return int("".join(c for c in self.dtype.split("_")[0] if c.isdigit()))


@dataclass(frozen=True)
class Activations:
    """How inputs of quantized layers are represented while the model runs."""

    dtype: Literal["float32", "uint8", "uint7"] = "float32"


@dataclass(frozen=True)
class Recipe:
    """What is done to a model.

    `scheme`, in the study's words: "dynamic" needs no data (weights alone are quantized, or
    activations by ranges seen at run time), "static" uses ranges found on `calibration` data.
    `scope` names the parts whose weights are quantized. `exports` names the formats it may be
    turned into. `max_wer_increase` is the gate's limit, in WER percentage points on each split.
    """

    name: str
    summary: str
    library: Library
    scheme: Scheme
    weights: Weights
    max_wer_increase: float
    scope: tuple[Part, ...] = ()
    activations: Activations = Activations()
    calibration: Literal["none", "dev-clean", "dev-other"] = "none"
    exports: tuple[str, ...] = ()

    @property
    def quantizes(self) -> bool:
        """Whether it changes any weight."""
        return bool(self.scope)

    @classmethod
    def from_dict(cls, content: dict[str, Any], origin: str) -> Recipe:
        """Build a recipe; raise RecipeError naming the key that does not fit."""
        recipe = _fit(cls, content, origin, "")
        if not _NAME.fullmatch(recipe.name):
            raise RecipeError(
                f"{origin}: name is {recipe.name!r}; it names directories, so use letters, digits, "
                "'.', '_' and '-', a letter or digit first, 64 at most."
            )
        if recipe.exports:
            raise RecipeError(f"{origin}: exports has {recipe.exports[0]!r}; no export exists yet.")
        if recipe.max_wer_increase < 0:
            raise RecipeError(f"{origin}: max_wer_increase must not be negative.")
        if (recipe.weights.granularity == "per-group") != (recipe.weights.group_size > 0):
            raise RecipeError(
                f"{origin}: weights.group_size must be above 0 with granularity 'per-group' "
                "and left out otherwise."
            )
        if (recipe.scheme == "static") != (recipe.calibration != "none"):
            raise RecipeError(f"{origin}: calibration goes with scheme 'static', and only with it.")
        if recipe.quantizes == (recipe.weights.dtype == "float32"):
            raise RecipeError(
                f"{origin}: scope lists what weights.dtype is applied to; "
                "it is empty for float32, and only then."
            )
        return recipe


def all_recipes() -> list[Recipe]:
    """Return the recipes that come with EdgeWhisper, the baseline first."""
    recipes = [_read(path) for path in sorted(Path(__file__).parent.glob("*.toml"))]
    return sorted(recipes, key=lambda recipe: (recipe.quantizes, recipe.name))


def find_recipe(name: str) -> Recipe:
    """Return a recipe by name or by the path of a TOML file; raise RecipeError."""
    if name.endswith(".toml") or "/" in name:
        return _read(Path(name))
    for recipe in all_recipes():
        if recipe.name == name:
            return recipe
    raise RecipeError(
        f"unknown recipe {name!r}. Use one of {', '.join(r.name for r in all_recipes())}, "
        "or the path of your own .toml file."
    )


def _read(path: Path) -> Recipe:
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"the recipe {path} could not be read ({error}).") from error
    except tomllib.TOMLDecodeError as error:
        raise RecipeError(f"the recipe {path} is not valid TOML ({error}).") from error
    return Recipe.from_dict(content, str(path))


T = TypeVar("T")


def _fit(kind: type[T], content: Any, origin: str, prefix: str) -> T:
    """Build a dataclass from a table, every key known and of its declared type."""
    if not isinstance(content, dict):
        raise RecipeError(f"{origin}: {prefix.rstrip('.')} must be a table.")
    hints = typing.get_type_hints(kind)
    known = {field.name: field for field in fields(kind)}  # type: ignore[arg-type] # only dataclasses come here
    if unknown := sorted(content.keys() - known.keys()):
        raise RecipeError(
            f"{origin}: unknown key {prefix}{unknown[0]!s}. Known here: {', '.join(known)}."
        )
    values = {}
    for name, field in known.items():
        if name in content:
            values[name] = _value(hints[name], content[name], origin, f"{prefix}{name}")
        elif field.default is MISSING and field.default_factory is MISSING:
            raise RecipeError(f"{origin}: the key {prefix}{name} is missing.")
    return kind(**values)


def _value(hint: Any, value: Any, origin: str, key: str) -> Any:
    if is_dataclass(hint):
        return _fit(typing.cast("type[Any]", hint), value, origin, f"{key}.")
    if typing.get_origin(hint) is Literal:
        choices = typing.get_args(hint)
        if value not in choices:
            raise RecipeError(f"{origin}: {key} is {value!r}; use one of {', '.join(choices)}.")
        return value
    if typing.get_origin(hint) is tuple:
        if not isinstance(value, (list, tuple)):
            raise RecipeError(f"{origin}: {key} must be a list.")
        return tuple(_value(typing.get_args(hint)[0], item, origin, key) for item in value)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, hint) or isinstance(value, bool):
        raise RecipeError(f"{origin}: {key} is {value!r}; it must be a {hint.__name__}.")
    return value
