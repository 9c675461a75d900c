"""Audio in any rate, channel count and format becomes the same 16 kHz mono samples."""

from __future__ import annotations

import io
import os
import struct
from pathlib import Path
from threading import Thread

import numpy as np
import pytest
import soundfile
import soxr

from edgewhisper_runtime import audio
from edgewhisper_runtime.errors import AudioError


def test_16_khz_mono_is_read_bit_exactly(speech: list[Path]) -> None:
    for path in speech:
        expected, rate = soundfile.read(path, dtype="float32")
        assert rate == audio.SAMPLE_RATE
        np.testing.assert_array_equal(audio.load(path), expected)


@pytest.mark.parametrize("rate", [8_000, 11_025, 22_050, 44_100, 48_000, 96_000])
@pytest.mark.parametrize("channels", [1, 2, 8])
def test_any_rate_and_channel_count(
    tmp_path: Path, speech: list[Path], rate: int, channels: int
) -> None:
    original = audio.load(speech[0])
    resampled = soxr.resample(original, audio.SAMPLE_RATE, rate)
    path = tmp_path / "speech.wav"
    soundfile.write(path, np.tile(resampled[:, None], channels), rate, subtype="FLOAT")
    ours = audio.load(path)
    assert abs(len(ours) - len(original)) <= 2
    common = min(len(ours), len(original))
    if rate >= audio.SAMPLE_RATE:  # below, the upper band is lost
        assert np.corrcoef(ours[:common], original[:common])[0, 1] > 0.999


@pytest.mark.parametrize(
    ("suffix", "subtype"),
    [("wav", "PCM_U8"), ("wav", "PCM_24"), ("wav", "DOUBLE"), ("wav", "ULAW"), ("flac", "PCM_16"),
     ("ogg", "VORBIS"), ("ogg", "OPUS"), ("mp3", "MPEG_LAYER_III"), ("aiff", "PCM_16")],
)  # fmt: skip
def test_any_format(tmp_path: Path, speech: list[Path], suffix: str, subtype: str) -> None:
    original = audio.load(speech[0])
    path = tmp_path / f"speech.{suffix}"
    soundfile.write(path, original, audio.SAMPLE_RATE, subtype=subtype)
    ours = audio.load(path)
    assert abs(len(ours) - len(original)) < 0.1 * audio.SAMPLE_RATE
    assert abs(np.sqrt((ours**2).mean()) / np.sqrt((original**2).mean()) - 1) < 0.1


def test_blocks_joined_are_the_whole(data: Path) -> None:
    path = data / "longform" / "librivox_sonnet1.mp3"
    blocks = list(audio.stream(path))
    assert len(blocks) > 3
    np.testing.assert_array_equal(np.concatenate(blocks), audio.load(path))


def test_a_recording_from_a_pipe_has_no_size_in_its_header(
    tmp_path: Path, speech: list[Path]
) -> None:
    original = audio.load(speech[0])
    path = tmp_path / "piped.wav"
    soundfile.write(path, original, audio.SAMPLE_RATE)
    content = bytearray(path.read_bytes())
    content[4:8] = content[40:44] = b"\xff\xff\xff\xff"
    path.write_bytes(content)
    assert len(audio.load(path)) == len(original)


def test_flac_from_a_pipe_has_no_length_in_its_header(tmp_path: Path, speech: list[Path]) -> None:
    original = audio.load(speech[0])
    path = tmp_path / "piped.flac"
    soundfile.write(path, original, audio.SAMPLE_RATE)
    content = bytearray(path.read_bytes())
    content[21] &= 0xF0  # STREAMINFO's 36 bits for the number of samples
    content[22:26] = bytes(4)
    path.write_bytes(content)
    for source in (path, bytes(content)):
        np.testing.assert_array_equal(audio.load(source), original)
    assert audio.duration(path) == 0
    with pytest.raises(AudioError, match="could not be read to its end"):
        audio.load(bytes(content[: len(content) // 2]))


def test_many_channels_take_no_more_memory_than_one(tmp_path: Path) -> None:
    """A few kilobytes could fill gigabytes: blocks are as long as their samples are many."""
    path = tmp_path / "many.ogg"
    soundfile.write(path, np.zeros((48_000, 128), np.float32), 48_000, subtype="VORBIS")
    assert path.stat().st_size < 100_000
    blocks = list(audio.stream(path))
    assert sum(map(len, blocks)) == audio.SAMPLE_RATE
    assert 128 * max(map(len, blocks)) <= 20 * audio.SAMPLE_RATE


@pytest.mark.parametrize(
    ("suffix", "subtype"),
    [("wav", "PCM_16"), ("rf64", "PCM_16"), ("w64", "FLOAT"), ("aiff", "PCM_24"), ("au", "ULAW"),
     ("caf", "PCM_16"), ("flac", "PCM_16"), ("ogg", "OPUS"), ("ogg", "VORBIS"),
     ("mp3", "MPEG_LAYER_III")],
)  # fmt: skip
def test_joined_files_are_read_to_the_end(
    tmp_path: Path, speech: list[Path], suffix: str, subtype: str
) -> None:
    one, other = (tmp_path / f"{name}.{suffix}" for name in ("one", "other"))
    soundfile.write(one, audio.load(speech[0]), audio.SAMPLE_RATE, subtype=subtype)
    soundfile.write(other, audio.load(speech[1]), 8_000, subtype=subtype)
    joined = one.read_bytes() + other.read_bytes()
    separate = np.concatenate([audio.load(one), audio.load(other)])
    np.testing.assert_array_equal(audio.load(joined), separate)


def test_tags_are_no_sound(speech: list[Path]) -> None:
    file = io.BytesIO()
    soundfile.write(file, audio.load(speech[0]), audio.SAMPLE_RATE, format="MP3")
    tag = b"ID3\x04\0\0\0\0\x0f\x50" + b"\xff\xfb\x90\x64" * 500
    tagged = tag + file.getvalue() + b"TAG".ljust(128, b" ")
    np.testing.assert_array_equal(audio.load(tagged), audio.load(file.getvalue()))


@pytest.mark.parametrize("name", ["mp3_vbr_without_xing.mp3", "mp3_vbr_with_xing.mp3"])
def test_a_variable_bit_rate_is_read_to_the_end(data: Path, name: str) -> None:
    path = data / "cases" / name
    assert len(audio.load(path)) / audio.SAMPLE_RATE == pytest.approx(70.05, abs=0.06)
    assert audio.duration(path) == pytest.approx(70.0, abs=0.1)
    with pytest.raises(AudioError, match="cut short"):
        audio.load(path.read_bytes()[:-100])


def test_what_follows_the_sound_and_is_none(speech: list[Path]) -> None:
    file = io.BytesIO()
    soundfile.write(file, audio.load(speech[0]), audio.SAMPLE_RATE, format="WAV")
    with pytest.raises(AudioError, match="has 5,000 bytes behind its sound"):
        audio.load(file.getvalue() + b"\x91" * 5000)


def test_a_pipe_is_a_file(tmp_path: Path, speech: list[Path]) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    assert audio.duration(pipe) == 0
    writer = Thread(target=lambda: pipe.write_bytes(speech[0].read_bytes()))
    writer.start()
    np.testing.assert_array_equal(audio.load(pipe), audio.load(speech[0]))
    writer.join()


def test_the_headers_of_a_pipe_are_not_waited_for(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe.wav"
    os.mkfifo(pipe)
    with pytest.raises(AudioError, match=r"pipe\.wav is a pipe, which is read only once"):
        audio.header_seconds(pipe)


@pytest.mark.parametrize(
    ("suffix", "subtype"),
    [("wav", "PCM_16"), ("wav", "IMA_ADPCM"), ("rf64", "PCM_16"), ("w64", "PCM_16"),
     ("aiff", "PCM_16"), ("au", "PCM_16"), ("caf", "PCM_16"), ("caf", "ALAC_16"),
     ("flac", "PCM_16"), ("ogg", "VORBIS")],
)  # fmt: skip
def test_headers_tell_a_rate_of_no_sound(tmp_path: Path, suffix: str, subtype: str) -> None:
    path = tmp_path / f"slow.{suffix}"
    soundfile.write(path, np.zeros(5000), 999, subtype=subtype)
    for read in (audio.header_seconds, audio.load):
        with pytest.raises(AudioError, match="says it has 999 samples a second"):
            read(path)


@pytest.mark.parametrize("rate", [0, 1, 2**31])
def test_headers_tell_a_damaged_rate(tmp_path: Path, speech: list[Path], rate: int) -> None:
    path = tmp_path / "damaged.wav"
    soundfile.write(path, audio.load(speech[0]), audio.SAMPLE_RATE)
    content = bytearray(path.read_bytes())
    content[24:28] = struct.pack("<I", rate)
    path.write_bytes(content)
    with pytest.raises(AudioError, match=f"says it has {rate} samples a second"):
        audio.header_seconds(path)


@pytest.mark.parametrize("rate", [float("nan"), float("inf"), -16000.0])
def test_a_rate_may_be_no_number(tmp_path: Path, rate: float) -> None:
    path = tmp_path / "damaged.caf"
    soundfile.write(path, np.zeros(5000), audio.SAMPLE_RATE, subtype="PCM_16")
    content = path.read_bytes()
    path.write_bytes(content.replace(struct.pack(">d", 16000), struct.pack(">d", rate), 1))
    with pytest.raises(AudioError, match=f"says it has {rate:.0f} samples a second"):
        audio.header_seconds(path)


def test_samples_of_another_range_are_refused(data: Path, speech: list[Path]) -> None:
    for source in (data / "cases" / "float_in_int16_range.wav", audio.load(speech[0]) * 32768):
        with pytest.raises(AudioError, match="not within -1 to 1"):
            list(audio.blocks(source))
    one = audio.load(speech[0])
    one[100] = 1e30
    with pytest.raises(AudioError, match=r"samples of up to 1e\+30"):
        list(audio.blocks(one))


def test_arrays_are_checked() -> None:
    with pytest.raises(AudioError, match=r"samples are int16, .* Divide int16 by 32768"):
        audio.checked(np.zeros(1600, np.int16))
    with pytest.raises(AudioError, match="mono array"):
        audio.checked(np.zeros((2, 3), np.float32))
    with pytest.raises(AudioError, match="mono array"):
        audio.checked(np.zeros(0, np.float32))
    with pytest.raises(AudioError, match="NaN"):
        audio.checked(np.array([0.0, np.nan], np.float32))


def test_samples_may_come_in_blocks(speech: list[Path]) -> None:
    whole = audio.load(speech[0])
    halves = np.array_split(whole, 2)
    np.testing.assert_array_equal(np.concatenate(list(audio.blocks(iter(halves)))), whole)
    with pytest.raises(AudioError, match="NaN"):
        list(audio.blocks(iter([whole, whole * np.nan])))


def test_the_bytes_of_a_file_are_the_file(speech: list[Path]) -> None:
    np.testing.assert_array_equal(audio.load(speech[0].read_bytes()), audio.load(speech[0]))
    with pytest.raises(AudioError, match="the audio is of no format that is read"):
        audio.load(b"nothing of the kind")
