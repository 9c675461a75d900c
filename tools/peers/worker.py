"""One engine in a process of its own: audio in, texts and what they cost out, as JSON.

    python tools/peers/worker.py ENGINE MODEL THREADS FILE...

Runs in the engine's own virtual environment, which has soundfile and the engine, nothing of
EdgeWhisper unless that is the engine. Every engine decodes greedily, in English, without
timestamps, prompts or second attempts at other temperatures.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

Engine = Callable[[Any], str]


def edgewhisper(model: str, threads: int, context: Literal["full", "adaptive"]) -> Engine:
    """Our runtime, installed from its wheel."""
    from edgewhisper_runtime import load
    from edgewhisper_runtime.memory import return_large_blocks
    from edgewhisper_runtime.options import PLAIN

    return_large_blocks()  # as the command line does

    transcriber = load(model, threads=threads, audio_context=context)
    options = replace(PLAIN, language="en")
    return lambda samples: transcriber.transcribe(samples, options).text


def faster_whisper(model: str, threads: int, compute_type: str = "int8") -> Engine:
    """CTranslate2, in int8 unless asked for another type."""
    from faster_whisper import WhisperModel

    loaded = WhisperModel(model, device="cpu", compute_type=compute_type, cpu_threads=threads)

    def transcribe(samples: Any) -> str:
        segments, _ = loaded.transcribe(
            samples,
            language="en",
            beam_size=1,
            temperature=0.0,
            without_timestamps=True,
            condition_on_previous_text=False,
            no_speech_threshold=None,
            log_prob_threshold=None,
            compression_ratio_threshold=None,
        )
        return "".join(segment.text for segment in segments)

    return transcribe


def openvino_genai(model: str, threads: int) -> Engine:
    """OpenVINO GenAI, int8 weights."""
    import openvino_genai

    pipeline = openvino_genai.WhisperPipeline(model, "CPU", INFERENCE_NUM_THREADS=threads)

    def transcribe(samples: Any) -> str:
        result = pipeline.generate(
            samples.tolist(), language="<|en|>", task="transcribe", max_new_tokens=440
        )
        return str(result.texts[0])

    return transcribe


def onnx_asr(model: str, threads: int) -> Engine:
    """onnx-asr on ONNX Runtime, dynamic int8."""
    import onnx_asr as library
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    loaded = library.load_model("whisper", model, quantization="int8", sess_options=options)
    return lambda samples: str(loaded.recognize(samples, language="en"))


def whisper_cpp(model: str, threads: int) -> Engine:
    """Whisper.cpp through pywhispercpp."""
    from pywhispercpp.model import Model

    loaded = Model(
        model,
        n_threads=threads,
        language="en",
        no_timestamps=True,
        temperature_inc=0.0,
        greedy={"best_of": 1},
        print_progress=False,
        print_realtime=False,
        redirect_whispercpp_logs_to=None,
    )
    return lambda samples: " ".join(segment.text for segment in loaded.transcribe(samples))


ENGINES: dict[str, Callable[[str, int], Engine]] = {
    "edgewhisper-full": lambda model, threads: edgewhisper(model, threads, "full"),
    "edgewhisper-adaptive": lambda model, threads: edgewhisper(model, threads, "adaptive"),
    "faster-whisper": faster_whisper,
    "openvino-genai": openvino_genai,
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

    engine, model, threads, *files = sys.argv[1:]
    transcribe = ENGINES[engine](model, int(threads))
    transcribe(soundfile.read(files[0], dtype="float32")[0])
    first_text_at = time.time()
    texts, seconds, lengths, cpu_seconds = [], [], [], 0.0
    for file in files:
        clip, rate = soundfile.read(file, dtype="float32")
        start, cpu = time.perf_counter(), time.process_time()
        texts.append(transcribe(clip).strip())
        seconds.append(time.perf_counter() - start)
        cpu_seconds += time.process_time() - cpu
        lengths.append(len(clip) / rate)
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
