"""Which modules of Whisper belong to which part of a recipe's scope."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn


def part_of(name: str) -> str | None:
    """Return the part that a module of WhisperForConditionalGeneration belongs to, by its name.

    One of the recipe's parts, or None for what no recipe quantizes (norms, positions).
    """
    path = name.split(".")
    leaf = path[-1]
    if leaf == "proj_out":
        return "output"
    if leaf == "embed_tokens":
        return "embedding"
    if leaf in {"conv1", "conv2"}:
        return "convolution"
    if leaf in {"fc1", "fc2"}:
        return f"{path[1]}.feed_forward"
    if leaf in {"q_proj", "k_proj", "v_proj", "out_proj"}:
        return f"{path[1]}.attention"
    return None


def modules_in(model: nn.Module, scope: Iterable[str]) -> list[str]:
    """Return the names of the modules that the scope selects."""
    wanted = set(scope)
    return [name for name, _ in model.named_modules() if part_of(name) in wanted]
