"""Whisper's graphs as optimum exports them, quantized as onnx-asr wants them: dynamic int8.

    python tools/peers/onnx_int8.py EXPORTED TARGET

Runs in the environment that optimum's exporter needs, which is not EdgeWhisper's.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

GRAPHS = ("encoder_model", "decoder_model_merged")
BESIDE = ("vocab.json", "added_tokens.json", "config.json")


def main() -> None:
    """Quantize both graphs per channel; the merged decoder's two halves are subgraphs."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    exported, target = map(Path, sys.argv[1:])
    target.mkdir(parents=True)
    for name in GRAPHS:
        quantize_dynamic(
            exported / f"{name}.onnx",
            target / f"{name}.int8.onnx",
            per_channel=True,
            weight_type=QuantType.QInt8,
            extra_options={"EnableSubgraph": True},
        )
    for name in BESIDE:
        shutil.copyfile(exported / name, target / name)


if __name__ == "__main__":
    main()
