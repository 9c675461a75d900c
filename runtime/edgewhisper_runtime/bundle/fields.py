"""JSON and TOML content turned into dataclasses, each value of its declared type and range.

The types that a field may have: bool, int, float, str, Literal, tuple, dict, Any (JSON of somebody
else's), another dataclass, any of these or None, `FreeText`, and `Annotated` with a `Rule`.
"""

from __future__ import annotations

import json
import math
import re
import reprlib
import types
import typing
from collections.abc import Callable
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from functools import cache
from typing import Annotated, Any, Literal, TypeVar, Union

from edgewhisper_runtime.errors import printable

T = TypeVar("T")

_LARGEST = 2**63  # of a whole number
_LONGEST, _LONGEST_FREE = 4096, 2**20  # characters of a text
_SURROGATE = re.compile("[\ud800-\udfff]")
_DEEPEST = 32  # levels of somebody else's JSON
_SHOWN = 64  # characters of a key in a message
_KINDS = {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}


class FieldError(ValueError):
    """A value that does not fit its field; the message begins with the field's path."""


@dataclass(frozen=True)
class Rule:
    """What a value must satisfy besides its type: a test, and the same in words."""

    holds: Callable[[Any], bool]
    words: str


def between(low: float, high: float) -> Rule:
    """Return the rule for numbers from `low` to `high`."""
    return Rule(lambda value: low <= value <= high, f"be from {low:g} to {high:g}")


def at_most(count: int) -> Rule:
    """Return the rule for texts, lists and tables of at most `count` entries."""
    return Rule(lambda value: len(value) <= count, f"have at most {count} entries")


def matching(pattern: str, words: str) -> Rule:
    """Return the rule for texts that a regular expression matches as a whole."""
    return Rule(lambda value: re.fullmatch(pattern, value) is not None, f"be {words}")


Count = Annotated[int, between(0, 2**40)]
Seconds = Annotated[float, between(0, 1e9)]
Duration = Annotated[Seconds, Rule(lambda seconds: seconds > 0, "be above 0")]  # of audio


class _OtherKeys:
    """Marks the field that takes the keys which have no field of their own."""


OtherKeys = Annotated[dict[str, Any], _OtherKeys]


class _FreeText:
    """Marks a text that people say or a model writes, in any script."""


# Any characters: Persian, Khmer and others need some that are not seen. Not for a terminal.
FreeText = Annotated[str, _FreeText]


def parse(kind: type[T], content: object, *, ignore_unknown: bool = False) -> T:
    """Return a dataclass made of a mapping; raise FieldError naming the key that does not fit.

    A key without a field is an error unless `ignore_unknown`, or a field takes it (`OtherKeys`).
    """
    return typing.cast("T", _Parser(ignore_unknown).value(kind, content, ""))


def decode_json(text: str | bytes, *, constants: bool = True) -> Any:
    """Return the value of a JSON text; bytes are UTF-8, with or without a byte order mark.

    Raises ValueError for anything else, for brackets nested too deep to read, and, unless
    `constants`, for NaN and Infinity, which are no JSON.
    """
    try:
        text = text if isinstance(text, str) else text.decode("utf-8-sig")
        return json.loads(text, parse_constant=None if constants else _refuse_constant)
    except RecursionError as error:
        raise ValueError("its brackets are nested too deep") from error


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON number")


def to_json(value: Any) -> Any:
    """Return what `parse` reads back as the same value: dicts for dataclasses, lists for tuples."""
    if is_dataclass(value):
        kind: Any = type(value)
        content: dict[str, Any] = {}
        for field in _fields(kind):
            part = to_json(getattr(value, field.name))
            content |= part if field.name == _other_keys(kind) else {field.name: part}
        return content
    if isinstance(value, (list, tuple)):
        return [to_json(item) for item in value]
    if isinstance(value, dict):
        return {key: to_json(item) for key, item in value.items()}
    return value


class _Parser:
    def __init__(self, ignore_unknown: bool) -> None:
        self._ignore_unknown = ignore_unknown

    def value(self, hint: Any, value: Any, path: str) -> Any:
        """Return a value as the type `hint` has it."""
        if is_dataclass(hint):
            return self._dataclass(hint, value, path)
        if hint == FreeText:
            return _free_text(value, path)
        if hint is Any:
            _check_json(value, path)
            return value
        composed: dict[Any, Callable[..., Any]] = {
            Annotated: self._with_rules,
            Union: self._optional,
            types.UnionType: self._optional,
            Literal: _choice,
            tuple: self._tuple,
            dict: self._dict,
        }
        if read := composed.get(typing.get_origin(hint)):
            return read(typing.get_args(hint), value, path)
        return _scalar(hint, value, path)

    def _with_rules(self, arguments: tuple[Any, ...], value: Any, path: str) -> Any:
        kind, *rules = arguments
        parsed = self.value(kind, value, path)
        for rule in rules:
            if not rule.holds(parsed):
                raise FieldError(f"{path} is {_show(value)}; it must {rule.words}.")
        return parsed

    def _optional(self, kinds: tuple[Any, ...], value: Any, path: str) -> Any:
        (kind,) = (kind for kind in kinds if kind is not types.NoneType)
        return None if value is None else self.value(kind, value, path)

    def _dataclass(self, kind: Any, content: Any, path: str) -> Any:
        content = _table(content, path)
        fields = {field.name: field for field in _fields(kind)}
        takes_others = _other_keys(kind)
        fields.pop(takes_others, None)
        others = {key: content[key] for key in content if key not in fields}
        if others and not takes_others and not self._ignore_unknown:
            raise FieldError(
                f"unknown key {_join(path, next(iter(others)))}. Known here: {', '.join(fields)}."
            )
        hints = _hints(kind)
        values = {}
        for name, field in fields.items():
            if name in content:
                values[name] = self.value(hints[name], content[name], _join(path, name))
            elif field.default is MISSING and field.default_factory is MISSING:
                raise FieldError(f"the key {_join(path, name)} is missing.")
        if takes_others:
            _check_json(others, path)
            values[takes_others] = others
        return kind(**values)

    def _tuple(self, hints: tuple[Any, ...], content: Any, path: str) -> tuple[Any, ...]:
        if not isinstance(content, (list, tuple)):
            raise FieldError(f"{path} must be a list.")
        if hints[-1] is not Ellipsis and len(hints) != len(content):
            raise FieldError(f"{path} must be a list of {len(hints)}.")
        of_each = hints if hints[-1] is not Ellipsis else [hints[0]] * len(content)
        return tuple(self.value(h, item, path) for h, item in zip(of_each, content, strict=True))

    def _dict(self, hints: tuple[Any, ...], content: Any, path: str) -> dict[str, Any]:
        return {
            self.value(hints[0], key, f"a key of {path}"): self.value(
                hints[1], item, _join(path, key)
            )
            for key, item in _table(content, path).items()
        }


def _choice(choices: tuple[str, ...], value: Any, path: str) -> str:
    if not isinstance(value, str) or value not in choices:
        raise FieldError(f"{path} is {_show(value)}; use one of {', '.join(choices)}.")
    return value


def _scalar(kind: Any, value: Any, path: str) -> Any:
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value) if abs(value) < _LARGEST else math.inf
    if not isinstance(value, kind) or isinstance(value, bool) != (kind is bool):
        raise FieldError(f"{path} is {_show(value)}; it must be {_KINDS[kind]}.")
    if isinstance(value, float) and not math.isfinite(value):
        raise FieldError(f"{path} is {value}; it must be a finite number.")
    if isinstance(value, int) and abs(value) >= _LARGEST:
        raise FieldError(f"{path} is far too large a number.")
    if isinstance(value, str) and (len(value) > _LONGEST or printable(value) != value):
        raise FieldError(
            f"{path} is {_show(value)}; it must be a text of at most {_LONGEST} characters, "
            "none of them a control character."
        )
    return value


def _free_text(value: Any, path: str) -> str:
    if not isinstance(value, str) or len(value) > _LONGEST_FREE or _SURROGATE.search(value):
        raise FieldError(
            f"{path} is {_show(value)}; it must be a text of at most {_LONGEST_FREE} characters, "
            "none of them half of a pair (a surrogate)."
        )
    return value


def _check_json(value: Any, path: str, depth: int = 0) -> None:
    """Raise FieldError unless a value is JSON of tame texts, numbers and depth."""
    if depth > _DEEPEST:
        raise FieldError(f"{path} is nested too deep.")
    if isinstance(value, dict):
        for key, item in value.items():
            _scalar(str, key, f"a key of {path}")
            _check_json(item, path, depth + 1)
    elif isinstance(value, (list, tuple)):
        for item in value:
            _check_json(item, path, depth + 1)
    elif value is not None:
        kind = next((kind for kind in _KINDS if isinstance(value, kind)), str)
        _scalar(kind, value, path)


def _table(content: Any, path: str) -> dict[str, Any]:
    if not isinstance(content, dict):
        raise FieldError(f"{path or 'it'} must be a table of keys and values.")
    return content


def _show(value: Any) -> str:
    """Return a value for a message: short, and with its control characters escaped."""
    if isinstance(value, int) and abs(value) >= _LARGEST:
        return "a huge number"
    return reprlib.repr(value)


def _join(path: str, key: str) -> str:
    shown = printable(key[:_SHOWN])
    return f"{path}.{shown}" if path else shown


@cache
def _fields(kind: Any) -> tuple[Field[Any], ...]:
    return fields(kind)


@cache
def _hints(kind: Any) -> dict[str, Any]:
    return typing.get_type_hints(kind, include_extras=True)


@cache
def _other_keys(kind: Any) -> str:
    """Return the name of the field that takes the other keys; empty where there is none."""
    return next((name for name, hint in _hints(kind).items() if hint == OtherKeys), "")
