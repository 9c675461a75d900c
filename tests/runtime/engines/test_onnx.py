"""The ONNX Runtime backend behind the loop's seam, on an exported whisper-tiny.en."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jiwer
import numpy as np
import pytest
import soundfile

from edgewhisper_runtime import audio, bundle, load
from edgewhisper_runtime.audio import features
from edgewhisper_runtime.engines import onnx
from edgewhisper_runtime.engines.onnx import OnnxBackend
from edgewhisper_runtime.errors import BundleError, EdgeWhisperError
from edgewhisper_runtime.options import PLAIN

if TYPE_CHECKING:
    from conftest import BundleOf, Run

PROMPT = [50257, 50362]


LONG = """
import sys
from edgewhisper_runtime import load
from edgewhisper_runtime.measure import machine
from edgewhisper_runtime.memory import return_large_blocks
return_large_blocks()
transcriber = load(sys.argv[1], audio_context="full")
assert transcriber.transcribe(sys.argv[2]).text
print(machine.peak_rss())
"""


@pytest.fixture(scope="module")
def directory(bundle_of: BundleOf) -> Path:
    return bundle_of("whisper-tiny.en", "onnx-int8")


@pytest.fixture(scope="module")
def backend(directory: Path) -> OnnxBackend:
    return OnnxBackend(directory / onnx.ENCODER, directory / onnx.DECODER, threads=2)


@pytest.fixture(scope="module")
def exact(bundle_of: BundleOf) -> OnnxBackend:
    directory = bundle_of("whisper-tiny.en", "fp32")
    return OnnxBackend(directory / onnx.ENCODER, directory / onnx.DECODER, threads=2)


def mels(path: Path, frames: int = 1200) -> np.ndarray:
    samples = audio.load(path)[: frames * features.HOP]
    return features.log_mel(samples, 80, frames)


def test_a_row_s_logits_do_not_depend_on_its_batch(
    backend: OnnxBackend, speech: list[Path]
) -> None:
    """Rows are quantized one by one: what is loud beside a clip does not coarsen it."""
    batch = np.stack([mels(path) for path in speech[:3]])
    batch[1] *= 8
    tokens = np.array([PROMPT] * 3)
    cache = backend.start(backend.encode(batch))
    together = [backend.step(tokens, cache).copy(), backend.step(tokens[:, :1], cache)]
    for row in range(3):
        own = backend.start(backend.encode(batch[row : row + 1]))
        alone = [backend.step(tokens[:1], own).copy(), backend.step(tokens[:1, :1], own)]
        for logits, expected in zip(together, alone, strict=True):
            np.testing.assert_array_equal(logits[row], expected[0])


def test_tokens_one_by_one_are_tokens_at_once(exact: OnnxBackend, speech: list[Path]) -> None:
    encoded = exact.encode(mels(speech[0])[None])
    at_once = exact.step(np.array([[*PROMPT, 843, 257]]), exact.start(encoded)).copy()
    cache = exact.start(encoded)
    for token in (*PROMPT, 843, 257):
        logits = exact.step(np.array([[token]]), cache)
    np.testing.assert_allclose(logits, at_once, atol=1e-3)


def test_reordering_repeats_and_drops_rows(exact: OnnxBackend, speech: list[Path]) -> None:
    encoded = exact.encode(np.stack([mels(path) for path in speech[:2]]))
    cache = exact.start(encoded)
    first = exact.step(np.array([PROMPT, PROMPT]), cache)
    following = first.argmax(-1)[:, None]
    expected = exact.step(following, cache).copy()
    again = exact.start(encoded)
    exact.step(np.array([PROMPT, PROMPT]), again)
    kept = exact.reorder(again, np.array([1, 1, 0]))
    logits = exact.step(following[[1, 1, 0]], kept)
    np.testing.assert_allclose(logits, expected[[1, 1, 0]], atol=1e-3)


def test_beams_are_what_each_would_be_alone(exact: OnnxBackend, speech: list[Path]) -> None:
    """Beams of two clips branch, die out and end; each must go on as if there were no other."""
    encoded = exact.encode(np.stack([mels(path, 600) for path in speech[:2]]))
    cache = exact.start(encoded)
    exact.step(np.array([PROMPT, PROMPT]), cache)
    histories = [(0, PROMPT), (1, PROMPT)]
    choices = [[0, 0, 0, 1, 1, 1], [0, 2, 1, 3, 3, 4], [1, 0, 1, 5, 5, 5], [0, 1, 3, 4], [2, 3],
               [0, 0, 1], [2, 0, 0, 1]]  # fmt: skip
    for number, rows in enumerate(choices):
        tokens = [843 + number * 7 + row for row in range(len(rows))]
        cache = exact.reorder(cache, np.array(rows))
        logits = exact.step(np.array(tokens)[:, None], cache)
        chosen = [histories[row] for row in rows]
        histories = [(clip, [*h, t]) for (clip, h), t in zip(chosen, tokens, strict=True)]
    for (clip, history), found in zip(histories, logits, strict=True):
        own = {name: array[clip : clip + 1] for name, array in encoded.items()}
        alone = exact.step(np.array([history]), exact.start(own))
        np.testing.assert_allclose(found, alone[0], atol=1e-3)


def greedy(
    backend: OnnxBackend, cache: Any, logits: np.ndarray, count: int = 12
) -> list[list[int]]:
    """Return the most likely tokens of each row, one after another."""
    texts: list[list[int]] = [[] for _ in logits]
    for _ in range(count):
        tokens = logits.argmax(axis=1)
        for text, token in zip(texts, tokens, strict=True):
            text.append(int(token))
        logits = backend.step(tokens[:, None], cache)
    return texts


def prompted(backend: OnnxBackend, features: np.ndarray, prompt: list[int]) -> Any:
    cache = backend.start(backend.encode(features[None]))
    return cache, backend.step(np.array([prompt]), cache).copy()


@pytest.mark.parametrize("engine", ["backend", "exact"])
def test_rows_of_all_lengths_are_what_each_would_be_alone(
    engine: str, speech: list[Path], request: pytest.FixtureRequest
) -> None:
    """Windows and prompts of different lengths in one batch, to the last bit."""
    backend = request.getfixturevalue(engine)
    frames = (1200, 400, 3000, 702)
    prompts = (PROMPT, [*PROMPT, 843], [*PROMPT, 843, 257, 318], PROMPT)
    clips = [mels(path, count) for path, count in zip(speech, frames, strict=False)]
    rows = [prompted(backend, *row) for row in zip(clips, prompts, strict=True)]
    expected = [
        greedy(backend, *prompted(backend, *row))[0] for row in zip(clips, prompts, strict=True)
    ]
    caches, logits = zip(*rows, strict=True)
    assert greedy(backend, backend.join(caches), np.concatenate(logits)) == expected


def test_joined_rows_branch_and_end(exact: OnnxBackend, speech: list[Path]) -> None:
    rows = [
        prompted(exact, mels(path, frames), prompt)
        for path, frames, prompt in zip(
            speech, (1200, 400, 800), (PROMPT, [*PROMPT, 843], PROMPT), strict=False
        )
    ]
    alone = [greedy(exact, *prompted(exact, mels(speech[1], 400), [*PROMPT, 843]), 8)[0]]
    caches, logits = zip(*rows, strict=True)
    joined, together = exact.join(caches), np.concatenate(logits)
    first = together.argmax(axis=1)
    together = exact.step(first[:, None], joined).copy()
    for chosen in ([0, 1, 1], [2, 1], [1, 1]):
        joined, together = exact.reorder(joined, np.array(chosen)), together[chosen]
    assert greedy(exact, joined, together, 7) == [alone[0][1:]] * 2


def test_beams_share_what_the_encoder_gave(backend: OnnxBackend, speech: list[Path]) -> None:
    cache = backend.start(backend.encode(mels(speech[0], 600)[None]))
    backend.step(np.array([PROMPT]), cache)
    encoded = cache.cross
    for rows in ([0, 0, 0, 0, 0], [0, 0, 3, 1, 1], [2, 4]):
        cache = backend.reorder(cache, np.array(rows))
        backend.step(np.full((len(rows), 1), 843), cache)
        assert cache.cross is encoded


def test_another_device_is_refused(directory: Path) -> None:
    with pytest.raises(EdgeWhisperError, match="does not run on 'cuda'"):
        load(directory, device="cuda")


def test_a_file_that_engines_refuse_is_a_bundle_error(directory: Path, tmp_path: Path) -> None:
    from onnx import TensorProto, helper, save

    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])
    graph = helper.make_graph([helper.make_node("NoSuchThing", ["x"], ["y"])], "g", [x], [])
    save(helper.make_model(graph), tmp_path / "encoder.onnx")
    with pytest.raises(BundleError, match="not as EdgeWhisper exports it"):
        OnnxBackend(tmp_path / "encoder.onnx", directory / onnx.DECODER)


def test_a_bundle_without_its_graphs_is_refused(directory: Path, tmp_path: Path) -> None:
    import shutil
    from dataclasses import replace

    copy = Path(shutil.copytree(directory, tmp_path / "b"))
    (copy / onnx.DECODER).unlink()
    manifest = bundle.read_manifest(copy)
    bundle.write_manifest(copy, replace(manifest, files=bundle.describe_files(copy)))
    with pytest.raises(BundleError, match=r"lacks decoder\.onnx"):
        load(copy)


def test_adaptive_context_hears_the_same_in_fewer_frames(
    directory: Path, speech: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    full, adaptive = load(directory), load(directory, audio_context="adaptive")
    encoded: list[int] = []
    encode = OnnxBackend.encode

    def counted(self: OnnxBackend, window: np.ndarray) -> dict[str, np.ndarray]:
        encoded.append(window.shape[2])
        return encode(self, window)

    monkeypatch.setattr(OnnxBackend, "encode", counted)
    texts: list[list[str]] = [[], []]
    for path in speech[:3]:
        clip = audio.load(path)
        found, expected = (one.transcribe(clip, options=PLAIN) for one in (adaptive, full))
        texts[0].append(expected.text.lower())
        texts[1].append(found.text.lower())
        again, frames = found.windows[0].encoded_again, len(clip) // features.HOP
        assert encoded[0] <= frames + 3 * features.FRAMES_PER_SECOND
        assert encoded[-1] == features.WINDOW_FRAMES
        assert len(encoded) == 2 + bool(again)
        encoded.clear()
    assert jiwer.wer(*texts) < 0.25
    silence = adaptive.transcribe(np.zeros(16000, np.float32), options=PLAIN)
    assert not silence.windows[0].looping


def test_the_device_s_commands_on_an_exported_bundle(
    directory: Path, speech: list[Path], run: Run
) -> None:
    script = "edgewhisper-runtime"
    said = run("info", directory, script=script)
    assert said.returncode == 0
    assert "onnx-int8: int8 weights" in said.stdout
    assert "did not run" in said.stdout
    found = run("transcribe", speech[1], "--bundle", directory, "--json", script=script)
    assert found.returncode == 0, found.stderr
    assert json.loads(found.stdout)["text"]
    arguments = ("--audio", speech[1], "--repeat", 1, "--audio-context", "adaptive", "--json")
    profiled = run("profile", directory, *arguments, script=script)
    assert profiled.returncode == 0, profiled.stderr
    report = json.loads(profiled.stdout)
    assert report["summary"]["audio_context"] == "adaptive"
    assert report["summary"]["windows"] == 1
    assert report["summary"]["weight_bytes"] < 42e6
    assert "torch" not in report["installed"]
    assert report["installed"]["onnxruntime"] > 1e6


def test_info_without_a_bundle(run: Run, tmp_path: Path) -> None:
    said = run("info", tmp_path, script="edgewhisper-runtime")
    assert said.returncode == BundleError.exit_code
    assert "is not a bundle" in said.stderr


def test_features_need_not_lie_in_one_piece(backend: OnnxBackend, speech: list[Path]) -> None:
    wide = np.repeat(mels(speech[0], 800), 2, axis=1)[None]
    apart, together = wide[:, :, ::2], wide[:, :, ::2].copy()
    assert not apart.flags.c_contiguous
    for name, found in backend.encode(apart).items():
        np.testing.assert_array_equal(found, backend.encode(together)[name])


def test_tokens_and_settings_that_do_not_fit_are_refused(
    backend: OnnxBackend, directory: Path
) -> None:
    encoded = backend.encode(np.zeros((1, 80, 400), np.float32))
    with pytest.raises(BundleError, match="does not fit the tokenizer"):
        backend.step(np.array([[60_000]]), backend.start(encoded))
    manifest = bundle.read_manifest(directory)
    for changes in ({"max_tokens": 900}, {"suppress": (60_000,)}):
        settings = replace(manifest.settings, **changes)
        with pytest.raises(BundleError, match="settings do not fit its model"):
            onnx.load(directory, replace(manifest, settings=settings), "cpu", None)


@pytest.mark.parametrize("lacking", ["query_", "present_cross_"])
def test_a_decoder_of_another_version_is_refused(
    directory: Path, tmp_path: Path, lacking: str
) -> None:
    import onnx as files

    model = files.load(directory / onnx.DECODER)
    kept = [output for output in model.graph.output if not output.name.startswith(lacking)]
    del model.graph.output[:]
    model.graph.output.extend(kept)
    files.save(model, tmp_path / onnx.DECODER)
    with pytest.raises(BundleError, match=rf"as this version.*{lacking}.*Build again"):
        OnnxBackend(directory / onnx.ENCODER, tmp_path / onnx.DECODER)


def test_halves_of_two_exports_are_refused(directory: Path, bundle_of: BundleOf) -> None:
    other = bundle_of("whisper-tiny.en", "fp32")
    for encoder, decoder in ((directory, other), (other, directory)):
        with pytest.raises(BundleError, match=r"cross_.*Build again"):
            OnnxBackend(encoder / onnx.ENCODER, decoder / onnx.DECODER)


def test_a_table_that_is_not_in_the_file_is_refused(directory: Path, tmp_path: Path) -> None:
    content = (directory / onnx.DECODER).read_bytes()
    name = b"model.decoder.embed_tokens.int8"
    for changed in (content.replace(name, b"x" * len(name), 1), content[: len(content) // 2]):
        path = tmp_path / onnx.DECODER
        path.write_bytes(changed)
        with pytest.raises(BundleError):
            OnnxBackend(directory / onnx.ENCODER, path)


def test_a_long_file_takes_the_memory_of_a_short_one(
    directory: Path, data: Path, tmp_path: Path
) -> None:
    recording = data / "longform" / "librispeech_1089-134686_concat.flac"
    samples, rate = soundfile.read(recording, dtype="int16")
    peaks = []
    for seconds in (25, 240):
        path = tmp_path / f"{seconds}.wav"
        soundfile.write(path, np.resize(samples, seconds * rate), rate)
        command = [sys.executable, "-c", LONG, str(directory), str(path)]
        said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        peaks.append(int(said))
    one_more_window = 2 * 4 * 1500 * 384 * 4  # keys and values of it, layers, positions, width
    assert peaks[1] - peaks[0] < one_more_window
