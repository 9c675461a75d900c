"""The loop on a small random model: batches, limits and rules; and loop detection."""

from __future__ import annotations

import numpy as np
import pytest

from edgewhisper.backend import TorchBackend
from edgewhisper_runtime.decoding import TokenRules, greedy, is_looping

VOCABULARY = 64
END = 3
NEVER = -1


@pytest.fixture(scope="module")
def backend() -> TorchBackend:
    import torch
    from transformers import WhisperConfig, WhisperForConditionalGeneration

    torch.manual_seed(1)
    config = WhisperConfig(
        vocab_size=VOCABULARY, num_mel_bins=80, d_model=32, encoder_layers=2, decoder_layers=2,
        encoder_attention_heads=2, decoder_attention_heads=2, encoder_ffn_dim=64,
        decoder_ffn_dim=64, max_source_positions=1500, max_target_positions=40, init_std=0.6,
        pad_token_id=0, bos_token_id=1, eos_token_id=END, decoder_start_token_id=1,
        suppress_tokens=None, begin_suppress_tokens=None,
    )  # fmt: skip
    return TorchBackend(WhisperForConditionalGeneration(config))


def decode(backend: TorchBackend, features: np.ndarray, rules: TokenRules) -> list[list[int]]:
    prompts = np.tile(np.array([[1, 2]]), (len(features), 1))
    return greedy(backend, backend.encode(features), prompts, rules)


@pytest.fixture(scope="module")
def features() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(6, 80, 400)).astype(np.float32)


def test_a_batch_gives_what_its_rows_give_alone(
    backend: TorchBackend, features: np.ndarray
) -> None:
    endless = decode(backend, features, TokenRules((), (), NEVER, 40))
    # Some token that the rows say at different steps serves as the end.
    end = next(
        token for token in range(VOCABULARY)
        if len({tokens.index(token) if token in tokens else -1 for tokens in endless}) > 2
    )  # fmt: skip
    rules = TokenRules((), (), end, 40)
    together = decode(backend, features, rules)
    assert together == [decode(backend, row[None], rules)[0] for row in features]
    assert len({len(tokens) for tokens in together}) > 2


def test_suppressed_tokens_never_appear(backend: TorchBackend, features: np.ndarray) -> None:
    free = decode(backend, features, TokenRules((), (), END, 40))
    banned = tuple({tokens[1] for tokens in free if len(tokens) > 1})
    first = tuple({tokens[0] for tokens in free if tokens})
    ruled = decode(backend, features, TokenRules(banned, first, END, 40))
    assert not {token for tokens in ruled for token in tokens} & set(banned)
    assert not {tokens[0] for tokens in ruled if tokens} & set(first)


def test_the_text_ends_with_the_positions(backend: TorchBackend, features: np.ndarray) -> None:
    endless = decode(backend, features, TokenRules((END,), (), END, 12))
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

    stuck, counting = greedy(Stuck(), None, np.zeros((2, 1), int), TokenRules((), (), END, 200))
    assert stuck == [7] * 64
    assert is_looping(stuck, "")
    assert counting == list(range(10, 209))


@pytest.mark.parametrize(
    ("tokens", "text", "looping"),
    [
        ([5] * 12, "no", True),
        ([9, 8, 7, 6] * 3, "the end of the", True),
        ([1, 2] + [9, 8, 7] * 4, "and then it was", True),
        ([5, 5, 5], "no no no", False),
        ([9, 8, 7, 6] * 2, "going going", False),
        (list(range(20)), "A plain sentence that says every thing once.", False),
        (list(range(20)), "again and " * 40, True),
        ([], "", False),
    ],
)
def test_loops_are_told_from_speech(tokens: list[int], text: str, looping: bool) -> None:
    assert is_looping(tokens, text) is looping
