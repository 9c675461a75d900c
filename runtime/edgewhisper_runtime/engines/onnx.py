"""The ONNX Runtime backend: what a bundle runs on where there is no PyTorch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgewhisper_runtime.decode import alignment
from edgewhisper_runtime.engines import onnx_file, onnx_signature
from edgewhisper_runtime.engines.onnx_signature import PARTS, ROWS, STEPS
from edgewhisper_runtime.errors import BundleError, EdgeWhisperError, MissingLibraryError
from edgewhisper_runtime.measure import machine

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edgewhisper_runtime.bundle import Manifest
    from edgewhisper_runtime.engines.onnx_file import Tensor

ENCODER, DECODER = "encoder.onnx", "decoder.onnx"


@dataclass
class _Call:
    """A step of some rows of a cache: the arrays that it reads and writes, bound to the decoder.

    `shape`: the tokens of a row, and after how many of them logits are computed.
    """

    rows: slice
    shape: tuple[int, int]
    arrays: dict[str, NDArray[Any]]
    binding: Any


@dataclass
class _Cache:
    """Keys and values of both attentions, [rows, heads, positions, width of a head].

    `past` float32 has room for every position; the decoder writes into it. By row: `lengths` int64
    [batch], how many positions are filled; `writers` int64 [batch, room], the row that computed
    each of them, -1 beyond. `cross` is the encoder's output, of one audio for all rows or of one
    for each row: `sources` int64 [batch] is equal for rows of one audio, and `audio_lengths` int64
    [audios] are the positions of an audio. `call` is used again while the step's shape is the same.
    """

    cross: dict[str, NDArray[Any]]
    audio_lengths: NDArray[np.int64]
    sources: NDArray[np.int64]
    past: dict[str, NDArray[np.float32]]
    lengths: NDArray[np.int64]
    writers: NDArray[np.int64]
    call: _Call | None = None


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
            self._file.readinto(target.data)


class OnnxBackend:
    """Runs an encoder and a decoder exported by EdgeWhisper, on the CPU."""

    def __init__(self, encoder: Path, decoder: Path, threads: int | None = None) -> None:
        """Open the graphs; raise BundleError when they are not what EdgeWhisper exports."""
        onnx_file.read_exported(encoder)
        tensors = onnx_file.read_exported(decoder).tensors
        # The larger first: reading a file takes twice its size for a moment.
        self._decoder, self._encoder = (_session(path, threads) for path in (decoder, encoder))
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
                f"it ({error!r}). Build again."
            ) from error
        self.mels, self.room, self.vocabulary = sizes.mels, sizes.room, sizes.vocabulary
        self.layers, self.heads = sizes.layers, sizes.heads
        self._width = sizes.width
        layered = [f"{part}_{n}" for n in range(self.layers) for part in PARTS]
        self._past = [f"past_{name}" for name in layered]
        self._cross = [f"cross_{name}" for name in layered] + [STEPS] * sizes.codes

    def encode(self, features: NDArray[np.float32]) -> dict[str, NDArray[Any]]:
        """Encode log-mel features float32 [batch, mels, frames] of any even number of frames.

        Returns each decoder layer's keys and values of the audio, and the steps of their codes.
        """
        features = np.ascontiguousarray(features)  # bound by its address, so it must live on
        binding = self._encoder.io_binding()
        _bind(binding.bind_input, "features", features)
        for name in self._cross:
            binding.bind_output(name, "cpu")
        _run(self._encoder, binding)
        # Not copied: the arrays stay in the memory that ONNX Runtime has just worked in.
        named = zip(self._cross, binding.get_outputs(), strict=True)
        return {name: np.from_dlpack(value) for name, value in named}

    def start(self, encoded: dict[str, NDArray[Any]]) -> _Cache:
        """Return an empty cache over the encoder's output."""
        rows, _, positions, _ = encoded["cross_key_0"].shape
        return _Cache(
            cross=encoded,
            audio_lengths=np.full(rows, positions),
            sources=np.arange(rows),
            past=self._empty(rows),
            lengths=np.zeros(rows, dtype=np.int64),
            writers=np.full((rows, self.room), -1),
        )

    def step(self, tokens: NDArray[np.int64], cache: _Cache) -> NDArray[np.float32]:
        """Append tokens [batch, n]; return logits [batch, vocabulary], overwritten by the next."""
        rows, count = tokens.shape
        if rows == 1 or count == 1:
            return self._step(tokens, cache, slice(0, rows), np.array([count - 1]))
        # GroupQueryAttention takes several tokens of one row only.
        each = (slice(row, row + 1) for row in range(rows))
        last = np.array([count - 1])
        return np.concatenate([self._step(tokens[row], cache, row, last).copy() for row in each])

    def verify(self, tokens: NDArray[np.int64], cache: _Cache) -> NDArray[np.float32]:
        """Append tokens [n] to one row; return the logits [n, vocabulary] after each of them."""
        return self._step(tokens[None], cache, slice(0, 1), np.arange(len(tokens)))

    def shorten(self, cache: _Cache, count: int) -> None:
        """Remove the last tokens: their positions are written over."""
        cache.lengths -= count

    def reorder(self, cache: _Cache, rows: NDArray[np.int64]) -> _Cache:
        """Select batch rows; the cache that is given must not be used again.

        Positions that were computed in the same row are not copied, nor is the encoder's output
        where all rows are of one audio, each row keeps its own, or the rows are adjacent.
        """
        sources, writers = cache.sources[rows], cache.writers[rows]
        cross, audio_lengths = cache.cross, cache.audio_lengths
        if len(audio_lengths) > 1 and not np.array_equal(sources, cache.sources):
            audios = rows[:1] if (sources == sources[0]).all() else rows
            cross = {name: _select(array, audios) for name, array in cross.items()}
            audio_lengths = audio_lengths[audios]
        filled = int(cache.lengths.max())
        if len(rows) != len(cache.writers):
            past, first = self._empty(len(rows)), 0
        else:
            past = cache.past
            moved = (writers != cache.writers)[:, :filled].any(axis=0)
            first = int(moved.argmax()) if moved.any() else filled
        for name, array in cache.past.items():
            past[name][:, :, first:filled] = array[rows, :, first:filled]
        same = past is cache.past and cross is cache.cross
        return _Cache(
            cross, audio_lengths, sources, past, cache.lengths[rows], writers,
            cache.call if same else None,
        )  # fmt: skip

    def join(self, caches: Sequence[_Cache]) -> _Cache:
        """Return one cache with the rows of all; each keeps its length of audio and of text."""
        counts = [len(cache.lengths) for cache in caches]
        ends = np.cumsum(counts)
        firsts = np.cumsum([0, *(cache.sources.max() + 1 for cache in caches[:-1])])
        cross, past = {}, self._empty(ends[-1])
        for name in self._cross:
            arrays = [cache.cross[name] for cache in caches]
            largest = np.max([array.shape[1:] for array in arrays], axis=0)
            cross[name] = np.zeros((ends[-1], *largest), arrays[0].dtype)
            for array, end, count in zip(arrays, ends, counts, strict=True):
                inside = tuple(slice(0, size) for size in array.shape[1:])
                cross[name][end - count : end][:, *inside] = array
        for cache, end, count in zip(caches, ends, counts, strict=True):
            filled = cache.lengths.max()
            for name, array in cache.past.items():
                past[name][end - count : end, :, :filled] = array[:, :, :filled]
        lengths = np.concatenate([cache.lengths for cache in caches])
        is_filled = np.arange(self.room) < lengths[:, None]
        return _Cache(
            cross=cross,
            audio_lengths=np.concatenate(
                [np.broadcast_to(c.audio_lengths, n) for c, n in zip(caches, counts, strict=True)]
            ),
            sources=np.concatenate([c.sources + n for c, n in zip(caches, firsts, strict=True)]),
            past=past,
            lengths=lengths,
            writers=np.where(is_filled, np.arange(len(lengths))[:, None], -1),
        )

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
            _bind(cache.call.binding.bind_output, f"query_{layer}", queries[layer])
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
        cache: _Cache,
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
        _run(self._decoder, call.binding)
        logits: NDArray[np.float32] = arrays["logits"]
        return logits

    def _empty(self, rows: int) -> dict[str, NDArray[np.float32]]:
        """Return room for the self-attention of rows; it takes no memory until written to."""
        shape = (rows, self.heads, self.room, self._width)
        return {name: np.zeros(shape, dtype=np.float32) for name in self._past}

    def _call(self, cache: _Cache, rows: slice, count: int, scored: int) -> _Call:
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
            _bind(binding.bind_input, name, array)
        for name, array in (outputs | {"logits": logits}).items():
            _bind(binding.bind_output, name, array)
        return _Call(rows, (count, scored), {**inputs, "logits": logits}, binding)


def _select(array: NDArray[Any], rows: NDArray[np.int64]) -> NDArray[Any]:
    """Return rows of an array, not copied where they are adjacent."""
    first = rows[0]
    if np.array_equal(rows, np.arange(first, first + len(rows))):
        return array[first : first + len(rows)]
    return array[rows]


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
    settings = manifest.settings
    ids = (*settings.suppress, *settings.suppress_first)
    if (
        settings.mels != backend.mels
        or settings.max_tokens > backend.room
        or not all(0 <= i < backend.vocabulary for i in ids)
    ):
        raise BundleError(
            f"{directory}: the manifest's settings do not fit its graphs. Build again."
        )
    if settings.alignment_heads:
        alignment.check(settings.alignment_heads, backend.layers, backend.heads)
    return backend


def _session(path: Path, threads: int | None) -> Any:
    try:
        return open_session(path, threads)
    except ImportError as error:
        raise MissingLibraryError(
            f"{path} needs onnxruntime: pip install onnxruntime ({error})."
        ) from error
    except Exception as error:  # its own exception classes have no common base
        raise BundleError(f"ONNX Runtime cannot open {path} ({error}). {_remedy(error)}") from error


def open_session(model: Path | bytes, threads: int | None) -> Any:
    """Open the file of a model, or its bytes, on the CPU."""
    import onnxruntime

    return onnxruntime.InferenceSession(
        model, session_options(threads), providers=["CPUExecutionProvider"]
    )


def session_options(threads: int | None) -> Any:
    """Return the session options of every graph; by default, one thread for each usable core."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    # ONNX Runtime's own default looks at neither CPU affinity nor a container's quota.
    options.intra_op_num_threads = threads or machine.usable_cores()
    options.inter_op_num_threads = 1
    # The exporter chose the fused operators by measurement; more fusion makes them slower.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    # Without VNNI, x86 adds 8-bit products in 16 bits and may saturate: this is exact, but slower.
    options.add_session_config_entry("session.x64quantprecision", "1")
    # Threads that spin for longer save no time and take up to half as much processor time again,
    # from other work too: docs/results/spinning.md.
    options.add_session_config_entry("session.intra_op.spin_duration_us", "20")
    # Encoder and decoder have separate threads: those of one must not spin while the other runs.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    # Clips differ in length, so a memory plan would hardly ever be used again.
    options.enable_mem_pattern = False
    return options


def _run(session: Any, binding: Any) -> None:
    """Run a session; raise BundleError for a graph that fails although its inputs fit."""
    try:
        session.run_with_iobinding(binding)
    except Exception as error:  # as above
        message = f"ONNX Runtime cannot run the bundle ({error}). {_remedy(error)}"
        raise BundleError(message) from error


def _remedy(error: Exception) -> str:
    """Return what to do: ONNX Runtime tells a lack of memory by text alone."""
    if any(words in str(error) for words in ("bad_alloc", "Failed to allocate memory")):
        return "There is not enough memory: free some, or take a smaller model or batch."
    return "Build again."


def _bind(bind: Any, name: str, array: NDArray[Any]) -> None:
    bind(name, "cpu", 0, array.dtype, array.shape, array.ctypes.data)
