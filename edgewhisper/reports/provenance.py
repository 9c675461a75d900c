"""What it takes to repeat a measurement, as tables of a page."""

from __future__ import annotations

from collections.abc import Mapping

from edgewhisper.evaluation.conditions import ConditionedSplit
from edgewhisper.reports.view import Column, Table
from edgewhisper_runtime.bundle import DatasetRecord, Origin


def table(rows: Mapping[str, str]) -> Table:
    """Return what was used, by name."""
    columns = (Column("what", numeric=False), Column("value", numeric=False))
    return Table("How this was made", columns, tuple(rows.items()))


def model(origin: Origin) -> dict[str, str]:
    """Return where the checkpoint comes from, and the hashes of its weights."""
    source = str(origin.source.get("kind", "unknown"))
    hashes = {f"SHA-256 of {name}": sha256 for name, sha256 in origin.weights.items()}
    return {"model": f"{origin.name} from {source}"} | hashes


def data(dataset: DatasetRecord) -> str:
    """Return the data's name and how much of it was used."""
    limit = f", at most {dataset.limit} utterances a split" if dataset.limit else ""
    licence = f", licence {dataset.licence}" if dataset.licence else ""
    return dataset.name + limit + licence


def conditions_table(conditions: Mapping[str, ConditionedSplit]) -> Table:
    """Return what was done to the audio of each split."""
    rows = []
    for name, each in conditions.items():
        noise = each.condition.noise
        files = [f"{file} {sha256}" for file, sha256 in noise.files.items()] if noise else []
        seed = str(noise.seed) if noise else ""
        rows.append((name, each.split, each.condition.label, seed, ", ".join(files)))
    columns = (
        Column("name", numeric=False), Column("split", numeric=False),
        Column("condition", numeric=False), Column("seed"),
        Column("noise and its SHA-256", numeric=False),
    )  # fmt: skip
    return Table("Conditions that speech was evaluated in", columns, tuple(rows))
