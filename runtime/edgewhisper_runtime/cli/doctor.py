"""edgewhisper-runtime doctor."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import TYPE_CHECKING

import click

from edgewhisper_runtime.cli import options

if TYPE_CHECKING:
    from edgewhisper_runtime.measure.doctor import Finding


@click.command("doctor", cls=options.Sectioned, examples=("", "--json"))
@options.option("Output", "--json", "as_json", is_flag=True, help="A list of objects.")
def command(as_json: bool) -> int:
    """Tell what this machine can run and how well, each problem with its remedy.

    Ends with exit code 1 if there are problems.
    """
    from edgewhisper_runtime.measure.doctor import examine

    return report(examine(), as_json)


def report(findings: Iterable[Finding], as_json: bool) -> int:
    """Print findings; return the exit code: 1 if one of them is a problem."""
    from edgewhisper_runtime.bundle import to_json
    from edgewhisper_runtime.measure.doctor import to_text

    every = list(findings)
    rows = [to_json(finding) | {"problem": finding.is_problem} for finding in every]
    click.echo(json.dumps(rows) if as_json else to_text(every))
    return int(any(finding.is_problem for finding in every))
