"""The ONNX Runtime backend: what a bundle runs on where there is no PyTorch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np

from edgewhisper_runtime.bundle.fields import between, parse
from edgewhisper_runtime.decode import alignment
from edgewhisper_runtime.engines import onnx_file
from edgewhisper_runtime.engines.rows import group_rows
from edgewhisper_runtime.errors import BundleError, EdgeWhisperError, MissingLibraryError
from edgewhisper_runtime.measure import machine

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edgewhisper_runtime.bundle import Manifest
    from edgewhisper_runtime.engines.onnx_file import Tensor

ENCODER, DECODER = "encoder.onnx", "decoder.onnx"
ROWS = "rows."  # before the name of a tensor in the decoder's file: an input that takes rows of it


@dataclass
class _Cache:
    """Keys and values of both attentions, float32 [batch, heads, positions, width of a head].

    Rows may share an audio: `cross` holds each audio once, and `audios` int64 [batch] is the index
    of each row's audio. `past` has room for every position; the decoder writes into it. `writers`
    [batch, room] is the row that computed each position of `past`. `bound` holds the inputs and
    outputs of a decoder step; the arrays are used again while the shape of the step is the same.
    """

    cross: dict[str, NDArray[np.float32]]
    past: dict[str, NDArray[np.float32]]
    audios: NDArray[np.int64]
    writers: NDArray[np.int64]
    length: int = 0
    binding: Any = None
    bound: dict[str, NDArray[Any]] = field(default_factory=dict)


class _Table:
    """Bytes [rows, ...] in a file, read row by row: mapped, they would count as memory in use."""

    def __init__(self, path: Path, tensor: Tensor, shape: Sequence[int]) -> None:
        """Open the table of rows of a shape; raise ValueError unless the tensor is such a table."""
        if tensor.dtype != "uint8" or not tensor.offset or list(tensor.shape[1:]) != list(shape):
            raise ValueError("the token embedding's codes are not where they should be")
        self.shape = tensor.shape[1:]
        self._path = path
        self._count, self._offset = tensor.shape[0], tensor.offset
        self._file = path.open("rb", buffering=0)

    def read(self, rows: NDArray[np.int64], into: NDArray[np.uint8]) -> None:
        """Read rows [...] into uint8 [..., ...]; raise BundleError for one that is not there."""
        if rows.min() < 0 or rows.max() >= self._count:
            raise BundleError(
                f"{self._path} has {self._count} tokens, not {rows.tolist()}: it does not fit the "
                "tokenizer. Build again."
            )
        flat = into.reshape(rows.size, -1)
        for row, target in zip(rows.flat, flat, strict=True):
            self._file.seek(self._offset + int(row) * flat.shape[1])
            self._file.readinto(target.data)


@dataclass(frozen=True)
class _Shape:
    """The sizes of a model that its graphs' inputs and outputs show."""

    mels: Annotated[int, between(1, 256)]
    layers: Annotated[int, between(1, 128)]  # of the decoder
    heads: Annotated[int, between(1, 128)]  # of a decoder layer
    width: Annotated[int, between(1, 1024)]  # of a head
    room: Annotated[int, between(1, 4096)]  # positions of text
    vocabulary: Annotated[int, between(1, 2**20)]


_Signature = dict[str, tuple[str, list[int | None]]]  # type and sizes by name; None: any size


def _read_shape(encoder: Any, decoder: Any) -> _Shape:
    """Return the sizes of two opened graphs.

    Raises ValueError or LookupError unless inputs and outputs are those of EdgeWhisper's export.
    """
    features, encoded = _signature(encoder.get_inputs()), _signature(encoder.get_outputs())
    inputs, outputs = _signature(decoder.get_inputs()), _signature(decoder.get_outputs())
    _, heads, _, width = encoded["cross_key_0"][1]
    shape = parse(
        _Shape,
        {
            "mels": features["features"][1][1],
            "layers": len(encoded) // 2,
            "heads": heads,
            "width": width,
            "room": inputs["past_key_0"][1][2],
            "vocabulary": outputs["logits"][1][1],
        },
    )
    layers, parts = range(shape.layers), ("key", "value")
    cross: _Signature = {
        f"cross_{part}_{n}": ("tensor(float)", [None, shape.heads, None, shape.width])
        for n in layers
        for part in parts
    }
    cache = ("tensor(float)", [None, shape.heads, shape.room, shape.width])
    signatures: dict[str, tuple[_Signature, _Signature]] = {
        "encoder's inputs": (features, {"features": ("tensor(float)", [None, shape.mels, None])}),
        "encoder's outputs": (encoded, cross),
        "decoder's inputs": (
            {name: value for name, value in inputs.items() if not name.startswith(ROWS)},
            {
                "tokens": ("tensor(int64)", [None, None]),
                "positions": ("tensor(int64)", [None]),
                "last_position": ("tensor(int32)", [None]),
                "length": ("tensor(int32)", []),
                **cross,
                **{f"past_{part}_{n}": cache for n in layers for part in parts},
            },
        ),
        "decoder's outputs": (
            outputs,
            {
                "logits": ("tensor(float)", [None, shape.vocabulary]),
                **{
                    f"query_{n}": ("tensor(float)", [None, None, shape.heads * shape.width])
                    for n in layers
                },
                **{f"present_{part}_{n}": cache for n in layers for part in parts},
            },
        ),
    }
    for what, (actual, expected) in signatures.items():
        if wrong := sorted(
            name
            for name in actual.keys() | expected.keys()
            if actual.get(name) != expected.get(name)
        ):
            raise ValueError(f"the {what} {', '.join(wrong)[:200]} are missing or of another shape")
    return shape


def _signature(values: Any) -> _Signature:
    return {
        value.name: (value.type, [size if isinstance(size, int) else None for size in value.shape])
        for value in values
    }


class OnnxBackend:
    """Runs an encoder and a decoder exported by EdgeWhisper, on the CPU."""

    def __init__(self, encoder: Path, decoder: Path, threads: int | None = None) -> None:
        """Open the graphs; raise BundleError when they are not what EdgeWhisper exports."""
        onnx_file.read_exported(encoder)
        tensors = onnx_file.read_exported(decoder).tensors
        # The larger first: reading a file takes twice its size for a moment.
        self._decoder, self._encoder = (_session(path, threads) for path in (decoder, encoder))
        try:
            shape = _read_shape(self._encoder, self._decoder)
            self._tables = {
                i.name: _Table(decoder, tensors[i.name.removeprefix(ROWS)], i.shape[2:])
                for i in self._decoder.get_inputs()
                if i.name.startswith(ROWS)
            }
        except (LookupError, TypeError, ValueError) as error:
            raise BundleError(
                f"{encoder} and {decoder} are not Whisper as EdgeWhisper exports it ({error!r}). "
                "Build again."
            ) from error
        self.mels, self.room, self.vocabulary = shape.mels, shape.room, shape.vocabulary
        self.layers, self.heads = shape.layers, shape.heads
        self._width = shape.width
        self._cross = [f"cross_{part}_{n}" for n in range(self.layers) for part in ("key", "value")]
        self._past = [f"past_{part}_{n}" for n in range(self.layers) for part in ("key", "value")]

    def encode(self, features: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
        """Encode log-mel features float32 [batch, mels, frames] of any even number of frames.

        Returns each decoder layer's keys and values of the audio.
        """
        features = np.ascontiguousarray(features)  # bound by its address, so it must live on
        binding = self._encoder.io_binding()
        _bind(binding.bind_input, "features", features)
        for name in self._cross:
            binding.bind_output(name, "cpu")
        _run(self._encoder, binding)
        # Not copied: the arrays stay in the memory that ONNX Runtime has just worked in.
        named = zip(self._cross, binding.get_outputs(), strict=True)
        return {name: np.asarray(np.from_dlpack(value), np.float32) for name, value in named}

    def start(self, encoded: dict[str, NDArray[np.float32]]) -> _Cache:
        """Return an empty cache over the encoder's output."""
        rows = len(next(iter(encoded.values())))
        writers = np.zeros((rows, self.room), dtype=np.int64)
        return _Cache(encoded, self._empty(rows), np.arange(rows), writers)

    def step(self, tokens: NDArray[np.int64], cache: _Cache) -> NDArray[np.float32]:
        """Append tokens [batch, n]; return logits [batch, vocabulary], overwritten by the next."""
        count = tokens.shape[1]
        if cache.binding is None or cache.bound["tokens"].shape != tokens.shape:
            self._bind_step(cache, tokens.shape)
        bound = cache.bound
        bound["tokens"][:] = tokens
        for name, table in self._tables.items():
            table.read(tokens, bound[name])
        bound["positions"][:] = np.arange(cache.length, cache.length + count)
        cache.writers[:, cache.length : cache.length + count] = np.arange(len(tokens))[:, None]
        cache.length += count
        bound["last_position"][:] = cache.length - 1
        bound["length"][...] = cache.length
        _run(self._decoder, cache.binding)
        logits: NDArray[np.float32] = bound["logits"]
        return logits

    def reorder(self, cache: _Cache, rows: NDArray[np.int64]) -> _Cache:
        """Select batch rows; the cache that is given must not be used again.

        Positions that were computed in the same row are not copied. Rows share the keys and values
        of their audio if every audio has the same number of rows, next to each other.
        """
        used, audios = group_rows(cache.audios[rows])
        cross = cache.cross
        if not np.array_equal(used, np.arange(cache.audios[-1] + 1)):  # dropped, moved or repeated
            cross = {name: array[used] for name, array in cross.items()}
        writers = cache.writers[rows]
        if len(rows) != len(cache.writers):
            past, first = self._empty(len(rows)), 0
        else:
            past = cache.past
            moved = (writers != cache.writers)[:, : cache.length].any(axis=0)
            first = int(moved.argmax()) if moved.any() else cache.length
        for name, array in cache.past.items():
            past[name][:, :, first : cache.length] = array[rows, :, first : cache.length]
        selected = _Cache(cross, past, audios, writers, cache.length)
        if past is cache.past and cross is cache.cross:
            selected.binding, selected.bound = cache.binding, cache.bound
        return selected

    def attention(
        self,
        tokens: NDArray[np.int64],
        encoded: dict[str, NDArray[np.float32]],
        row: int,
        heads: Sequence[tuple[int, int]],
    ) -> NDArray[np.float32]:
        """Return how tokens [n] attend to one row of the audio, float32 [heads, n, positions]."""
        alignment.check(heads, self.layers, self.heads)
        cache = self.start({name: array[row : row + 1] for name, array in encoded.items()})
        batch = tokens[None]
        self._bind_step(cache, batch.shape)
        queries = {}
        for layer in {layer for layer, _ in heads}:
            queries[layer] = np.zeros((*batch.shape, self.heads * self._width), np.float32)
            _bind(cache.binding.bind_output, f"query_{layer}", queries[layer])
        self.step(batch, cache)
        return alignment.attend(
            {layer: array[0] for layer, array in queries.items()},
            {layer: cache.cross[f"cross_key_{layer}"][0] for layer in queries},
            heads,
        )

    def _empty(self, rows: int) -> dict[str, NDArray[np.float32]]:
        """Return room for the self-attention of rows; it takes no memory until written to."""
        shape = (rows, self.heads, self.room, self._width)
        return {name: np.zeros(shape, dtype=np.float32) for name in self._past}

    def _bind_step(self, cache: _Cache, shape: tuple[int, ...]) -> None:
        rows, count = shape
        cache.bound = {
            "tokens": np.zeros(shape, dtype=np.int64),
            "positions": np.zeros(count, dtype=np.int64),
            "last_position": np.zeros(rows, dtype=np.int32),
            "length": np.zeros((), dtype=np.int32),
            "logits": np.zeros((rows, self.vocabulary), dtype=np.float32),
        }
        for name, table in self._tables.items():
            cache.bound[name] = np.zeros((*shape, *table.shape), dtype=np.uint8)
        cache.binding = self._decoder.io_binding()
        for name, array in (cache.bound | cache.past | cache.cross).items():
            if name != "logits":
                _bind(cache.binding.bind_input, name, array)
        _bind(cache.binding.bind_output, "logits", cache.bound["logits"])
        for name, array in cache.past.items():
            _bind(cache.binding.bind_output, name.replace("past_", "present_", 1), array)


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
