"""The loop on a small random model: batches, limits, beams and samples."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from edgewhisper_runtime.decode import loop
from edgewhisper_runtime.decode.loop import Backend
from edgewhisper_runtime.decode.repetition import is_looping
from edgewhisper_runtime.decode.rules import TokenRules
from edgewhisper_runtime.decode.search import Beam, Hypothesis, Search, Texts, samples
from edgewhisper_runtime.engines.groups import Grouped
from edgewhisper_runtime.errors import BundleError

VOCABULARY = 64
ROOM = 38  # 40 positions, two of them the prompt's
END = 3
NEVER = -1
RULES = TokenRules((), (), END, ROOM)


@pytest.fixture(scope="module")
def backend(host: None) -> Grouped:
    """A small random model, which decodes anything: of the host toolkit."""
    import torch
    from transformers import WhisperConfig, WhisperForConditionalGeneration

    from edgewhisper.backend import TorchBackend

    torch.manual_seed(1)
    config = WhisperConfig(
        vocab_size=VOCABULARY, num_mel_bins=80, d_model=32, encoder_layers=2, decoder_layers=2,
        encoder_attention_heads=2, decoder_attention_heads=2, encoder_ffn_dim=64,
        decoder_ffn_dim=64, max_source_positions=1500, max_target_positions=40, init_std=0.6,
        pad_token_id=0, bos_token_id=1, eos_token_id=END, decoder_start_token_id=1,
        suppress_tokens=None, begin_suppress_tokens=None,
    )  # fmt: skip
    return Grouped(TorchBackend(WhisperForConditionalGeneration(config)))


def decode(backend: Backend, features: np.ndarray, rules: TokenRules) -> list[list[int]]:
    """Decode rows as one batch, greedily."""
    return [text.tokens for text in together(backend, features, lambda: Texts(rules))]


def alone(backend: Backend, row: np.ndarray, search: Search) -> Hypothesis:
    (text,) = together(backend, row[None], lambda: search)
    return text


def together(
    backend: Backend, features: np.ndarray, search: Callable[[], Search]
) -> list[Hypothesis]:
    return loop.run(backend, [decoding(backend, row, search()) for row in features])


def decoding(
    backend: Backend, row: np.ndarray, search: Search, count: int = 1
) -> loop.Decoding[Hypothesis]:
    cache, logits = prompted(backend, row[None])
    rows = np.zeros(count, dtype=np.int64)
    yield loop.start(backend, search, backend.reorder(cache, rows), logits[rows])
    return search.best


def prompted(backend: Backend, features: np.ndarray) -> tuple[Any, np.ndarray]:
    cache = backend.start(backend.encode(features))
    return cache, backend.step(np.tile(np.array([[1, 2]]), (len(features), 1)), cache)


def likelihood(backend: Backend, features: np.ndarray, text: Hypothesis) -> float:
    """Score a text from scratch, as one forward pass after another over all of it."""
    total, tokens = 0.0, [*text.tokens, END][: len(text.log_probabilities)]
    for count, token in enumerate(tokens):
        cache = backend.start(backend.encode(features))
        logits = backend.step(np.array([[1, 2, *tokens[:count]]]), cache)[0].astype(np.float64)
        total += logits[token] - np.log(np.exp(logits).sum())
    return total / len(tokens)


@pytest.fixture(scope="module")
def features() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(6, 80, 400)).astype(np.float32)


def test_a_batch_gives_what_its_rows_give_alone(backend: Backend, features: np.ndarray) -> None:
    endless = decode(backend, features, TokenRules((), (), NEVER, ROOM))
    # Some token that the rows say at different steps serves as the end.
    end = next(
        token for token in range(VOCABULARY)
        if len({tokens.index(token) if token in tokens else -1 for tokens in endless}) > 2
    )  # fmt: skip
    rules = TokenRules((), (), end, ROOM)
    together = decode(backend, features, rules)
    assert together == [decode(backend, row[None], rules)[0] for row in features]
    assert len({len(tokens) for tokens in together}) > 2


def test_suppressed_tokens_never_appear(backend: Backend, features: np.ndarray) -> None:
    free = decode(backend, features, TokenRules((), (), END, ROOM))
    banned = tuple({tokens[1] for tokens in free if len(tokens) > 1})
    first = tuple({tokens[0] for tokens in free if tokens})
    ruled = decode(backend, features, TokenRules(banned, first, END, ROOM))
    assert not {token for tokens in ruled for token in tokens} & set(banned)
    assert not {tokens[0] for tokens in ruled if tokens} & set(first)


def test_the_text_ends_with_the_positions(backend: Backend, features: np.ndarray) -> None:
    endless = decode(backend, features, TokenRules((END,), (), END, 10))
    assert {len(tokens) for tokens in endless} == {10}


def test_a_hopeless_repetition_is_broken_off() -> None:
    """One row says token 7 for ever, the other counts."""
    search = Texts(TokenRules((), (), END, 199), count=2)
    texts = np.array([0, 1])
    for number in range(199):
        logits = np.zeros((len(texts), 500), np.float32)
        logits[np.arange(len(texts)), np.where(texts == 0, 7, 10 + number)] = 1
        rows, _ = search.advance(logits)
        texts = texts[rows]
    assert not len(texts)
    stuck, counting = search.texts
    assert stuck.tokens == [7] * 64
    assert counting.tokens == list(range(10, 209))


def test_log_probabilities_are_those_of_the_model(backend: Backend, features: np.ndarray) -> None:
    for row, text in enumerate(together(backend, features, lambda: Texts(RULES))):
        scored = likelihood(backend, features[row : row + 1], text)
        assert text.log_probability == pytest.approx(scored, abs=1e-4)


def test_beams_find_likelier_texts(backend: Backend, features: np.ndarray) -> None:
    """As one batch of five beams of each window, whose searches end at different times."""
    gains = []
    greedy = together(backend, features, lambda: Texts(RULES))
    beams = together(backend, features, lambda: Beam(RULES, width=5))
    for row, best, text in zip(features, beams, greedy, strict=True):
        assert best.tokens == alone(backend, row, Beam(RULES, width=5)).tokens
        assert best.log_probability == pytest.approx(likelihood(backend, row[None], best), abs=1e-4)
        gains.append(best.log_probability - text.log_probability)
    assert np.mean(gains) > 0
    assert max(gains) > 0.01


def test_a_beam_of_one_is_greedy(backend: Backend, features: np.ndarray) -> None:
    for row in features:
        greedy = alone(backend, row, Texts(RULES))
        assert alone(backend, row, Beam(RULES, width=1)).tokens == greedy.tokens


def sampled(backend: Backend, features: np.ndarray, count: int, seed: int) -> list[Hypothesis]:
    """Draw so many samples of each row, and take the best; all rows as one batch."""
    searches = [samples(RULES, count, 1.0, np.random.default_rng(seed)) for _ in features]
    return loop.run(
        backend,
        [
            decoding(backend, row, search, count)
            for row, search in zip(features, searches, strict=True)
        ],
    )


def test_samples_depend_on_the_seed_alone(backend: Backend, features: np.ndarray) -> None:
    """Not on what else is in the batch."""

    def draw(seed: int) -> list[list[int]]:
        return [text.tokens for text in sampled(backend, features, 2, seed)]

    assert draw(1) == draw(1)
    assert draw(1) != draw(2)
    alone = [sampled(backend, row[None], 2, 1)[0].tokens for row in features]
    assert draw(1) == alone


def test_many_samples_contain_a_likely_text(backend: Backend, features: np.ndarray) -> None:
    def best_of(count: int) -> float:
        (text,) = sampled(backend, features[:1], count, 0)
        return text.log_probability

    assert best_of(16) > best_of(1)


def test_a_sample_that_repeats_itself_is_not_the_best() -> None:
    """However likely its tokens are."""
    logits = np.zeros((2, VOCABULARY), np.float32)
    logits[:, 5] = 9

    def first_repeats(given: np.ndarray) -> np.ndarray:
        return np.array([5, 10 + len(search.texts[1].tokens)])[-len(given) :]

    search = Texts(RULES, 2, first_repeats, is_looping)
    going = np.arange(2)
    while len(going) == 2:
        going, _ = search.advance(logits.copy())
    repeating, varied = search.texts
    assert len({*repeating.tokens}) == 1 < len({*varied.tokens})
    assert repeating.log_probability > varied.log_probability
    assert search.best is varied


@pytest.mark.parametrize("width", [1, 3])
def test_a_text_is_the_same_whenever_it_joins(
    backend: Backend, features: np.ndarray, width: int
) -> None:
    """Greedy texts and beams, some of which begin while others are in the middle."""

    def search(number: int) -> Search:
        return Beam(RULES, width) if number % 2 and width > 1 else Texts(RULES)

    steps = loop.StepLoop(backend)
    tasks = []
    for number, row in enumerate(features):
        tasks.append(steps.add(decoding(backend, row, search(number))))
        for _ in range(2):
            steps.step()
    dropped = steps.add(decoding(backend, features[0], Texts(RULES)))
    steps.step()
    steps.drop(dropped)
    while steps:
        steps.step()
    for number, (row, task) in enumerate(zip(features, tasks, strict=True)):
        assert task.result.tokens == alone(backend, row, search(number)).tokens


@pytest.mark.parametrize("call", ["step", "join", "reorder"])
def test_an_error_of_the_engine_ends_every_text_in_the_batch(
    backend: Grouped, features: np.ndarray, call: str
) -> None:
    """Each decoding gets it, and may go on with something else."""

    class OutOfMemory(Grouped):
        """A backend that computes a batch of one, and no larger one."""

        def step(self, tokens: np.ndarray, cache: Any) -> np.ndarray:
            self.refuse("step", len(tokens))
            return super().step(tokens, cache)

        def join(self, caches: Sequence[Any]) -> Any:
            self.refuse("join", len(caches))
            return super().join(caches)

        def reorder(self, cache: Any, rows: np.ndarray) -> Any:
            self.refuse("reorder", len(rows))
            return super().reorder(cache, rows)

        def refuse(self, called: str, rows: int) -> None:
            if called == call and rows > 1:
                raise BundleError("out of memory")

    small = OutOfMemory(backend.backend)

    def again(row: np.ndarray) -> loop.Decoding[list[int]]:
        try:
            text = yield from decoding(small, row, Texts(RULES))
        except BundleError:
            return []
        return text.tokens

    assert loop.run(small, [again(row) for row in features[:2]]) == [[], []]
    assert loop.run(small, [again(features[0])]) == [
        alone(backend, features[0], Texts(RULES)).tokens
    ]


@pytest.mark.parametrize("wrong_from", [0, 1, 4, 100])
def test_a_draft_changes_the_steps_and_not_the_text(
    backend: Backend, features: np.ndarray, wrong_from: int
) -> None:
    """However much of it is right."""
    for row in features:
        expected = alone(backend, row, Texts(RULES))
        draft = expected.tokens[:wrong_from] + [9] * 3

        def drafted(row: np.ndarray = row, draft: list[int] = draft) -> loop.Decoding[Hypothesis]:
            search = Texts(RULES)
            cache, logits = prompted(backend, row[None])
            yield loop.start(backend, search, cache, logits, draft[: ROOM - 1])
            return search.best

        (text,) = loop.run(backend, [drafted()])
        assert text.tokens == expected.tokens
        assert text.log_probability == pytest.approx(expected.log_probability, abs=1e-5)
