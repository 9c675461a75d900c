"""Render a sweep's results.json as the study's table and as Pareto plots."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from edgewhisper.quantizers.census import summarize
from edgewhisper_runtime import bundle
from edgewhisper_runtime.bundle import atomic
from edgewhisper_runtime.errors import DataError

RESULTS, TABLE, PLOT = "results.json", "table.md", "pareto.svg"
_COLORS = {
    "pytorch": "#d1495b",
    "quanto": "#2e86ab",
    "hqq": "#6a994e",
    "bitsandbytes": "#bc6c25",
    "edgewhisper": "#6d2e8b",
}
Measure = Callable[[dict[str, Any], str], float | None]
_FRAME = 8.0  # points above the baseline that the plot shows


def read_sweep(directory: Path) -> dict[str, Any] | None:
    """Return the results in a sweep's directory, None if it has none.

    Raises DataError when results.json is something else.
    """
    path = directory / RESULTS
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if found["rows"]["fp32"]["texts"].keys() == found["utterances"].keys():
            return found
        raise DataError(f"{path} has a baseline of other splits. Name another directory.")
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{path} holds no sweep ({error!r}). Name another directory.") from error


def write_sweep(result: dict[str, Any], directory: Path) -> None:
    """Write results.json, table.md and pareto.svg into the directory."""
    content = json.dumps(result, ensure_ascii=False, separators=(",", ":"))
    atomic.write_text(directory / RESULTS, content + "\n")
    atomic.write_text(directory / TABLE, to_table(result) + "\n")
    atomic.write_text(directory / PLOT, to_plot(result))


def to_table(result: dict[str, Any], names: Collection[str] | None = None) -> str:
    """Return a Markdown table, one recipe a line, grouped by library, and what it was made of.

    With `names`, only of these recipes.
    """
    splits = list(result["utterances"])
    baseline = result["rows"]["fp32"]
    heads = [f"WER % {split}" for split in splits]
    columns = ["recipe", "scheme", "scope", "MB", *heads, "gate", "RTF", "peak RSS, MB"]
    lines = [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    rows = sorted(result["rows"].items(), key=lambda item: _order(item[1]["recipe"]))
    for name, row in rows:
        if names is not None and name not in names:
            continue
        scheme = row["recipe"]["scheme"]
        if row.get("calibration"):
            calibration = row["recipe"]["calibration"]
            scheme += f", {len(row['calibration']['utterances'])} of {calibration['split']}"
        if "error" in row:
            reason = " ".join(row["error"].split()).replace("|", "\\|")
            cells = [name, scheme, f"failed: {reason}", *[""] * (len(columns) - 3)]
        else:
            smaller = 100 * (1 - row["weight_bytes"] / baseline["weight_bytes"])
            size = f"{row['weight_bytes'] / 1e6:.1f}"
            size += f" ({-smaller:+.1f} %)" if row is not baseline else ""
            verdict = row["gate"]["verdict"] if row is not baseline else "baseline"
            wers = [_wer(row, split, len(result["utterances"][split])) for split in splits]
            scope = summarize(bundle.parse(tuple[bundle.CensusRow, ...], row["census"]))
            cells = [name, scheme, scope, size, *wers, verdict, *_speed(result, name)]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, "", _footer(result)])


def to_plot(result: dict[str, Any]) -> str:
    """Return an SVG: WER of each split against size and against RTF, the Pareto front drawn in."""
    import io

    from matplotlib import rc_context
    from matplotlib.figure import Figure

    splits = list(result["utterances"])
    measures = {"weights, MB": _megabytes, "real-time factor": rtf}
    if rtf(result, "fp32") is None:  # nothing was timed
        measures.pop("real-time factor")
    with rc_context({"svg.hashsalt": "edgewhisper", "svg.fonttype": "none", "font.size": 8}):
        figure = Figure(figsize=(5.2 * len(splits), 3.9 * len(measures)), layout="constrained")
        grid = figure.subplots(len(measures), len(splits), squeeze=False)
        for axes_of, (label, measure) in zip(grid, measures.items(), strict=True):
            for axes, split in zip(axes_of, splits, strict=True):
                _draw(axes, result, split, label, measure)
        handles, labels = grid[0][0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=7, frameon=False)
        stream = io.StringIO()
        figure.savefig(stream, format="svg", metadata={"Date": None, "Creator": None})
    return stream.getvalue()


def pareto(points: dict[str, tuple[float, float]]) -> list[str]:
    """Return the names of the points (cost, WER) that no other is better than in both, by cost."""
    front: list[str] = []
    for name in sorted(points, key=lambda name: points[name]):
        if not front or points[name][1] < points[front[-1]][1]:
            front.append(name)
    return front


def _draw(axes: Any, result: dict[str, Any], split: str, label: str, measure: Measure) -> None:
    baseline = result["rows"]["fp32"]["summary"][split]["wer"]
    top = baseline + _FRAME
    points: dict[str, tuple[float, float]] = {}
    outside = 0
    for name, row in result["rows"].items():
        cost = None if "error" in row else measure(result, name)
        if cost is None or row.get("collapsed"):
            continue
        wer = row["summary"][split]["wer"]
        if wer > top:
            outside += 1
        else:
            points[name] = (cost, wer)
    libraries = {name: result["rows"][name]["recipe"]["library"] for name in points}
    for library, color in _COLORS.items():
        own = [points[name] for name, other in libraries.items() if other == library]
        if own:
            axes.scatter(*zip(*own, strict=True), s=18, color=color, label=library, zorder=3)
    axes.axhline(baseline, color="black", lw=0.8, ls=":", label="fp32")
    front = pareto(points)
    drawn = [points[name] for name in front]
    axes.step(*zip(*drawn, strict=True), where="post", color="#888888", lw=1, label="Pareto front")
    for number, name in enumerate(front):
        away = (4, 5 if number % 2 else -10)
        axes.annotate(name, points[name], xytext=away, textcoords="offset points", fontsize=6)
    axes.set(xlabel=label, ylabel=f"WER % {split}")
    axes.set_title(f"{outside} above the frame" if outside else "", fontsize=7, loc="right")
    axes.grid(alpha=0.25)


def _order(recipe: dict[str, Any]) -> tuple[bool, bool, int, str]:
    quantizes = bool(recipe["scope"])
    return (
        recipe["name"] != "fp32",
        quantizes,
        list(_COLORS).index(recipe["library"]),
        recipe["name"],
    )


def _wer(row: dict[str, Any], split: str, of: int) -> str:
    summary = row["summary"][split]
    text = f"{summary['wer']:.2f}"
    if "comparison" in row:
        found = row["comparison"][split]
        low, high = found["interval"]["low"], found["interval"]["high"]
        text += f" ({found['d']:+.2f}: {low:+.2f} to {high:+.2f})"
    if summary["utterances"] < of:
        text += f", given up after {summary['utterances']} utterances"
    return text


def _speed(result: dict[str, Any], name: str) -> list[str]:
    factor, rss = rtf(result, name), _median(result, name, "peak_rss_bytes")
    return ["" if factor is None else f"{factor:.3f}", "" if rss is None else f"{rss / 1e6:.0f}"]


def _megabytes(result: dict[str, Any], name: str) -> float:
    return float(result["rows"][name]["weight_bytes"] / 1e6)


def rtf(result: dict[str, Any], name: str) -> float | None:
    """Return the median real-time factor of a recipe; None where it was not timed."""
    runs = _runs(result, name)
    figures = [sum(run["seconds"]) / sum(run["audio_seconds"]) for run in runs]
    return statistics.median(figures) if figures else None


def _median(result: dict[str, Any], name: str, key: str) -> float | None:
    runs = _runs(result, name)
    return statistics.median(run[key] for run in runs) if runs else None


def _runs(result: dict[str, Any], name: str) -> list[dict[str, Any]]:
    """Return what was timed of a recipe's variant: of this one, not of an earlier one."""
    timed = result["speed"]
    same = timed and timed["weights"].get(name) == result["rows"][name].get("files")
    return timed["runs"].get(name, []) if same else []


def _footer(result: dict[str, Any]) -> str:
    heard = ", ".join(
        f"{len(utterances)} utterances of {split}"
        for split, utterances in result["utterances"].items()
    )
    text = (
        f"{result['model']['name']} on {result['dataset']['name']}: {heard}. In brackets: the "
        "difference from fp32 in points, with its paired 95 % interval."
    )
    if rtf(result, "fp32") is not None:
        timed = result["speed"]
        rounds = max(map(len, timed["runs"].values()), default=0)
        host = timed["machine"]
        text += (
            f" RTF and peak RSS: medians of up to {rounds} fresh processes each, taken in turns, "
            f"on {len(timed['files'])} of the utterances; {host['cpu']} "
            f"({', '.join(host['isa'])}), {timed['threads']} threads."
        )
    return f"{text}\n\nWritten by `{result['command']}`."
