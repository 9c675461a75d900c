"""The options that several commands share, and help that shows options in sections."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, get_args

import click

from edgewhisper_runtime.options import Options, Padding
from edgewhisper_runtime.text import languages

F = TypeVar("F", bound=Callable[..., Any])

_DEFAULT = Options()


class Sectioned(click.Command):
    """A command whose help lists its options under the titles that `option` gave them."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the sections, in the order in which their first options were added."""
        sections: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record and isinstance(parameter, click.Option):
                sections.setdefault(getattr(parameter, "section", "Help"), []).append(record)
        for title, records in sections.items():
            with formatter.section(title):
                formatter.write_dl(records)


class _Option(click.Option):
    def __init__(self, *names: Any, section: str, **settings: Any) -> None:
        super().__init__(*names, **settings)
        self.section = section


def option(section: str, *names: str, **settings: Any) -> Callable[[F], F]:
    """Add an option as `click.option` does, for help under the title `section`."""
    return click.option(*names, cls=_Option, section=section, **settings)


def language(default: str | None = None) -> Callable[[F], F]:
    """Add --language, a code, tag or name; the command gets the code, None to detect it."""
    return option(
        "Speech",
        "--language",
        type=languages.to_code,
        metavar="LANGUAGE",
        default=default or "auto",
        show_default=True,
        help="Code, tag or English name, such as de, de-CH or German; auto detects it.",
    )


def engine(command: F) -> F:
    """Add the options of `loading.load`: --device, --threads, --audio-context."""
    return add(
        command,
        option("Engine", "--device", default="cpu", show_default=True, help="cpu or cuda."),
        option(
            "Engine",
            "--threads",
            type=click.IntRange(1),
            metavar="N",
            help="Threads to compute with; all usable cores by default.",
        ),
        option(
            "Engine",
            "--audio-context",
            type=click.Choice(["full", "adaptive"]),
            help="Encode whole windows of 30 s, or what there is and a margin; the bundle's by "
            "default.",
        ),
    )


def decoding(command: F) -> F:
    """Add an option for every field of Options, by the field's name."""
    return add(
        command,
        option(
            "Speech",
            "--vad/--no-vad",
            default=_DEFAULT.vad != "none",
            show_default=True,
            help="Leave out what is not speech.",
        ),
        option(
            "Speech", "--prompt", default="", help="Text to go on from: its spelling, its style."
        ),
        option(
            "Speech",
            "--hotwords",
            type=_words,
            metavar="WORD,WORD",
            default="",
            help="Names and terms that may occur.",
        ),
        option(
            "Speech",
            "--condition-on-previous-text",
            is_flag=True,
            help="Go on from what was said before: steadier style, but errors carry over too.",
        ),
        option(
            "Times",
            "--timestamps/--no-timestamps",
            default=None,
            help="Have the model say when each phrase was spoken; on for all formats but txt.",
        ),
        option("Times", "--words", is_flag=True, help="Find the time of each word too."),
        option(
            "Decoding",
            "--beam-size",
            type=click.IntRange(1),
            metavar="N",
            default=_DEFAULT.beam_size,
            show_default=True,
            help="Hypotheses to follow; 1 is greedy.",
        ),
        option(
            "Decoding",
            "--temperature",
            "temperatures",
            type=_numbers,
            metavar="T,T",
            default=",".join(f"{t:g}" for t in _DEFAULT.temperatures),
            show_default=True,
            help="What to try, one after the other, until the text passes the limits below.",
        ),
        option(
            "Decoding",
            "--best-of",
            type=click.IntRange(1),
            metavar="N",
            default=_DEFAULT.best_of,
            show_default=True,
            help="Samples to choose from at temperatures above 0.",
        ),
        option(
            "Decoding",
            "--seed",
            type=click.IntRange(0),
            metavar="N",
            default=_DEFAULT.seed,
            show_default=True,
            help="The same seed draws the same samples.",
        ),
        option(
            "Decoding",
            "--padding",
            type=click.Choice(get_args(Padding)),
            default=_DEFAULT.padding,
            show_default=True,
            help="Fill up short audio with silence, or features with zeros as openai-whisper does.",
        ),
        option(
            "Decoding",
            "--batch-size",
            type=click.IntRange(1),
            metavar="N",
            default=_DEFAULT.batch_size,
            show_default=True,
            help="Windows to decode at once, if greedily and with full audio context.",
        ),
        option(
            "Limits (a number, or none)",
            "--max-compression-ratio",
            type=_limit,
            metavar="X",
            default=_DEFAULT.max_compression_ratio,
            show_default=True,
            help="Text that zlib shrinks further repeats itself.",
        ),
        option(
            "Limits (a number, or none)",
            "--min-log-probability",
            type=_limit,
            metavar="X",
            default=_DEFAULT.min_log_probability,
            show_default=True,
            help="Text whose tokens are less likely on average is a guess.",
        ),
        option(
            "Limits (a number, or none)",
            "--max-no-speech",
            type=_limit,
            metavar="X",
            default=_DEFAULT.max_no_speech,
            show_default=True,
            help="Guesses in what is more probably no speech are left out.",
        ),
    )


def add(command: F, *options: Callable[[F], F]) -> F:
    """Add options to a command, in this order."""
    for add in reversed(options):
        command = add(command)
    return command


def _limit(text: str) -> float | None:
    return None if text == "none" else float(text)


def _numbers(text: str) -> tuple[float, ...]:
    return tuple(map(float, text.split(",")))


def _words(text: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in text.split(",") if word.strip())
