"""Which modules of Whisper belong to which part of a recipe's scope."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from edgewhisper_runtime.errors import RecipeError

if TYPE_CHECKING:
    from torch import nn

    from edgewhisper.recipes import Recipe


def part_of(name: str) -> str | None:
    """Return the part of a module of WhisperForConditionalGeneration, by the module's name.

    One of a recipe's parts, or None for modules that no recipe quantizes (norms, positions).
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
        return f"{path[1]}.{leaf}"
    if leaf in {"q_proj", "k_proj", "v_proj", "out_proj"}:
        return f"{path[1]}.attention"
    return None


def linear_modules(model: nn.Module, recipe: Recipe) -> list[str]:
    """Return the names of the Linear layers in the recipe's scope.

    Raises RecipeError when the scope has a part that is no Linear layer.
    """
    if outside := [part for part in recipe.scope if part in {"embedding", "convolution"}]:
        raise RecipeError(
            f"{recipe.name}: scope has {', '.join(outside)}; "
            f"{recipe.library} quantizes Linear layers only."
        )
    return [name for name, _ in model.named_modules() if part_of(name) in recipe.scope]


def untie(model: Any, recipe: Recipe) -> None:
    """Give the output layer a weight of its own if it is in scope.

    Libraries empty or replace the parameter that they quantize, and the output layer's is also the
    token embedding.
    """
    import torch

    if "output" in recipe.scope:
        model.proj_out.weight = torch.nn.Parameter(model.proj_out.weight.detach().clone())
        model.config.tie_word_embeddings = False
