"""The one family of errors, each with the exit code that the command line ends with."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from difflib import get_close_matches

# Unicode's categories of what a terminal obeys or hides: controls, formats (bidirectional
# overrides among them), lone surrogates, line and paragraph separators.
_HIDDEN = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
# Hidden, but Persian, Khmer, Hebrew and others are not written without them: soft hyphen, spaces of
# no width, joiners, and the marks that give a direction to one character.
_OF_SCRIPTS = frozenset("\u00ad\u200b\u200c\u200d\u200e\u200f")


def printable(text: str) -> str:
    r"""Return text of unknown origin on one line, each control or hidden character as \x1b is."""
    if text.isprintable():
        return text
    return "".join(
        c.encode("unicode_escape").decode()
        if unicodedata.category(c) in _HIDDEN and c not in _OF_SCRIPTS
        else c
        for c in text
    )


def suggest(name: str, known: Iterable[str], otherwise: str = "") -> str:
    """Return "Did you mean ...?" with the known name that is closest; `otherwise` if none is."""
    close = get_close_matches(name, list(known), n=1)
    return f"Did you mean {close[0]}?" if close else otherwise


def amount(count: int, noun: str) -> str:
    """Return "1 file" or "2 files" for a noun such as "file"."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


class EdgeWhisperError(Exception):
    """Any other error; its message says what failed and where, then what to do next.

    The message may quote files and their names, so it is made `printable`.
    """

    exit_code = 1

    def __init__(self, message: str) -> None:
        super().__init__(printable(message))


class AudioError(EdgeWhisperError):
    """An audio file or array that cannot be used as speech."""

    exit_code = 3


class CheckpointError(EdgeWhisperError):
    """A model that is unknown, incomplete or not what its card says."""

    exit_code = 4


class RecipeError(EdgeWhisperError):
    """A recipe that is unknown, malformed or not possible on this machine."""

    exit_code = 5


class BundleError(EdgeWhisperError):
    """A bundle that is missing, malformed or altered."""

    exit_code = 6


class MissingLibraryError(EdgeWhisperError):
    """An optional library that is needed and not installed."""

    exit_code = 7


class DataError(EdgeWhisperError):
    """Evaluation data that is missing or damaged, or results that do not fit together."""

    exit_code = 8


class GateFailedError(EdgeWhisperError):
    """The variant's word error rate is above what its recipe allows."""

    exit_code = 9


class GateNotProvenError(EdgeWhisperError):
    """Too little data to tell, where the caller asked for proof."""

    exit_code = 10


class NetworkError(EdgeWhisperError):
    """A server that cannot be reached, or sent something else than promised."""

    exit_code = 11


class StorageError(EdgeWhisperError):
    """A file or disk that the system refuses: full, not permitted, not readable."""

    exit_code = 12


class TranscriptError(EdgeWhisperError):
    """A transcript that is empty or repeats itself."""

    exit_code = 13


class QuantizationError(EdgeWhisperError):
    """A quantizer that did less than its recipe asks."""

    exit_code = 14


class DeviceError(EdgeWhisperError):
    """A device that cannot run the package, or that no package can be made for."""

    exit_code = 15


class NotMeasurableError(EdgeWhisperError):
    """A figure that this machine does not expose, or cannot be measured while it is busy."""

    exit_code = 16
