"""A server, and what its recordings say without it."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile

from conftest import BundleOf
from edgewhisper_runtime import audio, load
from edgewhisper_runtime.options import Options
from edgewhisper_runtime.transcriber import Transcriber
from servers import ALIASES, CLIPS, ORIGIN, TOKEN, WAITING, Server, serving


@pytest.fixture(scope="package")
def bundle(bundle_of: BundleOf) -> Path:
    return bundle_of("whisper-tiny.en", "onnx-int8")


@pytest.fixture(scope="package")
def server(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    uploads = tmp_path_factory.mktemp("uploads")
    options = ["--queue", WAITING, "--max-upload", 1, "--cors-origin", ORIGIN]
    for alias in ALIASES:
        options += ["--model-alias", alias]
    with serving(bundle, uploads, *options, token=TOKEN) as running:
        yield running
        assert not running.stored
        running.process.send_signal(signal.SIGINT)
        assert running.process.wait(60) == 0
        assert running.process.stderr.read() == ""
    assert not list(uploads.glob("edgewhisper-serve-*"))


@pytest.fixture(scope="package")
def transcriber(bundle: Path) -> Transcriber:
    return load(bundle)


@pytest.fixture(scope="package")
def long(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recording of more than one window, in less than a megabyte."""
    path = tmp_path_factory.mktemp("long") / "long.opus"
    samples = np.concatenate([audio.load(clip) for clip in [*CLIPS, *CLIPS]])
    assert len(samples) > 40 * audio.SAMPLE_RATE
    soundfile.write(path, samples, audio.SAMPLE_RATE, format="OGG", subtype="OPUS")
    return path


@pytest.fixture(scope="package")
def texts(transcriber: Transcriber, long: Path) -> dict[Path, str]:
    """What the recordings say to the same model without a server."""
    options = Options()
    return {clip: transcriber.transcribe(clip, options=options).text for clip in (*CLIPS, long)}
