"""What one hostile input ended in."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Trial:
    """One input that was tried: its kind, a name of its own, the outcome, and the seconds."""

    kind: str
    name: str
    outcome: str  # "handled", "refused", or what is bad about it
    seconds: float

    @property
    def bad(self) -> bool:
        """Whether the input was neither handled nor refused as it should be."""
        return self.outcome not in {"handled", "refused"}
