"""The engines of the peer benchmark: their environments, and their models of one checkpoint."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import click

from edgewhisper import pipeline
from edgewhisper.checkpoints import Checkpoint
from edgewhisper.evaluation import context
from edgewhisper.evaluation.datasets import Dataset
from edgewhisper.evaluation.options import EvaluationOptions
from edgewhisper.recipes import find_recipe
from edgewhisper.workspace import Workspace
from edgewhisper_runtime.bundle import write_manifest

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
OURS = "edgewhisper"


@dataclass(frozen=True)
class Contender:
    """An engine with a model: what the worker runs, in which environment, on which files.

    `mode` is "greedy", "beam" (of 5), or "batch" (8 windows at once of many files).
    """

    name: str
    engine: str
    environment: str
    model: Path
    mode: str = "greedy"

    @property
    def model_bytes(self) -> int:
        """Size of all the model's files."""
        files = self.model.rglob("*") if self.model.is_dir() else [self.model]
        return sum(path.stat().st_size for path in files if path.is_file())


# What each environment holds; those that convert are needed once, to make a model.
REQUIREMENTS: dict[str, tuple[str, ...]] = {
    OURS: (str(ROOT / "runtime"),),
    "faster-whisper": ("faster-whisper==1.2.1", "soundfile"),
    "openvino-genai": ("openvino==2026.4.0", "openvino-genai==2026.4.0", "soundfile", "numpy"),
    "whisper.cpp": ("pywhispercpp==1.5.1", "soundfile"),
    "onnx-asr": ("onnx-asr==0.12.0", "onnxruntime==1.32.0", "soundfile"),
    "convert-onnx": ("torch==2.13.0", "optimum-onnx==0.1.0", "onnx", "onnxruntime"),
    "convert-openvino": ("torch==2.13.0", "optimum-intel[openvino]", "openvino-tokenizers"),
}


def environment(work: Path, name: str) -> Path:
    """Return the directory of an engine's virtual environment, made when it is not there."""
    directory = work / "environments" / name
    done = directory / "installed"
    if not done.exists():
        click.echo(f"installing {name}", err=True)
        subprocess.run([sys.executable, "-m", "venv", str(directory)], check=True)
        pip = [str(directory / "bin" / "pip"), "install", "--quiet"]
        for requirement in REQUIREMENTS[name]:  # torch comes first and alone: see the Makefile
            subprocess.run([*pip, requirement], check=True)
        done.touch()
    return directory


def installed_bytes(directory: Path) -> int:
    """Return the size of an environment's packages in bytes, without pip and setuptools."""
    (packages,) = directory.glob("lib/python*/site-packages")
    return sum(
        path.stat().st_size
        for path in packages.rglob("*")
        if path.is_file()
        and path.relative_to(packages).parts[0].split("-")[0] not in {"pip", "setuptools"}
        and "__pycache__" not in path.parts
    )


def contenders(checkpoint: Checkpoint, work: Path, dataset: Dataset | None) -> list[Contender]:
    """Convert the checkpoint for every engine, unless that is done already.

    Our bundles have the adaptive context that `build` chooses on development speech of the data;
    the usual one for a checkpoint that was not trained, without data.
    """
    models = work / "models" / checkpoint.name
    models.mkdir(parents=True, exist_ok=True)
    bundles = []
    # Weights of random values need no speech to be rounded well.
    for recipe in ("onnx-int8", "onnx-int4-gptq" if dataset else "onnx-int4"):
        directory = _bundle(checkpoint, recipe, models / recipe, dataset)
        for audio_context in ("adaptive", "full"):
            name = f"EdgeWhisper {recipe}, {audio_context}"
            bundles.append(Contender(name, f"edgewhisper-{audio_context}", OURS, directory))
    ctranslate2 = models / "ctranslate2"
    if not ctranslate2.exists():
        from ctranslate2.converters import TransformersConverter

        converter = TransformersConverter(str(checkpoint.path), copy_files=["tokenizer.json"])
        converter.convert(str(ctranslate2), quantization="int8")
    openvino = models / "openvino"
    if not openvino.exists():
        _optimum(work, "openvino", checkpoint, openvino, "--weight-format", "int8")
    onnx_asr = models / "onnx-asr"
    if not onnx_asr.exists():
        exported = models / "onnx-float32"
        _optimum(work, "onnx", checkpoint, exported)
        python = environment(work, "convert-onnx") / "bin" / "python"
        script = HERE / "onnx_int8.py"
        subprocess.run([python, script, exported, onnx_asr], check=True)
    ggml = models / "ggml-q8_0.bin"
    if not ggml.exists():
        script = HERE / "ggml.py"
        subprocess.run([sys.executable, str(script), str(checkpoint.path), str(ggml)], check=True)
    openvino32 = "openvino-genai-float32"
    return [
        *bundles,
        Contender("faster-whisper int8", "faster-whisper", "faster-whisper", ctranslate2),
        Contender("OpenVINO GenAI int8", "openvino-genai", "openvino-genai", openvino),
        Contender("OpenVINO GenAI int8, float32", openvino32, "openvino-genai", openvino),
        Contender("onnx-asr int8", "onnx-asr", "onnx-asr", onnx_asr),
        Contender("whisper.cpp q8_0", "whisper.cpp", "whisper.cpp", ggml),
    ]


def _bundle(checkpoint: Checkpoint, recipe: str, target: Path, dataset: Dataset | None) -> Path:
    """Make the bundle of a recipe in `target`."""
    workspace = Workspace.from_environment()
    speech = dataset.librispeech if dataset else None
    export = pipeline.stage_export(workspace, checkpoint, find_recipe(recipe), speech)
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(export.path, target, copy_function=os.link)
    if dataset is not None:
        adaptive = context.choose(workspace, export, EvaluationOptions(dataset))
        settings = replace(export.manifest.settings, adaptive=adaptive)
        write_manifest(target, replace(export.manifest, settings=settings))
    return target


def in_other_modes(entered: Sequence[Contender]) -> list[Contender]:
    """Return rows for beams of 5 and for batches, of the engines that have them."""
    modes = {
        "edgewhisper-full": ("beam", "batch"),
        "edgewhisper-adaptive": ("batch",),
        "faster-whisper": ("beam", "batch"),
        "openvino-genai": ("beam",),
        "openvino-genai-float32": ("beam",),
        "whisper.cpp": ("beam",),
    }
    return [
        replace(contender, name=f"{contender.name}, {mode}", mode=mode)
        for contender in entered
        for mode in modes.get(contender.engine, ())
        if "int4" not in contender.name
    ]


def _optimum(work: Path, kind: str, checkpoint: Checkpoint, target: Path, *options: str) -> None:
    """Export a checkpoint with optimum, in the environment of that kind of export."""
    program = environment(work, f"convert-{kind}") / "bin" / "optimum-cli"
    task = ("--task", "automatic-speech-recognition-with-past")
    command: list[str | Path] = [
        program,
        "export",
        kind,
        "--model",
        checkpoint.path,
        *task,
        *options,
        target,
    ]
    subprocess.run(command, check=True)
