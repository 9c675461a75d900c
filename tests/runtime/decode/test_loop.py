"""The loop on a small random model: batches, limits, beams and samples."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgewhisper_runtime.decode import loop
from edgewhisper_runtime.decode.loop import Backend, Hypothesis
from edgewhisper_runtime.decode.rules import TokenRules

VOCABULARY = 64
ROOM = 38  # 40 positions, two of them the prompt's
END = 3
NEVER = -1
RULES = TokenRules((), (), END, ROOM)


@pytest.fixture(scope="module")
def backend(host: None) -> Backend:
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
    return TorchBackend(WhisperForConditionalGeneration(config))


def decode(backend: Backend, features: np.ndarray, rules: TokenRules) -> list[list[int]]:
    cache, logits = prompted(backend, features)
    return [text.tokens for text in loop.follow(backend, cache, logits, rules)]


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
    class Stuck:
        """A backend that says token 7 for ever in row 0, and counts in row 1."""

        def encode(self, features: np.ndarray) -> None:
            pass

        def start(self, encoded: None) -> dict:
            return {"rows": np.array([0, 1]), "said": 0}

        def step(self, tokens: np.ndarray, cache: dict) -> np.ndarray:
            logits = np.zeros((len(tokens), 500), np.float32)
            for index, row in enumerate(cache["rows"]):
                logits[index, 7 if row == 0 else 10 + cache["said"]] = 1
            cache["said"] += 1
            return logits

        def reorder(self, cache: dict, rows: np.ndarray) -> dict:
            return cache | {"rows": cache["rows"][rows]}

    backend = Stuck()
    cache = backend.start(None)
    logits = backend.step(np.zeros((2, 1), int), cache)
    stuck, counting = loop.follow(backend, cache, logits, TokenRules((), (), END, 199))
    assert stuck.tokens == [7] * 64
    assert counting.tokens == list(range(10, 209))


def test_log_probabilities_are_those_of_the_model(backend: Backend, features: np.ndarray) -> None:
    cache, logits = prompted(backend, features)
    for row, text in enumerate(loop.follow(backend, cache, logits, RULES)):
        scored = likelihood(backend, features[row : row + 1], text)
        assert text.log_probability == pytest.approx(scored, abs=1e-4)


def test_beams_find_likelier_texts(backend: Backend, features: np.ndarray) -> None:
    gains = []
    for row in features:
        cache, logits = prompted(backend, row[None])
        (greedy,) = loop.follow(backend, cache, logits.copy(), RULES)
        cache, logits = prompted(backend, row[None])
        best = loop.beam(backend, cache, logits, RULES, width=5)
        assert best.log_probability == pytest.approx(likelihood(backend, row[None], best), abs=1e-4)
        gains.append(best.log_probability - greedy.log_probability)
    assert np.mean(gains) > 0
    assert max(gains) > 0.01


def test_a_beam_of_one_is_greedy(backend: Backend, features: np.ndarray) -> None:
    for row in features:
        cache, logits = prompted(backend, row[None])
        found = loop.beam(backend, cache, logits, RULES, width=1)
        assert found.tokens == decode(backend, row[None], RULES)[0]


def test_samples_depend_on_the_seed_alone(backend: Backend, features: np.ndarray) -> None:
    def draw(seed: int) -> list[list[int]]:
        texts = []
        for row in features:
            cache, logits = prompted(backend, row[None])
            random = np.random.default_rng(seed)
            text = loop.sample(backend, cache, logits, RULES, 2, 1.0, random)
            texts.append(text.tokens)
        return texts

    assert draw(1) == draw(1)
    assert draw(1) != draw(2)


def test_many_samples_contain_a_likely_text(backend: Backend, features: np.ndarray) -> None:
    def best_of(count: int) -> float:
        cache, logits = prompted(backend, features[:1])
        random = np.random.default_rng(0)
        found = loop.sample(backend, cache, logits, RULES, count, 1.0, random)
        return found.log_probability

    assert best_of(16) > best_of(1)
