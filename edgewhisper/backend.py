"""The PyTorch backend: Hugging Face's Whisper, quantized or not, for the decoding loop."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgewhisper_runtime.bundle import MANIFEST, Manifest, decode_json
from edgewhisper_runtime.decode import alignment
from edgewhisper_runtime.engines import settings
from edgewhisper_runtime.engines.groups import Grouped
from edgewhisper_runtime.engines.pytorch import torch_threads
from edgewhisper_runtime.errors import (
    BundleError,
    EdgeWhisperError,
    MissingLibraryError,
    RecipeError,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor
    from transformers import EncoderDecoderCache, WhisperForConditionalGeneration

WEIGHTS = "weights.safetensors"
CONFIG = "config.json"


@dataclass
class _Cache:
    """The encoder's output [batch, positions, width] and both attentions' keys and values."""

    encoded: Tensor
    attention: EncoderDecoderCache


class TorchBackend:
    """Runs a WhisperForConditionalGeneration on the CPU or a CUDA device."""

    def __init__(
        self,
        model: WhisperForConditionalGeneration,
        device: str = "cpu",
        threads: int | None = None,
    ) -> None:
        """Compute with `threads` on the CPU; None keeps PyTorch's own setting."""
        self._model = model.to(device).eval()
        self._device = device
        self._threads = threads
        self.vocabulary: int = model.config.vocab_size

    def encode(self, features: NDArray[np.float32]) -> Tensor:
        """Encode log-mel features float32 [batch, mels, frames] to [batch, frames / 2, width].

        Goes through the encoder's layers rather than its `forward`, which takes 3000 frames only.
        """
        import torch

        encoder = self._model.model.encoder
        with torch.no_grad(), torch_threads(self._threads):
            hidden = torch.from_numpy(features).to(self._device, encoder.layer_norm.weight.dtype)
            hidden = torch.nn.functional.gelu(encoder.conv1(hidden))
            hidden = torch.nn.functional.gelu(encoder.conv2(hidden)).permute(0, 2, 1)
            hidden = hidden + encoder.embed_positions.weight[: hidden.shape[1]]
            for layer in encoder.layers:
                hidden = layer(hidden, None)
            return encoder.layer_norm(hidden)

    def start(self, encoded: Tensor) -> _Cache:
        """Return an empty cache over the encoder's output."""
        from transformers import DynamicCache, EncoderDecoderCache

        return _Cache(encoded, EncoderDecoderCache(DynamicCache(), DynamicCache()))

    def step(self, tokens: NDArray[np.int64], cache: _Cache) -> NDArray[np.float32]:
        """Append tokens [batch, n]; return logits [batch, vocabulary] after the last."""
        return self._logits(tokens, cache, last=1)

    def verify(self, tokens: NDArray[np.int64], cache: _Cache) -> NDArray[np.float32]:
        """Append tokens [n] to one row; return the logits [n, vocabulary] after each of them."""
        return self._logits(tokens[None], cache, last=len(tokens))

    def shorten(self, cache: _Cache, count: int) -> None:
        """Remove the last tokens of every row."""
        cache.attention.self_attention_cache.crop(-count)

    def shape(self, cache: _Cache) -> tuple[int, int, int]:
        """See `groups.OneLength`."""
        rows, positions, _ = cache.encoded.shape
        return rows, positions, cache.attention.get_seq_length()

    def _logits(self, tokens: NDArray[np.int64], cache: _Cache, last: int) -> NDArray[np.float32]:
        """Append tokens [batch, n]; return logits [batch * last, vocabulary] after the last."""
        import torch

        with torch.no_grad(), torch_threads(self._threads):
            hidden = self._model.model.decoder(
                input_ids=torch.from_numpy(tokens).to(self._device),
                encoder_hidden_states=cache.encoded,
                past_key_values=cache.attention,
                use_cache=True,
            ).last_hidden_state
            scored = self._model.proj_out(hidden[:, -last:].flatten(0, 1))
            logits: NDArray[np.float32] = scored.float().cpu().numpy()
            return logits

    def reorder(self, cache: _Cache, rows: NDArray[np.int64]) -> _Cache:
        """Select batch rows of the encoder's output and of the cache."""
        import torch

        index = torch.from_numpy(rows).to(self._device)
        cache.attention.reorder_cache(index)
        return _Cache(cache.encoded.index_select(0, index), cache.attention)

    def join(self, caches: Sequence[_Cache]) -> _Cache:
        """Return one cache with the rows of all, which are of one length of audio and of text."""
        import torch
        from transformers import DynamicCache, EncoderDecoderCache

        def joined(parts: Iterable[DynamicCache]) -> DynamicCache:
            layers = zip(*(part.layers for part in parts), strict=True)
            return DynamicCache(
                [
                    (torch.cat([of.keys for of in layer]), torch.cat([of.values for of in layer]))
                    for layer in layers
                ]
            )

        attention = EncoderDecoderCache(
            joined(cache.attention.self_attention_cache for cache in caches),
            joined(cache.attention.cross_attention_cache for cache in caches),
        )
        return _Cache(torch.cat([cache.encoded for cache in caches]), attention)

    def attention(
        self, tokens: NDArray[np.int64], encoded: Tensor, row: int, heads: Sequence[tuple[int, int]]
    ) -> NDArray[np.float32]:
        """Return how tokens [n] attend to one row of the audio, float32 [heads, n, positions]."""
        config = self._model.config
        alignment.check(heads, config.decoder_layers, config.decoder_attention_heads)
        queries: dict[int, Tensor] = {}
        layers = {layer: self._model.model.decoder.layers[layer] for layer, _ in heads}
        hooks = [
            layer.encoder_attn.q_proj.register_forward_hook(
                lambda _, __, output, number=number: queries.update({number: output})
            )
            for number, layer in layers.items()
        ]
        cache = self.start(encoded[row : row + 1])
        try:
            self.step(tokens[None], cache)
        finally:
            for hook in hooks:
                hook.remove()
        cross = cache.attention.cross_attention_cache.layers
        return alignment.attend(
            {number: query[0].float().cpu().numpy() for number, query in queries.items()},
            {number: cross[number].keys[0].float().cpu().numpy() for number in layers},
            heads,
        )

    def peak_device_bytes(self) -> int | None:
        """Return the peak memory of tensors on a CUDA device in bytes; None on the CPU."""
        import torch

        if not self._device.startswith("cuda"):
            return None
        return torch.cuda.max_memory_allocated(self._device)


def check_device(device: str) -> None:
    """Raise EdgeWhisperError unless it is cpu or a CUDA device that PyTorch sees here."""
    if device == "cpu":
        return
    if not re.fullmatch(r"cuda(:\d+)?", device):
        raise EdgeWhisperError(f"there is no device {device!r}. Use cpu, cuda or cuda:1.")
    import torch

    devices = torch.cuda.device_count()
    _, _, number = device.partition(":")
    if int(number or 0) >= devices:
        raise MissingLibraryError(
            f"the device {device!r} was asked for, but this PyTorch sees {devices or 'no'} CUDA "
            f"device{'s' if devices > 1 else ''}. Use --device cpu, or install "
            "PyTorch's CUDA build on a machine with a GPU."
        )


def describe_device(device: str) -> str:
    """Return a device as reports name it: "cpu", or "cuda (NVIDIA H100 80GB HBM3)".

    A GPU that only the workers of a cluster have keeps the name that it was asked for by.
    """
    if device == "cpu":
        return device
    import torch

    if not torch.cuda.is_available():
        return device
    return f"{device} ({torch.cuda.get_device_name(device)})"


def load(directory: Path, manifest: Manifest, device: str, threads: int | None) -> Grouped:
    """Load a bundle's variant; called by the runtime for bundles whose backend is "torch"."""
    from edgewhisper import quantizers
    from edgewhisper.recipes import Recipe

    if device != "cpu":
        recipe = Recipe.from_record(manifest.recipe, directory / MANIFEST)
        reason = quantizers.adapter(recipe.library).CPU_ONLY.get(recipe.weights.dtype)
        if recipe.quantizes and reason is not None:
            raise RecipeError(f"{recipe.name} runs on the CPU only: {reason}. Use --device cpu.")
    check_device(device)
    model = load_model(directory, manifest)
    settings.check(
        directory,
        manifest.settings,
        mels=model.config.num_mel_bins,
        room=model.config.max_target_positions,
        vocabulary=model.config.vocab_size,
        layers=model.config.decoder_layers,
        heads=model.config.decoder_attention_heads,
    )
    return Grouped(TorchBackend(model, device, threads))


def load_model(directory: Path, manifest: Manifest) -> WhisperForConditionalGeneration:
    """Return the model of a verified bundle; raise BundleError when its files do not fit."""
    from transformers import WhisperConfig

    from edgewhisper import quantizers
    from edgewhisper.recipes import Recipe

    try:
        config = WhisperConfig(**decode_json((directory / CONFIG).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise BundleError(f"{directory / CONFIG} is unusable ({error}). Build again.") from error
    recipe = Recipe.from_record(manifest.recipe, directory / MANIFEST)
    return quantizers.adapter(recipe.library).load(directory / WEIGHTS, config)
