"""An evaluation's batches on a Ray cluster: the bundle and the audio travel, no disk is shared.

RAY_ADDRESS names the cluster; without it Ray joins one that `ray start` left on this machine, or
starts its own. Its workers need the same edgewhisper installed.
"""

from __future__ import annotations

import logging
import tempfile
from collections import deque
from collections.abc import Generator, Sequence
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgewhisper.evaluation.batches import records
from edgewhisper.evaluation.conditions import CLEAN
from edgewhisper.evaluation.datasets import Utterance
from edgewhisper.evaluation.wer import Record
from edgewhisper_runtime.bundle import write_manifest
from edgewhisper_runtime.errors import EdgeWhisperError, MissingLibraryError
from edgewhisper_runtime.loading import load
from edgewhisper_runtime.transcriber import Transcriber

if TYPE_CHECKING:
    from edgewhisper.evaluation.options import EvaluationOptions
    from edgewhisper_runtime.audio import Samples
    from edgewhisper_runtime.bundle import Artefact, AudioContext

_RETRIES = 5  # of a batch whose worker died
_AHEAD = 2  # batches handed out for each processor, so that none waits for the next

_loaded: dict[str, Transcriber] = {}  # on a worker: the last bundle's, by its key


def connect(options: EvaluationOptions) -> int:
    """Connect to the cluster; return how many processes of these options it runs at once.

    Raises MissingLibraryError without Ray, EdgeWhisperError when the cluster cannot be reached
    or none of its machines has the processors or the GPU that are asked for.
    """
    if find_spec("ray") is None:
        raise MissingLibraryError(
            "--engine ray needs Ray, which is not installed. "
            "Install it: pip install 'edgewhisper[ray]'."
        )
    import ray

    if not ray.is_initialized():
        try:
            ray.init(log_to_driver=False, logging_level=logging.ERROR, include_dashboard=False)
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise EdgeWhisperError(
                f"no Ray cluster could be reached ({_last_line(error)}). Look at RAY_ADDRESS and "
                "at the versions of Ray and Python there, or use --engine local."
            ) from error
    needed = _resources(options)
    fitting = [
        min(int(node["Resources"].get(name, 0) // amount) for name, amount in needed.items())
        for node in ray.nodes()
        if node["Alive"]
    ]
    if not sum(fitting):
        raise EdgeWhisperError(
            f"no machine of the Ray cluster has {needed}. Use fewer --threads, another --device, "
            "or --engine local."
        )
    return sum(fitting)


def transcribe(
    artefact: Artefact, options: EvaluationOptions, batches: Sequence[Sequence[Utterance]]
) -> Generator[list[Record]]:
    """Yield the records of each batch in turn, worked on by all of the cluster at once.

    A batch whose worker dies is given to another. Raises what `connect` raises, and
    EdgeWhisperError when a batch fails again and again.
    """
    if not batches:
        return
    ahead = _AHEAD * connect(options)
    import ray

    waiting: deque[Any] = deque()
    try:
        contents = {name: (artefact.path / name).read_bytes() for name in artefact.manifest.files}
        files = ray.put((artefact.manifest, contents))
        for batch in batches:
            if len(waiting) >= ahead:
                yield ray.get(waiting.popleft())
            waiting.append(_hand_out(files, options, batch))
        while waiting:
            yield ray.get(waiting.popleft())
    except ray.exceptions.RayTaskError as error:  # what our own code raised on a worker
        raise error.cause from None
    except (ray.exceptions.RayError, ConnectionError) as error:
        raise EdgeWhisperError(
            f"the Ray cluster failed ({_last_line(error)}). What was finished is kept: run the "
            "command again, or use --engine local."
        ) from error
    finally:
        with suppress(Exception):  # the cluster may be gone, which is reported above
            for reference in waiting:
                ray.cancel(reference)


def _resources(options: EvaluationOptions) -> dict[str, int]:
    """Return what one process needs of a machine, by Ray's names."""
    needed = {"CPU": options.threads or 1}
    return needed | ({"GPU": 1} if options.device.startswith("cuda") else {})


def _last_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[-1]


def _hand_out(files: Any, options: EvaluationOptions, batch: Sequence[Utterance]) -> Any:
    """Give a batch to the cluster; return the reference to its records."""
    import ray

    needed = _resources(options)
    task: Any = ray.remote(
        num_cpus=needed["CPU"], num_gpus=needed.get("GPU", 0), max_retries=_RETRIES
    )(_work)
    audio = [u.path.read_bytes() if u.condition == CLEAN else u.samples() for u in batch]
    return task.remote(
        [files], files.hex(), options.device, needed["CPU"], options.audio_context,
        options.detect_language, batch, audio,
    )  # fmt: skip


def _work(
    files: list[Any],
    key: str,
    device: str,
    threads: int,
    audio_context: AudioContext | None,
    detect_language: bool,
    batch: Sequence[Utterance],
    audio: list[bytes | Samples],
) -> list[Record]:
    """Transcribe a batch on a worker, which keeps the model for the next one.

    `files` holds a reference to the manifest and the files by name, in a list so that Ray does
    not fetch them for a worker that has the model; `key` identifies them. `audio` are the bytes of
    the batch's files, or samples.
    """
    import ray

    key = f"{key} {audio_context}"
    if key not in _loaded:
        _loaded.clear()
        with tempfile.TemporaryDirectory(prefix="edgewhisper-") as directory:
            manifest, contents = ray.get(files[0])
            for name, content in contents.items():
                (Path(directory) / name).write_bytes(content)
            write_manifest(Path(directory), manifest)
            _loaded[key] = load(directory, device, threads, audio_context)
    return records(_loaded[key], batch, audio, detect_language=detect_language)
