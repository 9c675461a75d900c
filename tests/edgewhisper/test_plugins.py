"""A library, an export format, an engine and a data set from another distribution."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

import edgewhisper
from edgewhisper.checkpoints import Checkpoint
from edgewhisper.evaluation import datasets
from edgewhisper.evaluation.options import EvaluationOptions
from edgewhisper.recipes import find_recipe
from edgewhisper.reports import SweepRow
from edgewhisper_runtime.errors import DataError, RecipeError

ENTRY_POINTS = """
[edgewhisper.libraries]
foreign = foreign:LIBRARY
[edgewhisper.exports]
foreign-format = foreign:Format
[edgewhisper.backends]
foreign-format = foreign:load
[edgewhisper.datasets]
foreign-data = foreign
"""
MODULE = """
from edgewhisper.evaluation.formats import Entry
from edgewhisper.quantizers import Library
from edgewhisper_exporters.formats import Onnx
from edgewhisper_runtime.engines import onnx
from edgewhisper_runtime.measure.profile import SPEECH

# It quantizes as EdgeWhisper's own does.
LIBRARY = Library("edgewhisper.quantizers.edgewhisper", "torch", "pip install foreign", "#123456")


class Format(Onnx):
    engine_megabytes = 1


def load(directory, manifest, device, threads):
    return onnx.load(directory, manifest, device, threads)


SETTINGS = frozenset()


def matches(path):
    return path.suffix == ".foreign"


def splits(source):
    return ("smoke",)


def entries(source, split):
    for line in source.path.read_text().splitlines():
        yield Entry(f"{source.path}:{line}", next(SPEECH.rglob(f"{line}.opus")), "some words", line)
"""


@pytest.fixture
def foreign(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An installed distribution that EdgeWhisper knows nothing of."""
    info = tmp_path / "foreign-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: foreign\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(ENTRY_POINTS)
    (tmp_path / "foreign.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)


def test_a_sweep_goes_through_what_is_registered_elsewhere(
    foreign: None, workspace: edgewhisper.Workspace, tiny_en: Checkpoint, tmp_path: Path
) -> None:
    recipe = replace(
        find_recipe("onnx-int8"), name="theirs", library="foreign", exports=("foreign-format",)
    )
    speech = tmp_path / "speech.foreign"
    speech.write_text("slt-1-0001\nslt-1-0002\n")
    seen: list[tuple[str, int, int]] = []
    result = edgewhisper.sweep(
        tiny_en.name,
        [recipe],
        EvaluationOptions(datasets.find_dataset(workspace, speech)),
        rounds=0,
        output=tmp_path / "sweep",
        workspace=workspace,
        progress=lambda *event: seen.append(event),
    )
    row = result.rows["theirs"]
    assert isinstance(row, SweepRow), row.error
    assert result.dataset.name == "speech"
    assert row.recipe.library == "foreign"
    assert row.files.keys() >= {"encoder.onnx", "decoder.onnx"}
    assert len(row.texts["smoke"]) == 2
    assert row.gate is not None
    assert "#123456" in (tmp_path / "sweep" / "pareto.svg").read_text()
    assert ("whisper-tiny.en-theirs smoke", 2, 2) in seen  # told by the process that evaluated


def test_what_is_not_registered_is_refused_by_name(
    workspace: edgewhisper.Workspace, tmp_path: Path
) -> None:
    recipe = replace(find_recipe("onnx-int8"), library="foreign")
    with pytest.raises(RecipeError, match="library is 'foreign'; use one of bitsandbytes,"):
        edgewhisper.sweep("whisper-tiny.en", [recipe], workspace=workspace)
    speech = tmp_path / "speech.foreign"
    speech.write_text("slt-1-0001")
    with pytest.raises(DataError, match="no format that is read"):
        datasets.find_dataset(workspace, speech)
