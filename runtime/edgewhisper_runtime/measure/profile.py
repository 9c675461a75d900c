"""Speed, memory and size of a bundle on this machine, each repetition in a fresh process."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from edgewhisper_runtime import audio, bundle, loading
from edgewhisper_runtime.decode.loop import Backend
from edgewhisper_runtime.errors import AudioError, EdgeWhisperError, NotMeasurableError
from edgewhisper_runtime.measure import machine, roofline
from edgewhisper_runtime.measure.conditions import Watch
from edgewhisper_runtime.measure.energy import EnergyMeter
from edgewhisper_runtime.measure.figures import (
    ProfileReport,
    ProfileRun,
    summarize,
)
from edgewhisper_runtime.memory import return_large_blocks
from edgewhisper_runtime.options import Options
from edgewhisper_runtime.transcript import EncodedAgain

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from edgewhisper_runtime.transcript import Window

SPEECH = Path(__file__).parent.parent / "speech"


@dataclass
class _Lap:
    """Seconds in encoder and decoder, decoder steps, and the time of the first token."""

    encoder_seconds: float = 0.0
    decoder_seconds: float = 0.0
    steps: int = 0
    first_token_at: float | None = None


class _Stopwatch:
    """A backend that calls another backend and times the calls."""

    backend: Backend
    vocabulary: int

    def __init__(self) -> None:
        self._lap = _Lap()

    def around(self, backend: Backend) -> Backend:
        """Return a backend that calls `backend` and times the calls."""
        self.backend = backend
        self.vocabulary = backend.vocabulary
        return self

    def lap(self) -> _Lap:
        """Return the figures since the last call, and begin new ones."""
        lap, self._lap = self._lap, _Lap()
        return lap

    def encode(self, features: NDArray[np.float32]) -> Any:
        start = time.perf_counter()
        encoded = self.backend.encode(features)
        self._lap.encoder_seconds += time.perf_counter() - start
        return encoded

    def start(self, encoded: Any) -> Any:
        return self.backend.start(encoded)

    def step(self, tokens: NDArray[np.int64], cache: Any) -> NDArray[np.float32]:
        return self._timed(self.backend.step, tokens, cache)

    def verify(self, tokens: NDArray[np.int64], cache: Any) -> NDArray[np.float32]:
        return self._timed(self.backend.verify, tokens, cache)

    def shorten(self, cache: Any, count: int) -> None:
        self.backend.shorten(cache, count)

    def _timed(
        self,
        step: Callable[[NDArray[np.int64], Any], NDArray[np.float32]],
        tokens: NDArray[np.int64],
        cache: Any,
    ) -> NDArray[np.float32]:
        start = time.perf_counter()
        logits = step(tokens, cache)
        end = time.perf_counter()
        self._lap.decoder_seconds += end - start
        self._lap.steps += 1
        if self._lap.first_token_at is None:
            self._lap.first_token_at = end
        return logits

    def reorder(self, cache: Any, rows: NDArray[np.int64]) -> Any:
        return self.backend.reorder(cache, rows)

    def join(self, caches: Sequence[Any]) -> Any:
        return self.backend.join(caches)

    def attention(
        self, tokens: NDArray[np.int64], encoded: Any, row: int, heads: Sequence[tuple[int, int]]
    ) -> NDArray[np.float32]:
        return self.backend.attention(tokens, encoded, row, heads)


def measure(
    source: Path | bundle.Artefact,
    files: Sequence[Path],
    device: str,
    threads: int,
    language: str,
    audio_context: bundle.AudioContext | None = None,
) -> ProfileRun:
    """Load the bundle and transcribe the files once, in this process; all times in seconds.

    The first file is transcribed once more beforehand: that run gives the time to the first
    token and is left out of the real-time factor, as a warm-up.
    """
    options, stopwatch, watch = Options(language=language), _Stopwatch(), Watch(threads)
    start = time.perf_counter()
    transcriber = loading.load(source, device, threads, audio_context, stopwatch.around)
    load_seconds = time.perf_counter() - start
    load_peak = machine.peak_rss()
    clips = [audio.load(path) for path in files]

    start = time.perf_counter()
    transcriber.transcribe(clips[0], options)
    warm_up = stopwatch.lap()
    if warm_up.first_token_at is None:
        raise AudioError(f"{files[0]} holds no speech to measure with. Name another recording.")
    first_token = warm_up.first_token_at - start

    seconds: list[float] = []
    windows: list[Window] = []
    missing: dict[str, str] = {}
    meter = None
    try:
        meter = EnergyMeter()
    except NotMeasurableError as error:
        missing["energy_joules"] = str(error)
    cpu_start = time.process_time()
    for clip in clips:
        start = time.perf_counter()
        windows += transcriber.transcribe(clip, options).windows
        seconds.append(time.perf_counter() - start)
    cpu_seconds = time.process_time() - cpu_start
    joules = meter.joules() if meter else None
    conditions = watch.conditions()
    lap = stopwatch.lap()
    peak_device: Callable[[], int | None] | None = getattr(
        stopwatch.backend, "peak_device_bytes", None
    )
    return ProfileRun(
        load_seconds=load_seconds,
        first_token_seconds=first_token,
        audio_seconds=tuple(len(clip) / audio.SAMPLE_RATE for clip in clips),
        seconds=tuple(seconds),
        cpu_seconds=cpu_seconds,
        encoder_seconds=lap.encoder_seconds,
        decoder_seconds=lap.decoder_seconds,
        decoder_steps=lap.steps,
        audio_context="adaptive" if transcriber.decoder.adaptive else "full",
        windows=len(windows),
        windows_encoded_again={
            reason: sum(window.encoded_again == reason for window in windows)
            for reason in get_args(EncodedAgain)
        },
        peak_rss_load_bytes=load_peak,
        peak_rss_bytes=machine.peak_rss(),
        peak_device_bytes=peak_device() if peak_device else None,
        energy_joules=joules,
        conditions=conditions,
        not_measurable=missing | conditions.missing(),
    )


def profile(
    directory: Path,
    files: Sequence[Path],
    repetitions: int = 3,
    device: str = "cpu",
    threads: int | None = None,
    language: str = "en",
    audio_context: bundle.AudioContext | None = None,
    with_roofline: bool = False,
    on_progress: Callable[[int], None] = lambda _done: None,
) -> ProfileReport:
    """Measure a bundle `repetitions` times, each in a process of its own; return the report.

    `with_roofline` measures, in this process, how close it comes to the machine's limits.
    The summary holds medians over the repetitions. Raises BundleError for a bundle that is not
    intact, EdgeWhisperError when a measuring process fails.
    """
    manifest = bundle.verify(directory)
    described = machine.describe()
    threads = threads or machine.usable_cores()
    # before the work, as it fails for a bundle that has no roofline
    limits, missing = None, {}
    if with_roofline:
        try:
            limits = roofline.measure(directory, threads)
        except NotMeasurableError as error:
            missing["roofline"] = str(error)
    runs = []
    for done in range(repetitions):
        on_progress(done)
        runs.append(measure_afresh(directory, files, device, threads, language, audio_context))
    on_progress(repetitions)
    (backend,) = entry_points(group=loading.BACKENDS, name=manifest.backend)
    closure = (
        machine.closure(backend.dist.name, [manifest.backend, manifest.recipe.library])
        if backend.dist
        else {}
    )
    sizes = (path.stat().st_size for path in directory.iterdir())
    return ProfileReport(
        bundle=manifest.name,
        device=device,
        threads=threads,
        language=language,
        summary=summarize(runs, manifest.weight_bytes, sum(sizes), sum(closure.values())),
        machine=described,
        libraries=machine.versions(closure),
        installed=closure,
        roofline=limits,
        files=tuple(path.name for path in files),
        runs=tuple(runs),
        not_measurable=missing | runs[0].not_measurable,
    )


def measure_afresh(
    source: Path | bundle.Artefact,
    files: Sequence[Path],
    device: str,
    threads: int,
    language: str,
    audio_context: bundle.AudioContext | None = None,
) -> ProfileRun:
    """Return the figures of `measure` in a fresh process; raise EdgeWhisperError if it fails.

    The time to load a directory includes verifying it, as on a device; the time to load an artefact
    does not.
    """
    verified = isinstance(source, bundle.Artefact)
    directory = source.path if isinstance(source, bundle.Artefact) else source
    command = [sys.executable, "-P", "-m", __name__, str(directory), *map(str, files)]
    command += ["--verified"] if verified else []
    command += ["--device", device, "--threads", str(threads), "--language", language]
    command += ["--audio-context", audio_context] if audio_context else []
    result = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    return _parse(result, directory)


def _parse(result: subprocess.CompletedProcess[str], directory: Path) -> ProfileRun:
    """Return the figures that a measuring process wrote, or raise the error that it ended with."""
    try:
        content = json.loads(result.stdout)
    except ValueError:
        content = {}
    if result.returncode == 0 and content:
        return bundle.parse(ProfileRun, content)
    error = EdgeWhisperError(
        content.get("error")
        or f"profiling {directory} failed in its own process (exit code {result.returncode}). "
        "It may have run out of memory; what it said stands above."
    )
    error.exit_code = result.returncode if "error" in content else EdgeWhisperError.exit_code
    raise error


def _main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("bundle", type=Path)
    parser.add_argument("files", type=Path, nargs="+")
    parser.add_argument("--device", required=True)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--language", required=True)
    parser.add_argument("--verified", action="store_true")
    parser.add_argument("--audio-context", choices=get_args(bundle.AudioContext))
    options = parser.parse_args()
    return_large_blocks()
    try:
        source: Path | bundle.Artefact = options.bundle
        if options.verified:
            source = bundle.Artefact(options.bundle, bundle.read_manifest(options.bundle))
        run = measure(
            source,
            options.files,
            options.device,
            options.threads,
            options.language,
            options.audio_context,
        )
    except EdgeWhisperError as error:
        json.dump({"error": str(error)}, sys.stdout)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:  # reported by the process that waits for this one
        sys.exit(1)
    try:
        json.dump(bundle.to_json(run), sys.stdout)
        sys.stdout.flush()
    except BrokenPipeError:  # the process that waited was interrupted
        os._exit(1)  # without another attempt to write at the end


if __name__ == "__main__":
    _main()
