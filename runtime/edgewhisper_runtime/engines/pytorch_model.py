"""Whisper in PyTorch alone: the arithmetic of transformers' Whisper in its order, bit for bit.

Modules have the names that transformers gives them (models/whisper/modeling_whisper.py), which are
those of the tensors in the file.
"""

from __future__ import annotations

import json
import re
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, scaled_dot_product_attention

from edgewhisper_runtime.engines import pytorch_file
from edgewhisper_runtime.engines.pytorch_layers import Quantized, build
from edgewhisper_runtime.errors import BundleError

HEADS = "heads"  # the file's metadata entry: JSON, by half of the model
_FLOATS = {torch.float32, torch.float16, torch.bfloat16}
_MOST_LAYERS = 128  # of a half; the largest Whisper has 32
_ROOM_TO_INFINITY = 1000

Tensors = tuple[Tensor, ...]


@dataclass(frozen=True)
class Half:
    """The sizes of an encoder or decoder; `inner` is the width between a layer's fc1 and fc2."""

    layers: int
    heads: int
    inner: int


@dataclass(frozen=True)
class Architecture:
    """The sizes of a Whisper model.

    `positions` are of audio, 20 ms each; `room` is how many tokens a window may have.
    """

    mels: int
    width: int
    positions: int
    room: int
    vocabulary: int
    encoder: Half
    decoder: Half

    def __post_init__(self) -> None:
        """Raise ValueError for sizes that no model has."""
        halves = (self.encoder, self.decoder)
        sizes = [*astuple(self)[:5], *astuple(self.encoder), *astuple(self.decoder)]
        if not all(isinstance(size, int) and size > 0 for size in sizes):
            raise ValueError("a size is not a whole number above 0")
        if any(half.layers > _MOST_LAYERS or self.width % half.heads for half in halves):
            raise ValueError(f"{self} has too many layers, or heads that do not divide its width")


def read(path: Path) -> Whisper:
    """Return the model of a file; raise BundleError unless everything in it fits."""
    tensors, metadata = pytorch_file.read(path)
    try:
        architecture = _architecture(tensors, json.loads(metadata[HEADS]))
        with torch.device("meta"):
            model = Whisper(architecture)
    except pytorch_file.UNFIT as error:
        raise BundleError(f"{path} is no Whisper model ({error!r}). Build again.") from error
    pytorch_file.fill(model, tensors, metadata, build, path)
    floats = model.state_dict()
    dtypes = {tensor.dtype for tensor in floats.values()}
    quantized = any(isinstance(module, Quantized) for module in model.modules())
    if len(dtypes) > 1 or not dtypes <= ({torch.float32} if quantized else _FLOATS):
        raise BundleError(f"{path} has tensors in {', '.join(map(str, dtypes))}. Build again.")
    if unusable := [name for name, tensor in floats.items() if not tensor.isfinite().all()]:
        raise BundleError(
            f"{path} has infinite or undefined numbers in {unusable[0]}. Build again."
        )
    return model.eval()


def _architecture(tensors: dict[str, Tensor], heads: dict[str, int]) -> Architecture:
    width, mels, _ = tensors["model.encoder.conv1.weight"].shape
    embedding = "model.decoder.embed_tokens"
    table = tensors.get(f"{embedding}.int8", tensors.get(f"{embedding}.weight"))
    if table is None:
        raise KeyError(embedding)
    halves = {}
    for half in ("encoder", "decoder"):
        numbered = re.compile(rf"model\.{half}\.layers\.(\d+)\.")
        layers = {match[1] for name in tensors if (match := numbered.match(name))}
        (inner,) = tensors[f"model.{half}.layers.0.fc1.bias"].shape
        halves[half] = Half(len(layers), heads[half], inner)
    return Architecture(
        mels=mels,
        width=width,
        positions=len(tensors["model.encoder.embed_positions.weight"]),
        room=len(tensors["model.decoder.embed_positions.weight"]),
        vocabulary=len(table),
        **halves,
    )


class Attention(nn.Module):
    """Multi-head attention, its queries apart from its keys and values, which are kept."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.k_proj = nn.Linear(width, width, bias=False)
        self.v_proj = nn.Linear(width, width)
        self.q_proj = nn.Linear(width, width)
        self.out_proj = nn.Linear(width, width)
        self._heads = heads
        self._scaling = (width // heads) ** -0.5

    def keys_and_values(self, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """Map [batch, n, width] to two of [batch, heads, n, width of a head]."""
        return self._by_head(self.k_proj(hidden)), self._by_head(self.v_proj(hidden))

    def forward(
        self,
        queries: Tensor,
        keys: Tensor,
        values: Tensor,
        mask: Tensor | None = None,
        causal: bool = False,
    ) -> Tensor:
        """Map queries [batch, n, width] to what they attend to, [batch, n, width]."""
        mixed = scaled_dot_product_attention(
            self._by_head(queries * self._scaling),
            keys,
            values,
            attn_mask=mask,
            is_causal=causal,
            scale=1.0,
        )
        attended: Tensor = self.out_proj(mixed.transpose(1, 2).flatten(2))
        return attended

    def _by_head(self, hidden: Tensor) -> Tensor:
        batch, count, width = hidden.shape
        by_head = hidden.view(batch, count, self._heads, width // self._heads)
        return by_head.transpose(1, 2).contiguous()


class EncoderLayer(nn.Module):
    """Attention to the audio itself, then a feed-forward block."""

    def __init__(self, width: int, half: Half) -> None:
        super().__init__()
        self.self_attn = Attention(width, half.heads)
        self.self_attn_layer_norm = nn.LayerNorm(width)
        self.fc1 = nn.Linear(width, half.inner)
        self.fc2 = nn.Linear(half.inner, width)
        self.final_layer_norm = nn.LayerNorm(width)

    def forward(self, hidden: Tensor) -> Tensor:
        """Map [batch, positions, width] to the same."""
        normed = self.self_attn_layer_norm(hidden)
        own = self.self_attn.keys_and_values(normed)
        hidden = hidden + self.self_attn(self.self_attn.q_proj(normed), *own)
        hidden = self.feed_forward(hidden)
        if hidden.dtype == torch.float16:
            largest = torch.finfo(torch.float16).max - _ROOM_TO_INFINITY
            hidden = hidden.clamp(-largest, largest)
        return hidden

    def feed_forward(self, hidden: Tensor) -> Tensor:
        """Map [batch, n, width] to the same."""
        mapped: Tensor = self.fc2(gelu(self.fc1(self.final_layer_norm(hidden))))
        return hidden + mapped


class DecoderLayer(EncoderLayer):
    """Attention to the tokens so far, to the audio, then a feed-forward block."""

    def __init__(self, width: int, half: Half) -> None:
        super().__init__(width, half)
        self.encoder_attn = Attention(width, half.heads)
        self.encoder_attn_layer_norm = nn.LayerNorm(width)

    def decode(
        self, hidden: Tensor, cross: Tensors, past: Tensors
    ) -> tuple[Tensor, Tensors, Tensor]:
        """Map [batch, n, width] to the same; return the longer cache and the queries too.

        `cross`, `past` and the cache are keys and values; `past` is empty before the first tokens.
        """
        count, mask = hidden.shape[1], None
        normed = self.self_attn_layer_norm(hidden)
        own = self.self_attn.keys_and_values(normed)
        if past:
            own = torch.cat((past[0], own[0]), dim=2), torch.cat((past[1], own[1]), dim=2)
            if count > 1:
                total = own[0].shape[2]
                mask = torch.ones(count, total, dtype=torch.bool).tril(total - count)
        causal = count > 1 and not past
        hidden = hidden + self.self_attn(self.self_attn.q_proj(normed), *own, mask, causal)
        normed = self.encoder_attn_layer_norm(hidden)
        # No mask, so the rows of an audio can stand behind one another.
        by_audio = normed.reshape(len(cross[0]), -1, normed.shape[-1])
        queries = self.encoder_attn.q_proj(by_audio)
        attended = self.encoder_attn(queries, *cross)
        return self.feed_forward(hidden + attended.reshape(hidden.shape)), own, queries


class Encoder(nn.Module):
    """Whisper's encoder."""

    def __init__(self, sizes: Architecture) -> None:
        super().__init__()
        width, half = sizes.width, sizes.encoder
        self.conv1 = nn.Conv1d(sizes.mels, width, kernel_size=3, padding=1)
        self.conv2 = nn.Conv1d(width, width, kernel_size=3, stride=2, padding=1)
        self.embed_positions = nn.Embedding(sizes.positions, width)
        self.layers = nn.ModuleList(EncoderLayer(width, half) for _ in range(half.layers))
        self.layer_norm = nn.LayerNorm(width)

    def forward(self, features: Tensor) -> Tensor:
        """Map log-mel features [batch, mels, frames] to [batch, frames / 2, width]."""
        hidden = gelu(self.conv1(features.to(self.conv1.weight.dtype)))
        hidden = gelu(self.conv2(hidden)).permute(0, 2, 1)
        hidden = hidden + self.embed_positions(torch.arange(hidden.shape[1]))
        for layer in self.layers:
            hidden = layer(hidden)
        encoded: Tensor = self.layer_norm(hidden)
        return encoded


class Decoder(nn.Module):
    """Whisper's decoder, without the output layer."""

    def __init__(self, sizes: Architecture) -> None:
        super().__init__()
        width, half = sizes.width, sizes.decoder
        self.embed_tokens = nn.Embedding(sizes.vocabulary, width)
        self.embed_positions = nn.Embedding(sizes.room, width)
        self.layers = nn.ModuleList(DecoderLayer(width, half) for _ in range(half.layers))
        self.layer_norm = nn.LayerNorm(width)

    def forward(
        self, tokens: Tensor, cross: Tensors, past: Tensors
    ) -> tuple[Tensor, Tensors, Tensors]:
        """Map tokens [batch, n] to [batch, n, width]; return the longer cache and queries too.

        `cross` and `past` are keys and values by layer, as `Whisper` gives them; queries are what
        each layer asks of the audio, [audios, rows of an audio * n, width].
        """
        start = past[0].shape[2] if past else 0
        positions = torch.arange(start, start + tokens.shape[1])
        hidden = self.embed_tokens(tokens) + self.embed_positions(positions)
        cache: list[Tensor] = []
        queries: list[Tensor] = []
        layer: Any
        for number, layer in enumerate(self.layers):
            pair = slice(2 * number, 2 * number + 2)
            hidden, own, asked = layer.decode(hidden, cross[pair], past[pair])
            cache += own
            queries.append(asked)
        return self.layer_norm(hidden), tuple(cache), tuple(queries)


class _Model(nn.Module):
    def __init__(self, sizes: Architecture) -> None:
        super().__init__()
        self.encoder = Encoder(sizes)
        self.decoder = Decoder(sizes)


class Whisper(nn.Module):
    """The whole model.

    What it keeps of an audio and of the tokens so far are tuples of keys and values by turns, layer
    after layer, each [batch, heads, positions, width of a head].
    """

    def __init__(self, sizes: Architecture) -> None:
        super().__init__()
        self.sizes = sizes
        self.model = _Model(sizes)
        self.proj_out = nn.Linear(sizes.width, sizes.vocabulary, bias=False)

    def encode(self, features: Tensor) -> Tensors:
        """Map log-mel features [batch, mels, frames] to keys and values of every decoder layer."""
        encoded = self.model.encoder(features)
        cross: list[Tensor] = []
        layer: Any
        for layer in self.model.decoder.layers:
            cross += layer.encoder_attn.keys_and_values(encoded)
        return tuple(cross)

    def decode(
        self, tokens: Tensor, cross: Tensors, past: Tensors, last: int
    ) -> tuple[Tensor, Tensors]:
        """Map more tokens [batch, n] to float32 logits and the longer cache.

        Logits [batch * last, vocabulary] are those after so many tokens at the end. The batch may
        be several times that of `cross`: rows of one audio, one after the other. `past` is empty
        before the first tokens.
        """
        hidden, past, _ = self.model.decoder(tokens, cross, past)
        return self.proj_out(hidden[:, -last:].flatten(0, 1)).float(), past

    def queries(self, tokens: Tensor, cross: Tensors) -> Tensors:
        """Map tokens [1, n] to what each layer asks of the audio, [1, n, width]."""
        queries: Tensors
        _, _, queries = self.model.decoder(tokens, cross, ())
        return queries
