"""Models to quantize: real ones from a checkpoint, and small or large random ones."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from edgewhisper import pipeline, quantizers
from edgewhisper.checkpoints import Checkpoint
from edgewhisper.recipes import Recipe
from edgewhisper.workspace import Workspace

# The architecture of whisper-small, as its config.json has it.
SMALL = {
    "d_model": 768, "encoder_layers": 12, "decoder_layers": 12, "encoder_attention_heads": 12,
    "decoder_attention_heads": 12, "encoder_ffn_dim": 3072, "decoder_ffn_dim": 3072,
    "num_mel_bins": 80, "vocab_size": 51865, "max_source_positions": 1500,
    "max_target_positions": 448,
}  # fmt: skip
LITTLE = SMALL | {
    "d_model": 128, "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 2,
    "decoder_attention_heads": 2, "encoder_ffn_dim": 256, "decoder_ffn_dim": 256,
    "vocab_size": 640, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
    "decoder_start_token_id": 1,
}  # fmt: skip


def config_of(checkpoint: Checkpoint) -> Any:
    """Return a checkpoint's WhisperConfig."""
    from transformers import WhisperConfig

    return WhisperConfig(**checkpoint.config())


def float_model(checkpoint: Checkpoint) -> Any:
    """Return a checkpoint's model in float32."""
    return checkpoint.load()


def random_model(config: dict[str, Any]) -> Any:
    """Return a model of random weights."""
    import torch
    from transformers import WhisperConfig, WhisperForConditionalGeneration

    torch.manual_seed(0)
    return WhisperForConditionalGeneration(WhisperConfig(**config)).eval()


def quantize(model: Any, recipe: Recipe, calibrate: Callable[[], object] = lambda: None) -> Any:
    """Quantize a model in place and return it."""
    import torch

    with torch.no_grad():
        quantizers.adapter(recipe.library).quantize(model, recipe, calibrate)
    return model


def stage(checkpoint: Checkpoint, recipe: Recipe, speech: Path | None = None) -> Path:
    """Return the directory of a variant in the workspace of the tests."""
    return pipeline.stage(Workspace.from_environment(), checkpoint, recipe, speech).path


def stage_export(
    checkpoint: Checkpoint, recipe: Recipe, speech: Path | None = None, to_format: str = "onnx"
) -> Path:
    """Return the directory of an export in the workspace of the tests."""
    workspace = Workspace.from_environment()
    return pipeline.stage_export(workspace, checkpoint, recipe, speech, to_format).path
