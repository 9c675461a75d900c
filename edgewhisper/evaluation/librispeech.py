"""Finding LibriSpeech, or the synthetic smoke set where it is not here."""

from __future__ import annotations

from pathlib import Path

from edgewhisper.evaluation.cards import Card
from edgewhisper.workspace import Workspace
from edgewhisper_runtime.errors import DataError, suggest
from edgewhisper_runtime.measure.profile import SPEECH

LIBRISPEECH = "LibriSpeech"
SMOKE = "synthetic smoke set"
ALL_SPLITS = ("dev-clean", "dev-other", "test-clean", "test-other")
_FORMAT = "librispeech"


def card(root: Path) -> Card:
    """Return the card of a directory of LibriSpeech's splits."""
    return Card(str(root), LIBRISPEECH, _FORMAT, language="en", licence="CC BY 4.0")


def find_card(
    workspace: Workspace, directory: Path | None = None, splits: tuple[str, ...] = ()
) -> Card:
    """Return the card of LibriSpeech, or of the smoke set where LibriSpeech is not here.

    `splits` are those that will be asked for. Raises DataError where a directory or split that was
    asked for is not there.
    """
    root = root_of(workspace, directory)
    if root is not None:
        present = _splits(root)
        if absent := [split for split in splits if split not in present]:
            download = f"Run `edgewhisper data librispeech --split {absent[0]}`."
            hint = download if absent[0] in ALL_SPLITS else suggest(absent[0], ALL_SPLITS)
            raise DataError(
                f"{root} has no split {absent[0]!r}; it has {', '.join(present)}. {hint}".rstrip()
            )
        return card(root)
    if named := directory or workspace.speech:
        raise DataError(
            f"{named} holds no LibriSpeech split ({', '.join(ALL_SPLITS)}). Name the directory "
            "that has them, or run `edgewhisper data librispeech`."
        )
    if splits and splits != ("smoke",):
        raise DataError(
            f"LibriSpeech is not here, so {', '.join(splits)} cannot be used. Run "
            "`edgewhisper data librispeech`, or set EDGEWHISPER_LIBRISPEECH or --librispeech."
        )
    return Card(str(SPEECH), SMOKE, _FORMAT, language="en", synthetic=True)


def root_of(workspace: Workspace, directory: Path | None = None) -> Path | None:
    """Return the directory of LibriSpeech's splits; None where there is no split.

    `directory`, else the workspace's `speech`, else what was downloaded: that directory, or
    LibriSpeech/ in it.
    """
    root = directory or workspace.speech or workspace.librispeech
    if (root / LIBRISPEECH).is_dir():
        root = root / LIBRISPEECH
    return root if _splits(root) else None


def _splits(root: Path) -> tuple[str, ...]:
    return tuple(split for split in ALL_SPLITS if (root / split).is_dir())
