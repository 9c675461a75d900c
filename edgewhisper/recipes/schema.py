"""The recipe schema: what a recipe says, and which contradictions it must not have."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from edgewhisper_exporters import eligibility, plugins
from edgewhisper_runtime.bundle import RecipeRecord, parse, to_json
from edgewhisper_runtime.bundle.fields import FieldError
from edgewhisper_runtime.errors import RecipeError
from edgewhisper_runtime.text.languages import LANGUAGES

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")

Scheme = Literal["none", "dynamic", "static"]
DType = Literal[
    "float32", "bfloat16", "float16", "float8_e4m3fn", "float8_e5m2",
    "int8", "int4", "int3", "int2", "int1", "nf4", "fp4",
]  # fmt: skip
Method = Literal["none", "symmetric", "asymmetric"]
Granularity = Literal["none", "per-tensor", "per-channel", "per-group"]
Rounding = Literal["nearest", "searched", "weighted", "error-feedback"]
Part = Literal[
    "encoder.attention",
    "encoder.qkv",
    "encoder.out_proj",
    "encoder.feed_forward",
    "encoder.fc1",
    "encoder.fc2",
    "decoder.attention",
    "decoder.qkv",
    "decoder.cross_kv",
    "decoder.out_proj",
    "decoder.feed_forward",
    "decoder.fc1",
    "decoder.fc2",
    "output",
    "embedding",
    "convolution",
]
_FLOATS = ("float32", "bfloat16", "float16")
# The layers of a block tolerate different precisions, so each is a part.
_WHOLE: dict[Part, tuple[Part, ...]] = {
    "encoder.attention": ("encoder.qkv", "encoder.out_proj"),
    "encoder.feed_forward": ("encoder.fc1", "encoder.fc2"),
    "decoder.attention": ("decoder.qkv", "decoder.cross_kv", "decoder.out_proj"),
    "decoder.feed_forward": ("decoder.fc1", "decoder.fc2"),
}
_CALIBRATED: tuple[Rounding, ...] = ("weighted", "error-feedback")


@dataclass(frozen=True)
class Weights:
    """How weights are stored. `group_size` counts values that share a scale; 0: no groups.

    `axis` is the direction of a group: 1 along the inputs of one output, 0 across outputs.
    With `double_quantized` the scales are themselves quantized. `rounding` is how the edgewhisper
    library finds scales and codes: "nearest" takes a group's range, "searched" the scale of the
    least squared error, "weighted" the same with each input's mean square as its weight, and
    "error-feedback" (GPTQ) also corrects each rounding error in the inputs rounded later. The last
    two need calibration data.
    """

    dtype: DType
    method: Method = "none"
    granularity: Granularity = "none"
    group_size: int = 0
    axis: int = 1
    double_quantized: bool = False
    rounding: Rounding = "nearest"

    @property
    def bits(self) -> int:
        """Bits per weight, scales left out."""
        return int("".join(c for c in self.dtype.split("_")[0] if c.isdigit()))

    @property
    def grain(self) -> str:
        """The values that share a scale, in words, such as "per-group 64 axis 0"."""
        words: list[str] = [self.granularity]
        if self.group_size:
            words.append(str(self.group_size))
        if self.axis == 0:
            words.append("axis 0")
        if self.double_quantized:
            words.append("double")
        return " ".join(words)


@dataclass(frozen=True)
class Activations:
    """How inputs of quantized layers are represented while the model runs."""

    dtype: Literal["float32", "bfloat16", "float16", "float8_e4m3fn", "int8", "uint8", "uint7"] = (
        "float32"
    )
    granularity: Literal["none", "per-tensor", "per-row"] = "none"


@dataclass(frozen=True)
class Calibration:
    """The data for measuring activations: a number of utterances, evenly spread over a split."""

    split: Literal["none", "dev-clean", "dev-other"] = "none"
    utterances: int = 0


@dataclass(frozen=True)
class Override:
    """Other weights for some parts of the scope: a mixed recipe."""

    scope: tuple[Part, ...]
    weights: Weights


@dataclass(frozen=True)
class Recipe:
    """What is done to a model.

    `scheme`, in the study's words, is how activations are quantized: "dynamic" not at all or by
    their ranges at run time, "static" by ranges measured on `calibration` data.
    `scope` names the parts whose weights are quantized to `weights`, or to other weights in
    `overrides`. `exports` names the formats that the recipe is made for: a sweep then measures the
    export, not the variant on PyTorch. `max_wer_increase` is the gate's limit, in WER percentage
    points on each split. `smoothing`, from 0 (none) to 1 (all), is how much of the difference
    between large and small inputs of a layer moves into its weights (SmoothQuant). `languages`,
    codes such as "en", are those that the vocabulary is cut to; without any it stays whole.
    """

    name: str
    summary: str
    library: str
    scheme: Scheme
    weights: Weights
    max_wer_increase: float
    scope: tuple[Part, ...] = ()
    overrides: tuple[Override, ...] = ()
    activations: Activations = Activations()
    calibration: Calibration = Calibration()
    exports: tuple[str, ...] = ()
    smoothing: float = 0.0
    languages: tuple[str, ...] = ()

    @property
    def quantizes(self) -> bool:
        """Whether any weight gets a smaller type than the processor's float types."""
        return bool(self.scope)

    @property
    def quantization(self) -> str:
        """What is quantized, in the field's words; the study calls weight-only "dynamic" too."""
        if self.scheme == "dynamic" and self.activations.dtype in _FLOATS:
            return "weight-only"
        return self.scheme

    @property
    def calibrates(self) -> bool:
        """Whether quantizing runs the model on calibration data."""
        weights = (self.weights, *(override.weights for override in self.overrides))
        return (
            self.scheme == "static"
            or self.smoothing > 0
            or any(each.rounding in _CALIBRATED for each in weights)
        )

    @property
    def batchable(self) -> bool:
        """Whether texts do not depend on how many utterances are decoded at once."""
        return self.scheme != "dynamic" or self.activations.granularity != "per-tensor"

    def separate_parts(self) -> list[tuple[Part, ...]]:
        """Return the parts of the scope, those together that the library stores as one tensor."""
        if self.library != "edgewhisper" or "embedding" not in self.scope:
            return [(part,) for part in self.scope]
        ends: tuple[Part, ...] = ("output", "embedding")
        alone = (part for part in self.scope if part != "embedding")
        return [ends if part == "output" else (part,) for part in alone]

    def one_part_at_a_time(self) -> list[Recipe]:
        """Return recipes that each quantize one part of this scope, then only encoder or decoder.

        Parts that share their weights (see the edgewhisper library) stay together. Raises
        RecipeError for a recipe that quantizes nothing.
        """
        if not self.quantizes:
            raise RecipeError(f"{self.name} quantizes no part of the model. Name another recipe.")
        scopes: dict[str, tuple[Part, ...]] = {parts[0]: parts for parts in self.separate_parts()}
        for half in ("encoder", "decoder"):
            own = tuple(part for part in self.scope if part.startswith(f"{half}."))
            if len(own) > 1:
                scopes[half] = own
        return [self._limited_to(name, scope) for name, scope in scopes.items()]

    def _limited_to(self, name: str, scope: tuple[Part, ...]) -> Recipe:
        overrides = [(set(o.scope) & set(scope), o.weights) for o in self.overrides]
        limited = replace(
            self,
            name=f"{self.name}.{name}",
            summary=f"{self.summary}; {name} alone",
            scope=scope,
            overrides=tuple(Override(tuple(sorted(parts)), w) for parts, w in overrides if parts),
        )
        return limited if limited.calibrates else replace(limited, calibration=Calibration())

    def weights_of(self, part: str) -> Weights:
        """Return how the weights of a part in scope are stored."""
        return next((o.weights for o in self.overrides if part in o.scope), self.weights)

    def record(self) -> RecipeRecord:
        """Return the recipe as a manifest holds it."""
        return parse(RecipeRecord, to_json(self))

    @classmethod
    def from_record(cls, record: RecipeRecord, origin: object) -> Recipe:
        """Return the recipe that a manifest holds; raise RecipeError as `from_dict` does."""
        return cls.from_dict(to_json(record), str(origin))

    @classmethod
    def from_dict(cls, content: dict[str, Any], origin: str) -> Recipe:
        """Build a recipe; raise RecipeError naming the key that does not fit."""
        try:
            recipe = parse(cls, content)
        except FieldError as error:
            raise RecipeError(f"{origin}: {error}") from error
        recipe = replace(
            recipe,
            scope=_parts(recipe.scope),
            overrides=tuple(replace(o, scope=_parts(o.scope)) for o in recipe.overrides),
        )
        for wrong, message in _faults(recipe):
            if wrong:
                raise RecipeError(f"{origin}: {message}")
        return recipe


def _parts(scope: tuple[Part, ...]) -> tuple[Part, ...]:
    """Return a scope with each block named by its layers."""
    return tuple(part for named in scope for part in _WHOLE.get(named, (named,)))


def _faults(recipe: Recipe) -> Iterator[tuple[bool, str]]:
    """Yield, for each possible contradiction in a recipe, whether it is there, and a message."""
    yield not _NAME.fullmatch(recipe.name), _name_fault(recipe.name)
    for key, given, group in (
        ("library", (recipe.library,), plugins.LIBRARIES),
        ("exports", recipe.exports, plugins.EXPORTS),
    ):
        for name in given:
            registered = plugins.names(group)
            yield name not in registered, f"{key} is {name!r}; use one of {', '.join(registered)}."
    for export in recipe.exports:
        reason = eligibility.why_not(asdict(recipe), export)
        yield reason is not None, f"exports has {export}, but {reason}."
    limit = recipe.max_wer_increase
    yield not (math.isfinite(limit) and limit >= 0), "max_wer_increase must be a number from 0 on."
    for weights in (recipe.weights, *(override.weights for override in recipe.overrides)):
        yield (weights.granularity == "per-group") != (weights.group_size > 0), _GROUP_FAULT
        yield weights.axis not in {0, 1}, "weights.axis must be 0 or 1."
        yield recipe.quantizes == (weights.dtype in _FLOATS), _SCOPE_FAULT
    as_float = (recipe.library, recipe.scheme, recipe.weights.method, recipe.weights.granularity)
    yield not recipe.quantizes and as_float != ("pytorch", "none", "none", "none"), _FLOAT_FAULT
    yield recipe.quantizes and recipe.scheme == "none", _FLOAT_FAULT
    split, utterances = recipe.calibration.split, recipe.calibration.utterances
    calibrated = split != "none" and utterances > 0
    yield calibrated != (split != "none" or utterances != 0), _CALIBRATION_FAULT
    yield calibrated != recipe.calibrates, _CALIBRATION_FAULT
    rounded = {
        weights.rounding for weights in (recipe.weights, *(o.weights for o in recipe.overrides))
    }
    own = recipe.smoothing == 0 and rounded == {"nearest"}
    yield not own and recipe.library != "edgewhisper", _ROUNDING_FAULT
    yield not 0 <= recipe.smoothing <= 1, "smoothing must be a number from 0 to 1."
    unknown = [code for code in recipe.languages if code not in LANGUAGES]
    yield bool(unknown), f"languages has {unknown[:1]}; use Whisper's codes, such as 'en'."
    english = not recipe.languages or "en" in recipe.languages
    yield recipe.calibrates and not english, _CALIBRATION_LANGUAGE_FAULT
    named = [part for override in recipe.overrides for part in override.scope]
    twice = len(set(named)) < len(named)
    yield twice or not set(named) <= set(recipe.scope), _OVERRIDE_FAULT
    exact = recipe.activations.dtype in _FLOATS
    yield exact != (recipe.activations.granularity == "none"), _ACTIVATIONS_FAULT


def _name_fault(name: str) -> str:
    return (
        f"name is {name!r}; it names directories, so use letters, digits, '.', '_' and '-', "
        "a letter or digit first, 64 at most."
    )


_GROUP_FAULT = (
    "weights.group_size must be above 0 with granularity 'per-group' and left out otherwise."
)
_SCOPE_FAULT = (
    "scope lists what weights.dtype is applied to; it is empty for "
    f"{', '.join(_FLOATS)}, and only then."
)
_FLOAT_FAULT = (
    "a recipe without scope has library 'pytorch', scheme 'none' and weights.dtype alone, "
    "and no other recipe has scheme 'none'."
)
_CALIBRATION_FAULT = (
    "calibration.split and calibration.utterances go with what needs data, and only with it: "
    f"scheme 'static', smoothing, weights.rounding {' and '.join(map(repr, _CALIBRATED))}."
)
_CALIBRATION_LANGUAGE_FAULT = (
    "calibration data is English, and languages leaves out 'en'. Add it, or choose a recipe that "
    "does not calibrate."
)
_ROUNDING_FAULT = "weights.rounding and smoothing are for library 'edgewhisper' only."
_OVERRIDE_FAULT = (
    "each part in an override's scope must be in the recipe's scope, and in one override only."
)
_ACTIVATIONS_FAULT = (
    "activations.granularity goes with a quantized activations.dtype, and only with it."
)
