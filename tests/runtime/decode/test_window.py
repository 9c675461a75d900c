"""One window to tokens on real speech: prompts, fallback, silence, batches."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from conftest import BundleOf
from edgewhisper_runtime import audio, load
from edgewhisper_runtime.decode import loop
from edgewhisper_runtime.decode.window import Decoded, Request, WindowDecoder
from edgewhisper_runtime.errors import EdgeWhisperError
from edgewhisper_runtime.options import PLAIN, Options, Padding

THOROUGH = Options()


@pytest.fixture(scope="module")
def decoder(bundle_of: BundleOf) -> WindowDecoder:
    directory = bundle_of("whisper-tiny.en", "onnx-int8")
    return load(directory, threads=2, audio_context="full").decoder


@pytest.fixture(scope="module")
def clips(speech: list[Path]) -> list[np.ndarray]:
    return [audio.load(path) for path in speech]


def decode(
    decoder: WindowDecoder, clip: np.ndarray, options: Options, **request: object
) -> Decoded:
    plain = Request(replace(options, language="en"), timestamps=False)
    return decoder.decode(clip, replace(plain, **request))


def test_a_second_attempt_is_made_only_where_the_first_is_unsure(
    decoder: WindowDecoder, clips: list[np.ndarray]
) -> None:
    once = [decode(decoder, clip, PLAIN) for clip in clips]
    again = [decode(decoder, clip, THOROUGH) for clip in clips]
    for plain, thorough in zip(once, again, strict=True):
        if thorough.temperature == 0:
            assert thorough.tokens == plain.tokens
    likely = once[0].log_probability
    strict = replace(THOROUGH, min_log_probability=likely + 0.01, temperatures=(0.0, 0.4, 0.8))
    best = decode(decoder, clips[0], strict)
    assert best.log_probability >= likely


def test_the_same_seed_gives_the_same_text(decoder: WindowDecoder, clips: list[np.ndarray]) -> None:
    warm = replace(THOROUGH, temperatures=(1.0,), best_of=2)
    first, second = (decode(decoder, clips[1], warm) for _ in range(2))
    assert first.tokens == second.tokens
    assert first.temperature == 1.0
    others = [decode(decoder, clips[1], replace(warm, seed=seed)).tokens for seed in (1, 2, 3)]
    assert any(tokens != first.tokens for tokens in others)


def test_beams_are_about_as_likely_or_more(decoder: WindowDecoder, clips: list[np.ndarray]) -> None:
    """A beam may lose the greedy text on the way, so a single gain can be below 0."""
    gains = [
        decode(decoder, clip, replace(PLAIN, beam_size=5)).log_probability
        - decode(decoder, clip, PLAIN).log_probability
        for clip in clips
    ]
    assert np.mean(gains) >= -0.005
    assert max(gains) > 0


def test_noise_is_taken_for_silence_only_where_both_signs_agree(
    decoder: WindowDecoder, data: Path
) -> None:
    hiss = audio.load(data / "noise" / "noise_freesound_573577.wav")
    heard = decode(decoder, hiss, PLAIN)
    assert heard.tokens
    assert heard.no_speech_probability is None
    found = decode(decoder, hiss, THOROUGH)
    assert found.tokens == []
    assert found.no_speech_probability is not None
    assert found.no_speech_probability > 0.6
    assert not found.looping
    deaf = decode(decoder, hiss, replace(THOROUGH, max_no_speech=None, temperatures=(0.0,)))
    assert deaf.tokens == heard.tokens


def test_a_prompt_stands_before_the_text(decoder: WindowDecoder, clips: list[np.ndarray]) -> None:
    """A name spelled in the prompt is spelled that way in the text."""
    plain = decode(decoder, clips[0], PLAIN)
    text = decoder.tokenizer.decode(plain.tokens)
    upper = decoder.tokenizer.encode(f" {text.upper()} THAT IS HOW THINGS ARE WRITTEN HERE.")
    prompted = decode(decoder, clips[0], PLAIN, previous=upper).tokens
    spelled = decoder.tokenizer.decode(prompted)
    assert sum(map(str.isupper, spelled)) > sum(map(str.isupper, text))
    assert decode(decoder, clips[0], PLAIN, hints=upper).tokens == prompted
    assert decode(decoder, clips[0], PLAIN, previous=upper * 40).tokens


def test_hints_stay_however_much_was_said_before(
    decoder: WindowDecoder, clips: list[np.ndarray]
) -> None:
    hints = decoder.request(
        Options(prompt="As I said,", hotwords=("Ladislaw", "Dorothea")), timestamps=False
    ).hints
    said = decoder.tokenizer.encode(" And so on." * 100)
    room = decoder.max_text_tokens - len(hints)
    full = decode(decoder, clips[0], PLAIN, hints=hints, previous=said[-room:])
    assert decode(decoder, clips[0], PLAIN, hints=hints, previous=said).tokens == full.tokens


def test_a_long_prompt_keeps_its_end_and_all_hotwords(decoder: WindowDecoder) -> None:
    encode, hotwords = decoder.tokenizer.encode, ("Ladislaw", "Dorothea")
    prompt = " and so on" * 2000 + ", as I said."
    for names in ((), hotwords):
        hints = decoder.request(Options(prompt=prompt, hotwords=names), timestamps=False).hints
        kept = encode(f" {', '.join(names)}") if names else []
        assert hints == (encode(prompt) + kept)[-decoder.max_text_tokens :]
        assert len(hints) == decoder.max_text_tokens
    with pytest.raises(EdgeWhisperError, match="there is room for 223"):
        decoder.request(Options(hotwords=hotwords * 100), timestamps=False)


@pytest.mark.parametrize("padding", ["silence", "zeros"])
def test_a_batch_gives_what_its_windows_give_alone(
    bundle_of: BundleOf, clips: list[np.ndarray], padding: Padding
) -> None:
    """In float32: int8 rounds a row in company otherwise than alone, which decides close calls."""
    directory = bundle_of("whisper-tiny.en", "fp32")
    decoder = load(directory, threads=2, audio_context="full").decoder
    options = replace(THOROUGH, padding=padding)
    request = Request(replace(options, language="en"), timestamps=False)
    together = loop.run(decoder.backend, [decoder.decoding(clip, request) for clip in clips])
    alone = [decoder.decode(clip, request) for clip in clips]
    assert [one.tokens for one in together] == [one.tokens for one in alone]


def test_what_a_batch_is_unsure_of_is_decoded_as_alone(
    bundle_of: BundleOf, clips: list[np.ndarray]
) -> None:
    """The first temperature's text is among those that the best is chosen from."""
    directory = bundle_of("whisper-tiny.en", "fp32")
    decoder = load(directory, threads=2, audio_context="full").decoder
    strict = replace(THOROUGH, min_log_probability=0.0, temperatures=(0.0, 1.0), best_of=1)
    request = Request(replace(strict, language="en"), timestamps=False)
    together = loop.run(decoder.backend, [decoder.decoding(clip, request) for clip in clips[:2]])
    alone = [decoder.decode(clip, request) for clip in clips[:2]]
    assert [one.tokens for one in together] == [one.tokens for one in alone]
    assert {one.temperature for one in together} == {0.0}
