"""The bundle: a directory that ships, every file of it listed and verified before it is opened."""

from edgewhisper_runtime.bundle.manifest import (
    MANIFEST,
    SCHEMA,
    TOKENIZER,
    AudioContext,
    File,
    Manifest,
    Settings,
    describe_file,
    describe_files,
    read_manifest,
    verify,
    write_manifest,
)

__all__ = [
    "MANIFEST",
    "SCHEMA",
    "TOKENIZER",
    "AudioContext",
    "File",
    "Manifest",
    "Settings",
    "describe_file",
    "describe_files",
    "read_manifest",
    "verify",
    "write_manifest",
]
