"""Count what a sweep of one recipe hashes: first everything new, then with nothing left to do.

    python tools/count_hashing.py [--model whisper-tiny.en] [--recipe onnx-int8] [--rounds 1]

Every process of the sweep is counted, also those that it starts. The checkpoint is fetched
beforehand, and the baseline is evaluated beforehand by a sweep of another recipe, so that the
figures are those of one row.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import click

# Imported by every interpreter that starts with its directory in PYTHONPATH.
COUNTER = """
import hashlib, json, os, sys
_plain, _last = hashlib.file_digest, None

def _counted(file, *arguments, **keywords):
    global _last
    frame, within = sys._getframe(1), None
    while frame is not None and within is None:
        if frame.f_code.co_name == "verify" and frame.f_code.co_filename.endswith("manifest.py"):
            within = frame
        frame = frame.f_back
    new = within is not None and within is not _last  # a frame that is kept is never reused
    _last = within or _last
    line = [file.name, os.fstat(file.fileno()).st_size, bool(new)]
    with open(os.environ["COUNT_HASHING_LOG"], "a") as log:
        log.write(json.dumps(line) + "\\n")
    return _plain(file, *arguments, **keywords)

hashlib.file_digest = _counted
"""


def sweep(
    model: str, recipe: str, rounds: int, limit: int, output: Path, environment: dict[str, str]
) -> None:
    """Run `edgewhisper sweep` on the synthetic smoke set."""
    command = [str(Path(sys.executable).parent / "edgewhisper"), "sweep", "--model", model]
    command += ["--recipe", recipe, "--limit", str(limit), "--rounds", str(rounds)]
    command += ["--output", str(output)]
    subprocess.run(command, env=environment, check=True, capture_output=True)


@click.command()
@click.option("--model", default="whisper-tiny.en", show_default=True)
@click.option("--recipe", default="onnx-int8", show_default=True)
@click.option("--rounds", default=1, show_default=True)
@click.option("--limit", default=2, show_default=True, help="Utterances.")
@click.option("--json", "as_json", is_flag=True)
def main(model: str, recipe: str, rounds: int, limit: int, as_json: bool) -> None:
    """Print verifications, files and bytes hashed of a sweep's row, at first and again."""
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        (root / "sitecustomize.py").write_text(COUNTER)
        environment = os.environ | {
            "EDGEWHISPER_HOME": str(root / "home"),
            "PYTHONPATH": str(root),
            "COUNT_HASHING_LOG": os.devnull,
        }
        sweep(model, "bf16", 0, limit, root / "results", environment)
        rows = {}
        for turn in ("first", "again"):
            log = root / f"{turn}.jsonl"
            log.touch()
            environment["COUNT_HASHING_LOG"] = str(log)
            sweep(model, recipe, rounds, limit, root / "results", environment)
            lines = [json.loads(line) for line in log.read_text().splitlines()]
            rows[turn] = {
                "verifications": sum(new for _, _, new in lines),
                "files": len(lines),
                "twice": len(lines) - len({path for path, _, _ in lines}),
                "megabytes": round(sum(size for _, size, _ in lines) / 1e6),
            }
    if as_json:
        click.echo(json.dumps(rows))
        return
    for turn, row in rows.items():
        click.echo(f"{turn}: " + ", ".join(f"{value} {what}" for what, value in row.items()))


if __name__ == "__main__":
    main()
