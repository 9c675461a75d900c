"""The ONNX Runtime backend: what a bundle runs on where there is no PyTorch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgewhisper_runtime.decode import alignment
from edgewhisper_runtime.engines import onnx_cache, onnx_file, onnx_signature, settings
from edgewhisper_runtime.engines.onnx_cache import Cache, Call
from edgewhisper_runtime.engines.onnx_session import bind, open_graph, run
from edgewhisper_runtime.engines.onnx_signature import PARTS, ROWS, STEPS
from edgewhisper_runtime.errors import BundleError, EdgeWhisperError
from edgewhisper_runtime.memory import return_free_memory

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edgewhisper_runtime.bundle import Manifest
    from edgewhisper_runtime.engines.onnx_file import Tensor

ENCODER, DECODER = "encoder.onnx", "decoder.onnx"


class _Table:
    """Bytes [rows, ...] in a file, read row by row: mapped, they would count as memory in use."""

    def __init__(self, path: Path, tensor: Tensor, shape: Sequence[int]) -> None:
        """Open the table of rows of a shape; raise ValueError unless the tensor is such a table."""
        if (
            tensor.dtype not in {"uint8", "int8"}
            or not tensor.offset
            or list(tensor.shape[1:]) != list(shape)
        ):
            raise ValueError("the token embedding's codes are not where they should be")
        self.shape, self.dtype = tensor.shape[1:], np.dtype(tensor.dtype)
        self._path = path
        self._count, self._offset = tensor.shape[0], tensor.offset
        self._file = path.open("rb", buffering=0)

    def read(self, rows: NDArray[np.int64], into: NDArray[Any]) -> None:
        """Read rows [...] into bytes [..., ...]; raise BundleError for one that is not there."""
        if rows.min() < 0 or rows.max() >= self._count:
            raise BundleError(
                f"{self._path} has {self._count} tokens, not {rows.tolist()}: it does not fit the "
                "tokenizer. Build again."
            )
        flat = into.reshape(rows.size, -1)
        for row, target in zip(rows.flat, flat, strict=True):
            self._file.seek(self._offset + int(row) * flat.shape[1])
            if self._file.readinto(target.data) != target.nbytes:
                raise BundleError(f"{self._path} has ended early: it was changed. Open it again.")


class OnnxBackend:
    """Runs an encoder and a decoder exported by EdgeWhisper, on the CPU."""

    def __init__(self, encoder: Path, decoder: Path, threads: int | None = None) -> None:
        """Open the graphs; raise BundleError when they are not what EdgeWhisper exports."""
        onnx_file.read_exported(encoder)
        tensors = onnx_file.read_exported(decoder).tensors
        # The larger first: reading a file takes twice its size for a moment.
        self._decoder, self._encoder = (open_graph(path, threads) for path in (decoder, encoder))
        return_free_memory()
        try:
            sizes = onnx_signature.read(self._encoder, self._decoder)
            self._tables = {
                i.name: _Table(decoder, tensors[i.name.removeprefix(ROWS)], i.shape[2:])
                for i in self._decoder.get_inputs()
                if i.name.startswith(ROWS)
            }
        except (LookupError, TypeError, ValueError) as error:
            raise BundleError(
                f"{encoder} and {decoder} are not Whisper as this version of EdgeWhisper exports "
                f"it ({error}). Build again."
            ) from error
        self.mels, self.room, self.vocabulary = sizes.mels, sizes.room, sizes.vocabulary
        self.layers, self.heads = sizes.layers, sizes.heads
        self._width = sizes.width
        layered = [f"{part}_{n}" for n in range(self.layers) for part in PARTS]
        self._past = [f"past_{name}" for name in layered]
        self._cross = [f"cross_{name}" for name in layered] + [STEPS] * sizes.codes

    def encode(self, features: NDArray[np.float32]) -> dict[str, NDArray[Any]]:
        """Encode log-mel features float32 [batch, mels, frames] of any even number of frames.

        Returns each decoder layer's keys and values of the audio, and the steps of their codes;
        read-only.
        """
        features = np.ascontiguousarray(features)  # bound by its address, so it must live on
        binding = self._encoder.io_binding()
        bind(binding.bind_input, "features", features)
        for name in self._cross:
            binding.bind_output(name, "cpu")
        run(self._encoder, binding)
        # Not copied: the arrays stay in the memory that ONNX Runtime has just worked in.
        arrays = [np.from_dlpack(value) for value in binding.get_outputs()]
        for array in arrays:
            array.flags.writeable = False  # caches of one window share them
        return dict(zip(self._cross, arrays, strict=True))

    def start(self, encoded: dict[str, NDArray[Any]]) -> Cache:
        """Return an empty cache over the encoder's output."""
        rows, _, positions, _ = encoded["cross_key_0"].shape
        return Cache(
            cross=encoded,
            audio_lengths=np.full(rows, positions),
            sources=np.arange(rows),
            past=onnx_cache.empty_past(self._past, rows, (self.heads, self.room, self._width)),
            lengths=np.zeros(rows, dtype=np.int64),
            writers=np.full((rows, self.room), -1),
        )

    def step(self, tokens: NDArray[np.int64], cache: Cache) -> NDArray[np.float32]:
        """Append tokens [batch, n]; return logits [batch, vocabulary], overwritten by the next."""
        rows, count = tokens.shape
        if rows == 1 or count == 1:
            return self._step(tokens, cache, slice(0, rows), np.array([count - 1]))
        # GroupQueryAttention takes several tokens of one row only.
        each = (slice(row, row + 1) for row in range(rows))
        last = np.array([count - 1])
        return np.concatenate([self._step(tokens[row], cache, row, last).copy() for row in each])

    def verify(self, tokens: NDArray[np.int64], cache: Cache) -> NDArray[np.float32]:
        """Append tokens [n] to one row; return the logits [n, vocabulary] after each of them."""
        return self._step(tokens[None], cache, slice(0, 1), np.arange(len(tokens)))

    def shorten(self, cache: Cache, count: int) -> None:
        """Remove the last tokens: their positions are written over."""
        cache.lengths -= count

    def reorder(self, cache: Cache, rows: NDArray[np.int64]) -> Cache:
        """See `Backend.reorder`."""
        return cache.reorder(rows)

    def join(self, caches: Sequence[Cache]) -> Cache:
        """See `Backend.join`."""
        return onnx_cache.join(caches)

    def attention(
        self,
        tokens: NDArray[np.int64],
        encoded: dict[str, NDArray[Any]],
        row: int,
        heads: Sequence[tuple[int, int]],
    ) -> NDArray[np.float32]:
        """Return how tokens [n] attend to one row of the audio, float32 [heads, n, positions]."""
        alignment.check(heads, self.layers, self.heads)
        cache = self.start({name: array[row : row + 1] for name, array in encoded.items()})
        batch = tokens[None]
        cache.call = self._call(cache, slice(0, 1), len(tokens), 1)
        queries = {}
        for layer in {layer for layer, _ in heads}:
            queries[layer] = np.zeros((*batch.shape, self.heads * self._width), np.float32)
            bind(cache.call.binding.bind_output, f"query_{layer}", queries[layer])
        self.step(batch, cache)
        return alignment.attend(
            {layer: array[0] for layer, array in queries.items()},
            # queries of codes have the codes' steps in them
            {layer: cache.cross[f"cross_key_{layer}"][0].astype(np.float32) for layer in queries},
            heads,
        )

    def _step(
        self,
        tokens: NDArray[np.int64],
        cache: Cache,
        rows: slice,
        scored: NDArray[np.int64],
    ) -> NDArray[np.float32]:
        """Append tokens [rows, n] to some rows: one token each, or several to one row.

        Returns the logits [rows * m, vocabulary] after the tokens `scored` [m].
        """
        call = cache.call
        shape = tokens.shape[1], len(scored)
        if call is None or call.rows != rows or call.shape != shape:
            call = cache.call = self._call(cache, rows, *shape)
        arrays, lengths = call.arrays, cache.lengths[rows]  # a view
        arrays["tokens"][:] = tokens
        arrays["scored"][:] = scored
        for name, table in self._tables.items():
            table.read(tokens, arrays[name])
        arrays["positions"][:] = lengths[:, None] + np.arange(tokens.shape[1])
        numbers = np.arange(rows.start, rows.stop)[:, None]
        cache.writers[numbers, arrays["positions"]] = numbers
        lengths += tokens.shape[1]
        arrays["last_position"][:] = lengths - 1
        arrays["length"][...] = lengths.max()
        run(self._decoder, call.binding)
        logits: NDArray[np.float32] = arrays["logits"]
        return logits

    def _call(self, cache: Cache, rows: slice, count: int, scored: int) -> Call:
        """Bind a step of `count` tokens for some rows, and logits after `scored` of them."""
        batch = rows.stop - rows.start
        audios = rows if len(cache.audio_lengths) > 1 else slice(0, 1)
        audio_lengths = cache.audio_lengths[audios]
        cross = {name: array[audios] for name, array in cache.cross.items()}
        past = {name: array[rows] for name, array in cache.past.items()}
        logits = np.zeros((batch * scored, self.vocabulary), dtype=np.float32)
        inputs: dict[str, NDArray[Any]] = {
            "tokens": np.zeros((batch, count), dtype=np.int64),
            "positions": np.zeros((batch, count), dtype=np.int64),
            "last_position": np.zeros(batch, dtype=np.int32),
            "length": np.zeros((), dtype=np.int32),
            "scored": np.zeros(scored, dtype=np.int64),
            "audio_last": (audio_lengths - 1).astype(np.int32),
            "audio_length": np.array(audio_lengths.max(), dtype=np.int32),
            **{
                name: np.zeros((batch, count, *table.shape), dtype=table.dtype)
                for name, table in self._tables.items()
            },
            **past,
            **cross,
        }
        # Caches are written in place, or not at all.
        outputs = {name.replace("past_", "present_", 1): array for name, array in past.items()}
        outputs |= {f"present_{name}": array for name, array in cross.items() if name != STEPS}
        binding = self._decoder.io_binding()
        for name, array in inputs.items():
            bind(binding.bind_input, name, array)
        for name, array in (outputs | {"logits": logits}).items():
            bind(binding.bind_output, name, array)
        return Call(rows, (count, scored), {**inputs, "logits": logits}, binding)


def load(directory: Path, manifest: Manifest, device: str, threads: int | None) -> OnnxBackend:
    """Load a verified bundle's graphs; called for bundles whose backend is "onnx"."""
    if device != "cpu":
        raise EdgeWhisperError(
            f"{manifest.name} is an ONNX bundle for the CPU; it does not run on {device!r}. "
            "Use --device cpu."
        )
    if missing := {ENCODER, DECODER} - manifest.files.keys():
        raise BundleError(f"{directory} lacks {', '.join(sorted(missing))}. Build again.")
    backend = OnnxBackend(directory / ENCODER, directory / DECODER, threads)
    settings.check(
        directory,
        manifest.settings,
        mels=backend.mels,
        room=backend.room,
        vocabulary=backend.vocabulary,
        layers=backend.layers,
        heads=backend.heads,
    )
    return backend
