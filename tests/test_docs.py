"""What the documentation says is true: its commands run as shown, its options and names exist."""

from __future__ import annotations

import os
import pkgutil
import re
import runpy
import shlex
import shutil
import subprocess
import sys
import warnings
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path

import click
import pytest
import soundfile

from conftest import DATA, REPOSITORY, BundleOf
from edgewhisper import cli as host_cli
from edgewhisper.cli.options import DataType, ModelType
from edgewhisper.evaluation.cards import all_cards
from edgewhisper.recipes import find_recipe
from edgewhisper.workspace import Workspace
from edgewhisper_runtime import audio
from edgewhisper_runtime import cli as runtime_cli
from edgewhisper_runtime.cli.options import Group, Sectioned
from edgewhisper_runtime.cli.spellings import translate
from edgewhisper_runtime.cli.values import Bundle
from edgewhisper_runtime.measure.profile import SPEECH
from servers import serving

PAGES = [
    REPOSITORY / "README.md",
    REPOSITORY / "CONTRIBUTING.md",
    REPOSITORY / "examples" / "README.md",
    REPOSITORY / "runtime" / "README.md",
    *sorted((REPOSITORY / "docs").glob("*.md")),
    REPOSITORY / "edgewhisper" / "__init__.py",
]
# Where a file's name in a sentence may begin.
ROOTS = [
    REPOSITORY,
    REPOSITORY / "edgewhisper",
    REPOSITORY / "exporters",
    REPOSITORY / "runtime",
    REPOSITORY / "runtime" / "edgewhisper_runtime",
]
GROUPS = {"edgewhisper": host_cli.group, "edgewhisper-runtime": runtime_cli.group}
# What a page names need not be there, as it is the reader's own.
READERS_OWN = (click.Path, Bundle, DataType, ModelType)
# Languages of blocks: those that are tested, and those that only show something.
TESTED = {"console", "python", "sh", "toml"}
SHOWN = {"", "text", "http"}
# What no test can run, by a part of the command or program, and why.
NOT_RUN = {
    "with microphone()": "there is no microphone",
    "from peft import": "it takes a model hub and an adapter",
    "... | edgewhisper": "what appears when depends on how fast the machine is",
}
# What is needed beside EdgeWhisper, by the command's own word for it, and whether it is here.
SPANISH = DATA / "multilingual" / "es" / "fleurs-es-002.ogg"
AVAILABLE = {
    "jq": shutil.which("jq") is not None,
    "curl": shutil.which("curl") is not None,
    "frase.ogg": SPANISH.is_file(),
}
# Figures of the machine's speed and load; all else must be as the page shows it.
MAY_DIFFER = (
    (r"\d+ s of sound wait", "N s of sound wait"),
    (r"(?m)^((?:edgewhisper|process)_\S+) [-+.\de]+$", r"\1 N"),
)
_FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_INLINE = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
_OPERATORS = re.compile(r"[|&;()<>]+")


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    page: Path
    line: int
    language: str
    text: str

    @property
    def place(self) -> str:
        """Where it stands."""
        return f"{_name(self.page)}:{self.line}"


def blocks(page: Path, *languages: str) -> Iterator[Block]:
    text = page.read_text(encoding="utf-8")
    for found in _FENCED.finditer(text):
        if not languages or found[1] in languages:
            yield Block(page, text.count("\n", 0, found.start()) + 1, found[1], found[2])


def _name(page: Path) -> str:
    return str(page.relative_to(REPOSITORY))


def with_blocks(*languages: str) -> pytest.MarkDecorator:
    pages = [page for page in PAGES if any(blocks(page, *languages))]
    return pytest.mark.parametrize("page", pages, ids=_name)


def runs(text: str, place: str) -> bool:
    """Whether a command or program can be run here; if not, it is said why."""
    reasons = [why for part, why in NOT_RUN.items() if part in text]
    reasons += [
        f"{need} is not here" for need, here in AVAILABLE.items() if need in text and not here
    ]
    for reason in reasons:
        warnings.warn(f"{place} was not run: {reason}", stacklevel=2)
    return not reasons


def console(block: Block) -> Iterator[tuple[str, str]]:
    """Yield each command of a console block, and the output that is shown below it."""
    for part in re.split(r"^\$ ", block.text, flags=re.MULTILINE)[1:]:
        command, _, output = part.partition("\n")
        yield command, output


def same(shown: str, printed: str) -> bool:
    """Whether a command printed what the page shows, where a line of "..." is any lines."""
    for pattern, replacement in MAY_DIFFER:
        shown, printed = (re.sub(pattern, replacement, text) for text in (shown, printed))
    lines = [
        r"(?:.*\n)*?" if line == "..." else re.escape(line) + r"\n"
        for line in shown.rstrip("\n").splitlines()
    ]
    return re.fullmatch("".join(lines), printed.rstrip("\n") + "\n" if printed else "") is not None


def our_commands(script: str) -> Iterator[list[str]]:
    """Yield the words of each command in shell text that runs EdgeWhisper."""
    for line in script.replace("\\\n", " ").splitlines():
        words: list[str] = []
        lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
        lexer.whitespace_split = True
        for word in [*lexer, ";"]:
            if not _OPERATORS.fullmatch(word):
                words.append(word)
                continue
            if words and words[0] in GROUPS:
                yield words
            words = []


def parse(words: list[str]) -> None:
    """Raise click.ClickException unless the command exists and takes these options and values."""
    command: click.Command = GROUPS[words[0]]
    arguments = words[1:]
    context = click.Context(command, info_name=words[0], **command.context_settings)
    while isinstance(command, click.Group):
        values, arguments, _ = command.make_parser(context).parse_args(arguments)
        if not arguments:
            return  # such as --help
        name, command, arguments = command.resolve_command(context, arguments)
        assert command is not None
        context = click.Context(command, context, info_name=name)
    values, _, order = command.make_parser(context).parse_args(arguments)
    for parameter in order:
        value = values[parameter.name]
        if isinstance(value, str | list | tuple) and not (
            isinstance(parameter.type, READERS_OWN)
            or ".toml" in str(value)
            or value == parameter.metavar
        ):
            parameter.type_cast_value(context, value)


def options(command: click.Command) -> set[str]:
    """Return all options of a command and of those below it."""
    names = {
        name
        for parameter in command.params
        for name in (*parameter.opts, *parameter.secondary_opts)
    }
    if isinstance(command, click.Group):
        context = click.Context(command, **command.context_settings)
        for name in command.list_commands(context):
            names |= options(command.get_command(context, name))
    return names | {"--help", "--version"}


def commands(
    command: click.Command, name: str, parent: click.Context | None = None
) -> Iterator[click.Context]:
    """Yield a context of a command, and of each below it."""
    settings = command.context_settings
    context = click.Context(command, parent, info_name=name, terminal_width=80, **settings)
    yield context
    if isinstance(command, click.Group):
        for below in command.list_commands(context):
            found = command.get_command(context, below)
            assert found is not None
            yield from commands(found, below, context)


@pytest.fixture
def desk(tmp_path: Path, bundle_of: BundleOf, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory in which what the pages name is there: bundles, clips, the checkout's runtime."""
    base_bundle = bundle_of("whisper-base", "onnx-int8")
    (tmp_path / "runtime").symlink_to(REPOSITORY / "runtime")
    (tmp_path / "models" / "bundles").mkdir(parents=True)
    for name in ("whisper-base-onnx-int8", "whisper-base-quanto-int8"):
        (tmp_path / "models" / "bundles" / name).symlink_to(base_bundle)
    clips = [SPEECH / "smoke" / "slt" / "1" / f"slt-1-{number:04}.opus" for number in range(3)]
    shutil.copy(clips[1], tmp_path)
    for name in ("talk.flac", "vortrag.flac", "speech.wav", "speech.flac"):
        soundfile.write(tmp_path / name, audio.load(clips[0]), audio.SAMPLE_RATE)
    with soundfile.SoundFile(
        tmp_path / "talk.raw", "w", audio.SAMPLE_RATE, 1, "PCM_16", "LITTLE", "RAW"
    ) as file:
        for clip in clips:
            file.write(audio.load(clip))
            file.write([0.0] * audio.SAMPLE_RATE)
    if SPANISH.is_file():
        shutil.copy(SPANISH, tmp_path / "frase.ogg")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent), prepend=os.pathsep)
    monkeypatch.setenv("EDGEWHISPER_BUNDLE", str(base_bundle))
    monkeypatch.setenv("LC_ALL", "C.UTF-8")
    return tmp_path


class Reader:
    """Runs the commands and programs of a page, one after the other, as a reader would.

    A server that the page starts listens on a free port, which stands for the page's 8000.
    """

    def __init__(self, desk: Path, stack: ExitStack) -> None:
        self.desk, self.stack = desk, stack
        self.exit_code = 0
        self.port = "8000"
        self.names: dict[str, object] = {}  # what the programs have defined

    def run(self, block: Block) -> None:
        if block.language == "console":
            for command, shown in console(block):
                if runs(command, block.place):
                    printed = self._command(command)
                    assert same(shown, printed), (
                        f"{block.place}: $ {command}\nshown:\n{shown}\nprinted:\n{printed}"
                    )
        else:
            program = compile(block.text.replace(":8000", f":{self.port}"), block.place, "exec")
            if runs(block.text, block.place):
                exec(program, self.names)

    def _command(self, command: str) -> str:
        """Return what a command prints, on stdout and stderr."""
        if command.startswith("edgewhisper-runtime serve "):
            bundle = Path(command.rsplit(maxsplit=1)[-1])
            self.port = str(self.stack.enter_context(serving(bundle, self.desk)).port)
            return f"serving {bundle.name} on http://127.0.0.1:8000\n"  # `serving` has read it
        command = command.replace(":8000", f":{self.port}").replace("curl ", "curl --silent ")
        result = subprocess.run(
            ["bash", "-c", f"(exit {self.exit_code}); {command}"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        self.exit_code = result.returncode
        return result.stdout


@with_blocks()
def test_every_block_is_of_a_known_kind(page: Path) -> None:
    assert {block.language for block in blocks(page)} <= TESTED | SHOWN


def test_what_is_not_run_is_still_there() -> None:
    text = "".join(page.read_text(encoding="utf-8") for page in PAGES)
    assert [part for part in NOT_RUN if part not in text] == []


@with_blocks("console", "python")
def test_commands_and_programs_do_what_the_page_says(page: Path, desk: Path) -> None:
    with ExitStack() as stack:
        reader = Reader(desk, stack)
        for block in blocks(page, "console", "python"):
            reader.run(block)


@with_blocks("sh")
def test_shell_text_is_well_formed_and_its_options_exist(page: Path) -> None:
    for block in blocks(page, "sh"):
        checked = subprocess.run(
            ["bash", "-n"], input=block.text, capture_output=True, text=True, check=False
        )
        assert checked.returncode == 0, f"{block.place}: {checked.stderr}"
        for words in our_commands(block.text):
            parse(words)


@pytest.mark.parametrize("name", GROUPS)
def test_help_fits_80_columns_and_ends_with_examples_that_parse(name: str) -> None:
    for context in commands(GROUPS[name], name):
        command = context.command
        text = command.get_help(context)
        assert max(map(len, text.splitlines())) <= 80, context.command_path
        assert isinstance(command, Sectioned), context.command_path
        assert command.examples
        for example in command.examples:
            parse(shlex.split(f"{context.command_path} {example.partition('>')[0]}"))
        if not isinstance(command, Group):
            (other,) = re.findall(r"^Other:\n((?:  .*\n)+)", text, re.MULTILINE)
            assert other.split()[:2] == ["-h,", "--help"], f"{context.command_path}: {other}"


@with_blocks("toml")
def test_toml_is_a_recipe_or_a_data_card(page: Path, tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    workspace.data.mkdir()
    for number, block in enumerate(blocks(page, "toml")):
        path = workspace.data / f"{number}.toml"
        path.write_text(block.text)
        if block.text.startswith("path = "):
            (card,) = all_cards(workspace)
            assert card.path in block.text
        else:
            assert find_recipe(str(path)).name in block.text
        path.unlink()


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_names_in_the_text_exist(page: Path, pytestconfig: pytest.Config) -> None:
    """Commands, options, files and dotted names that a sentence quotes."""
    known = options(GROUPS["edgewhisper"]) | options(GROUPS["edgewhisper-runtime"])
    groups = entry_points().groups
    for quoted in _INLINE.findall(_FENCED.sub("", page.read_text(encoding="utf-8"))):
        words = quoted.split()
        if words[0] in GROUPS and not {"...", "->"} & set(words):
            for command in our_commands(quoted):
                parse(command)
        elif words[0].startswith("--"):
            own = hasattr(pytestconfig.option, words[0].strip("-").replace("-", "_"))  # the tests'
            spelled = translate(words[0].split("/"), runtime_cli.transcribe)
            assert own or set(spelled) <= known, quoted
        elif re.fullmatch(r"[\w.-]+/[\w./-]+\.(py|toml|md)", quoted):
            assert any((root / quoted).is_file() for root in ROOTS), quoted
        elif re.fullmatch(r"edgewhisper(_runtime|_exporters)?(\.\w+)+(\(.*\))?", quoted):
            name = quoted.partition("(")[0]
            assert name in groups or pkgutil.resolve_name(name) is not None


@pytest.mark.parametrize(
    ("name", "arguments", "expected"),
    [
        (
            "words",
            ["models/bundles/whisper-base-onnx-int8", "talk.flac"],
            r"0\.\d\d .*The\n.* harbor\n",
        ),
        (
            "live",
            ["models/bundles/whisper-base-onnx-int8", "talk.flac"],
            r"The harbor was .* water\.\n",
        ),
        (
            "build",
            [],
            r"smoke: WER \d.* points from fp32 .*\nnot judged: .*whisper-tiny\.en-onnx-int8\n",
        ),
        ("recipe", [], r"smoke: WER \d.*% of the texts as in fp32\n.* MB instead of 15\d\.\d MB\n"),
    ],
)
def test_examples(
    name: str,
    arguments: list[str],
    expected: str,
    desk: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    program = REPOSITORY / "examples" / f"{name}.py"
    monkeypatch.setattr(sys, "argv", [str(program), *arguments])
    runpy.run_path(str(program), run_name="__main__")
    printed = capsys.readouterr().out
    assert re.search(expected, printed), printed


def test_every_example_is_tested_and_listed() -> None:
    programs = {path.name for path in (REPOSITORY / "examples").glob("*.py")}
    assert programs == {"words.py", "live.py", "build.py", "recipe.py"}
    readme = (REPOSITORY / "examples" / "README.md").read_text()
    assert all(f"`{program}" in readme for program in programs)
