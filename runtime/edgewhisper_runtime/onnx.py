"""The ONNX Runtime backend: what a bundle runs on where there is no PyTorch."""

from __future__ import annotations

import ctypes
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgewhisper_runtime import onnx_file
from edgewhisper_runtime.errors import BundleError, EdgeWhisperError, MissingLibraryError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edgewhisper_runtime.bundle import Manifest
    from edgewhisper_runtime.onnx_file import Tensor

ENCODER, DECODER = "encoder.onnx", "decoder.onnx"
ROWS = "rows."  # before the name of a tensor in the decoder's file: an input that takes rows of it


@dataclass
class _Cache:
    """Both attentions' keys and values, float32 [batch, heads, positions, width of a head].

    `past` has room for every position; the decoder writes into it. `bound` are the decoder's
    inputs and outputs of a step, kept where they are while the shape of the step stays.
    """

    cross: dict[str, NDArray[np.float32]]
    past: dict[str, NDArray[np.float32]]
    length: int = 0
    binding: Any = None
    bound: dict[str, NDArray[Any]] = field(default_factory=dict)


class _Table:
    """Bytes [rows, ...] in a file, read row by row: mapped, they would count as memory in use."""

    def __init__(self, path: Path, tensor: Tensor) -> None:
        if tensor.dtype != "uint8" or not 0 < tensor.offset <= path.stat().st_size - tensor.bytes:
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
        for row, found in zip(rows.flat, flat, strict=True):
            self._file.seek(self._offset + int(row) * flat.shape[1])
            self._file.readinto(found.data)


class OnnxBackend:
    """Runs an encoder and a decoder exported by EdgeWhisper, on the CPU."""

    def __init__(self, encoder: Path, decoder: Path, threads: int | None = None) -> None:
        """Open the graphs; raise BundleError when they are not what EdgeWhisper exports."""
        onnx_file.read(encoder)
        tensors = onnx_file.read(decoder).tensors
        # The larger first: reading a file takes twice its size for a moment.
        self._decoder, self._encoder = (_session(path, threads) for path in (decoder, encoder))
        self._encoder_run = _shrinking_run()
        _return_free_memory()
        try:
            self._cross = {
                output.name: (output.shape[1], output.shape[3])
                for output in self._encoder.get_outputs()
            }
            inputs = {i.name: i for i in self._decoder.get_inputs()}
            self._tables = {
                name: _Table(decoder, tensors[name.removeprefix(ROWS)])
                for name in inputs
                if name.startswith(ROWS)
            }
            self.room = int(inputs["past_key_0"].shape[2])
            self._past = {
                name: (i.shape[1], i.shape[3])
                for name, i in inputs.items()
                if name.startswith("past_")
            }
            if not self._cross.keys() <= inputs.keys():
                raise ValueError("the decoder does not take what the encoder gives")
            (self.vocabulary,) = (
                o.shape[1] for o in self._decoder.get_outputs() if o.name == "logits"
            )
        except (LookupError, TypeError, ValueError) as error:
            raise BundleError(
                f"{encoder} and {decoder} are not Whisper as EdgeWhisper exports it ({error!r}). "
                "Build again."
            ) from error

    def encode(self, features: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
        """Encode log-mel features float32 [batch, mels, frames] of any even number of frames.

        Returns each decoder layer's keys and values of the audio.
        """
        rows, positions = features.shape[0], features.shape[2] // 2
        features = np.ascontiguousarray(features)  # bound by its address, so it must live on
        binding = self._encoder.io_binding()
        _bind(binding.bind_input, "features", features)
        cross = {}
        for name, (heads, width) in self._cross.items():
            cross[name] = np.empty((rows, heads, positions, width), dtype=np.float32)
            _bind(binding.bind_output, name, cross[name])
        _run(self._encoder, binding, self._encoder_run)
        return cross

    def start(self, encoded: dict[str, NDArray[np.float32]]) -> _Cache:
        """Return an empty cache over the encoder's output."""
        rows = len(next(iter(encoded.values())))
        # zeros take no memory until they are written to
        past = {
            name: np.zeros((rows, heads, self.room, width), dtype=np.float32)
            for name, (heads, width) in self._past.items()
        }
        return _Cache(encoded, past)

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
        cache.length += count
        bound["last_position"][:] = cache.length - 1
        bound["length"][...] = cache.length
        _run(self._decoder, cache.binding)
        logits: NDArray[np.float32] = bound["logits"]
        return logits

    def reorder(self, cache: _Cache, rows: NDArray[np.int64]) -> _Cache:
        """Select batch rows of the encoder's output and of the cache."""
        past = {}
        for name, array in cache.past.items():
            past[name] = np.zeros((len(rows), *array.shape[1:]), dtype=np.float32)
            past[name][:, :, : cache.length] = array[rows, :, : cache.length]
        cross = {name: array[rows] for name, array in cache.cross.items()}
        return _Cache(cross, past, cache.length)

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
    if settings.max_tokens > backend.room or not all(0 <= i < backend.vocabulary for i in ids):
        raise BundleError(
            f"{directory}: the manifest's settings do not fit its graphs. Build again."
        )
    return backend


def _session(path: Path, threads: int | None) -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise MissingLibraryError(
            f"{path} needs onnxruntime: pip install onnxruntime ({error})."
        ) from error
    options = session_options(threads)
    try:
        return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its own exception classes have no common base
        raise BundleError(f"ONNX Runtime cannot open {path} ({error}). Build again.") from error


def session_options(threads: int | None) -> Any:
    """Return how every graph is opened."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = threads or 0
    options.inter_op_num_threads = 1
    # The exporter chose the fused operators by measurement; more fusion makes them slower.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    # Without VNNI, x86 adds products of 8 by 8 bits in 16 and saturates: exact instead of fast.
    options.add_session_config_entry("session.x64quantprecision", "1")
    # Encoder and decoder have threads of their own: those of one must not spin in the other's way.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    # Every clip has another length, so plans of where tensors lie are never used again.
    options.enable_mem_pattern = False
    return options


def _shrinking_run() -> Any:
    """Return options for a run that gives its memory back: decoding does not need it."""
    import onnxruntime

    options = onnxruntime.RunOptions()
    options.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
    return options


def _return_free_memory() -> None:
    """Have the C library return what reading the files took to the system, where it can."""
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "malloc_trim"):
        libc.malloc_trim(0)


def _run(session: Any, *arguments: Any) -> None:
    """Run a session; raise BundleError for a graph that does not do what its inputs promise."""
    try:
        session.run_with_iobinding(*arguments)
    except Exception as error:  # as above
        raise BundleError(f"ONNX Runtime cannot run the bundle ({error}). Build again.") from error


def _bind(bind: Any, name: str, array: NDArray[Any]) -> None:
    bind(name, "cpu", 0, array.dtype, array.shape, array.ctypes.data)
