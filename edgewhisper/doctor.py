"""What this machine can run of the host toolkit and how well; each problem with its remedy."""

from __future__ import annotations

from collections.abc import Iterator

from edgewhisper import cache, quantizers
from edgewhisper.workspace import Workspace
from edgewhisper_runtime.measure import doctor
from edgewhisper_runtime.measure.doctor import Finding


def examine(workspace: Workspace) -> Iterator[Finding]:
    """Yield what concerns the runtime here, then what concerns quantizing and evaluating."""
    yield from doctor.examine()
    seen = set()
    for finding in doctor.libraries("edgewhisper"):
        if finding.name not in seen:  # an extra may name a library again
            seen.add(finding.name)
            yield finding
    for name in sorted(quantizers.names()):
        yield _quantizer(name)
    yield _gpu()
    yield doctor.disk(
        "home", workspace.root, "Set EDGEWHISPER_HOME to a larger disk, or: edgewhisper cache prune"
    )
    entries = cache.entries(workspace)
    pruned = sum(entry.bytes for entry in entries if entry.kind in cache.REPRODUCIBLE)
    kept = sum(entry.bytes for entry in entries)
    yield Finding(
        "cache",
        f"{kept / 1e6:.1f} MB besides bundles and reports",
        f"edgewhisper cache prune deletes {pruned / 1e6:.1f} MB, which can be made again",
    )


def _quantizer(name: str) -> Finding:
    reason = quantizers.unavailable(name)
    return Finding(f"recipes of {name}", "not available" if reason else "available", reason or "")


def _gpu() -> Finding:
    import torch

    if not torch.cuda.is_available():
        return Finding(
            "GPU", "none that PyTorch can use", "variants are evaluated on the processor"
        )
    names = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
    return Finding("GPU", ", ".join(names), "for --device cuda; ONNX bundles run on the processor")
