"""CTranslate2 float16 Whisper files to a Hugging Face checkpoint, bit for bit.

The format is that of CTranslate2's model writer (specs/model_spec.py, binary version 6): a
header, named tensors with shape, dtype code and bytes, then aliases. OpenAI's weights are
float16, so nothing is rounded on the way back.
"""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgewhisper.checkpoints.architecture import read_json
from edgewhisper_runtime.bundle import atomic
from edgewhisper_runtime.decode.rules import SECONDS_PER_TIMESTAMP, TIMESTAMPS
from edgewhisper_runtime.errors import CheckpointError

_BINARY_VERSION = 6
_FLOAT16 = 4
_SCALARS = {0: np.float32, 1: np.int8, 2: np.int16, 3: np.int32}
_LARGEST_RANK = 3
_SMALLEST_MULTILINGUAL = 51_865  # vocabulary size; English-only models have 51,864

_Fused = tuple[tuple[str, tuple[str, ...]], ...]
# CTranslate2's name of a layer, and the Hugging Face names of what is fused in it: Q, K and V of
# self-attention, K and V of cross-attention. Whisper's keys have no bias (zeros in the file).
_ENCODER_LAYER: _Fused = (
    ("self_attention/layer_norm", ("self_attn_layer_norm",)),
    ("self_attention/linear_0", ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj")),
    ("self_attention/linear_1", ("self_attn.out_proj",)),
    ("ffn/layer_norm", ("final_layer_norm",)),
    ("ffn/linear_0", ("fc1",)),
    ("ffn/linear_1", ("fc2",)),
)
_DECODER_LAYER: _Fused = (
    *_ENCODER_LAYER,
    ("attention/layer_norm", ("encoder_attn_layer_norm",)),
    ("attention/linear_0", ("encoder_attn.q_proj",)),
    ("attention/linear_1", ("encoder_attn.k_proj", "encoder_attn.v_proj")),
    ("attention/linear_2", ("encoder_attn.out_proj",)),
)
_OUTSIDE_LAYERS: _Fused = (
    ("encoder/conv1", ("model.encoder.conv1",)),
    ("encoder/conv2", ("model.encoder.conv2",)),
    ("encoder/layer_norm", ("model.encoder.layer_norm",)),
    ("decoder/layer_norm", ("model.decoder.layer_norm",)),
)
_EMBEDDINGS = (
    ("encoder/position_encodings/encodings", "model.encoder.embed_positions"),
    ("decoder/embeddings/weight", "model.decoder.embed_tokens"),
    ("decoder/position_encodings/encodings", "model.decoder.embed_positions"),
)

Tensors = dict[str, np.ndarray]


def convert(source: Path, target: Path) -> None:
    """Write the checkpoint in `target` from model.bin, config.json and tokenizer.json in `source`.

    Raises CheckpointError when the file is not a float16 Whisper model of CTranslate2.
    """
    from safetensors.numpy import save_file

    tensors = _rename(_read_model(source / "model.bin"))
    settings = read_json(source / "config.json")
    try:
        tokenizer = _with_timestamps(read_json(source / "tokenizer.json"))
        special = {token["content"]: token["id"] for token in tokenizer["added_tokens"]}
        config = _architecture(tensors, special)
        generation = _generation(tensors, special, settings)
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise CheckpointError(
            f"{source} lacks a layer, a setting or a special token of Whisper ({error!r})."
        ) from error
    with atomic.storage_errors(target):
        save_file(tensors, target / "model.safetensors", metadata={"format": "pt"})
    _write_json(target / "tokenizer.json", tokenizer)
    _write_json(target / "config.json", config)
    _write_json(target / "generation_config.json", generation)


@dataclass
class _Reader:
    """A cursor over the file's bytes that never reads past their end."""

    data: memoryview
    position: int = 0

    def take(self, count: int) -> memoryview:
        if count < 0 or self.position + count > len(self.data):
            raise CheckpointError("model.bin ends too early: it is cut short. Fetch it again.")
        taken = self.data[self.position : self.position + count]
        self.position += count
        return taken

    def number(self, code: str) -> int:
        return int(struct.unpack(f"<{code}", self.take(struct.calcsize(code)))[0])

    def text(self) -> str:
        return bytes(self.take(self.number("H"))).rstrip(b"\0").decode("utf-8", "replace")


def _read_model(path: Path) -> Tensors:
    """Return all tensors by CTranslate2's names; float16 ones as float16."""
    if path.stat().st_size == 0:
        raise CheckpointError(f"{path} is empty. Fetch it again.")
    reader = _Reader(memoryview(np.memmap(path, dtype=np.uint8, mode="r")))  # type: ignore[arg-type] # NumPy arrays export the buffer protocol
    version = reader.number("I")
    if version != _BINARY_VERSION:
        raise CheckpointError(f"{path} has binary version {version}, not {_BINARY_VERSION}.")
    spec, _revision = reader.text(), reader.number("I")
    if spec != "WhisperSpec":
        raise CheckpointError(f"{path} holds a {spec!r}, not a Whisper model.")
    tensors: Tensors = {}
    for _ in range(reader.number("I")):
        name = reader.text()
        rank = reader.number("B")
        if rank > _LARGEST_RANK:
            raise CheckpointError(f"{path}: {name} has {rank} dimensions.")
        shape = tuple(reader.number("I") for _ in range(rank))
        code, size = reader.number("B"), reader.number("I")
        dtype = np.float16 if code == _FLOAT16 else _SCALARS.get(code)
        if dtype is None or (rank and code != _FLOAT16):
            raise CheckpointError(f"{path}: {name} is not float16; convert from a float16 model.")
        if size != int(np.prod(shape)) * np.dtype(dtype).itemsize:
            raise CheckpointError(f"{path}: {name} has {size} bytes, not those of shape {shape}.")
        tensors[name] = np.frombuffer(reader.take(size), dtype=dtype).reshape(shape)
    for _ in range(reader.number("I")):
        alias, name = reader.text(), reader.text()
        if name not in tensors:
            raise CheckpointError(f"{path}: {alias} stands for {name}, which is not there.")
        tensors[alias] = tensors[name]
    return tensors


def _rename(source: Tensors) -> Tensors:
    """Return the tensors by Hugging Face names, fused projections split."""
    target: Tensors = {}
    for fused, names in _OUTSIDE_LAYERS:
        _move(source, fused, target, names)
    for table, name in _EMBEDDINGS:
        target[f"{name}.weight"] = _take(source, table)
    for side, layer in (("encoder", _ENCODER_LAYER), ("decoder", _DECODER_LAYER)):
        index = 0
        while f"{side}/layer_{index}/ffn/linear_0/weight" in source:
            for fused, parts in layer:
                names = tuple(f"model.{side}.layers.{index}.{part}" for part in parts)
                _move(source, f"{side}/layer_{index}/{fused}", target, names)
            index += 1
    return {name: np.ascontiguousarray(tensor) for name, tensor in target.items()}


def _move(source: Tensors, fused: str, target: Tensors, names: tuple[str, ...]) -> None:
    """Move a layer's weight and bias; a fused layer is split evenly along the first axis."""
    kinds = ("gamma", "beta") if fused.endswith("layer_norm") else ("weight", "bias")
    weight, bias = (np.split(_take(source, f"{fused}/{kind}"), len(names)) for kind in kinds)
    for name, its_weight, its_bias in zip(names, weight, bias, strict=True):
        target[f"{name}.weight"] = its_weight
        if not name.endswith("k_proj"):
            target[f"{name}.bias"] = its_bias
        elif its_bias.any():
            raise CheckpointError(f"model.bin: {fused} has a key bias; Whisper has none.")


def _take(source: Tensors, name: str) -> np.ndarray:
    if name not in source:
        raise CheckpointError(f"model.bin lacks {name}: it is not a Whisper model.")
    return source[name]


def _architecture(tensors: Tensors, special: dict[str, int]) -> dict[str, Any]:
    width, mels = tensors["model.encoder.conv1.weight"].shape[:2]
    heads = width // 64  # every Whisper model has heads of 64
    end = special["<|endoftext|>"]
    return {
        "architectures": ["WhisperForConditionalGeneration"],
        "model_type": "whisper",
        "d_model": width,
        "num_mel_bins": mels,
        "encoder_layers": _count(tensors, "encoder"),
        "decoder_layers": _count(tensors, "decoder"),
        "encoder_attention_heads": heads,
        "decoder_attention_heads": heads,
        "encoder_ffn_dim": len(tensors["model.encoder.layers.0.fc1.weight"]),
        "decoder_ffn_dim": len(tensors["model.decoder.layers.0.fc1.weight"]),
        "max_source_positions": len(tensors["model.encoder.embed_positions.weight"]),
        "max_target_positions": len(tensors["model.decoder.embed_positions.weight"]),
        "vocab_size": len(tensors["model.decoder.embed_tokens.weight"]),
        "decoder_start_token_id": special["<|startoftranscript|>"],
        "bos_token_id": end,
        "eos_token_id": end,
        "pad_token_id": end,
        "dtype": "float16",
        "tie_word_embeddings": True,
    }


def _count(tensors: Tensors, side: str) -> int:
    return sum(
        name.startswith(f"model.{side}.") and name.endswith("fc1.weight") for name in tensors
    )


def _generation(
    tensors: Tensors, special: dict[str, int], settings: dict[str, Any]
) -> dict[str, Any]:
    common = {
        "alignment_heads": settings["alignment_heads"],
        "begin_suppress_tokens": settings["suppress_ids_begin"],
        "suppress_tokens": settings["suppress_ids"],
        "decoder_start_token_id": special["<|startoftranscript|>"],
        "eos_token_id": special["<|endoftext|>"],
        "pad_token_id": special["<|endoftext|>"],
        "no_timestamps_token_id": special["<|notimestamps|>"],
        "max_length": len(tensors["model.decoder.embed_positions.weight"]),
    }
    if len(tensors["model.decoder.embed_tokens.weight"]) < _SMALLEST_MULTILINGUAL:
        return {**common, "is_multilingual": False}
    names = {token: content for content, token in special.items()}
    return {
        **common,
        "is_multilingual": True,
        "lang_to_id": {names[token]: token for token in settings["lang_ids"]},
        "task_to_id": {task: special[f"<|{task}|>"] for task in ("transcribe", "translate")},
    }


def _with_timestamps(tokenizer: dict[str, Any]) -> dict[str, Any]:
    """Add the 1,501 timestamp tokens, 0.02 s apart, that these packages leave out."""
    present = {token["id"] for token in tokenizer["added_tokens"]}
    first = max(present) + 1
    if any(token["content"] == "<|0.00|>" for token in tokenizer["added_tokens"]):
        return tokenizer
    template = tokenizer["added_tokens"][-1]
    names = (f"<|{n * SECONDS_PER_TIMESTAMP:.2f}|>" for n in range(TIMESTAMPS))
    timestamps = [
        {**template, "id": id_, "content": name, "special": False}
        for id_, name in enumerate(names, first)
    ]
    return {**tokenizer, "added_tokens": [*tokenizer["added_tokens"], *timestamps]}


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, ensure_ascii=False, indent=1), encoding="utf-8")
