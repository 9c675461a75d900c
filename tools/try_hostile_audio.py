"""Read a corpus of hostile audio files, and write how many of each kind were handled or refused.

    python tools/try_hostile_audio.py SPEECH.flac --output counts.json

SPEECH is some seconds of speech at 16 kHz, mono, from which all files are made. Exit code 1 where a
file was read short, ended with another exception than AudioError, or took too long. The tests read
a part of the same corpus (tests/hostile/audio_corpus.py).
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path

import click

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))


@click.command()
@click.argument("speech", type=click.Path(path_type=Path, exists=True))
@click.option("--cuts", default=4, show_default=True, help="Truncation points for each file.")
@click.option("--flips", default=4, show_default=True, help="Flipped bits for each file.")
@click.option("--output", type=click.Path(path_type=Path), help="Where the counts go as JSON.")
def main(speech: Path, cuts: int, flips: int, output: Path | None) -> None:
    """Make the files, read each, and count the outcomes by kind."""
    from hostile.audio_corpus import cases, judge

    counts: dict[str, Counter[str]] = {}
    bad: list[str] = []
    for case in cases(speech, cuts, flips):
        outcome = judge(case)
        word = outcome.split(":")[0]
        counts.setdefault(case.kind, Counter(handled=0, refused=0, bad=0))[word] += 1
        if word == "bad":
            bad.append(f"{case.kind}: {case.name}: {outcome}")
            click.echo(bad[-1], err=True)
    total: Counter[str] = sum(counts.values(), Counter())
    report = {"files": total.total(), "total": total, "kinds": counts, "bad": bad}
    text = json.dumps(report, indent=1)
    if output:
        output.write_text(f"{text}\n", encoding="utf-8")
    click.echo(
        f"{total.total()} files: {total['handled']} handled, {total['refused']} refused, "
        f"{len(bad)} bad"
    )
    sys.exit(bool(bad))


if __name__ == "__main__":
    main()
