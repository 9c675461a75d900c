"""One engine in a process of its own: audio in, texts and what they cost out, as JSON.

    python tools/peers/worker.py ENGINE MODEL THREADS MODE FILE...

Runs in the engine's own virtual environment, which has soundfile and the engine, nothing of
EdgeWhisper unless that is the engine. Every engine decodes in English, without timestamps, prompts
or second attempts at other temperatures; greedily, with a beam of 5 (MODE "beam"), or greedily 8
windows at once ("batch").
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

Engine = Callable[[list[Any]], list[str]]  # recordings of samples [n] at 16 kHz to their texts
BEAMS, WINDOWS = 5, 8
RATE = 16_000


def edgewhisper(
    context: Literal["full", "adaptive"], model: str, threads: int, mode: str
) -> Engine:
    """Our runtime, installed from its wheel."""
    from edgewhisper_runtime import load
    from edgewhisper_runtime.memory import return_large_blocks
    from edgewhisper_runtime.options import PLAIN

    return_large_blocks()  # as the command line does

    transcriber = load(model, threads=threads, audio_context=context)
    options = replace(PLAIN, language="en", beam_size=BEAMS if mode == "beam" else 1)
    if mode == "batch":
        options = replace(options, batch_size=WINDOWS)
        return lambda clips: [_text(t) for t in transcriber.transcribe_many(clips, options)]
    return lambda clips: [transcriber.transcribe(clip, options).text for clip in clips]


def _text(outcome: Any) -> str:
    if isinstance(outcome, Exception):
        raise outcome
    return str(outcome.text)


def faster_whisper(model: str, threads: int, mode: str, compute_type: str = "int8") -> Engine:
    """CTranslate2; a batch is of clips that are joined, and cut where they were joined."""
    from faster_whisper import BatchedInferencePipeline, WhisperModel

    loaded = WhisperModel(model, device="cpu", compute_type=compute_type, cpu_threads=threads)
    options = {
        "language": "en",
        "beam_size": BEAMS if mode == "beam" else 1,
        "temperature": 0.0,
        "without_timestamps": True,
        "condition_on_previous_text": False,
        "no_speech_threshold": None,
        "log_prob_threshold": None,
        "compression_ratio_threshold": None,
    }

    def transcribe(samples: Any) -> str:
        segments, _ = loaded.transcribe(samples, **options)
        return "".join(segment.text for segment in segments)

    def transcribe_batch(clips: list[Any]) -> list[str]:
        import numpy as np

        ends = np.cumsum([len(clip) for clip in clips]) / RATE
        starts = [0.0, *ends[:-1]]
        cuts = [{"start": s, "end": e} for s, e in zip(starts, ends, strict=True)]
        segments, _ = BatchedInferencePipeline(loaded).transcribe(
            np.concatenate(clips), batch_size=WINDOWS, vad_filter=False, clip_timestamps=cuts,
            **options,
        )  # fmt: skip
        texts = [""] * len(clips)
        for segment in segments:
            texts[int(np.searchsorted(ends, (segment.start + segment.end) / 2))] += segment.text
        return texts

    if mode == "batch":
        return transcribe_batch
    return lambda clips: [transcribe(clip) for clip in clips]


def openvino_genai(model: str, threads: int, mode: str, **properties: str) -> Engine:
    """OpenVINO GenAI, int8 weights."""
    import openvino_genai

    pipeline = openvino_genai.WhisperPipeline(
        model, "CPU", INFERENCE_NUM_THREADS=threads, **properties
    )
    search = {"num_beams": BEAMS} if mode == "beam" else {}

    def transcribe(samples: Any) -> str:
        result = pipeline.generate(
            samples.tolist(), language="<|en|>", task="transcribe", max_new_tokens=440, **search
        )
        return str(result.texts[0])

    return lambda clips: [transcribe(clip) for clip in clips]


def onnx_asr(model: str, threads: int, _mode: str) -> Engine:
    """onnx-asr on ONNX Runtime, dynamic int8."""
    import onnx_asr as library
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    loaded = library.load_model("whisper", model, quantization="int8", sess_options=options)
    return lambda clips: [str(loaded.recognize(clip, language="en")) for clip in clips]


def whisper_cpp(model: str, threads: int, mode: str) -> Engine:
    """Whisper.cpp through pywhispercpp."""
    from pywhispercpp.model import Model

    beams = {"params_sampling_strategy": 1, "beam_search": {"beam_size": BEAMS, "patience": -1.0}}
    loaded = Model(
        model,
        n_threads=threads,
        language="en",
        no_timestamps=True,
        temperature_inc=0.0,
        print_progress=False,
        print_realtime=False,
        redirect_whispercpp_logs_to=None,
        **(beams if mode == "beam" else {"greedy": {"best_of": 1}}),
    )
    return lambda clips: [" ".join(s.text for s in loaded.transcribe(clip)) for clip in clips]


ENGINES: dict[str, Callable[[str, int, str], Engine]] = {
    "edgewhisper-full": partial(edgewhisper, "full"),
    "edgewhisper-adaptive": partial(edgewhisper, "adaptive"),
    "faster-whisper": faster_whisper,
    "openvino-genai": openvino_genai,
    # OpenVINO computes in bfloat16 where the processor can, unless it is told not to.
    "openvino-genai-float32": partial(openvino_genai, INFERENCE_PRECISION_HINT="f32"),
    "onnx-asr": onnx_asr,
    "whisper.cpp": whisper_cpp,
}


def peak_rss() -> int:
    """Return the largest resident set so far, in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("no VmHWM in /proc/self/status")


def main() -> None:
    """Transcribe every file once, the first one twice: that time is a warm-up."""
    import soundfile

    engine, model, threads, mode, *files = sys.argv[1:]
    transcribe = ENGINES[engine](model, int(threads), mode)
    transcribe([soundfile.read(files[0], dtype="float32")[0]])
    first_text_at = time.time()
    texts, seconds, lengths, cpu_seconds = [], [], [], 0.0
    clips = [soundfile.read(file, dtype="float32")[0] for file in files]
    for group in [clips] if mode == "batch" else [[clip] for clip in clips]:
        start, cpu = time.perf_counter(), time.process_time()
        texts += [text.strip() for text in transcribe(group)]
        seconds.append(time.perf_counter() - start)
        cpu_seconds += time.process_time() - cpu
        lengths.append(sum(map(len, group)) / RATE)
    print(
        json.dumps(
            {
                "texts": texts,
                "seconds": seconds,
                "cpu_seconds": cpu_seconds,
                "audio_seconds": lengths,
                "peak_rss_bytes": peak_rss(),
                "first_text_at": first_text_at,
            }
        )
    )


if __name__ == "__main__":
    main()
