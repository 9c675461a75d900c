"""The PyTorch backend: a variant's own tensors, for devices that have PyTorch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgewhisper_runtime.decode import alignment
from edgewhisper_runtime.engines import settings
from edgewhisper_runtime.engines.groups import Grouped
from edgewhisper_runtime.engines.rows import group_rows
from edgewhisper_runtime.errors import BundleError, EdgeWhisperError, MissingLibraryError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edgewhisper_runtime.bundle import Manifest
    from edgewhisper_runtime.engines.pytorch_model import Tensors

FILE = "model.safetensors"


@dataclass
class _Cache:
    """Both attentions' keys and values [batch, heads, positions, width of a head], by layer.

    `cross` is of audios, which rows share: `audios` int64 [batch] says which a row is of. `past` is
    empty before the first tokens.
    """

    cross: Tensors
    audios: NDArray[np.int64]
    past: Tensors = ()


class PytorchBackend:
    """Runs a file exported by EdgeWhisper, on the CPU, with PyTorch alone."""

    def __init__(self, path: Path, threads: int | None = None) -> None:
        """Open the file; compute with `threads`, or as many as PyTorch is set to.

        Raises BundleError where anything in the file is unfit, MissingLibraryError where PyTorch is
        absent or a processor cannot compute exactly.
        """
        try:
            import torch

            from edgewhisper_runtime.engines import pytorch_model
        except ImportError as error:
            raise MissingLibraryError(
                f"{path} needs PyTorch: pip install 'edgewhisper-runtime[pytorch]' ({error})."
            ) from error
        self._path = path
        self._threads = threads
        self._torch: Any = torch
        self._model = pytorch_model.read(path)
        self.sizes = self._model.sizes
        self.vocabulary: int = self.sizes.vocabulary

    def encode(self, features: NDArray[np.float32]) -> Tensors:
        """Encode log-mel features float32 [batch, mels, frames] of any even number of frames.

        Returns each decoder layer's keys and values of the audio.
        """
        encoded: Tensors = self._run(self._model.encode, self._torch.from_numpy(features))
        return encoded

    def start(self, encoded: Tensors) -> _Cache:
        """Return an empty cache over the encoder's output."""
        return _Cache(encoded, np.arange(len(encoded[0])))

    def step(self, tokens: NDArray[np.int64], cache: _Cache) -> NDArray[np.float32]:
        """Append tokens [batch, n]; return logits [batch, vocabulary] after the last."""
        return self._logits(tokens, cache, last=1)

    def verify(self, tokens: NDArray[np.int64], cache: _Cache) -> NDArray[np.float32]:
        """Append tokens [n] to one row; return the logits [n, vocabulary] after each of them."""
        return self._logits(tokens[None], cache, last=len(tokens))

    def shorten(self, cache: _Cache, count: int) -> None:
        """Remove the last tokens of every row."""
        _, _, length = self.shape(cache)
        cache.past = tuple(tensor[:, :, : length - count] for tensor in cache.past)

    def shape(self, cache: _Cache) -> tuple[int, int, int]:
        """See `groups.OneLength`."""
        tokens = cache.past[0].shape[2] if cache.past else 0
        return len(cache.audios), cache.cross[0].shape[2], tokens

    def _logits(self, tokens: NDArray[np.int64], cache: _Cache, last: int) -> NDArray[np.float32]:
        """Append tokens [batch, n]; return logits [batch * last, vocabulary] after the last."""
        if tokens.min() < 0 or tokens.max() >= self.sizes.vocabulary:
            raise BundleError(
                f"{self._path} has {self.sizes.vocabulary} tokens, not {tokens.tolist()}: it does "
                "not fit the tokenizer. Build again."
            )
        given = self._torch.from_numpy(tokens)
        output, cache.past = self._run(self._model.decode, given, cache.cross, cache.past, last)
        logits: NDArray[np.float32] = output.numpy()
        if not np.isfinite(logits).all():
            raise BundleError(f"{self._path} computes no finite numbers. Build again.")
        return logits

    def _run(self, function: Callable[..., Any], *arguments: Any) -> Any:
        with self._torch.inference_mode(), torch_threads(self._threads):
            try:
                return function(*arguments)
            except (RuntimeError, IndexError) as error:
                reason = str(error).strip().splitlines()[-1]
                raise BundleError(
                    f"PyTorch cannot run {self._path} ({reason}). Build again."
                ) from error

    def reorder(self, cache: _Cache, rows: NDArray[np.int64]) -> _Cache:
        """Select batch rows.

        Those of one audio share its keys and values as long as they stand together, equally many
        to an audio.
        """

        def selected(tensors: Tensors, rows: NDArray[np.int64]) -> Tensors:
            if not tensors or np.array_equal(rows, np.arange(len(tensors[0]))):
                return tensors
            index = self._torch.from_numpy(rows)
            return tuple(tensor.index_select(0, index) for tensor in tensors)

        used, audios = group_rows(cache.audios[rows])
        return _Cache(selected(cache.cross, used), audios, selected(cache.past, rows))

    def join(self, caches: Sequence[_Cache]) -> _Cache:
        """Return one cache with the rows of all, which are of one length of audio and of text."""

        def joined(tensors: Sequence[Tensors]) -> Tensors:
            return tuple(map(self._torch.cat, zip(*tensors, strict=True)))

        def by_row(cache: _Cache) -> Tensors:
            index = self._torch.from_numpy(cache.audios)
            return tuple(tensor.index_select(0, index) for tensor in cache.cross)

        cross = joined([by_row(cache) for cache in caches])
        past = joined([cache.past for cache in caches])
        return _Cache(cross, np.arange(len(cross[0])), past)

    def attention(
        self,
        tokens: NDArray[np.int64],
        encoded: Tensors,
        row: int,
        heads: Sequence[tuple[int, int]],
    ) -> NDArray[np.float32]:
        """Return how tokens [n] attend to one row of the audio, float32 [heads, n, positions]."""
        alignment.check(heads, self.sizes.decoder.layers, self.sizes.decoder.heads)
        cross = tuple(tensor[row : row + 1] for tensor in encoded)
        queries = self._run(self._model.queries, self._torch.from_numpy(tokens[None]), cross)
        return alignment.attend(
            {layer: queries[layer][0].float().numpy() for layer, _ in heads},
            {layer: cross[2 * layer][0].float().numpy() for layer, _ in heads},
            heads,
        )


@contextmanager
def torch_threads(count: int | None) -> Iterator[None]:
    """Compute with so many of PyTorch's threads and leave the process's count as it was.

    PyTorch has one count for a whole process, which may have other uses for it. None changes
    nothing.
    """
    import torch

    before = torch.get_num_threads()
    if count is None or count == before:
        yield
        return
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def load(directory: Path, manifest: Manifest, device: str, threads: int | None) -> Grouped:
    """Load a verified bundle's file; called for bundles whose backend is "pytorch"."""
    if device != "cpu":
        raise EdgeWhisperError(
            f"{manifest.name} is an export for the CPU; it does not run on {device!r}. "
            "Use --device cpu."
        )
    if FILE not in manifest.files:
        raise BundleError(f"{directory} lacks {FILE}. Build again.")
    backend = PytorchBackend(directory / FILE, threads)
    sizes = backend.sizes
    settings.check(
        directory,
        manifest.settings,
        mels=sizes.mels,
        room=sizes.room,
        vocabulary=sizes.vocabulary,
        layers=sizes.decoder.layers,
        heads=sizes.decoder.heads,
    )
    return Grouped(backend)
