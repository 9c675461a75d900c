"""Several recordings decoded together: the windows of all of them are one batch."""

from __future__ import annotations

from edgewhisper_runtime.builder import TranscriptBuilder
from edgewhisper_runtime.decode.loop import Backend, StepLoop, Task


class Batch:
    """Recordings whose windows are decoded in one step loop, at most `size` windows at once.

    A window joins as soon as another has ended; those of the recordings added first go first. A
    recording that is done is removed, with its windows that still run if it has failed.
    """

    def __init__(self, backend: Backend, size: int) -> None:
        self._loop = StepLoop(backend)
        self._size = size
        self._tasks: dict[TranscriptBuilder, list[Task[None]]] = {}

    @property
    def has_room(self) -> bool:
        """Whether more windows can be decoded at once than the recordings have."""
        return len(self._loop) < self._size

    def add(self, recording: TranscriptBuilder) -> None:
        """Add a recording, and begin with its first windows if there is room."""
        self._tasks[recording] = []
        self._fill()

    def remove(self, recording: TranscriptBuilder) -> None:
        """Remove a recording, if it is not done."""
        for task in self._tasks.pop(recording, ()):
            self._loop.drop(task)

    def step(self) -> None:
        """Extend the text of each window by a token, and begin with new ones where some ended."""
        if self._loop:
            self._loop.step()
        self._fill()

    def _fill(self) -> None:
        for recording, tasks in list(self._tasks.items()):
            while self.has_room and (decoding := recording.next_decoding()):
                tasks.append(self._loop.add(decoding))
            tasks[:] = [task for task in tasks if task in self._loop]
            if recording.done:
                self.remove(recording)
