"""Measure how often the gate's intervals hold the true difference, where that is known.

    python tools/measure_coverage.py [--repetitions N] [--seed N] [--output DIR] [--table]

Two systems are simulated on the same utterances. Each makes errors at a rate that differs from
speaker to speaker and from utterance to utterance, so their difference has speaker effects. The
limit of the gate is the true difference, which is the hardest case: 2.5 % of the data sets may pass
by chance. Raw counts are written to coverage.json, the table to coverage.md beside it; --table
writes only the table, from the stored counts.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray

from edgewhisper.evaluation.significance import TAIL, estimates, widest
from edgewhisper_runtime.bundle import Interval, atomic

RESULTS = Path(__file__).parent.parent / "docs" / "results"
RESAMPLES = 1000
KINDS = ("over utterances", "bootstrap over speakers", "over speakers", "the gate's")
PAGE = """# How often the gate's interval holds the true difference

Of {repetitions} simulated data sets each: the share in which the 95 % interval holds the true
difference, and in brackets the share in which it ends below it, so that a variant at the limit
would pass by chance (2.5 % are stated). Errors go together within a speaker: the speaker effect is
the coefficient of variation of the error rates between speakers. `Model` in
`tools/measure_coverage.py` says how the data are drawn. This page was written by
`python tools/measure_coverage.py --repetitions {repetitions} --seed {seed}`; the counts are in
`coverage.json`.

{table}

"Over utterances" and "over speakers" are jackknife intervals with Student's t; "the gate's" is at
each end the wider of the two. With five speakers it is wider than it states, because the wider of
two counts. Failures that are rare and large, as in the last row, are held by no interval that is
computed from the few utterances at hand: where none of them happened, nothing shows them. Empty and
looping outputs are therefore counted apart in every report.
"""
Counts = NDArray[np.int64]


@dataclass(frozen=True)
class Model:
    """Data of `speakers` with so many utterances each, on average if `uneven`.

    Rates are of errors per word: `churn` of the baseline's that the variant does not make, `churn +
    difference` of the variant's own. `effect` is the coefficient of variation of both rates between
    speakers, `burst` between utterances of a speaker. In a share `loops` of the utterances the
    variant gets every word wrong besides.
    """

    speakers: int
    utterances: int = 8
    uneven: bool = False
    effect: float = 0.0
    burst: float = 1.0
    churn: float = 0.008
    difference: float = 0.005
    loops: float = 0.0

    @property
    def true_difference(self) -> float:
        """The difference of both systems' error rates in points."""
        return 100 * (self.difference + self.loops)

    def draw(self, generator: np.random.Generator) -> tuple[Counts, Counts, list[str]]:
        """Return differences in errors and words of each utterance [n], and its speaker."""
        sizes = np.full(self.speakers, self.utterances)
        if self.uneven:
            spread = generator.negative_binomial(2, 2 / (1 + self.utterances), self.speakers)
            sizes = 1 + spread
        speaker = np.repeat(np.arange(self.speakers), sizes)
        words = np.clip(generator.gamma(3, 6.5, len(speaker)).round(), 2, 60).astype(np.int64)

        def errors(rate: float) -> Counts:
            of_speaker = _around_one(generator, self.effect, self.speakers)[speaker]
            of_utterance = _around_one(generator, self.burst, len(speaker))
            return generator.poisson(words * rate * of_speaker * of_utterance)

        differences = errors(self.churn + self.difference) - errors(self.churn)
        differences += words * (generator.random(len(speaker)) < self.loops)
        return differences, words, [str(number) for number in speaker]


MODELS = (
    *(Model(speakers, effect=0.7) for speakers in (5, 10, 20, 40)),
    *(Model(speakers, effect=0.7, uneven=True) for speakers in (5, 10, 20, 40)),
    *(Model(20, effect=effect) for effect in (0.0, 0.35, 1.0)),
    Model(40, utterances=65, effect=0.35, uneven=True),
    Model(20, effect=0.7, loops=0.003),
)


def _around_one(generator: np.random.Generator, variation: float, count: int) -> NDArray[Any]:
    """Return factors of mean one with this coefficient of variation (gamma distributed)."""
    if not variation:
        return np.ones(count)
    return generator.gamma(1 / variation**2, variation**2, count)


def count(model: Model, repetitions: int, seed: int) -> dict[str, dict[str, int]]:
    """Return for each kind of interval how often it held the truth, and ended below it."""
    generator = np.random.default_rng(seed)
    counts: dict[str, dict[str, int]] = {}
    for _ in range(repetitions):
        differences, words, speakers = model.draw(generator)
        of_each = estimates(differences, words, speakers)
        intervals = {f"over {level}": one.interval() for level, one in of_each.items()}
        intervals["the gate's"] = widest(list(intervals.values()))
        intervals["bootstrap over speakers"] = _bootstrap(generator, differences, words, speakers)
        for name, interval in intervals.items():
            held = counts.setdefault(name, {"held": 0, "ended_below": 0})
            held["held"] += interval.low <= model.true_difference <= interval.high
            held["ended_below"] += interval.high < model.true_difference
    return counts


def _bootstrap(
    generator: np.random.Generator, differences: Counts, words: Counts, speakers: list[str]
) -> Interval:
    """Return the percentile interval with speakers resampled (Liu and Peng 2019)."""
    number = np.array(speakers, dtype=np.int64)
    sums = np.stack([np.bincount(number, differences), np.bincount(number, words)])
    picked = sums[:, generator.integers(0, sums.shape[1], (RESAMPLES, sums.shape[1]))].sum(2)
    low, high = np.quantile(100 * picked[0] / picked[1], [TAIL, 1 - TAIL])
    return Interval(float(low), float(high))


def to_markdown(results: dict[str, Any]) -> str:
    """Return the page with the table of stored counts."""
    repetitions = results["repetitions"]
    lines = [
        f"| speakers | utterances each | speaker effect | {' | '.join(KINDS)} |",
        "|---" * (len(KINDS) + 3) + "|",
    ]
    for row in results["rows"]:
        model = Model(**row["model"])
        each = f"{model.utterances} on average, uneven" if model.uneven else f"{model.utterances}"
        effect = f"{model.effect:g}"
        if model.loops:
            effect += f", and {100 * model.loops:g} % of utterances all wrong"
        cells = [str(model.speakers), each, effect]
        for kind in KINDS:
            held, below = (row["counts"][kind][key] for key in ("held", "ended_below"))
            cells.append(f"{100 * held / repetitions:.1f} ({100 * below / repetitions:.1f})")
        lines.append(f"| {' | '.join(cells)} |")
    return PAGE.format(table="\n".join(lines), repetitions=repetitions, seed=results["seed"])


@click.command()
@click.option("--repetitions", default=4000, show_default=True, help="Data sets of each row.")
@click.option("--seed", default=1, show_default=True)
@click.option("--output", type=click.Path(path_type=Path), default=RESULTS)
@click.option("--table", is_flag=True, help="Write only the table, from the stored counts.")
def main(repetitions: int, seed: int, output: Path, table: bool) -> None:
    """Simulate every model, and write counts and table."""
    stored = output / "coverage.json"
    if not table:
        rows = [
            {"model": asdict(model), "counts": count(model, repetitions, seed)} for model in MODELS
        ]
        results = {"repetitions": repetitions, "seed": seed, "rows": rows}
        atomic.write_text(stored, json.dumps(results, indent=1) + "\n")
    atomic.write_text(output / "coverage.md", to_markdown(json.loads(stored.read_text())))


if __name__ == "__main__":
    main()
