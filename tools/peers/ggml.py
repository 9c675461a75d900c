"""A Hugging Face Whisper checkpoint as a ggml file of 8-bit blocks, as whisper.cpp reads it.

    python tools/peers/ggml.py CHECKPOINT FILE

The layout is that of whisper.cpp's loader: header, mel filters, vocabulary, tensors with their
axes reversed. Matrices are q8_0: 32 values share a float16 scale.
"""

from __future__ import annotations

import json
import re
import struct
import sys
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file

from edgewhisper_runtime.audio.features import mel_filters
from edgewhisper_runtime.text.tokens import Tokenizer

_MAGIC = 0x67676D6C
_QUANTIZED_FILE = 2007  # format 7, version 2
_F32, _F16, _Q8_0 = 0, 1, 8
_BLOCK = 32
_RENAMED = (
    (r"^model\.", ""),
    (r"\.layers\.", ".blocks."),
    (r"self_attn_layer_norm", "attn_ln"),
    (r"encoder_attn_layer_norm", "cross_attn_ln"),
    (r"final_layer_norm", "mlp_ln"),
    (r"self_attn", "attn"),
    (r"encoder_attn", "cross_attn"),
    (r"q_proj", "query"),
    (r"k_proj", "key"),
    (r"v_proj", "value"),
    (r"out_proj", "out"),
    (r"fc1", "mlp.0"),
    (r"fc2", "mlp.2"),
    (r"encoder\.layer_norm", "encoder.ln_post"),
    (r"decoder\.layer_norm", "decoder.ln"),
    (r"embed_tokens", "token_embedding"),
    (r"embed_positions\.weight", "positional_embedding"),
)


def write(checkpoint: Path, target: Path) -> None:
    """Convert a checkpoint directory into one file."""
    config = json.loads((checkpoint / "config.json").read_text())
    tokenizer = Tokenizer(checkpoint / "tokenizer.json")
    words = [tokenizer.piece(token) for token in range(tokenizer.end_of_text)]
    filters = mel_filters(config["num_mel_bins"])
    with target.open("wb") as file:
        header = (
            _MAGIC, config["vocab_size"], config["max_source_positions"], config["d_model"],
            config["encoder_attention_heads"], config["encoder_layers"],
            config["max_target_positions"], config["d_model"], config["decoder_attention_heads"],
            config["decoder_layers"], config["num_mel_bins"], _QUANTIZED_FILE, *filters.shape,
        )  # fmt: skip
        file.write(struct.pack(f"<{len(header)}i", *header) + filters.tobytes())
        file.write(struct.pack("<i", len(words)))
        for word in words:
            file.write(struct.pack("<i", len(word)) + word)
        for name, tensor in load_file(checkpoint / "model.safetensors").items():
            if name != "proj_out.weight":
                _write_tensor(file, name, tensor.astype(np.float32))


def _write_tensor(file: BinaryIO, name: str, tensor: NDArray[np.float32]) -> None:
    for pattern, replacement in _RENAMED:
        name = re.sub(pattern, replacement, name)
    if "conv" in name and name.endswith("bias"):
        tensor = tensor[:, None]
    quantized = tensor.ndim == 2 and name.endswith("weight")  # noqa: PLR2004 # a matrix
    kind = _Q8_0 if quantized else _F16 if tensor.ndim > 2 else _F32  # noqa: PLR2004 # a convolution
    encoded = name.encode()
    file.write(struct.pack("<3i", tensor.ndim, len(encoded), kind))
    file.write(struct.pack(f"<{tensor.ndim}i", *reversed(tensor.shape)) + encoded)
    if kind == _Q8_0:
        blocks = tensor.reshape(-1, _BLOCK)
        scale = np.abs(blocks).max(1, keepdims=True) / 127
        codes = np.round(blocks / np.where(scale > 0, scale, 1)).astype(np.int8)
        packed = np.concatenate([scale.astype(np.float16).view(np.int8), codes], axis=1)
        file.write(packed.tobytes())
    else:
        file.write(tensor.astype(np.float16 if kind == _F16 else np.float32).tobytes())


if __name__ == "__main__":
    write(Path(sys.argv[1]), Path(sys.argv[2]))
