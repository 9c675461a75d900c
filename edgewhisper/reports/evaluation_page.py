"""The page of a build or an evaluation: a variant compared with its baseline."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Literal

from edgewhisper.evaluation.wer import GroupScore
from edgewhisper.quantizers.census import summarize
from edgewhisper.recipes import Recipe
from edgewhisper.reports import plots, provenance
from edgewhisper.reports.changes import changes
from edgewhisper.reports.results import Report
from edgewhisper.reports.timing import speed_blocks, speeds
from edgewhisper.reports.view import (
    Block,
    Column,
    Figure,
    Folded,
    Page,
    Plot,
    Section,
    Table,
    Text,
)
from edgewhisper.reports.wording import (
    SYNTHETIC,
    TONES,
    both_intervals,
    change,
    describe,
    difference,
    error_rate,
    faster,
    measured,
    megabytes,
    metric,
    part_size,
    proof,
    sized,
    unsigned,
)
from edgewhisper_runtime.errors import amount

ROLES: tuple[Literal["baseline"], Literal["variant"]] = ("baseline", "variant")
_SHOWN = 10  # changed texts that are not folded
_MOST_DRAWN = 20  # speakers in a plot


def page(report: Report) -> Page:
    """Return a report's page."""
    gate = report.gate
    return Page(
        title=report.variant.name,
        verdict=f"gate {gate.verdict}",
        tone=TONES[gate.verdict],
        sentence=_sentence(report),
        figures=tuple(_figures(report)),
        sections=tuple(_sections(report)),
        notes=(SYNTHETIC,) if report.dataset.synthetic else (),
    )


def overall_wer(report: Report, role: Literal["baseline", "variant"]) -> float:
    """Return the WER of a role in percent, over all splits together."""
    summaries = [getattr(split, role) for split in report.summary.values()]
    errors = sum(each.substitutions + each.deletions + each.insertions for each in summaries)
    return 100 * errors / sum(each.words for each in summaries)


def _sentence(report: Report) -> str:
    baseline, variant = report.baseline, report.variant
    size = sized(baseline.weight_bytes, variant.weight_bytes, baseline.recipe.name)
    before, after = (speeds(report, role) for role in ROLES)
    memory = ""
    if before.peak_bytes and after.peak_bytes:
        memory = f", peak memory {change(before.peak_bytes, after.peak_bytes, 'less', 'more')}"
    return (
        f"{variant.model.name} by {variant.recipe.name} is {size} "
        f"({megabytes(variant.weight_bytes)} instead of {megabytes(baseline.weight_bytes)}), "
        f"{faster(before.rtf, after.rtf)}{memory}; its {error_rate(report)} "
        f"{proof(report.gate, baseline.recipe.name)}{measured(report.gate.overall)}."
    )


def _figures(report: Report) -> Iterator[Figure]:
    baseline, variant = report.baseline, report.variant
    was, is_now = (overall_wer(report, role) for role in ROLES)
    yield Figure(f"{is_now:.2f} %", error_rate(report), f"{baseline.recipe.name} {was:.2f} %")
    yield Figure(
        megabytes(variant.weight_bytes), "weights",
        f"{baseline.recipe.name} {megabytes(baseline.weight_bytes)}",
    )  # fmt: skip
    before, after = (speeds(report, role) for role in ROLES)
    yield Figure(f"{after.rtf:.3f}", "real-time factor", f"{baseline.recipe.name} {before.rtf:.3f}")
    if before.peak_bytes and after.peak_bytes:
        yield Figure(
            megabytes(after.peak_bytes), "peak memory",
            f"{baseline.recipe.name} {megabytes(before.peak_bytes)}",
        )  # fmt: skip


def _sections(report: Report) -> Iterator[Section]:
    yield Section(error_rate(report).capitalize(), tuple(_wer_blocks(report)))
    if report.contexts:
        yield Section("Audio context", _context_blocks(report))
    yield Section("Speed and memory", tuple(speed_blocks(report)))
    yield Section("Size by part", tuple(_size_blocks(report)))
    yield Section("Texts that changed", tuple(_changed_blocks(report)))
    yield Section("By length of audio", tuple(_group_blocks(report, "by_duration", "length")))
    yield Section("By speaker", tuple(_group_blocks(report, "by_speaker", "speaker")))
    if any(s.variant.by_language for s in report.summary.values()):
        yield Section("Languages", (_languages(report),))
    yield Section("Errors and outputs", (_errors(report),))
    if report.skipped:
        reasons = tuple(map(Text, report.skipped))
        left_out = Folded(f"{amount(len(reasons), 'problem')} in the data", reasons)
        yield Section("Left out of the data", (left_out,))
    yield Section("To repeat it", tuple(_provenance(report)))


def _wer_blocks(report: Report) -> Iterator[Block]:
    gate, splits = report.gate, report.summary
    estimates = [
        plots.Estimate(split, s.comparison.d, s.comparison.interval.low, s.comparison.interval.high)
        for split, s in splits.items()
    ]
    if gate.overall is not None and len(splits) > 1:
        whole = gate.overall
        estimates.append(
            plots.Estimate("all splits", whole.d, whole.interval.low, whole.interval.high)
        )
    described = "; ".join(
        f"{e.label} {e.value:+.2f} ({e.low:+.2f} to {e.high:+.2f})" for e in estimates
    )
    yield Plot(
        plots.intervals(
            estimates, f"change of {metric(report)}, points (95 %)", gate.max_wer_increase
        ),
        f"Change of {metric(report)} from the baseline in points, 95 % intervals: {described}; "
        f"the limit is {gate.max_wer_increase:+g}.",
    )
    rows = tuple(
        (
            split, str(s.variant.utterances),
            f"{s.baseline.wer:.2f} ({unsigned(s.baseline.interval)})",
            f"{s.variant.wer:.2f} ({unsigned(s.variant.interval)})",
            difference(s.comparison),
            "shown" if s.comparison.difference_shown else "not shown",
            gate.splits[split].verdict,
        )
        for split, s in splits.items()
    )  # fmt: skip
    columns = (
        Column("data", numeric=False), Column("utterances"), Column("baseline, %"),
        Column("variant, %"), Column("difference, points"), Column("difference", numeric=False),
        Column("gate", numeric=False),
    )  # fmt: skip
    yield Table(
        f"{error_rate(report).capitalize()} on {report.dataset.name}, with 95 % intervals; the "
        f"limit is {gate.max_wer_increase:+g} points",
        columns,
        rows,
    )
    if gate.overall is not None:
        needed = gate.utterances_needed
        yield Text(
            f"All splits together: {difference(gate.overall)} points, {gate.overall.utterances} "
            f"utterances, {both_intervals(gate.overall)}; gate {gate.verdict}."
            + (f" About {needed} utterances would settle it." if needed else "")
        )


def _context_blocks(report: Report) -> tuple[Block, ...]:
    rows = tuple(
        (
            trial.audio_context, trial.verdict, difference(trial.overall),
            difference(trial.difference) if trial.difference else "",
            ("proven" if trial.proven else "not proven") if trial.difference else "",
        )
        for trial in report.contexts
    )  # fmt: skip
    return (
        Text(
            f"It ships with {report.variant.audio_context} audio context; the other figures are "
            "of it."
        ),
        Table(
            "Audio contexts that were tried; differences in points, with 95 % intervals",
            (
                Column("audio context", numeric=False), Column("gate", numeric=False),
                Column("from the baseline"), Column("from full windows"),
                Column("within the limit", numeric=False),
            ),
            rows,
        ),
    )  # fmt: skip


def _size_blocks(report: Report) -> Iterator[Block]:
    sizes = [_by_part(report, role) for role in ROLES]
    groups = {part: [each.get(part, 0) / 1e6 for each in sizes] for part in sizes[0] | sizes[1]}
    described = "; ".join(
        f"{part} {was:.1f} and {is_now:.1f}" for part, (was, is_now) in groups.items()
    )
    if groups:
        yield Plot(
            plots.bars(groups, ROLES, "weights, MB"),
            f"Weights by part in MB, of the baseline and of the variant: {described}.",
        )
    census = report.variant.census
    rows = tuple(
        (row.part, row.module, str(row.count), row.dtype, row.granularity, part_size(row, census))
        for row in census
    )
    columns = (
        Column("part", numeric=False), Column("module", numeric=False), Column("layers"),
        Column("type", numeric=False), Column("granularity", numeric=False), Column("size"),
    )  # fmt: skip
    yield Text(f"Quantized: {summarize(census)}.")
    yield Folded("Every part", (Table("How each part of the variant is stored", columns, rows),))


def _by_part(report: Report, role: str) -> dict[str, int]:
    sizes: dict[str, int] = {}
    for row in report.bundles[role].census:
        if row.bytes:
            sizes[row.part] = sizes.get(row.part, 0) + row.bytes
    return dict(sorted(sizes.items(), key=lambda item: -item[1]))


def _changed_blocks(report: Report) -> Iterator[Block]:
    changed, punctuation = changes(report)
    utterances = sum(s.variant.utterances for s in report.summary.values())
    yield Text(
        f"Words changed in {len(changed)} of {utterances} utterances; in {punctuation} more, only "
        "case or punctuation. The words that differ are marked; the worst come first."
    )
    yield from (each.versions for each in changed[:_SHOWN])
    if rest := changed[_SHOWN:]:
        yield Folded(f"{len(rest)} more", tuple(each.versions for each in rest))


def _group_blocks(
    report: Report, key: Literal["by_duration", "by_speaker"], name: str
) -> Iterator[Block]:
    rows: list[tuple[str, ...]] = []
    for split, summary in report.summary.items():
        before: Mapping[str, GroupScore] = getattr(summary.baseline, key)
        after: Mapping[str, GroupScore] = getattr(summary.variant, key)
        groups = {group or "unknown": (before[group].wer, after[group].wer) for group in after}
        worse = sum(is_now > was for was, is_now in groups.values())
        drawn = groups
        if key == "by_speaker":
            changed = sorted(groups, key=lambda group: -abs(groups[group][1] - groups[group][0]))
            highest = sorted(changed[:_MOST_DRAWN], key=lambda group: -groups[group][1])
            drawn = {group: groups[group] for group in highest}
        only = "" if drawn == groups else f" Drawn: the {len(drawn)} that changed most."
        yield Plot(
            plots.pairs(drawn, f"{metric(report)} %, {split}"),
            f"{metric(report)} in percent by {name} on {split}, of both models: higher with "
            f"the variant in {worse} of {len(groups)} groups.{only} The table has every figure.",
        )
        rows += [
            (
                group or "unknown", split, str(score.utterances), str(score.words),
                f"{before[group].wer:.2f}", f"{score.wer:.2f}",
                f"{score.wer - before[group].wer:+.2f}",
            )
            for group, score in after.items()
        ]  # fmt: skip
    columns = (
        Column(name, numeric=False), Column("split", numeric=False), Column("utterances"),
        Column("words or characters"), Column("baseline, %"), Column("variant, %"),
        Column("difference, points"),
    )  # fmt: skip
    yield Folded(
        f"Every {name}",
        (Table(f"{error_rate(report).capitalize()} by {name}", columns, tuple(rows)),),
    )


def _languages(report: Report) -> Table:
    rows = tuple(
        (
            language, split, score.metric, score.normalizer, str(score.utterances),
            f"{s.baseline.by_language[language].wer:.2f}", f"{score.wer:.2f}", score.remark,
        )
        for split, s in report.summary.items()
        for language, score in s.variant.by_language.items()
    )  # fmt: skip
    columns = (
        Column("language", numeric=False), Column("split", numeric=False),
        Column("metric", numeric=False), Column("normalizer", numeric=False),
        Column("utterances"), Column("baseline, %"), Column("variant, %"),
        Column("remark", numeric=False),
    )  # fmt: skip
    return Table("Error rate by language", columns, rows)


def _errors(report: Report) -> Table:
    rows = []
    for split, summary in report.summary.items():
        for role in ROLES:
            each = getattr(summary, role)
            counts = (
                each.words, each.substitutions, each.deletions, each.insertions, each.empty,
                each.looping,
            )  # fmt: skip
            compared = summary.comparison
            shares = (
                f"{100 * compared.share_not_worse:.0f}",
                f"{100 * compared.share_same_text:.0f}",
            )
            shown = shares if role == "variant" else ("", "")
            rows.append((split, role, *map(str, counts), *shown))
    columns = (
        Column("split", numeric=False), Column("model", numeric=False), Column("words"),
        Column("substitutions"), Column("deletions"), Column("insertions"),
        Column("empty texts"), Column("looping texts"), Column("utterances not worse, %"),
        Column("same text, %"),
    )  # fmt: skip
    return Table("Word errors by kind, and outputs that failed", columns, tuple(rows))


def _language(report: Report) -> str:
    """Return the language that was decoded in, and how often detection agrees with the data."""
    detected = (
        f"{role}: detected as the data's in {100 * share:.1f} %"
        for role, share in report.language_accuracy.items()
    )
    return "; ".join([report.language, *detected])


def _provenance(report: Report) -> Iterator[Block]:
    variant = report.variant
    recipe = Recipe.from_record(variant.recipe, variant.name)
    calibration = "none"
    if variant.calibration is not None:
        split = recipe.calibration.split if recipe.calibration else ""
        calibration = f"{len(variant.calibration.utterances)} utterances of {split}"
    normalizer = report.normalizer
    libraries = ", ".join(f"{name} {number}" for name, number in variant.libraries.items())
    yield provenance.table(
        {
            "command": report.command or "not recorded",
            **provenance.model(variant.model),
            "recipe": f"{variant.recipe.name}: {variant.recipe.summary}",
            "data": provenance.data(report.dataset),
            "language": _language(report),
            "calibration": calibration,
            "machine": describe(report.machine),
            "threads": str(report.threads or report.machine.usable_cores),
            "device": report.device,
            "normalizer": f"{normalizer.name} {normalizer.version}, rules {normalizer.sha256}",
            "EdgeWhisper": report.edgewhisper,
            "libraries": libraries,
            "created": report.created,
        }
    )
    if report.conditions:
        yield provenance.conditions_table(report.conditions)
    yield Text(
        "report.json beside this page holds every reference and every raw text; `edgewhisper score "
        "report.json` computes these figures again."
    )
