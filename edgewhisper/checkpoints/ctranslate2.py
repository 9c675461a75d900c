"""CTranslate2 float16 Whisper files to a Hugging Face checkpoint, bit for bit.

The format is that of CTranslate2's model writer (specs/model_spec.py, binary version 6): a
header, named tensors with shape, dtype code and bytes, then aliases. OpenAI's weights are
float16, so nothing is rounded on the way back.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgewhisper_runtime.errors import CheckpointError

_BINARY_VERSION = 6
_FLOAT16 = 4
_SCALARS = {0: np.float32, 1: np.int8, 2: np.int16, 3: np.int32}
_LARGEST_RANK = 3
_TIMESTAMPS = 1501  # 0.00 s to 30.00 s
_TIMESTAMP_STEP = 0.02  # seconds
_SMALLEST_MULTILINGUAL = 51_865  # vocabulary size; English-only models have 51,864

Tensors = dict[str, np.ndarray]


def convert(source: Path, target: Path) -> None:
    """Write the checkpoint in `target` from model.bin, config.json and tokenizer.json in `source`.

    Raises CheckpointError when the file is not a float16 Whisper model of CTranslate2.
    """
    from safetensors.numpy import save_file

    tensors = _rename(_read_model(source / "model.bin"))
    settings = _read_json(source / "config.json")
    tokenizer = _with_timestamps(_read_json(source / "tokenizer.json"))
    special = {token["content"]: token["id"] for token in tokenizer["added_tokens"]}
    save_file(tensors, target / "model.safetensors", metadata={"format": "pt"})
    _write_json(target / "tokenizer.json", tokenizer)
    _write_json(target / "config.json", _architecture(tensors, special))
    _write_json(
        target / "generation_config.json",
        {
            "alignment_heads": settings["alignment_heads"],
            "begin_suppress_tokens": settings["suppress_ids_begin"],
            "suppress_tokens": settings["suppress_ids"],
            "decoder_start_token_id": special["<|startoftranscript|>"],
            "eos_token_id": special["<|endoftext|>"],
            "pad_token_id": special["<|endoftext|>"],
            "no_timestamps_token_id": special["<|notimestamps|>"],
            "max_length": len(tensors["model.decoder.embed_positions.weight"]),
            **_languages_and_tasks(special, settings, len(tensors["model.decoder.embed_tokens.weight"])),
        },
    )


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
    """Return the tensors by Hugging Face names, fused projections split.

    CTranslate2 fuses Q, K and V of self-attention into linear_0 and K and V of
    cross-attention into linear_1; Whisper's key projections have no bias (zeros in the file).
    """
    target: Tensors = {}

    def take(name: str) -> np.ndarray:
        if name not in source:
            raise CheckpointError(f"model.bin lacks {name}: it is not a Whisper model.")
        return source[name]

    def linear(ours: str, theirs: str) -> None:
        target[f"{ours}.weight"] = take(f"{theirs}/weight")
        target[f"{ours}.bias"] = take(f"{theirs}/bias")

    def norm(ours: str, theirs: str) -> None:
        target[f"{ours}.weight"] = take(f"{theirs}/gamma")
        target[f"{ours}.bias"] = take(f"{theirs}/beta")

    def fused(ours: str, theirs: str, names: tuple[str, ...]) -> None:
        weights = np.split(take(f"{theirs}/weight"), len(names))
        biases = np.split(take(f"{theirs}/bias"), len(names))
        for name, weight, bias in zip(names, weights, biases, strict=True):
            target[f"{ours}.{name}.weight"] = weight
            if name != "k_proj":
                target[f"{ours}.{name}.bias"] = bias
            elif bias.any():
                raise CheckpointError(f"model.bin: {theirs} has a key bias; Whisper has none.")

    def layers(side: str, one: Callable[[str, str], None]) -> None:
        index = 0
        while f"{side}/layer_{index}/ffn/linear_0/weight" in source:
            one(f"model.{side}.layers.{index}", f"{side}/layer_{index}")
            index += 1

    def self_attention(ours: str, theirs: str) -> None:
        attention = f"{theirs}/self_attention"
        norm(f"{ours}.self_attn_layer_norm", f"{attention}/layer_norm")
        fused(f"{ours}.self_attn", f"{attention}/linear_0", ("q_proj", "k_proj", "v_proj"))
        linear(f"{ours}.self_attn.out_proj", f"{attention}/linear_1")

    def feed_forward(ours: str, theirs: str) -> None:
        norm(f"{ours}.final_layer_norm", f"{theirs}/ffn/layer_norm")
        linear(f"{ours}.fc1", f"{theirs}/ffn/linear_0")
        linear(f"{ours}.fc2", f"{theirs}/ffn/linear_1")

    def encoder_layer(ours: str, theirs: str) -> None:
        self_attention(ours, theirs)
        feed_forward(ours, theirs)

    def decoder_layer(ours: str, theirs: str) -> None:
        self_attention(ours, theirs)
        attention = f"{theirs}/attention"
        norm(f"{ours}.encoder_attn_layer_norm", f"{attention}/layer_norm")
        linear(f"{ours}.encoder_attn.q_proj", f"{attention}/linear_0")
        fused(f"{ours}.encoder_attn", f"{attention}/linear_1", ("k_proj", "v_proj"))
        linear(f"{ours}.encoder_attn.out_proj", f"{attention}/linear_2")
        feed_forward(ours, theirs)

    linear("model.encoder.conv1", "encoder/conv1")
    linear("model.encoder.conv2", "encoder/conv2")
    target["model.encoder.embed_positions.weight"] = take("encoder/position_encodings/encodings")
    layers("encoder", encoder_layer)
    norm("model.encoder.layer_norm", "encoder/layer_norm")
    target["model.decoder.embed_tokens.weight"] = take("decoder/embeddings/weight")
    target["model.decoder.embed_positions.weight"] = take("decoder/position_encodings/encodings")
    layers("decoder", decoder_layer)
    norm("model.decoder.layer_norm", "decoder/layer_norm")
    return {name: np.ascontiguousarray(tensor) for name, tensor in target.items()}


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
    return sum(name.startswith(f"model.{side}.") and name.endswith("fc1.weight") for name in tensors)


def _languages_and_tasks(
    special: dict[str, int], settings: dict[str, Any], vocabulary: int
) -> dict[str, Any]:
    if vocabulary < _SMALLEST_MULTILINGUAL:
        return {"is_multilingual": False}
    names = {token: content for content, token in special.items()}
    return {
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
    timestamps = [
        {**template, "id": first + n, "content": f"<|{n * _TIMESTAMP_STEP:.2f}|>", "special": False}
        for n in range(_TIMESTAMPS)
    ]
    return {**tokenizer, "added_tokens": [*tokenizer["added_tokens"], *timestamps]}


def _read_json(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} could not be read ({error}). Fetch it again.") from error


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, ensure_ascii=False, indent=1), encoding="utf-8")
