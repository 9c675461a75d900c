"""What FFmpeg's libraries decode: whole, or refused; nothing but the file is opened."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from edgewhisper_runtime import audio
from edgewhisper_runtime.errors import AudioError
from hostile.audio_corpus import MEDIA, MUXING, muxed

RATE = 48_000


@pytest.fixture(scope="module")
def clip(speech: list[Path]) -> np.ndarray:
    return audio.load(speech[0])[: 5 * audio.SAMPLE_RATE]


@pytest.mark.parametrize("name", MEDIA)
def test_containers_are_read(clip: np.ndarray, name: str) -> None:
    import soxr

    muxer, codec, (rate, *_) = MEDIA[name]
    content = muxed(soxr.resample(clip, 16_000, rate), rate, muxer, codec, MUXING.get(name, {}))
    ours = audio.load(content)
    assert len(ours) == pytest.approx(len(clip), abs=0.15 * audio.SAMPLE_RATE)
    assert np.sqrt((ours**2).mean()) == pytest.approx(np.sqrt((clip**2).mean()), rel=0.2)


def test_without_pyav_they_are_refused_by_name(
    clip: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = muxed(clip, 16_000, "ipod", "aac")
    monkeypatch.setitem(sys.modules, "av", None)  # as if it were not installed
    with pytest.raises(
        AudioError, match=r"is MP4, which takes PyAV .*edgewhisper-runtime\[media\]"
    ):
        audio.load(content)


@pytest.mark.parametrize(
    "content",
    [
        b"#EXTM3U\n#EXTINF:10,\nfile:///etc/passwd\n",
        b"ffconcat version 1.0\nfile /etc/passwd\n",
        b"<?xml version='1.0'?><MPD><BaseURL>http://127.0.0.1/</BaseURL></MPD>",
        b"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nm=audio 5004 RTP/AVP 0\n",
    ],
)
def test_what_names_other_files_is_no_audio(content: bytes) -> None:
    with pytest.raises(AudioError, match="of no format that is read"):
        audio.load(content)
