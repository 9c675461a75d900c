"""Which modules of Whisper belong to which part of a recipe's scope."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from edgewhisper_runtime.errors import RecipeError

if TYPE_CHECKING:
    from torch import nn

    from edgewhisper.recipes import Recipe


_ALONE = {
    "proj_out": "output",
    "embed_tokens": "embedding",
    "conv1": "convolution",
    "conv2": "convolution",
}
_OF_HALF = {
    "q_proj": "qkv",
    "k_proj": "qkv",
    "v_proj": "qkv",
    "out_proj": "out_proj",
    "fc1": "fc1",
    "fc2": "fc2",
}


def part_of(name: str) -> str | None:
    """Return the part of a module of WhisperForConditionalGeneration, by the module's name.

    One of a recipe's parts, or None for modules that no recipe quantizes (norms, positions).
    """
    *path, leaf = name.split(".")
    if leaf in _ALONE:
        return _ALONE[leaf]
    if leaf not in _OF_HALF:
        return None
    if path[-1] == "encoder_attn" and leaf in {"k_proj", "v_proj"}:
        return "decoder.cross_kv"
    return f"{path[1]}.{_OF_HALF[leaf]}"


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
