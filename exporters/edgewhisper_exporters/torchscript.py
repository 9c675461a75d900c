"""Whisper as one TorchScript file, which PyTorch alone runs: int8 of PyTorch's own kernels.

The variant's layers are traced through a wrapper without anything of transformers, in four
functions: `encode`, `prompt` for the first tokens, `step` for each one after, and `queries` for
word times.
"""

from __future__ import annotations

import io
import re
import warnings
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, scaled_dot_product_attention

from edgewhisper_runtime.bundle import atomic
from edgewhisper_runtime.engines.torchscript import FILE, check
from edgewhisper_runtime.errors import QuantizationError

if TYPE_CHECKING:
    from transformers import WhisperForConditionalGeneration

DISTRIBUTIONS = ("torch",)
LAYOUT = 2  # counted up when another program is written: older exports are made again
# The archive's records of where each operator was traced, paths of the machine that exported it,
# and of what it was traced with.
_SURPLUS = re.compile(r".*\.debug_pkl|[^/]+/traced_inputs.*")
_EXAMPLE_FRAMES, _EXAMPLE_TOKENS = 200, 4


def export(network: WhisperForConditionalGeneration, directory: Path) -> None:
    """Write a loaded variant as model.pt, and check that it computes the same bits.

    Raises QuantizationError where it does not.
    """
    # Float products differ in their last bits with where a weight lies in memory.
    for parameter in network.parameters():
        parameter.data = parameter.data.clone()
    model = _Whisper(network.eval().requires_grad_(requires_grad=False))
    mels = network.config.num_mel_bins
    features = torch.linspace(-1, 1, mels * _EXAMPLE_FRAMES).sin().view(1, mels, -1)
    tokens = torch.arange(_EXAMPLE_TOKENS).view(1, -1)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TorchScript is deprecated; nothing else holds int8 layers
        cross = model.encode(features)
        _, past = model.prompt(tokens, cross)
        examples = {
            "encode": (features,),
            "prompt": (tokens, cross),
            "step": (tokens[:, :1], cross, past),
            "queries": (tokens, cross),
        }
        traced = torch.jit.trace_module(model, examples, check_trace=False)
        _write(traced, directory / FILE)
        _compare(model, load(directory), features[:, :, : _EXAMPLE_FRAMES // 2])


def load(directory: Path) -> Any:
    """Return what `export` wrote, as PyTorch loads it; raise BundleError if it is not that."""
    check(directory / FILE)
    return torch.jit.load(directory / FILE)


class _Whisper(nn.Module):
    """The arithmetic of transformers' Whisper in its order, over the same layers."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.model = network.model  # under the names that the census knows
        self.proj_out = network.proj_out
        self._heads = network.config.decoder_attention_heads
        self._encoder_heads = network.config.encoder_attention_heads

    def encode(self, features: Tensor) -> tuple[Tensor, ...]:
        """Map log-mel features [batch, mels, frames] to keys and values of every decoder layer."""
        encoder = self.model.encoder
        hidden = gelu(encoder.conv1(features.to(encoder.conv1.weight.dtype)))
        hidden = gelu(encoder.conv2(hidden)).permute(0, 2, 1)
        hidden = hidden + encoder.embed_positions.weight[: hidden.shape[1]]
        for layer in encoder.layers:
            normed = layer.self_attn_layer_norm(hidden)
            own = self._keys_and_values(layer.self_attn, normed, self._encoder_heads)
            asked = layer.self_attn.q_proj(normed)
            hidden = hidden + self._attend(layer.self_attn, asked, own, self._encoder_heads)
            hidden = self._feed_forward(layer, hidden)
        hidden = encoder.layer_norm(hidden)
        cross: list[Tensor] = []
        for layer in self.model.decoder.layers:
            cross += self._keys_and_values(layer.encoder_attn, hidden, self._heads)
        return tuple(cross)

    def prompt(
        self, tokens: Tensor, cross: tuple[Tensor, ...]
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Map the first tokens [batch, n] to logits [batch, vocabulary] and their cache.

        The batch may be several times that of `cross`: rows of one audio, one after the other.
        """
        return self._decode(tokens, cross, None)[:2]

    def step(
        self, tokens: Tensor, cross: tuple[Tensor, ...], past: tuple[Tensor, ...]
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Map one more token [batch, 1] to logits [batch, vocabulary] and the longer cache."""
        return self._decode(tokens, cross, past)[:2]

    def queries(self, tokens: Tensor, cross: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Map tokens [1, n] to what each layer asks of the audio, [1, n, width]."""
        return self._decode(tokens, cross, None)[2]

    def _decode(
        self, tokens: Tensor, cross: tuple[Tensor, ...], past: tuple[Tensor, ...] | None
    ) -> tuple[Tensor, tuple[Tensor, ...], tuple[Tensor, ...]]:
        decoder = self.model.decoder
        cache: list[Tensor] = []
        queries: list[Tensor] = []
        start = 0 if past is None else past[0].shape[2]
        positions = decoder.embed_positions.weight[start : start + tokens.shape[1]]
        hidden = decoder.embed_tokens(tokens) + positions
        for number, layer in enumerate(decoder.layers):
            pair = slice(2 * number, 2 * number + 2)
            normed = layer.self_attn_layer_norm(hidden)
            own = self._keys_and_values(layer.self_attn, normed, self._heads)
            if past is not None:
                own = tuple(torch.cat(both, dim=-2) for both in zip(past[pair], own, strict=True))
            cache += own
            asked = layer.self_attn.q_proj(normed)
            hidden = hidden + self._attend(
                layer.self_attn, asked, own, self._heads, causal=past is None
            )
            normed = layer.encoder_attn_layer_norm(hidden)
            # No mask, so the rows of an audio can stand behind one another.
            by_audio = normed.reshape(cross[0].shape[0], -1, normed.shape[-1])
            asked = layer.encoder_attn.q_proj(by_audio)
            queries.append(asked)
            attended = self._attend(layer.encoder_attn, asked, cross[pair], self._heads)
            hidden = hidden + attended.reshape(hidden.shape)
            hidden = self._feed_forward(layer, hidden)
        last = decoder.layer_norm(hidden)[:, -1]
        return self.proj_out(last).float(), tuple(cache), tuple(queries)

    @staticmethod
    def _feed_forward(layer: Any, hidden: Tensor) -> Tensor:
        return hidden + layer.fc2(gelu(layer.fc1(layer.final_layer_norm(hidden))))

    @staticmethod
    def _keys_and_values(attention: Any, hidden: Tensor, heads: int) -> tuple[Tensor, ...]:
        return tuple(
            _by_heads(project(hidden), heads).contiguous()
            for project in (attention.k_proj, attention.v_proj)
        )

    @staticmethod
    def _attend(
        attention: Any,
        asked: Tensor,
        of: tuple[Tensor, ...],
        heads: int,
        causal: bool = False,
    ) -> Tensor:
        queries = _by_heads(asked * attention.scaling, heads)
        keys, values = of
        mixed = scaled_dot_product_attention(
            queries.contiguous(), keys, values, is_causal=causal, scale=1.0
        )
        return attention.out_proj(mixed.transpose(1, 2).flatten(2))


def _by_heads(hidden: Tensor, heads: int) -> Tensor:
    """Split [batch, n, width] into [batch, heads, n, width of a head]."""
    return hidden.unflatten(-1, (heads, -1)).transpose(1, 2)


def _write(traced: Any, path: Path) -> None:
    """Write a traced module without what running it does not need, and without dates."""
    with zipfile.ZipFile(io.BytesIO(traced.save_to_buffer())) as archive:
        records = {
            name: archive.read(name) for name in archive.namelist() if not _SURPLUS.fullmatch(name)
        }
    with atomic.storage_errors(path), zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, content in records.items():
            archive.writestr(zipfile.ZipInfo(name), content)


def _compare(model: _Whisper, loaded: Any, features: Tensor) -> None:
    tokens = torch.arange(_EXAMPLE_TOKENS + 1).view(1, -1)
    cross = loaded.encode(features)
    found, past = loaded.prompt(tokens, cross)
    more, _ = loaded.step(tokens[:, :1], cross, past)
    cross = model.encode(features)
    wanted, past = model.prompt(tokens, cross)
    last, _ = model.step(tokens[:, :1], cross, past)
    if not (torch.equal(found, wanted) and torch.equal(more, last)):
        raise QuantizationError("the TorchScript file does not compute what the variant does.")
