"""Bad input on the command line: one clear line, its own exit code, no traceback, nothing lost."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil
import pytest
import soundfile

from conftest import Run
from edgewhisper.checkpoints import Checkpoint
from edgewhisper_runtime.engines.onnx import DECODER

RATE = 16_000
SECOND = np.random.default_rng(0).normal(0, 0.1, RATE).astype(np.float32)


def wav(path: Path, samples: np.ndarray, **options: object) -> Path:
    soundfile.write(path, samples, RATE, **options)
    return path


def missing(path: Path) -> Path:
    return path / "absent.wav"


def directory(path: Path) -> Path:
    return path


def empty(path: Path) -> Path:
    (path / "empty.wav").touch()
    return path / "empty.wav"


def text(path: Path) -> Path:
    (path / "text.wav").write_text("This is no audio. " * 100)
    return path / "text.wav"


def truncated(suffix: str, **options: object) -> Callable[[Path], Path]:
    def make(path: Path) -> Path:
        whole = wav(path / f"whole.{suffix}", np.tile(SECOND, 5), **options)
        cut = path / f"cut.{suffix}"
        cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
        return cut

    make.__name__ = f"truncated_{suffix}"
    return make


def device(_path: Path) -> Path:
    return Path("/dev/zero")


def raw(path: Path) -> Path:
    (path / "samples.raw").write_bytes((SECOND * 32767).astype("<i2").tobytes())
    return path / "samples.raw"


def huge(path: Path) -> Path:
    samples = SECOND.copy()
    samples[8000] = 1e30
    return wav(path / "huge.wav", samples, subtype="FLOAT")


def nan(path: Path) -> Path:
    samples = SECOND.copy()
    samples[8000] = np.nan
    return wav(path / "nan.wav", samples, subtype="FLOAT")


def infinite(path: Path) -> Path:
    samples = SECOND.copy()
    samples[8000] = np.inf
    return wav(path / "infinite.wav", samples, subtype="FLOAT")


def no_samples(path: Path) -> Path:
    return wav(path / "none.wav", SECOND[:0])


def header_only(path: Path) -> Path:
    whole = wav(path / "whole.flac", SECOND)
    (path / "header.flac").write_bytes(whole.read_bytes()[:42])
    return path / "header.flac"


def garbage_after_magic(path: Path) -> Path:
    content = np.random.default_rng(1).integers(0, 256, 5000, np.uint8).tobytes()
    (path / "garbage.ogg").write_bytes(b"OggS" + content)
    return path / "garbage.ogg"


def zero_rate(path: Path) -> Path:
    content = bytearray(wav(path / "zero.wav", SECOND).read_bytes())
    content[24:28] = bytes(4)
    (path / "zero.wav").write_bytes(content)
    return path / "zero.wav"


def one_hertz(path: Path) -> Path:
    soundfile.write(path / "slow.wav", SECOND, 1)
    return path / "slow.wav"


def two_gigahertz(path: Path) -> Path:
    soundfile.write(path / "fast.wav", SECOND, 2_000_000_000)
    return path / "fast.wav"


BAD_AUDIO: dict[Callable[[Path], Path], str] = {
    missing: "does not exist",
    directory: "is a directory",
    device: "is a device",
    empty: "is empty (0 bytes)",
    text: "of no format that is read (WAV, ",
    raw: "of no format that is read (WAV, ",
    truncated("flac"): "cut.flac",
    truncated("wav"): "cut short: its header says 5.00 s",
    truncated("aiff"): "cut short",
    truncated("au"): "cut short",
    truncated("rf64", format="RF64"): "cut short",
    truncated("w64"): "cut short",
    truncated("ogg", subtype="OPUS"): "cut short: it ends in the middle",
    truncated("voc"): "of no format that is read",
    nan: "NaN or infinite",
    infinite: "NaN or infinite",
    huge: "samples of up to 1e+30 at about 0.0 s: they are not within -1 to 1",
    no_samples: "0 s of audio",
    header_only: "cut short",
    garbage_after_magic: "cut short: it ends in the middle of a page",
    zero_rate: "0 samples a second",
    one_hertz: "1 samples a second",
    two_gigahertz: "2000000000 samples a second",
}


def one_line_error(result: subprocess.CompletedProcess[str], code: int, message: str) -> None:
    assert result.returncode == code, result.stderr
    lines = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, result.stderr
    assert message in lines[0]
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("make", BAD_AUDIO, ids=lambda make: make.__name__)
def test_bad_audio(make: Callable[[Path], Path], tmp_path: Path) -> None:
    from edgewhisper_runtime import audio
    from edgewhisper_runtime.errors import AudioError

    with pytest.raises(AudioError) as error:
        audio.load(make(tmp_path))
    assert BAD_AUDIO[make] in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("make", [missing, text, nan], ids=lambda make: make.__name__)
def test_bad_audio_on_the_command_line(
    make: Callable[[Path], Path], tmp_path: Path, run: Run, onnx_bundle: Path
) -> None:
    result = run("transcribe", "--bundle", onnx_bundle, make(tmp_path))
    one_line_error(result, 3, BAD_AUDIO[make])
    assert result.stdout == ""


def test_names_that_do_not_exist(run: Run, tmp_path: Path) -> None:
    one_line_error(
        run("build", "--model", "whisper-giant", "--recipe", "fp32"), 4, "there is no model"
    )
    one_line_error(run("build", "--recipe", "int9"), 5, "there is no recipe 'int9'")
    one_line_error(run("verify", tmp_path / "nowhere"), 6, "there is no bundle")
    one_line_error(run("transcribe", "--bundle", tmp_path, "x.wav"), 6, "not a bundle")
    absent = run("score", tmp_path / "absent.json")
    assert absent.returncode == 2
    assert f"'{tmp_path / 'absent.json'}' does not exist" in absent.stderr
    one_line_error(
        run("build", "--model", "tiny.en", "--recipe", "fp32", "--librispeech", tmp_path),
        8,
        "holds no LibriSpeech split",
    )
    assert run("transcribe", "--bundle", tmp_path).returncode == 2
    assert run("nonsense").returncode == 2


def test_a_wrong_recipe_file(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "wrong.toml"
    path.write_text('name = "x"\nlibrary = "quanto"\nbitz = 8\n')
    one_line_error(run("build", "--recipe", path), 5, "unknown key bitz")


def test_one_flipped_byte_in_a_bundle(run: Run, onnx_bundle: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(onnx_bundle, tmp_path / "bundle"))
    with (copy / DECODER).open("r+b") as file:
        file.seek(20_000_000)
        byte = file.read(1)
        file.seek(20_000_000)
        file.write(bytes([byte[0] ^ 0x10]))
    for command in (("verify", copy), ("transcribe", "--bundle", copy, "x.wav"), ("profile", copy)):
        one_line_error(run(*command), 6, f"{DECODER} was altered")


def test_an_unreachable_hub(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    result = run("fetch", "openai/whisper-small")
    one_line_error(result, 11, "http://127.0.0.1:9 cannot be reached")
    assert "whisper-tiny.en and whisper-base need no hub" in result.stderr


def test_a_device_that_is_not_there(run: Run, tiny_bundle: Path, smoke_clip: Path) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has a CUDA device")
    result = run("transcribe", "--bundle", tiny_bundle, "--device", "cuda", smoke_clip)
    one_line_error(result, 7, "sees no CUDA device")
    result = run("evaluate", "--model", "tiny.en", "--device", "mps")
    one_line_error(result, 1, "there is no device 'mps'")


def test_a_directory_of_something_else_is_not_replaced(run: Run, tmp_path: Path) -> None:
    build = ("build", "--model=tiny.en", "--recipe=onnx-int8", "--output")
    (tmp_path / "thesis.txt").write_text("years of work")
    one_line_error(run(*build, tmp_path), 12, "holds other files than a bundle's")
    one_line_error(run(*build, tmp_path / "thesis.txt"), 12, "is no directory")
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


def test_a_full_disk(
    run: Run, run_afresh: Run, tiny_en: Checkpoint, small_disk: Callable[[str], Path]
) -> None:
    full = small_disk("100m")  # enough for the checkpoint, not for its variant
    shutil.copytree(tiny_en.path, full / "checkpoints" / "whisper-tiny.en")
    result = run_afresh("build", "--model", "tiny.en", "--recipe", "quanto-int8", env_home=full)
    one_line_error(result, 12, "no space left")
    assert not list((full / "variants").iterdir())
    one_line_error(run("fetch", "whisper-base", env_home=full), 12, "no space left")


def test_ctrl_c(onnx_bundle: Path, data: Path, home: Path) -> None:
    long_file = data / "longform" / "librispeech_1089-134686_concat.flac"
    command = [sys.executable, "-m", "edgewhisper", "transcribe", "--bundle", str(onnx_bundle)]
    process = subprocess.Popen(
        [*command, str(long_file)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"EDGEWHISPER_HOME": str(home)},
    )
    heard, opened = psutil.Process(process.pid), str(long_file.resolve())
    while process.poll() is None:
        with contextlib.suppress(psutil.Error):  # it ended meanwhile
            if any(file.path == opened for file in heard.open_files()):
                break
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130, stderr
    assert "interrupted" in stderr
    assert "Traceback" not in stderr
