"""The TorchScript backend: one file of PyTorch's int8 layers, for devices that have PyTorch."""

from __future__ import annotations

import ast
import re
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgewhisper_runtime.decode import alignment
from edgewhisper_runtime.engines.rows import group_rows
from edgewhisper_runtime.errors import BundleError, EdgeWhisperError, MissingLibraryError

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from edgewhisper_runtime.bundle import Manifest

    Tensors = tuple[Tensor, ...]

FILE = "model.pt"
_FUNCTIONS = ("encode", "prompt", "step", "queries")
# All that an exported file calls. TorchScript is a language, with operators that write files.
_OPERATORS = {
    "torch.__contains__", "torch._convolution", "torch.add", "torch.cat", "torch.contiguous",
    "torch.embedding", "torch.eq", "torch.flatten", "torch.gelu", "torch.layer_norm",
    "torch.linear", "torch.mul", "torch.permute", "torch.reshape",
    "torch.scaled_dot_product_attention", "torch.select", "torch.size", "torch.slice", "torch.to",
    "torch.transpose", "torch.unflatten", "ops.prim.NumToTensor", "ops.prim.RaiseException",
    "ops.quantized.embedding_bag_prepack", "ops.quantized.embedding_bag_unpack",
    "ops.quantized.embedding_byte", "ops.quantized.linear_dynamic",
    "ops.quantized.linear_prepack", "ops.quantized.linear_prepack_fp16",
    "ops.quantized.linear_unpack", "ops.quantized.linear_unpack_fp16",
    "ops.quantized.linear_with_input_q_dq_qweight_dq_output_fp32",
    "getattr", "int", "uninitialized",
}  # fmt: skip
_FORWARD = re.compile(r"forward\d*")
_ZIP = b"PK\x03\x04"
_LARGEST_PROGRAM = 8 * 2**20


@dataclass
class _Cache:
    """Both attentions' keys and values [batch, heads, positions, width of a head], by layer.

    `cross` is of audios, which rows share: `audios` int64 [batch] says which a row is of.
    """

    cross: Tensors
    audios: NDArray[np.int64]
    past: Tensors | None = None


class TorchScriptBackend:
    """Runs a file exported by EdgeWhisper, on the CPU, with PyTorch alone."""

    def __init__(self, path: Path, threads: int | None = None) -> None:
        """Open the file; nothing in it is unpickled by Python.

        Raises BundleError where it is unfit or calls what no export calls, MissingLibraryError
        where PyTorch is absent.
        """
        check(path)
        try:
            import torch
        except ImportError as error:
            raise MissingLibraryError(f"{path} needs PyTorch: pip install torch.") from error
        if threads is not None:
            torch.set_num_threads(threads)
        self._path = path
        self._torch: Any = torch
        try:
            self._model = self._torch.jit.load(path, map_location="cpu")
        except RuntimeError as error:
            raise _unfit(path, error) from error
        if missing := [name for name in _FUNCTIONS if not hasattr(self._model, name)]:
            raise BundleError(
                f"{path} is not Whisper as EdgeWhisper exports it: no {missing[0]}. Build again."
            )
        self.vocabulary: int = self._model.model.decoder.embed_tokens.num_embeddings

    def encode(self, features: NDArray[np.float32]) -> Tensors:
        """Encode log-mel features float32 [batch, mels, frames] of any even number of frames.

        Returns each decoder layer's keys and values of the audio.
        """
        encoded: Tensors = self._run("encode", self._torch.from_numpy(features))
        return encoded

    def start(self, encoded: Tensors) -> _Cache:
        """Return an empty cache over the encoder's output."""
        return _Cache(encoded, np.arange(len(encoded[0])))

    def step(self, tokens: NDArray[np.int64], cache: _Cache) -> NDArray[np.float32]:
        """Append tokens [batch, n]; return logits [batch, vocabulary] after the last."""
        given = self._torch.from_numpy(tokens)
        if cache.past is None:
            logits, cache.past = self._run("prompt", given, cache.cross)
        else:
            for token in given.split(1, dim=1):
                logits, cache.past = self._run("step", token, cache.cross, cache.past)
        found: NDArray[np.float32] = logits.numpy()
        return found

    def _run(self, function: str, *given: Any) -> Any:
        with self._torch.inference_mode():
            try:
                return getattr(self._model, function)(*given)
            except RuntimeError as error:
                raise _unfit(self._path, error) from error

    def reorder(self, cache: _Cache, rows: NDArray[np.int64]) -> _Cache:
        """Select batch rows.

        They share the keys and values of their audio where the rows of each audio are next to each
        other and equally many.
        """

        def selected(tensors: Tensors, rows: NDArray[np.int64]) -> Tensors:
            if np.array_equal(rows, np.arange(len(tensors[0]))):
                return tensors
            index = self._torch.from_numpy(rows)
            return tuple(tensor.index_select(0, index) for tensor in tensors)

        kept, audios = group_rows(cache.audios[rows])
        past = cache.past and selected(cache.past, rows)
        return _Cache(selected(cache.cross, kept), audios, past)

    def attention(
        self,
        tokens: NDArray[np.int64],
        encoded: Tensors,
        row: int,
        heads: Sequence[tuple[int, int]],
    ) -> NDArray[np.float32]:
        """Return how tokens [n] attend to one row of the audio, float32 [heads, n, positions]."""
        alignment.check(heads, len(encoded) // 2, encoded[0].shape[1])
        cross = tuple(tensor[row : row + 1] for tensor in encoded)
        queries = self._run("queries", self._torch.from_numpy(tokens[None]), cross)
        return alignment.attend(
            {layer: queries[layer][0].float().numpy() for layer, _ in heads},
            {layer: cross[2 * layer][0].float().numpy() for layer, _ in heads},
            heads,
        )


def _unfit(path: Path, error: RuntimeError) -> BundleError:
    reason = str(error).strip().splitlines()[-1]
    return BundleError(f"PyTorch cannot run {path} ({reason}). Build again.")


def check(path: Path) -> None:
    """Read the program in a TorchScript file; raise BundleError if it calls an operator too many.

    Loading runs parts of a program, so this comes first.
    """
    try:
        with path.open("rb") as file:
            if file.read(len(_ZIP)) != _ZIP:  # PyTorch knows another format, which is not read here
                raise ValueError("no archive")
        with zipfile.ZipFile(path) as archive:
            sources = [entry for entry in archive.infolist() if entry.filename.endswith(".py")]
            if sum(entry.file_size for entry in sources) > _LARGEST_PROGRAM:
                raise ValueError("too long a program")
            for entry in sources:
                for node in ast.walk(ast.parse(archive.read(entry))):
                    if isinstance(node, ast.Call) and not _is_known(node.func):
                        raise BundleError(
                            f"{path} calls {ast.unparse(node.func)[:80]}, which no export does. "
                            "Refused."
                        )
    except (OSError, ValueError, SyntaxError, RecursionError, zipfile.BadZipFile) as error:
        raise BundleError(f"{path} is not a TorchScript file ({error}). Build again.") from error


def _is_known(called: ast.expr) -> bool:
    name = ast.unparse(called)
    if isinstance(called, ast.Attribute) and not name.startswith(("torch.", "ops.")):
        return bool(_FORWARD.fullmatch(called.attr))  # of another module of the model
    return name in _OPERATORS


def load(
    directory: Path, manifest: Manifest, device: str, threads: int | None
) -> TorchScriptBackend:
    """Load a verified bundle's file; called for bundles whose backend is "torchscript"."""
    if device != "cpu":
        raise EdgeWhisperError(
            f"{manifest.name} holds int8 layers for the CPU; it does not run on {device!r}. "
            "Use --device cpu."
        )
    if FILE not in manifest.files:
        raise BundleError(f"{directory} lacks {FILE}. Build again.")
    return TorchScriptBackend(directory / FILE, threads)
