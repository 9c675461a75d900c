"""Speed and memory of several variants side by side: in turns, each time in a fresh process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from edgewhisper import pipeline
from edgewhisper.evaluation import librispeech, run
from edgewhisper.evaluation.batches import LANGUAGE
from edgewhisper_runtime.errors import EdgeWhisperError
from edgewhisper_runtime.measure import machine, profile

_UTTERANCES = 2  # of each split


def measure(
    weights: dict[str, dict[str, str]],
    variant: Callable[[str], Path],
    options: run.Options,
    rounds: int,
    earlier: dict[str, Any] | None,
) -> Iterator[dict[str, Any]]:
    """Measure each variant once in every round; yield all that is measured after each time.

    `weights` has the SHA-256 of each variant's files, `variant` gives its directory. What
    `earlier` timings hold of the same weights, audio and machine is not measured again.
    A variant that fails has fewer runs than the others, or none.
    """
    described = machine.describe()
    files = [
        utterance.path
        for split in options.dataset.splits
        for utterance in librispeech.utterances(options.dataset, split, options.limit)[:_UTTERANCES]
    ]
    timed: dict[str, Any] = {
        "machine": described,
        "device": options.device,
        "threads": options.threads or described["usable_cores"],
        "files": [path.name for path in files],
    }
    kept = earlier or {}
    alike = all(kept.get(key) == value for key, value in timed.items())
    timed["weights"] = weights
    timed["runs"] = {
        name: kept["runs"][name] if alike and kept["weights"].get(name) == weights[name] else []
        for name in weights
    }
    for number in range(rounds):
        for name in weights:
            if len(timed["runs"][name]) > number:
                continue
            pipeline.say(f"speed, round {number + 1} of {rounds}: {name}")
            try:
                found = profile.measure_afresh(
                    variant(name), files, options.device, timed["threads"], LANGUAGE
                )
            except EdgeWhisperError as error:
                pipeline.say(f"{name} could not be measured: {error}")
                continue
            timed["runs"][name].append(found)
            yield timed
    yield timed
