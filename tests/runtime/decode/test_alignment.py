"""Word times: the path through the weights, and where words are in real speech."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from conftest import BundleOf
from edgewhisper_runtime import Options, audio, load
from edgewhisper_runtime.audio import features
from edgewhisper_runtime.decode import alignment
from edgewhisper_runtime.errors import BundleError
from edgewhisper_runtime.transcriber import Transcriber
from edgewhisper_runtime.transcript import Word

POSITION = alignment.SECONDS_PER_POSITION
SECOND = audio.SAMPLE_RATE


@pytest.fixture(scope="module")
def transcriber(bundle_of: BundleOf) -> Transcriber:
    return load(bundle_of("whisper-tiny.en", "onnx-int8"))


def spoken(transcriber: Transcriber, clip: np.ndarray) -> tuple[str, list[Word]]:
    """Return the text of a clip of one window, and its words."""
    transcript = transcriber.transcribe(clip)
    tokens = [token for segment in transcript.segments for token in segment.tokens]
    prompt = transcriber.decoder.tokenizer.prompt("en")
    mel = features.log_mel(clip, transcriber.decoder.settings.mels, features.WINDOW_FRAMES)
    weights = transcriber.decoder.backend.attention(
        np.array([*prompt, *tokens]),
        transcriber.decoder.backend.encode(mel[None]),
        0,
        transcriber.decoder.settings.alignment_heads,
    )
    probabilities = np.linspace(0.2, 0.8, len(tokens)).tolist()
    seconds = len(clip) / SECOND
    words = alignment.words(
        transcriber.decoder.tokenizer, tokens, probabilities, weights, seconds, "en"
    )
    assert "".join(word.text for word in words).strip() == transcript.text
    return transcript.text, words


def trimmed(path: Path) -> np.ndarray:
    """Return a recording from its first loud sample to its last one."""
    samples = audio.load(path)
    loud = np.flatnonzero(np.abs(samples) > 0.1 * np.abs(samples).max())
    return samples[loud[0] : loud[-1] + 1]


def test_words_of_real_speech(transcriber: Transcriber, speech: list[Path]) -> None:
    clip = audio.load(speech[3])
    text, words = spoken(transcriber, clip)
    assert len(words) == len(text.split())
    assert 0 <= words[0].start
    assert words[-1].end <= len(clip) / SECOND
    for word, following in zip(words, [*words[1:], words[-1]], strict=True):
        assert word.start <= word.end
        assert word.end <= following.start or word is following
        assert 0.2 <= word.probability <= 0.8
    lengths = [word.end - word.start for word in words]
    assert 0.1 < np.median(lengths) < 0.6


def test_a_pause_is_found(transcriber: Transcriber, speech: list[Path]) -> None:
    first, second = (trimmed(path) for path in speech[2:4])
    silence = np.zeros(SECOND, np.float32)
    _, words = spoken(transcriber, np.concatenate([silence, first, silence, second, silence]))
    ends = 1 + len(first) / SECOND
    border = ends + 1
    before = [word for word in words if word.end < border - 0.3]
    after = words[len(before) :]
    assert words[0].start == pytest.approx(1, abs=0.3)
    assert before[-1].end == pytest.approx(ends, abs=0.3)
    assert after[0].start == pytest.approx(border, abs=0.3)
    assert after[0].text.split() == transcriber.transcribe(second).text.split()[:1]


def test_a_known_path_is_found(transcriber: Transcriber) -> None:
    """Two tokens of the prompt, and one word of each of the others."""
    tokens = [843, 257, 262]
    weights = np.full((2, 5, 100), 1e-3, np.float32)
    for row, (start, end) in enumerate([(0, 10), (10, 30), (30, 45), (45, 70), (70, 100)]):
        weights[:, row, start:end] = 1
    words = alignment.words(transcriber.decoder.tokenizer, tokens, [0.5, 0.75, 1], weights, 2, "en")
    assert [word.probability for word in words] == [0.5, 0.75, 1]
    # after silence: in the fourth of twenty positions a fifth of the attention is paid
    starts = [13 * POSITION, 30 * POSITION, 45 * POSITION]
    assert [word.start for word in words] == pytest.approx(starts)
    ends = [30 * POSITION, 45 * POSITION, 70 * POSITION]
    assert [word.end for word in words] == pytest.approx(ends)


@pytest.mark.parametrize("vad", [True, False])
@pytest.mark.parametrize("words", [True, False])
def test_music_before_speech_belongs_to_no_word(
    transcriber: Transcriber, data: Path, words: bool, vad: bool
) -> None:
    """The chord ends at 20.0 s, and the level says that speech begins at 20.4 s."""
    options = Options(words=words, timestamps=True, vad=vad)
    clip = data / "cases" / "chord_20s_then_speech.flac"
    first = transcriber.transcribe(clip, options=options).segments[0]
    assert first.start == pytest.approx(20.4, abs=0.3)


@pytest.mark.parametrize("gap", ["silence", "noise"])
def test_a_gap_belongs_to_no_word(
    transcriber: Transcriber, speech: list[Path], data: Path, gap: str
) -> None:
    """In the middle of a recording and at its end, without voice activity detection."""
    first, second = (trimmed(path) for path in speech[2:4])
    seconds = 4
    sound = audio.load(data / "noise" / "doing_the_dishes.wav")[: seconds * SECOND]
    sound *= {"silence": 0, "noise": 0.3}[gap]
    clip = np.concatenate([first, sound, second, sound])
    options = Options(words=True, vad=False)
    words = [w for s in transcriber.transcribe(clip, options=options).segments for w in s.words]
    ends = len(first) / SECOND
    spoken = [(0, ends), (ends + seconds, ends + seconds + len(second) / SECOND)]
    for start, end in spoken:
        assert min(abs(word.start - start) for word in words) < 0.3
        assert min(abs(word.end - end) for word in words) < 0.3
    lengths = [word.end - word.start for word in words]
    assert max(lengths) <= 4 * np.median(lengths) + 0.1


def test_a_long_pause_without_punctuation_is_no_words(transcriber: Transcriber) -> None:
    """Five words of which the third has a pause of 2 s; its attention is at the end of it."""
    weights = np.full((2, 7, 300), 1e-3, np.float32)
    bounds = [(0, 10), (10, 30), (30, 50), (50, 170), (170, 190), (190, 210), (210, 300)]
    for row, (start, end) in enumerate(bounds):
        weights[:, row, start:end] = 1
    weights[:, 3, 150:170] = 9
    tokens = [843, 257, 262, 257, 262]
    words = alignment.words(transcriber.decoder.tokenizer, tokens, [1] * 5, weights, 6, "en")
    usual = np.median([word.end - word.start for word in words])
    assert all(word.end - word.start <= 4 * usual + POSITION for word in words)
    assert words[2].end == pytest.approx(170 * POSITION, abs=2 * POSITION)


def test_what_is_behind_the_sound_does_not_count(transcriber: Transcriber) -> None:
    weights = np.random.default_rng(0).random((2, 4, 300), dtype=np.float32)
    weights[:, :, 50:] = 9
    words = alignment.words(transcriber.decoder.tokenizer, [843, 257], [1, 1], weights, 0.99, "en")
    assert all(0 <= word.start <= word.end <= 0.99 for word in words)
    shorter = weights[:, :, :50]
    assert words == alignment.words(
        transcriber.decoder.tokenizer, [843, 257], [1, 1], shorter, 0.99, "en"
    )
    assert alignment.words(transcriber.decoder.tokenizer, [], [], weights[:, :2], 1, "en") == []


costs = st.tuples(st.integers(1, 6), st.integers(1, 9)).flatmap(
    lambda shape: st.lists(
        st.lists(st.integers(-5, 5), min_size=shape[1], max_size=shape[1]),
        min_size=shape[0],
        max_size=shape[0],
    )
)


@given(costs)
def test_no_path_is_cheaper(rows: list[list[int]]) -> None:
    """Dynamic time warping cell by cell, once freely and once through the cells that were found."""
    cost = np.array(rows, dtype=float)
    found = alignment.first_columns(cost)
    assert found[0] == 0

    def cheapest(allowed: np.ndarray) -> float:
        total = np.full((len(cost) + 1, cost.shape[1] + 1), np.inf)
        total[0, 0] = 0
        for row, column in np.ndindex(cost.shape):
            if allowed[row, column]:
                before = min(total[row, column], total[row, column + 1], total[row + 1, column])
                total[row + 1, column + 1] = before + cost[row, column]
        return float(total[-1, -1])

    columns = np.arange(cost.shape[1])
    last = np.append(found[1:], columns[-1])
    through = (columns >= found[:, None]) & (columns <= last[:, None])
    assert cheapest(through) == cheapest(np.ones(cost.shape, dtype=bool))


@pytest.mark.parametrize("heads", [(), ((9, 0),), ((0, 6),), ((-1, 0),)])
def test_heads_that_are_not_there_are_refused(
    transcriber: Transcriber, heads: tuple[tuple[int, int], ...]
) -> None:
    encoded = transcriber.decoder.backend.encode(np.zeros((1, 80, 200), np.float32))
    with pytest.raises(BundleError, match=r"alignment heads .* Build again"):
        transcriber.decoder.backend.attention(np.array([50257, 50362]), encoded, 0, heads)


@pytest.mark.parametrize(("clip", "at"), [("0003", 1.53), ("0006", 5.38), ("0007", 1.83)])
@pytest.mark.parametrize("seconds", [0.8, 1.5])
def test_no_word_reaches_into_a_pause(
    transcriber: Transcriber, data: Path, clip: str, at: float, seconds: float
) -> None:
    """Within a sentence, where no punctuation takes the pause."""
    chapter = data / "LibriSpeech" / "test-clean" / "1089" / "134686"
    samples = audio.load(chapter / f"1089-134686-{clip}.flac")
    cut = round(at * SECOND)
    noise = np.random.default_rng(0).normal(0, 1e-4, round(seconds * SECOND)).astype(np.float32)
    paused = np.concatenate([samples[:cut], noise, samples[cut:]])
    transcript = transcriber.transcribe(paused, Options(words=True))
    words = [word for segment in transcript.segments for word in segment.words]
    inside = [min(word.end, at + seconds) - max(word.start, at) for word in words]
    assert max(inside) < 0.15
    assert len(words) == len(transcript.text.split())
