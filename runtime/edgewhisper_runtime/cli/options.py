"""The options that several commands share, and help that shows options in sections."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar, get_args

import click
from click.core import ParameterSource

from edgewhisper_runtime.cli import spellings
from edgewhisper_runtime.cli.values import Limit, Number, Several
from edgewhisper_runtime.errors import EdgeWhisperError, suggest
from edgewhisper_runtime.options import MAX_PENALTY, MAX_THREADS, Options, Padding, split_words
from edgewhisper_runtime.text import languages

F = TypeVar("F", bound=Callable[..., Any])

_DEFAULT = Options()
_FAULTS = f"{__name__}.faults"


class Sectioned(click.Command):
    """A command whose help lists its options under the titles that `option` gave them.

    It takes its options by the names of other Whisper tools too. `examples` are command lines
    without the command itself; an empty one is the command alone.
    """

    def __init__(self, *arguments: Any, examples: Sequence[str], **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self.examples = examples

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the examples."""
        with formatter.section("Examples"), formatter.indentation():
            for example in self.examples:
                formatter.write(
                    f"{'':>{formatter.current_indent - 2}}{ctx.command_path} {example}".rstrip()
                    + "\n"
                )

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the arguments after `spellings.translate`.

        Raises what is wrong with the values: an error by itself, several as one UsageError.
        """
        rest = super().parse_args(ctx, spellings.translate(args, self))
        faults = [*ctx.meta.get(_FAULTS, []), *self._alone(ctx)]
        if len(faults) == 1:
            raise faults[0]
        if faults:
            messages = (
                f.format_message() if isinstance(f, click.UsageError) else f for f in faults
            )
            raise click.UsageError("".join(f"\n- {message}" for message in messages), ctx)
        return rest

    def _alone(self, ctx: click.Context) -> Iterator[click.UsageError]:
        """Yield an error for each option that is given without the one that it belongs to."""
        for parameter in self.params:
            if owner := getattr(parameter, "belongs_to", None):
                names = (str(parameter.name), owner.removeprefix("--").replace("-", "_"))
                sources = tuple(map(ctx.get_parameter_source, names))
                if sources == (ParameterSource.COMMANDLINE, ParameterSource.DEFAULT):
                    hint = parameter.get_error_hint(ctx)
                    yield click.UsageError(f"{hint} changes nothing without {owner}.", ctx)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the sections, in the order in which their first options were added."""
        sections: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record and isinstance(parameter, click.Option):
                sections.setdefault(getattr(parameter, "section", "Other"), []).append(record)
        for title, records in sections.items():
            with formatter.section(title):
                formatter.write_dl(records)


class Group(Sectioned, click.Group):
    """Commands under one name, with help as `Sectioned` shows it."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the sections of options, then the commands."""
        super().format_options(ctx, formatter)
        self.format_commands(ctx, formatter)

    def summaries(self) -> dict[str, str]:
        """Return the first sentence of each command's help, not cut off as click does."""
        return {name: each.get_short_help_str(limit=1000) for name, each in self.commands.items()}

    def format_commands(self, _ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands and their summaries."""
        with formatter.section("Commands"):
            formatter.write_dl(sorted(self.summaries().items()))

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the command that is named; raise UsageError with what may have been meant."""
        if self.get_command(ctx, args[0]) is None and not args[0].startswith("-"):
            hint = suggest(args[0], self.list_commands(ctx), "--help lists them.")
            raise click.UsageError(f"there is no command {args[0]!r}. {hint}", ctx)
        return super().resolve_command(ctx, args)


class _Option(click.Option):
    def __init__(
        self,
        *names: Any,
        section: str,
        belongs_to: str | None = None,
        live: bool = False,
        **settings: Any,
    ) -> None:
        super().__init__(*names, **settings)
        self.section, self.belongs_to, self.live = section, belongs_to, live

    def handle_parse_result(
        self, ctx: click.Context, opts: Mapping[str, Any], args: list[str]
    ) -> tuple[Any, list[str]]:
        """Check the value; an error waits for `Sectioned.parse_args`, which raises all."""
        try:
            return super().handle_parse_result(ctx, opts, args)
        except (click.UsageError, EdgeWhisperError) as error:
            ctx.meta.setdefault(_FAULTS, []).append(error)
            return None, args


def option(section: str, *names: str, **settings: Any) -> Callable[[F], F]:
    """Add an option as `click.option` does, for help under the title `section`.

    With `belongs_to`, the long name of another option, it is refused where that is not given.
    `live` options are for speech while it comes too; all others are for recordings, and refused
    where there are none.
    """
    return click.option(*names, cls=_Option, section=section, **settings)


def language(default: str | None = None) -> Callable[[F], F]:
    """Add --language, a code, tag or name; the command gets the code, None to detect it."""
    return option(
        "Speech",
        "-l",
        "--language",
        live=True,
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
        option(
            "Engine", "--device", live=True, default="cpu", show_default=True, help="cpu or cuda."
        ),
        option(
            "Engine",
            "--threads",
            live=True,
            type=click.IntRange(1, MAX_THREADS),
            metavar="N",
            help="Threads to compute with; all usable cores by default.",
        ),
        option(
            "Engine",
            "--audio-context",
            live=True,
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
            "Speech",
            "--prompt",
            live=True,
            default="",
            help="Text to go on from: its spelling, its style.",
        ),
        option(
            "Speech",
            "--hotwords",
            live=True,
            type=split_words,
            metavar="WORD,WORD",
            default="",
            help="Names and terms that may occur.",
        ),
        option(
            "Speech",
            "--condition-on-previous-text",
            live=True,
            is_flag=True,
            help="Go on from what was said before: steadier style, but errors carry over too.",
        ),
        option(
            "Times",
            "--timestamps/--no-timestamps",
            default=None,
            help="Have the model say when each phrase was spoken; on for all formats but txt.",
        ),
        option(
            "Speech",
            "--clip-timestamps",
            type=Several(Number()),
            metavar="S,S",
            default="",
            help="Transcribe only these seconds: start, end, start, end and so on.",
        ),
        option(
            "Speech",
            "--multilingual",
            live=True,
            is_flag=True,
            help="Detect the language in every window, not only in the first.",
        ),
        option("Times", "--words", is_flag=True, help="Find the time of each word too."),
        option(
            "Decoding",
            "--beam-size",
            live=True,
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
            live=True,
            type=Several(Number()),
            metavar="T,T",
            default=",".join(f"{t:g}" for t in _DEFAULT.temperatures),
            show_default=True,
            help="What to try, one after the other, until the text passes the limits below.",
        ),
        option(
            "Decoding",
            "--best-of",
            live=True,
            type=click.IntRange(1),
            metavar="N",
            default=_DEFAULT.best_of,
            show_default=True,
            help="Samples to choose from at temperatures above 0.",
        ),
        option(
            "Decoding",
            "--repetition-penalty",
            live=True,
            type=Number(1, MAX_PENALTY),
            metavar="X",
            default=_DEFAULT.repetition_penalty,
            show_default=True,
            help="Above 1, words that a window has already are less likely.",
        ),
        option(
            "Decoding",
            "--no-repeat-ngram",
            live=True,
            type=click.IntRange(0),
            metavar="N",
            default=_DEFAULT.no_repeat_ngram,
            show_default=True,
            help="A phrase of so many tokens comes once in a window; 0: as often as it likes.",
        ),
        option(
            "Decoding",
            "--suppress",
            live=True,
            type=Several(click.INT),
            metavar="ID,ID",
            default=",".join(map(str, _DEFAULT.suppress)),
            show_default=True,
            help="Tokens never to write; -1 is the model's own list.",
        ),
        option(
            "Decoding",
            "--seed",
            live=True,
            type=click.IntRange(0),
            metavar="N",
            default=_DEFAULT.seed,
            show_default=True,
            help="The same seed draws the same samples.",
        ),
        option(
            "Decoding",
            "--padding",
            live=True,
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
            help="Windows to decode at once, of one recording or of several.",
        ),
        option(
            "Limits (a number, or none)",
            "--max-compression-ratio",
            live=True,
            type=Limit(),
            metavar="X",
            default=_DEFAULT.max_compression_ratio,
            show_default=True,
            help="Text that zlib shrinks further repeats itself.",
        ),
        option(
            "Limits (a number, or none)",
            "--min-log-probability",
            live=True,
            type=Limit(),
            metavar="X",
            default=_DEFAULT.min_log_probability,
            show_default=True,
            help="Text whose tokens are less likely on average is a guess.",
        ),
        option(
            "Limits (a number, or none)",
            "--hallucination-silence-threshold",
            type=Limit(),
            metavar="S",
            default="none",
            show_default=True,
            help="With --words, leave out unlikely text in silence of more seconds than this.",
        ),
        option(
            "Limits (a number, or none)",
            "--max-no-speech",
            live=True,
            type=Limit(),
            metavar="X",
            default=_DEFAULT.max_no_speech,
            show_default=True,
            help="Guesses in what is more probably no speech are left out.",
        ),
        option(
            "Limits (a number, or none)",
            "--min-end-probability",
            live=True,
            type=Limit(),
            metavar="X",
            default=_DEFAULT.min_end_probability,
            show_default=True,
            help="Text whose end is less likely goes on where more than 1 s of sound follows.",
        ),
    )


def add(command: F, *options: Callable[[F], F]) -> F:
    """Add options to a command, in this order."""
    for add in reversed(options):
        command = add(command)
    return command
