"""Build a bundle, and let the gate decide whether it ships.

Usage: python examples/build.py [LIBRISPEECH]

Without LibriSpeech the synthetic smoke set is used, which the gate does not judge.
"""

import sys
from pathlib import Path

import edgewhisper

workspace = edgewhisper.Workspace.from_environment()
speech = Path(sys.argv[1]) if len(sys.argv) > 1 else None
dataset = edgewhisper.find_dataset(workspace, librispeech=speech)
try:
    built = edgewhisper.build(
        "whisper-tiny.en",
        "onnx-int8",
        edgewhisper.EvaluationOptions(dataset),
        workspace=workspace,
        progress=lambda task, done, total: print(f"{task}: {done} of {total}", file=sys.stderr),
    )
except edgewhisper.GateFailedError as error:
    sys.exit(f"not installed: {error}")

for split, result in built.report.summary.items():
    difference = result.comparison
    print(
        f"{split}: WER {result.variant.wer:.2f} %, {difference.d:+.2f} points from fp32 "
        f"({difference.interval.low:+.2f} to {difference.interval.high:+.2f})"
    )
print(f"{built.report.gate.verdict}: {built.bundle.path}")
