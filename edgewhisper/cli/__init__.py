"""`edgewhisper`: one module per command, imported only when the command is used."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import NoReturn

import click

from edgewhisper_runtime.cli import info, run, serve, transcribe, verify
from edgewhisper_runtime.cli.options import Group
from edgewhisper_runtime.errors import BundleError

_SUMMARIES = {
    "ablate": "Find out which part of a model bears which precision.",
    "build": "Quantize, evaluate, gate and install a bundle.",
    "bundles": "List the bundles that were built here.",
    "cache": "Show and delete what is kept besides bundles.",
    "compare": "Compare bundles, reports, profiles and other engines' transcripts.",
    "data": "Get, list and check data to evaluate on.",
    "doctor": "Tell what this machine can run, and what to mend.",
    "evaluate": "Compare a variant's WER with the fp32 baseline's.",
    "fetch": "Get a model's checkpoint, verified.",
    "inspect": "Count what a bundle really holds.",
    "models": "List the models and what is available here.",
    "package": "Pack a bundle into one file for a device without internet.",
    "profile": "Measure speed, memory and size of a bundle, here or on a device over ssh.",
    "recipes": "List the recipes, or show one.",
    "report": "Write a page of stored results: one HTML file that needs nothing else.",
    "score": "Compute a report's figures again from its raw texts, or score transcripts.",
    "sweep": "Compare many recipes of one model in one table and plot.",
    "tune": "Find and install the best bundle within limits of size, WER, speed and memory.",
}


class _Lazy(Group):
    """Lists the commands without importing them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted([*_SUMMARIES, *super().list_commands(ctx)])

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name in _SUMMARIES:
            command: click.Command = import_module(f"edgewhisper.cli.{cmd_name}").command
            return command
        return super().get_command(ctx, cmd_name)

    def summaries(self) -> dict[str, str]:
        """Return the summaries of all commands without importing them."""
        return _SUMMARIES | super().summaries()


def _bundles() -> Path:
    from edgewhisper.workspace import Workspace

    return Workspace.from_environment().bundles


def _latest_bundle() -> Path:
    from edgewhisper.workspace import Workspace

    bundle = Workspace.from_environment().latest_bundle()
    if bundle is None:
        raise BundleError(
            "no bundle was built here. Build one with `edgewhisper build`, or name one with "
            "--bundle DIR."
        )
    return bundle


@click.group(
    cls=_Lazy,
    examples=("build -m whisper-base", "transcribe talk.m4a", "build --help"),
    # `obj` is called only by what needs a bundle of the workspace, and so a home for it.
    context_settings={"help_option_names": ["-h", "--help"], "obj": _bundles},
)
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
@click.version_option(package_name="edgewhisper")
@click.pass_context
def group(context: click.Context, debug: bool) -> None:  # noqa: ARG001 # read before parsing, so that it covers parsing
    """Quantize Whisper, prove on LibriSpeech what it cost, ship a verified bundle."""
    from edgewhisper.cli.terminal import show_messages

    show_messages()
    context.default_map = {"transcribe": {"bundle": _latest_bundle}}


for _command in (info, serve, transcribe, verify):
    group.add_command(_command)


def main() -> NoReturn:
    """Run `edgewhisper`."""
    run(group, "edgewhisper")
