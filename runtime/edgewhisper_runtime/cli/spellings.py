"""The command line of other Whisper tools: their names of options, and flags with a value.

`--word_timestamps True` is `--words`, as in openai-whisper; `--vad_filter=False` is `--no-vad`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import click

from edgewhisper_runtime.options import ALIASES

# What other tools call an option, and the parameter that it sets here.
_NAMES = {"model": "bundle", "output_format": "formats", **ALIASES}
_VALUES = {"True": True, "False": False}


def translate(arguments: Sequence[str], command: click.Command) -> list[str]:
    """Return the arguments with every option as `command` spells it.

    What the command does not have is left as it is, for the command to refuse.
    """
    translated: list[str] = []
    rest = deque(arguments)
    while rest:
        argument = rest.popleft()
        if argument == "--":
            return [*translated, argument, *rest]
        name, equals, value = argument.partition("=")
        option = _find(name, command)
        if option is None:
            translated.append(argument)
        elif not option.is_flag:
            translated.append(_own_name(name, option) + equals + value)
        else:
            if not equals and rest and rest[0] in _VALUES:
                value = rest.popleft()
            translated += _flag(_own_name(name, option), option, wanted=_VALUES.get(value, True))
    return translated


def _find(name: str, command: click.Command) -> click.Option | None:
    """Return the option of a long name, the command's own or another tool's."""
    if not name.startswith("--"):
        return None
    own = _hyphenated(name)
    options = [parameter for parameter in command.params if isinstance(parameter, click.Option)]
    target = _NAMES.get(own.removeprefix("--").replace("-", "_"))
    return next(
        (option for option in options if own in (*option.opts, *option.secondary_opts)),
        next((option for option in options if target is not None and option.name == target), None),
    )


def _hyphenated(name: str) -> str:
    return name.replace("_", "-")


def _own_name(name: str, option: click.Option) -> str:
    own = _hyphenated(name)
    return own if own in (*option.opts, *option.secondary_opts) else _long(option.opts)


def _flag(name: str, option: click.Option, *, wanted: bool) -> list[str]:
    """Return the flag that says what is wanted: none where it is what holds without one."""
    if wanted:
        return [name]
    opposite = option.secondary_opts if name in option.opts else option.opts
    return [_long(opposite)] if opposite else []


def _long(names: Sequence[str]) -> str:
    return max(names, key=len)
