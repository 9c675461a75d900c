"""The bundle: a directory that ships, every file of it listed and verified before it is opened.

manifest.json       what is here, where it comes from and what it was measured to be
encoder.onnx, decoder.onnx (or model.pt, or weights.safetensors) and what else the backend reads
tokenizer.json      the model's vocabulary
LICENSE             the terms of the weights
"""

from __future__ import annotations

import hashlib
import json
import re
import stat
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, get_args

from edgewhisper_runtime.bundle import atomic
from edgewhisper_runtime.errors import BundleError

MANIFEST = "manifest.json"
TOKENIZER = "tokenizer.json"
SCHEMA = "1.0"  # a reader refuses another major version
# "full": the 30 s that Whisper was trained on; "adaptive": as much as there is, and a margin
AudioContext = Literal["full", "adaptive"]
_FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_WEIGHTS = (".safetensors", ".onnx", ".pt")
_LARGEST_MANIFEST = 16 * 2**20


@dataclass(frozen=True)
class Settings:
    """What the loop must know of the model: mel bands, positions and suppressed token ids.

    `alignment_heads` are (layer, head) of the cross-attention that says when a word is spoken.
    """

    mels: int
    max_tokens: int
    suppress: tuple[int, ...] = ()
    suppress_first: tuple[int, ...] = ()
    alignment_heads: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True)
class File:
    """A file's size in bytes and its SHA-256 in hex."""

    bytes: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """The contents of manifest.json.

    `model` says where the weights come from, `recipe` what was done to them, `census` what the
    saved variant holds, `calibration` the speech that activations' ranges were found on, `export`
    what it was exported from and to, `audio_context` how much of a window it encodes unless told
    otherwise, `evaluation` what it was measured to do and the gate's verdict.
    """

    name: str
    created: str  # ISO 8601, UTC
    backend: str  # who runs it: an entry point of the group edgewhisper.backends
    settings: Settings
    model: dict[str, Any]
    recipe: dict[str, Any]
    census: list[dict[str, Any]]
    libraries: dict[str, str]
    files: dict[str, File] = field(default_factory=dict)
    calibration: dict[str, Any] | None = None
    export: dict[str, Any] | None = None
    audio_context: AudioContext = "full"
    evaluation: dict[str, Any] | None = None

    @property
    def weight_bytes(self) -> int:
        """Size of all weight files."""
        return sum(f.bytes for name, f in self.files.items() if name.endswith(_WEIGHTS))


def describe_files(directory: Path) -> dict[str, File]:
    """Return size and hash of every file in the directory but the manifest."""
    return {
        path.name: describe_file(path)
        for path in sorted(directory.iterdir())
        if path.name != MANIFEST
    }


def write_manifest(directory: Path, manifest: Manifest) -> None:
    """Write manifest.json, whole or not at all."""
    content = {"schema": SCHEMA, **asdict(manifest)}
    atomic.write_text(directory / MANIFEST, json.dumps(content, indent=1) + "\n")


def read_manifest(directory: Path) -> Manifest:
    """Read manifest.json without looking at the other files; raise BundleError if it is wrong."""
    path = directory / MANIFEST
    if not path.is_file():
        raise BundleError(f"{directory} is not a bundle: it has no {MANIFEST}. Name another one.")
    if path.stat().st_size > _LARGEST_MANIFEST:
        raise BundleError(f"{path} is implausibly large. Build the bundle again.")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        schema = str(content.pop("schema"))
        if schema.split(".", maxsplit=1)[0] != SCHEMA.split(".", maxsplit=1)[0]:
            raise BundleError(
                f"{path} has schema {schema}; this version reads {SCHEMA}. "
                "Use a matching edgewhisper-runtime, or build the bundle again."
            )
        settings = content.pop("settings")
        files = {
            name: File(int(entry["bytes"]), str(entry["sha256"]))
            for name, entry in content.pop("files").items()
        }
        manifest = Manifest(
            settings=Settings(
                mels=int(settings["mels"]),
                max_tokens=int(settings["max_tokens"]),
                suppress=tuple(map(int, settings["suppress"])),
                suppress_first=tuple(map(int, settings["suppress_first"])),
                alignment_heads=tuple((int(a), int(b)) for a, b in settings["alignment_heads"]),
            ),
            files=files,
            **content,
        )
        _ = str(manifest.name), manifest.model["name"], manifest.model["weights"]
        _ = datetime.fromisoformat(manifest.created)
        _ = manifest.recipe["name"], manifest.recipe["library"]
        _ = [str(version) for version in manifest.libraries.values()]
        if (found := manifest.evaluation) is not None:
            _ = str(found["verdict"])
            _ = [float(c["d"]) + found["variant"][s]["wer"] for s, c in found["comparison"].items()]
        if manifest.audio_context not in get_args(AudioContext):
            raise ValueError(f"audio_context {manifest.audio_context!r}")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise BundleError(f"{path} is malformed ({error!r}). Build the bundle again.") from error
    if not _FILE_NAME.fullmatch(manifest.name):
        raise BundleError(f"{path} names the bundle {manifest.name!r}, not a plain name. Refused.")
    for name in files:
        if not _FILE_NAME.fullmatch(name) or name == MANIFEST:
            raise BundleError(f"{path} lists {name!r}, which is not a plain file name. Refused.")
    return manifest


def verify(directory: Path) -> Manifest:
    """Check that the bundle is exactly what its manifest lists, and return the manifest.

    Raises BundleError for a file that is missing, altered, unlisted or not a regular file.
    """
    manifest = read_manifest(directory)
    present = {path.name for path in directory.iterdir()} - {MANIFEST}
    if unlisted := sorted(present - manifest.files.keys()):
        raise BundleError(
            f"{directory} holds files its manifest does not list: {unlisted}. Refused."
        )
    for name, expected in manifest.files.items():
        path = directory / name
        if name not in present:
            raise BundleError(f"{path} is missing. Copy the bundle again.")
        if not stat.S_ISREG(path.lstat().st_mode):
            raise BundleError(f"{path} is a link or special file. Refused.")
        size = path.stat().st_size
        if size != expected.bytes:
            raise BundleError(
                f"{path} has {size} bytes, its manifest says {expected.bytes}. "
                "Copy the bundle again."
            )
        if describe_file(path) != expected:
            raise BundleError(
                f"{path} was altered: its SHA-256 is not the manifest's. Copy the bundle again."
            )
    return manifest


def describe_file(path: Path) -> File:
    """Return size and hash of one file."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return File(bytes=path.stat().st_size, sha256=digest)
