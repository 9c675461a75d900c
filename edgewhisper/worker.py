"""A function in a process of its own, which frees its memory and whose crash ends nothing else.

Its log messages and its progress are passed to the process that waits for it.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from logging.handlers import QueueHandler
from multiprocessing.connection import Connection
from typing import Any

from edgewhisper.progress import Progress
from edgewhisper_runtime.errors import EdgeWhisperError

_FINISHED = "finished"


def run(function: Callable[..., None], *arguments: Any, progress: Progress) -> None:
    """Call a function with arguments that can be pickled, and with `progress`.

    Raises what the function raises, and EdgeWhisperError where its process dies. The process ends
    when this one does, or at an exception here such as KeyboardInterrupt.
    """
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_work, args=(sender, function, arguments))
    process.start()
    sender.close()
    try:
        while (event := receiver.recv()) != _FINISHED:
            if isinstance(event, logging.LogRecord):
                logging.getLogger(event.name).handle(event)
            elif isinstance(event, Exception):
                raise event
            else:
                progress(*event)
    except EOFError as error:
        raise EdgeWhisperError(
            "its process died, perhaps for lack of memory; its last messages stand above."
        ) from error
    finally:
        process.kill()
        process.join()


@contextmanager
def contained() -> Iterator[None]:
    """Raise an EdgeWhisperError in place of any error of a library."""
    try:
        yield
    except EdgeWhisperError:
        raise
    except Exception as error:
        raise EdgeWhisperError(f"{type(error).__name__}: {error}") from error


class _Sender:
    """Sends one event at a time, from any thread."""

    def __init__(self, connection: Connection[Any, Any]) -> None:
        self._connection, self._lock = connection, threading.Lock()

    def put_nowait(self, event: Any) -> None:
        with self._lock:
            self._connection.send(event)


def _work(
    connection: Connection[Any, Any], function: Callable[..., None], arguments: tuple[Any, ...]
) -> None:
    # Ctrl-C reaches both processes: the one that waits ends this one, and reports it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()

    def wait() -> None:
        if parent is not None:
            parent.join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()
    sender = _Sender(connection)
    logger = logging.getLogger("edgewhisper")
    logger.addHandler(QueueHandler(sender))  # type: ignore[arg-type] # the handler only calls put_nowait
    logger.setLevel(logging.INFO)
    try:
        function(*arguments, progress=lambda *event: sender.put_nowait(event))
    except Exception as error:  # noqa: BLE001 # raised again by the process that waits
        sender.put_nowait(error)
    else:
        sender.put_nowait(_FINISHED)
