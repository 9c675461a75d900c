"""Moving large inputs of a layer into its weights, where another layer can pay exactly for it.

SmoothQuant (Xiao et al., arXiv 2211.10438): y = W x = (W diag(s)) (x / s), and the division joins
the operator that makes x. Here that is a layer norm, before the projections of an attention and
before fc1, or the value projection, before out_proj: a weighted mean of values scales as they do.
No layer can do it for fc2, whose inputs come out of GELU: gelu(h / s) is not gelu(h) / s. None can
for the output layer, whose columns are the token embedding's too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from edgewhisper.quantizers.activations import Inputs, source

if TYPE_CHECKING:
    from collections.abc import Iterable

    from torch import nn

_LEAST = 1e-5


def smooth(
    model: nn.Module, names: Iterable[str], inputs: dict[str, Inputs], strength: float
) -> dict[str, Inputs]:
    """Rescale the inputs of the named layers in place; return the statistics they then have.

    `names` are all layers of the model that have inputs in `inputs`, in scope or not. For input j,
    s = max|x_j| ** strength / max|W_j| ** (1 - strength), divided by the geometric mean of all s.
    """
    import torch

    readers: dict[str, list[Any]] = {}
    for name in names:
        readers.setdefault(source(name), []).append(model.get_submodule(name))
    smoothed = dict(inputs)
    for name, layers in readers.items():
        producer = _producer(name)
        if producer is None or name not in inputs:
            continue
        columns = torch.stack([layer.weight.abs().amax(0) for layer in layers]).amax(0)
        largest = inputs[name].largest.clamp(min=_LEAST).log()
        scale = strength * largest - (1 - strength) * columns.clamp(min=_LEAST).log()
        scale = (scale - scale.mean()).exp()
        _divide(model.get_submodule(producer), scale)
        for layer in layers:
            layer.weight.mul_(scale)
        smoothed[name] = inputs[name].divided(scale)
    return smoothed


def _producer(name: str) -> str | None:
    """Return the module whose outputs are a layer's inputs up to a linear map, if there is one."""
    parent, _, leaf = name.rpartition(".")
    layer, _, attention = parent.rpartition(".")
    if leaf == "fc1":
        return f"{parent}.final_layer_norm"
    if leaf == "q_proj":
        return f"{layer}.{attention}_layer_norm"
    if leaf == "k_proj":
        return "model.encoder.layer_norm"
    return f"{parent}.v_proj" if leaf == "out_proj" else None


def _divide(producer: Any, scale: Any) -> None:
    """Divide the outputs of a layer norm or a linear layer."""
    rows = (-1,) + (1,) * (producer.weight.ndim - 1)
    producer.weight.div_(scale.view(rows))
    producer.bias.div_(scale)
