"""The directory where EdgeWhisper keeps what it fetches and builds."""

from __future__ import annotations

import itertools
import logging
import os
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from edgewhisper.hashes import HashCache
from edgewhisper_runtime import bundle
from edgewhisper_runtime.bundle import Artefact, Manifest, atomic
from edgewhisper_runtime.errors import StorageError

_PACKAGED_CARDS = Path(__file__).parent / "models"
_CHECKOUT_MODELS = Path(__file__).resolve().parent.parent / "models"
_log = logging.getLogger(__name__)
_LATEST = "latest-bundle"
_WANTED = "to keep models and bundles in. Set EDGEWHISPER_HOME to a directory that may be written."


@dataclass(frozen=True)
class Workspace:
    """A directory for checkpoints, variants, exports, evaluations, reports and bundles.

    Made once, where a command or a call of the API starts, and passed on. `speech` is the
    directory of LibriSpeech's splits outside the workspace, if there is one.
    """

    root: Path
    speech: Path | None = None
    hashes: HashCache = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "hashes", HashCache(self.root / "hashes.txt"))

    @classmethod
    def from_environment(cls) -> Workspace:
        """Return the workspace that the environment names.

        EDGEWHISPER_HOME; else models/ of a source checkout; else ~/.cache/edgewhisper.
        EDGEWHISPER_LIBRISPEECH names `speech`. No other place reads the environment. Raises
        StorageError for a user without a home that may be written.
        """
        home = os.environ.get("EDGEWHISPER_HOME")
        speech = os.environ.get("EDGEWHISPER_LIBRISPEECH")
        return cls(Path(home) if home else _default_root(), Path(speech) if speech else None)

    @property
    def checkpoints(self) -> Path:
        """Models as they were fetched, one directory each."""
        return self.root / "checkpoints"

    @property
    def downloads(self) -> Path:
        """What is being downloaded."""
        return self.root / "downloads"

    @property
    def variants(self) -> Path:
        """Checkpoints with a recipe applied."""
        return self.root / "variants"

    @property
    def exports(self) -> Path:
        """Variants turned into files that other engines run, by format."""
        return self.root / "exports"

    @property
    def evaluations(self) -> Path:
        """Raw texts of evaluations, and losses that searches measured."""
        return self.root / "evaluations"

    @property
    def reports(self) -> Path:
        """Comparisons with the baseline, and the gate's verdicts: one directory for each run."""
        return self.root / "reports"

    def new_report(self, name: str) -> Path:
        """Return a new directory, named after the time, for a report on a variant.

        `latest` beside it becomes a relative link to it, where the system has links.
        """
        stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
        runs = self.reports / name
        with atomic.storage_errors(runs):
            runs.mkdir(parents=True, exist_ok=True)
            for number in itertools.count(1):
                directory = runs / (stamp if number == 1 else f"{stamp}-{number}")
                try:
                    directory.mkdir()
                    break
                except FileExistsError:  # another run of the same second
                    continue
        link = directory.with_name(f".latest-{directory.name}")
        try:
            link.symlink_to(directory.name)
            link.replace(runs / "latest")
        except OSError as error:
            _log.info("no link %s to the report (%s)", runs / "latest", error)
        return directory

    @property
    def bundles(self) -> Path:
        """What ships."""
        return self.root / "bundles"

    @property
    def sweeps(self) -> Path:
        """Results of sweeps, one directory for each model."""
        return self.root / "sweeps"

    @property
    def ablations(self) -> Path:
        """Results of ablations, one directory for each model."""
        return self.root / "ablations"

    @property
    def tunings(self) -> Path:
        """Results of tuning, one directory for each model."""
        return self.root / "tunings"

    @property
    def data(self) -> Path:
        """Data cards: TOML files that name data sets."""
        return self.root / "data"

    @property
    def librispeech(self) -> Path:
        """Where downloaded splits of LibriSpeech are put."""
        return self.root / "librispeech" / "LibriSpeech"

    def open(self, directory: Path) -> Artefact:
        """Return a variant, export or bundle; raise BundleError unless it is intact.

        A file is hashed only when its size or time is not that of the last time.
        """
        return Artefact(directory, bundle.verify(directory, self.hashes.describe))

    def written(self, directory: Path, manifest: Manifest) -> Artefact:
        """Return what has just been written with this manifest, whose hashes are its files'."""
        hashes = {name: file.sha256 for name, file in manifest.files.items()}
        self.hashes.remember(directory, hashes)
        return Artefact(directory, manifest)

    def remember_bundle(self, directory: Path) -> None:
        """Make this bundle the default of `edgewhisper transcribe`.

        One in the workspace is remembered by its place there, so that a copy has its own.
        """
        directory, root = directory.resolve(), self.root.resolve()
        place = directory.relative_to(root) if directory.is_relative_to(root) else directory
        atomic.write_text(self.root / _LATEST, place.as_posix())

    def latest_bundle(self) -> Path | None:
        """Return the bundle built last, if it still exists and is not in another workspace."""
        pointer = self.root / _LATEST
        if not pointer.is_file():
            return None
        directory = self.root.resolve() / pointer.read_text(encoding="utf-8").strip()
        other = directory.parent.parent
        if (other / _LATEST).exists() and not other.samefile(self.root):
            return None
        return directory if directory.is_dir() else None


def _default_root() -> Path:
    if not _PACKAGED_CARDS.is_dir():
        return _CHECKOUT_MODELS
    try:
        root = Path.home() / ".cache" / "edgewhisper"
    except RuntimeError as error:  # a container's user: no HOME, and no entry in /etc/passwd
        raise StorageError(f"this user has no home directory {_WANTED}") from error
    # Containers often run as a user whose home is /, where only root may write.
    nearest = next(path for path in (root, *root.parents) if path.exists())
    if nearest != root and not os.access(nearest, os.W_OK):
        raise StorageError(f"{nearest} may not be written, so there is no directory {_WANTED}")
    return root


def cards() -> Path:
    """Return the directory of model cards: in the package, or in a source checkout."""
    return _PACKAGED_CARDS if _PACKAGED_CARDS.is_dir() else _CHECKOUT_MODELS
