"""edgewhisper tune."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgewhisper.cli import options
from edgewhisper.recipes import Recipe
from edgewhisper.workspace import Workspace
from edgewhisper_runtime.cli.options import Sectioned, option
from edgewhisper_runtime.cli.values import Number

if TYPE_CHECKING:
    from edgewhisper.reports.tuning import Prefer, TuningResult

_UNITS = {"B": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
_SIZE = re.compile(r"(\d+(?:\.\d+)?) *([A-Za-z]+)")


class _Size(click.ParamType):
    """Bytes, as 80MB, 1.2GB or 64MiB."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        factors = {unit.lower(): factor for unit, factor in _UNITS.items()}
        match = _SIZE.fullmatch(str(value))
        if match is None or match[2].lower() not in factors or not float(match[1]):
            units = ", ".join(_UNITS)
            self.fail(f"{value!r} is not a size such as 80MB. Units: {units}.", param, ctx)
        return round(float(match[1]) * factors[match[2].lower()])


@click.command(
    "tune",
    cls=Sectioned,
    examples=(
        "-m whisper-base --max-size 80MB",
        "-m whisper-base --max-rss 300MB --data calls.csv",
        "-m whisper-base -r onnx-int8 -r onnx-int4 -o tuned/",
        "-m whisper-base --search --max-size 50MB",
    ),
)
@options.model()
@options.recipe(
    "Recipe name, or path of a TOML file (repeatable); by default every recipe that ships and "
    "keeps all languages.",
    multiple=True,
)
@option(
    "Model",
    "--search",
    belongs_to="--max-size",
    is_flag=True,
    help="Also try a recipe that is searched for --max-size, each part with bits of its own.",
)
@option("Limits", "--max-size", type=_Size(), help="Of the exported weights, such as 80MB.")
@option(
    "Limits",
    "--max-wer-increase",
    type=Number(0),
    metavar="POINTS",
    default=0.5,
    show_default=True,
    help="Points of WER above fp32's that the gate allows.",
)
@option(
    "Limits",
    "--max-rtf",
    type=Number(0, min_open=True),
    metavar="X",
    help="Real-time factor on this machine.",
)
@option("Limits", "--max-rss", type=_Size(), help="Peak memory of the process, such as 300MB.")
@option(
    "Limits",
    "--prefer",
    type=click.Choice(["speed", "size", "accuracy"]),
    default="speed",
    show_default=True,
    help="What makes a bundle within the limits the best.",
)
@options.evaluation
@option(
    "Engine",
    "--rounds",
    default=2,
    show_default=True,
    type=click.IntRange(1),
    metavar="N",
    help="How often to measure each candidate's speed, in turns.",
)
@options.output(
    "Directory for tune.json, table.md, pareto.svg, a searched recipe, and the bundle's directory.",
    file_okay=False,
)
@options.as_json("All results on stdout.")
@options.workspace
def command(
    workspace: Workspace,
    model: str,
    max_size: int | None,
    max_wer_increase: float,
    max_rtf: float | None,
    max_rss: int | None,
    prefer: Prefer,
    recipe: tuple[Recipe, ...],
    search: bool,
    rounds: int,
    output: Path | None,
    as_json: bool,
    **evaluation: Any,
) -> None:
    """Find and install the best bundle of a model within limits, on this machine.

    What was done before is not done again. The table tells why each other recipe was not chosen.
    """
    from edgewhisper import api
    from edgewhisper.cli.terminal import Bars, show_bundle
    from edgewhisper.reports.tuning import Limits, to_table

    def show(result: TuningResult) -> None:
        click.echo(json.dumps(result.to_json()) if as_json else to_table(result))

    tuned = api.tune(
        model,
        Limits(max_wer_increase, max_size, max_rtf, max_rss),
        options.evaluation_options(workspace, **evaluation),
        recipes=recipe,
        search=search,
        prefer=prefer,
        rounds=rounds,
        output=output,
        workspace=workspace,
        progress=Bars(),
        on_result=show,
        command=options.command_line(),
    )
    show_bundle(tuned.bundle.path, as_json=as_json)
