"""The fields that clients send: those that are read, and those that are known and do nothing."""

from __future__ import annotations

# OpenAI's own, and what other servers and their clients call the options that are here too.
READ = (
    "file", "model", "language", "prompt", "keywords", "response_format", "temperature",
    "timestamp_granularities", "stream",
    "hotwords", "initial_prompt", "vad_filter", "vad", "beam_size", "best_of", "temperature_inc",
    "condition_on_previous_text", "word_timestamps", "compression_ratio_threshold",
    "log_prob_threshold", "logprob_thold", "no_speech_threshold", "no_speech_thold", "translate",
    "multilingual", "no_repeat_ngram_size", "repetition_penalty",
)  # fmt: skip

_OPENAI = {
    "chunking_strategy": "a recording is cut at pauses in speech in any case",
    "include": "probabilities of tokens are not returned",
    "known_speaker_names": "speakers are not told apart",
    "known_speaker_references": "speakers are not told apart",
    "languages": "a language that is not given is detected among all of the model's",
}
# faster-whisper's arguments, which speaches and other servers built on it take as fields.
_FASTER_WHISPER = {
    "append_punctuations": "punctuation stays with the word that it follows",
    "batch_size": "recordings share batches of the server's own size",
    "chunk_length": "a window is as long as the model's, 30 s",
    "hallucination_silence_threshold": "silence is left out before decoding",
    "language_detection_segments": "the first window decides",
    "language_detection_threshold": "the most likely language is taken",
    "length_penalty": "hypotheses are compared by their mean log probability",
    "max_initial_timestamp": "a text begins within the first second of its window",
    "max_new_tokens": "a window's text is as long as the model allows",
    "patience": "a beam search ends with its best hypotheses",
    "prepend_punctuations": "punctuation stays with the word that it precedes",
    "prompt_reset_on_temperature": "text that was decoded warmer than 0.5 is not built upon",
    "suppress_blank": "the model's own lists of suppressed tokens are used",
    "suppress_tokens": "the model's own lists of suppressed tokens are used",
    "vad_parameters": "voice activity detection has no settings",
    "without_timestamps": "response_format says whether there are times",
}
_WHISPER_CPP = {
    "audio_ctx": "the server's --audio-context decides",
    "debug_mode": "nothing is printed",
    "diarize": "speakers are not told apart",
    "entropy_thold": "text that repeats itself is found by its compression ratio",
    "max_context": "as much text stands before a window as has room",
    "max_len": "a segment is what the model says it is",
    "no_context": "condition_on_previous_text decides, and is off",
    "no_language_probabilities": "they are not returned",
    "no_timestamps": "response_format says whether there are times",
    "print_colors": "nothing is printed",
    "print_progress": "nothing is printed",
    "print_realtime": "nothing is printed",
    "print_special": "nothing is printed",
    "split_on_word": "a segment is what the model says it is",
    "suppress_non_speech": "the model's own lists of suppressed tokens are used",
    "suppress_nst": "the model's own lists of suppressed tokens are used",
    "tinydiarize": "speakers are not told apart",
    "token_timestamps": "words have times, tokens have none",
    "vad_max_speech_duration_s": "voice activity detection has no settings",
    "vad_min_silence_duration_ms": "voice activity detection has no settings",
    "vad_min_speech_duration_ms": "voice activity detection has no settings",
    "vad_samples_overlap": "voice activity detection has no settings",
    "vad_speech_pad_ms": "voice activity detection has no settings",
    "vad_threshold": "voice activity detection has no settings",
    "word_thold": "every word has its time",
}
# By the client that sends it: each field, and why nothing follows from it.
IGNORED = {"OpenAI": _OPENAI, "faster-whisper": _FASTER_WHISPER, "whisper.cpp": _WHISPER_CPP}
IGNORED_NAMES = frozenset(name for fields in IGNORED.values() for name in fields)
