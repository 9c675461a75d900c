"""From a bundle on disk to a transcriber, through the engine that the bundle was made for."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import entry_points
from pathlib import Path
from typing import cast

from edgewhisper_runtime import bundle
from edgewhisper_runtime.decode.loop import Backend
from edgewhisper_runtime.decode.rules import TIMESTAMPS
from edgewhisper_runtime.errors import BundleError, EdgeWhisperError, MissingLibraryError
from edgewhisper_runtime.options import MAX_THREADS
from edgewhisper_runtime.text.tokens import Tokenizer
from edgewhisper_runtime.transcriber import Transcriber

BACKENDS = "edgewhisper.backends"

# An engine: a function of the bundle's directory, its manifest, the device such as "cpu" or "cuda",
# and the number of threads or None, which returns a `Backend`. To add one, register it as an entry
# point of this group under the name that manifests have in `backend`.
BackendLoader = Callable[[Path, bundle.Manifest, str, int | None], Backend]


def load(
    source: str | Path | bundle.Artefact,
    device: str = "cpu",
    threads: int | None = None,
    audio_context: bundle.AudioContext | None = None,
    wrap: Callable[[Backend], Backend] | None = None,
) -> Transcriber:
    """Load a bundle: from its directory, which is verified, or one that has been verified.

    `threads` is how many the bundle computes with, as many as its engine chooses where None; the
    process's other work keeps its own number. `device` is "cpu", or "cuda" for a bundle of the
    host toolkit. `audio_context` is "full", "adaptive", or the bundle's own where None.
    `wrap` takes the engine's backend and returns the one to use: around it, to measure it.
    Raises BundleError when the bundle is not intact, MissingLibraryError when its engine is absent,
    EdgeWhisperError for a number of threads that is not from 1 to MAX_THREADS.
    """
    if threads is not None and not 1 <= threads <= MAX_THREADS:
        raise EdgeWhisperError(f"threads is a number from 1 to {MAX_THREADS}, not {threads}.")
    if not isinstance(source, bundle.Artefact):
        source = bundle.Artefact.verified(Path(source))
    directory, manifest = source.path, source.manifest
    _refuse_code(directory, manifest)
    engines = entry_points(group=BACKENDS, name=manifest.backend)
    if not engines:
        raise MissingLibraryError(
            f"{directory} runs on the {manifest.backend!r} backend, which is not installed. "
            "Install the host toolkit (pip install edgewhisper), or use a bundle for this runtime."
        )
    open_backend = cast("BackendLoader", next(iter(engines)).load())
    # First, so that the engine's weights take up the memory that reading the vocabulary leaves.
    tokenizer = Tokenizer(directory / bundle.TOKENIZER)
    backend = open_backend(directory, manifest, device, threads)
    if tokenizer.first_timestamp + TIMESTAMPS > backend.vocabulary:
        raise BundleError(
            f"{directory}: the model has {backend.vocabulary} token ids, and its tokenizer's "
            f"timestamps begin at {tokenizer.first_timestamp}. Build again."
        )
    return Transcriber(
        backend=wrap(backend) if wrap else backend,
        tokenizer=tokenizer,
        settings=manifest.settings,
        adaptive=(audio_context or manifest.audio_context) == "adaptive",
    )


def verify(directory: Path) -> bundle.Manifest:
    """Verify a bundle and that nothing in it is code; return its manifest, or raise BundleError."""
    manifest = bundle.verify(directory)
    _refuse_code(directory, manifest)
    return manifest


def _refuse_code(directory: Path, manifest: bundle.Manifest) -> None:
    if manifest.backend == "torchscript":
        raise BundleError(
            f"{directory} is a TorchScript bundle. TorchScript can hold code, so it is not opened. "
            "Build the bundle again, with --export pytorch."
        )
