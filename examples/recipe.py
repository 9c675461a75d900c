"""Change a recipe, and measure what the change costs, without building a bundle.

Usage: python examples/recipe.py
"""

from dataclasses import replace

import edgewhisper

workspace = edgewhisper.Workspace.from_environment()
options = edgewhisper.EvaluationOptions(edgewhisper.find_dataset(workspace), limit=4)

# As a TOML file would say it: `edgewhisper recipes pytorch-int8` shows all keys.
recipe = replace(
    edgewhisper.find_recipe("pytorch-int8"),
    name="pytorch-int8-encoder",
    summary="int8 in the encoder, the decoder left in float32",
    scope=("encoder.qkv", "encoder.out_proj", "encoder.fc1", "encoder.fc2"),
)
report = edgewhisper.evaluate(  # of the texts alone: no rounds of timing
    "whisper-tiny.en", recipe, options, workspace=workspace, rounds=0
)
for split, result in report.summary.items():
    same = result.comparison.share_same_text
    print(f"{split}: WER {result.variant.wer:.2f} %, {same:.0%} of the texts as in fp32")
megabytes, in_float = (m.weight_bytes / 1e6 for m in (report.variant, report.baseline))
print(f"{megabytes:.1f} MB instead of {in_float:.1f} MB")
