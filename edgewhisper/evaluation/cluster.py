"""An evaluation's batches on a Ray cluster: the bundle and the audio travel, no disk is shared.

RAY_ADDRESS names the cluster; without it Ray starts one on this machine. Its workers need the
same edgewhisper installed.
"""

from __future__ import annotations

import logging
import tempfile
from collections import deque
from collections.abc import Generator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgewhisper.evaluation.batches import records, samples
from edgewhisper.evaluation.librispeech import Utterance
from edgewhisper.evaluation.wer import Record
from edgewhisper_runtime.errors import EdgeWhisperError, MissingLibraryError
from edgewhisper_runtime.loading import load
from edgewhisper_runtime.transcriber import Transcriber

if TYPE_CHECKING:
    from edgewhisper.evaluation.run import Options

_RETRIES = 5  # of a batch whose worker died
_AHEAD = 2  # batches handed out for each processor, so that none waits for the next

_loaded: dict[str, Transcriber] = {}  # on a worker: the last bundle's, by its key


def transcribe(
    directory: Path, options: Options, batches: Sequence[Sequence[Utterance]]
) -> Generator[list[Record]]:
    """Yield the records of each batch in turn, worked on by all of the cluster at once.

    A batch whose worker dies is given to another. Raises MissingLibraryError without Ray,
    EdgeWhisperError when the cluster cannot be reached or a batch fails again and again.
    """
    if not batches:
        return
    if find_spec("ray") is None:
        raise MissingLibraryError(
            "--engine ray needs Ray, which is not installed. "
            "Install it: pip install 'edgewhisper[ray]'."
        )
    import ray

    waiting: deque[Any] = deque()
    try:
        if not ray.is_initialized():
            ray.init(log_to_driver=False, logging_level=logging.ERROR, include_dashboard=False)
        ahead = _AHEAD * int(ray.cluster_resources().get("CPU", 1))
        files = ray.put({path.name: path.read_bytes() for path in directory.iterdir()})
        for batch in batches:
            if len(waiting) >= ahead:
                yield ray.get(waiting.popleft())
            waiting.append(_hand_out(files, options, batch))
        while waiting:
            yield ray.get(waiting.popleft())
    except EdgeWhisperError as error:  # ours, raised on a worker, in Ray's wrapping
        raise getattr(error, "cause", error) from None
    except (ray.exceptions.RayError, ConnectionError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[-1]
        raise EdgeWhisperError(
            f"the Ray cluster failed ({reason}). What was finished is kept: run the command "
            "again, or use --engine local."
        ) from error
    finally:
        for reference in waiting:
            ray.cancel(reference)


def _hand_out(files: Any, options: Options, batch: Sequence[Utterance]) -> Any:
    """Give a batch to the cluster; return the reference to its records."""
    import ray

    threads = options.threads or 1
    task: Any = ray.remote(
        num_cpus=threads,
        num_gpus=1 if options.device.startswith("cuda") else 0,
        max_retries=_RETRIES,
    )(_work)
    return task.remote([files], files.hex(), options.device, threads, batch, samples(batch))


def _work(
    files: list[Any],
    key: str,
    device: str,
    threads: int,
    batch: Sequence[Utterance],
    heard: list[Any],
) -> list[Record]:
    """Transcribe a batch on a worker, which keeps the model for the next one.

    `files` holds a reference to the bundle's files by name, in a list so that Ray does not
    fetch them for a worker that has the model; `key` is theirs alone.
    """
    import ray

    if key not in _loaded:
        _loaded.clear()
        with tempfile.TemporaryDirectory(prefix="edgewhisper-") as directory:
            for name, content in ray.get(files[0]).items():
                (Path(directory) / name).write_bytes(content)
            _loaded[key] = load(directory, device, threads)
    return records(_loaded[key], batch, heard)
