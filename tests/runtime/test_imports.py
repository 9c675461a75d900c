"""The runtime stays lean: no heavy library is imported by it, shown from fresh interpreters."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import edgewhisper_runtime

PACKAGE = Path(edgewhisper_runtime.__file__).parent
HEAVY = {
    "torch",
    "transformers",
    "librosa",
    "edgewhisper",
    "edgewhisper_exporters",
    "huggingface_hub",
    "safetensors",
}
ENGINE = PACKAGE / "engines" / "pytorch.py"  # imports PyTorch to open a bundle that is for it
MODEL = {ENGINE.with_name(f"pytorch_{name}.py") for name in ("file", "layers", "model")}
REPORT = "import json, sys; print(json.dumps(sorted({m.split('.')[0] for m in sys.modules})))"


def imported_by(code: str) -> set[str]:
    result = subprocess.run(
        [sys.executable, "-c", f"{code}; {REPORT}"], capture_output=True, text=True, check=True
    )
    return set(json.loads(result.stdout))


def test_every_module_of_the_runtime_imports_without_torch() -> None:
    """But for those that the PyTorch engine imports to open a bundle."""
    paths = set(PACKAGE.rglob("[a-z]*.py")) - MODEL
    names = [path.relative_to(PACKAGE).with_suffix("") for path in paths]
    modules = [".".join(["edgewhisper_runtime", *name.parts]) for name in names]
    assert len(modules) > 8
    assert not imported_by(f"import {', '.join(modules)}") & HEAVY


def test_no_engine_reports_to_its_maker(tmp_path: Path) -> None:
    """ONNX Runtime would leave an identifier of the device in its home and temporary directory."""
    code = "import edgewhisper_runtime, onnxruntime; onnxruntime.get_available_providers()"
    build = "onnxruntime.InferenceSession(b'', providers=['CPUExecutionProvider'])"
    code += f"\ntry:\n    {build}\nexcept Exception:\n    pass"
    places = {name: str(tmp_path) for name in ("HOME", "TMPDIR", "XDG_CACHE_HOME")}
    environment = {k: v for k, v in os.environ.items() if k != "CI"} | places
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)
    assert list(tmp_path.iterdir()) == []


def test_the_runtime_names_no_heavy_library_in_its_source() -> None:
    """But for the PyTorch engine."""
    assert all(path.is_file() for path in MODEL | {ENGINE})
    for path in set(PACKAGE.rglob("*.py")) - MODEL - {ENGINE}:
        for node in ast.walk(ast.parse(path.read_text())):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.module:
                names.append(node.module)
            assert not {name.split(".")[0] for name in names} & HEAVY, path


def test_the_command_lines_answer_without_loading_engines() -> None:
    assert not imported_by("import edgewhisper_runtime.cli") & (HEAVY | {"numpy", "soundfile"})
    assert not imported_by("import edgewhisper.cli") & {"torch", "transformers", "numpy"}
