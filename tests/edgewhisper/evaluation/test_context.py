"""The settings of adaptive context, chosen on real development speech."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from edgewhisper.evaluation import context, datasets
from edgewhisper.evaluation.context import Decoding, Trial, Window
from edgewhisper.evaluation.datasets import Utterance
from edgewhisper.evaluation.options import EvaluationOptions
from edgewhisper.workspace import Workspace
from edgewhisper_runtime import load
from edgewhisper_runtime.bundle import Adaptive, Artefact
from edgewhisper_runtime.options import PLAIN
from edgewhisper_runtime.transcriber import Transcriber


@pytest.fixture(scope="module")
def utterances(workspace: Workspace, data: Path) -> list[Utterance]:
    dataset = datasets.find_dataset(workspace, splits=("dev-clean",), librispeech=data)
    return datasets.utterances(dataset, "dev-clean", 6)


@pytest.fixture(scope="module")
def trials(onnx_bundle: Path, utterances: list[Utterance]) -> list[Trial]:
    contexts = context.Contexts(Artefact.verified(onnx_bundle), threads=2)
    return [contexts.decode(one.path, one.reference) for one in utterances]


def test_a_threshold_is_below_most_windows(trials: list[Trial]) -> None:
    chosen = context.choose_from(trials)
    assert chosen.margin in context.MARGINS
    assert chosen.min_log_probability is not None
    likely = [window.log_probability for trial in trials for window in trial.short[2.0].windows]
    assert min(likely) <= chosen.min_log_probability < 0
    assert chosen == context.choose_from(trials)
    stored = [Trial.from_dict(json.loads(json.dumps(trial.to_dict()))) for trial in trials]
    assert stored == trials


def test_the_text_for_a_threshold_is_the_one_that_the_runtime_gives(
    onnx_bundle: Path, utterances: list[Utterance], trials: list[Trial]
) -> None:
    """Texts follow from decoding without a threshold; here the runtime decodes with one."""
    decoder = load(onnx_bundle, threads=2).decoder
    settings = Adaptive(2.0, -0.2)
    guarded = Transcriber(
        decoder.backend,
        decoder.tokenizer,
        replace(decoder.settings, adaptive=settings),
        adaptive=True,
    )
    reasons = set()
    for utterance, trial in zip(utterances, trials, strict=True):
        transcript = guarded.transcribe(utterance.path, replace(PLAIN, language="en"))
        expected = trial.decoding(settings)
        assert transcript.text == expected.text.strip()
        found = [window.encoded_again for window in transcript.windows]
        assert found == [window.encoded_again for window in expected.windows]
        reasons |= set(found)
    assert {None, "unsure"} <= reasons


def trial(reference: str, full: str, short: str, log_probability: float) -> Trial:
    def decoded(text: str, likely: float) -> Decoding:
        return Decoding((Window(text, likely, None, 5.0),), 1.0, 1.0)

    by_margin = {
        margin: decoded(short, log_probability + 0.01 * margin) for margin in context.MARGINS
    }
    return Trial(reference, decoded(full, -0.1), by_margin)


def test_errors_raise_the_threshold_until_they_are_gone() -> None:
    """One text of ten is worse in short context, and four are less likely than it."""
    right = [trial("yes it is", "yes it is", "yes it is", -0.1 * n) for n in range(1, 20)]
    wrong = trial("no it is not", "no it is not", "no it was", -1.75)
    assert context.choose_from(right) == context.candidates(right, 1.0)[0]
    chosen = context.choose_from([*right, wrong])
    assert chosen.min_log_probability is not None
    assert chosen.min_log_probability > -1.75 + 0.01
    assert chosen in context.candidates([*right, wrong], 1.0)[1:]


def test_what_was_chosen_is_not_chosen_again_unless_it_is_damaged(
    workspace: Workspace, onnx_bundle: Path, utterances: list[Utterance], tmp_path: Path
) -> None:
    for split in ("dev", "test"):
        lines = [
            {"audio_filepath": str(one.path), "text": one.reference, "language": "en"}
            for one in (utterances[:2] if split == "dev" else utterances[2:3])
        ]
        text = "".join(json.dumps(line) + "\n" for line in lines)
        (tmp_path / f"{split}.jsonl").write_text(text)
    options = EvaluationOptions(datasets.find_dataset(workspace, tmp_path), threads=2)
    artefact, own = Artefact.verified(onnx_bundle), Workspace(tmp_path / "home")
    decoded: list[int] = []

    def choose() -> Adaptive:
        return context.choose(own, artefact, options, lambda _task, done, _of: decoded.append(done))

    chosen = choose()
    assert decoded == [1, 2]
    assert choose() == chosen
    assert decoded == [1, 2]
    (path,) = own.evaluations.glob("*/adaptive.json")
    path.write_text("{")
    assert choose() == chosen
    assert decoded == [1, 2, 1, 2]
