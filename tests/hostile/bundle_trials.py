"""What loading corrupted bundles ends in: each in a process of limited memory and time.

    python tests/hostile/bundle_trials.py BUNDLE [--every N] [--kind KIND] [--skip N]

is that process: it prints a JSON line when it starts with a bundle, and one when it is done.
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))  # as pytest does

from edgewhisper_runtime import loading
from edgewhisper_runtime.errors import BundleError, EdgeWhisperError, MissingLibraryError
from edgewhisper_runtime.measure.profile import SPEECH
from edgewhisper_runtime.options import Options
from hostile import bundle_corpus
from hostile.trial import Trial

CLIP = SPEECH / "smoke" / "slt" / "1" / "slt-1-0001.opus"
MEMORY = 3 << 30  # bytes of address space that trying a bundle may add
START = 120.0  # seconds until the first bundle
LIMIT = 60.0  # seconds for a bundle


def trials(bundle: Path, every: int = 1, kind: str | None = None) -> Iterator[Trial]:
    """Try every n-th case, of all kinds or one; after one that kills the process, in another.

    Raises RuntimeError where the intact bundle does not run.
    """
    done = 0
    while True:
        command = [sys.executable, __file__, str(bundle), f"--every={every}", f"--skip={done}"]
        command += [f"--kind={kind}"] if kind else []
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        started = None
        timer = _killed_after(process, START)
        for line in process.stdout:
            timer.cancel()
            timer = _killed_after(process, LIMIT)
            row = json.loads(line)
            if "outcome" in row:
                started = None
                done += 1
                yield Trial(**row)
            else:
                started = row
        timer.cancel()
        if process.wait() == 0:
            return
        if started is None:
            raise RuntimeError(f"the process that tries bundles ended with {process.returncode}")
        done += 1
        yield Trial(**started, outcome=f"died or hung ({process.returncode})", seconds=LIMIT)


def _killed_after(process: subprocess.Popen[str], seconds: float) -> threading.Timer:
    timer = threading.Timer(seconds, process.kill)
    timer.start()
    return timer


def attempt(directory: Path) -> str:
    """Return what loading a bundle and transcribing a clip ends in, as `Trial.outcome`."""
    try:
        loading.load(directory, threads=1).transcribe(CLIP, Options(words=True))
    except EdgeWhisperError as error:
        message = str(error)
        if not message.isprintable() or "defect" in message:
            return f"untamed message: {message!r}"
        # The latter for a backend of another name, which no installed library has.
        expected = isinstance(error, (BundleError, MissingLibraryError))
        return "refused" if expected else f"{type(error).__name__}: {message}"
    except Exception as error:  # noqa: BLE001 # what is looked for
        return f"unexpected {type(error).__name__}: {error}"[:300]
    return "handled"


def main() -> None:
    """Try cases in this process."""
    parser = argparse.ArgumentParser()
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("--skip", type=int, default=0)
    parser.add_argument("--kind")
    options = parser.parse_args()
    if (outcome := attempt(options.bundle)) != "handled":
        sys.exit(f"the intact bundle: {outcome}")
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + MEMORY, size + MEMORY))
    cases = bundle_corpus.cases(options.bundle)
    cases = [case for case in cases if options.kind in {None, case.kind}]
    # Beside the bundle, as its files are linked.
    with tempfile.TemporaryDirectory(dir=options.bundle.parent) as work:
        target = Path(work) / "bundle"
        for case in cases[:: options.every][options.skip :]:
            print(json.dumps({"kind": case.kind, "name": case.name}), flush=True)
            bundle_corpus.copy(options.bundle, case, target)
            begin = time.perf_counter()
            outcome = attempt(target)
            trial = Trial(case.kind, case.name, outcome, time.perf_counter() - begin)
            print(json.dumps(asdict(trial)), flush=True)
            for path in Path(work).iterdir():
                shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


if __name__ == "__main__":
    main()
