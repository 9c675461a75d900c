"""The sizes and settings in a checkpoint's JSON files, read once, with types and ranges checked.

Settings that EdgeWhisper does not compute as transformers does are refused here by name, before any
work. Of `WhisperConfig`'s other fields, dropout, layerdrop and SpecAugment act in training only,
`use_weighted_layer_sum` and `classifier_proj_size` on audio classification only, and transformers
reads `scale_embedding` without applying it.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgewhisper_runtime.audio import features
from edgewhisper_runtime.bundle import TOKENIZER, decode_json
from edgewhisper_runtime.decode.rules import TIMESTAMPS
from edgewhisper_runtime.errors import BundleError, CheckpointError
from edgewhisper_runtime.text.tokens import Tokenizer

CONFIG, GENERATION = "config.json", "generation_config.json"
_log = logging.getLogger(__name__)
_POSITIONS = features.WINDOW_FRAMES // 2  # of a window: the encoder's second convolution halves it
_MELS = (80, 128)  # of every model that OpenAI published
_GELU = ("gelu", "gelu_python")  # the same function, in C++ and in Python
_HEAD_STEP = 8  # ONNX Runtime's GroupQueryAttention takes widths that are multiples of it
# What transformers' feature extractor computes unless told otherwise.
_EXTRACTOR = {
    "sampling_rate": features.SAMPLE_RATE,
    "n_fft": features.N_FFT,
    "hop_length": features.HOP,
    "chunk_length": features.WINDOW_SECONDS,
    "dither": 0.0,
    "padding_value": 0.0,
}
_SAVERS = {GENERATION: "GenerationConfig", TOKENIZER: "WhisperTokenizerFast"}
_MODELS = ("WhisperForConditionalGeneration", "WhisperModel")


@dataclass(frozen=True)
class Architecture:
    """A Whisper model's sizes, and the decoding settings of its generation_config.json.

    Widths are those of the residual stream and of the feed-forward layers; `vocabulary` counts the
    rows of the token embedding. `suppress` are ids never decoded, including those without a
    token; `alignment_heads` are (layer, head) of the decoder's cross-attention.
    """

    encoder_layers: int
    decoder_layers: int
    encoder_heads: int
    decoder_heads: int
    width: int
    encoder_ffn_width: int
    decoder_ffn_width: int
    mels: int
    target_positions: int
    vocabulary: int
    suppress: tuple[int, ...]
    suppress_first: tuple[int, ...]
    alignment_heads: tuple[tuple[int, int], ...]


def read(directory: Path) -> Architecture:
    """Return the architecture of the checkpoint in a directory.

    Raises CheckpointError for a model that is not Whisper, for one whose arithmetic is not
    supported, and for files that do not go together.
    """
    path = directory / CONFIG
    config = read_json(path)
    _check_arithmetic(path, config)
    _check_features(directory)
    _check_present(directory, config)
    width = _integer(path, config, "d_model", 8, 8192)
    vocabulary = _integer(path, config, "vocab_size", 1, 2**20)
    heads = {
        half: _integer(path, config, f"{half}_attention_heads", 1, 256)
        for half in ("encoder", "decoder")
    }
    for half, count in heads.items():
        if width % (_HEAD_STEP * count):
            raise CheckpointError(
                f"{path}: d_model = {width} in {half}_attention_heads = {count} makes heads that "
                f"are no multiple of {_HEAD_STEP} wide, which is not supported."
            )
    layers = _integer(path, config, "decoder_layers", 1, 128)
    generation = read_json(directory / GENERATION)
    suppress, suppress_first = (
        _ids(directory / GENERATION, generation, name, vocabulary)
        for name in ("suppress_tokens", "begin_suppress_tokens")
    )
    missing = _ids_without_token(directory, config, vocabulary)
    return Architecture(
        encoder_layers=_integer(path, config, "encoder_layers", 1, 128),
        decoder_layers=layers,
        encoder_heads=heads["encoder"],
        decoder_heads=heads["decoder"],
        width=width,
        encoder_ffn_width=_integer(path, config, "encoder_ffn_dim", 1, 65_536),
        decoder_ffn_width=_integer(path, config, "decoder_ffn_dim", 1, 65_536),
        mels=_integer(path, config, "num_mel_bins", 1, 1024, _MELS),
        target_positions=_integer(path, config, "max_target_positions", 16, 4096),
        vocabulary=vocabulary,
        suppress=(*suppress, *(token for token in missing if token not in suppress)),
        suppress_first=suppress_first,
        alignment_heads=_alignment_heads(
            directory / GENERATION, generation, layers, heads["decoder"]
        ),
    )


def read_json(path: Path) -> dict[str, Any]:
    """Return the object in a JSON file; raise CheckpointError where there is none."""
    try:
        content = decode_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise CheckpointError(f"{path} is missing: this is no Whisper checkpoint.") from error
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} could not be read ({error}). Save it again.") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} holds no JSON object. Save it again.")
    return content


def in_python(model: object) -> str:
    """Return a model's name as a Python literal for a remedy; BASE where a file names none."""
    return repr(model) if isinstance(model, str) and model else "BASE"


def _check_arithmetic(path: Path, config: dict[str, Any]) -> None:
    """Refuse settings of config.json that EdgeWhisper would compute differently."""
    if config.get("model_type") != "whisper":
        raise CheckpointError(
            f"{path.parent} holds a {config.get('model_type')!r} model, not Whisper. "
            "Name another one."
        )
    names = config.get("architectures") or _MODELS
    if not isinstance(names, list | tuple) or not set(map(str, names)) & set(_MODELS):
        raise CheckpointError(
            f"{path.parent} holds {names!r}, not a Whisper model that transcribes "
            f"({_MODELS[0]}). Name another one."
        )
    if (library := config.get("quantization_config")) is not None:
        method = library.get("quant_method") if isinstance(library, dict) else library
        raise CheckpointError(
            f"{path.parent} was quantized before ({method!r}), and EdgeWhisper quantizes float "
            "weights. Name the model that it was made from."
        )
    if (activation := config.get("activation_function", "gelu")) not in _GELU:
        raise CheckpointError(
            f"{path}: activation_function = {activation!r} is not supported; Whisper has 'gelu'."
        )
    positions = config.get("max_source_positions", _POSITIONS)
    if positions != _POSITIONS:
        raise CheckpointError(
            f"{path}: max_source_positions = {positions!r} is not supported: audio is decoded in "
            f"windows of {features.WINDOW_SECONDS} s, which are {_POSITIONS} positions."
        )


def _check_features(directory: Path) -> None:
    """Refuse features that are computed in another way than Whisper's."""
    path = directory / "preprocessor_config.json"
    if path.is_file():
        content = read_json(path)
    elif (path := directory / "processor_config.json").is_file():  # since transformers 5
        content = read_json(path).get("feature_extractor") or {}
    else:
        return
    for name, value in _EXTRACTOR.items():
        if content.get(name, value) != value:
            raise CheckpointError(
                f"{path}: {name} = {content[name]!r} is not supported; Whisper's features have "
                f"{name} = {value}."
            )


def _check_present(directory: Path, config: dict[str, Any]) -> None:
    """Refuse a checkpoint without the files that many training scripts do not save."""
    for name, saver in _SAVERS.items():
        if not (directory / name).is_file():
            # vocab.json and merges.txt are the same tokenizer in an older form
            own = name == TOKENIZER and (directory / "vocab.json").is_file()
            source = in_python(str(directory) if own else config.get("_name_or_path"))
            raise CheckpointError(
                f"{directory} lacks {name}. Copy it from the model that this one was tuned from, "
                f"or save it by transformers: {saver}.from_pretrained({source})"
                f".save_pretrained({str(directory)!r})."
            )


def _integer(
    path: Path, content: dict[str, Any], name: str, low: int, high: int, among: tuple[int, ...] = ()
) -> int:
    value = content.get(name)
    if type(value) is not int or not low <= value <= high:
        raise CheckpointError(
            f"{path}: {name} must be an integer from {low} to {high}, not {value!r}."
        )
    if among and value not in among:
        raise CheckpointError(
            f"{path}: {name} = {value} is not supported; Whisper has "
            f"{' or '.join(map(str, among))}."
        )
    return value


def _ids(path: Path, content: dict[str, Any], name: str, vocabulary: int) -> tuple[int, ...]:
    """Return a list of token ids, without ids outside the vocabulary, which are never decoded."""
    ids = content.get(name) or ()
    if not isinstance(ids, list | tuple) or not all(type(i) is int and i >= 0 for i in ids):
        raise CheckpointError(f"{path}: {name} is no list of token ids. Save it again.")
    known_ids = tuple(i for i in ids if i < vocabulary)
    if len(known_ids) < len(ids):
        _warn(
            f"{path}: {len(ids) - len(known_ids)} ids of {name} are beyond the vocabulary; left out"
        )
    return known_ids


def _ids_without_token(directory: Path, config: dict[str, Any], vocabulary: int) -> list[int]:
    """Return the rows of the token embedding that the tokenizer has no token for.

    Embeddings are often padded to a round number of rows. Raises CheckpointError where the
    tokenizer has more tokens than that, or other special tokens than the model.
    """
    path = directory / TOKENIZER
    content = read_json(path)
    try:
        tokenizer = Tokenizer(path)
        named = {int(token): text for text, token in content["model"]["vocab"].items()}
        named |= {int(token["id"]): str(token["content"]) for token in content["added_tokens"]}
    except (BundleError, LookupError, TypeError, ValueError, AttributeError) as error:
        raise CheckpointError(
            f"{path} is not a Whisper tokenizer. Copy that of the model this one was tuned from."
        ) from error
    largest = max(named)
    if largest >= vocabulary:
        raise CheckpointError(
            f"{path} has id {largest} for {named[largest]!r}, but the model's vocab_size is "
            f"{vocabulary}. Save the tokenizer that the model was trained with, or resize the "
            "model's embeddings (resize_token_embeddings) and train them."
        )
    start = config.get("decoder_start_token_id", tokenizer.start_of_transcript)
    if start != tokenizer.start_of_transcript:
        raise CheckpointError(
            f"{path} has <|startoftranscript|> as id {tokenizer.start_of_transcript}, but the "
            f"model's decoder_start_token_id is {start!r}: the tokenizer is another model's."
        )
    first = tokenizer.first_timestamp  # not every tokenizer.json lists the timestamps
    with_token = named.keys() | set(range(first, first + TIMESTAMPS))
    return [token for token in range(vocabulary) if token not in with_token]


def _alignment_heads(
    path: Path, generation: dict[str, Any], layers: int, heads: int
) -> tuple[tuple[int, int], ...]:
    """Return the (layer, head) pairs whose attention gives the times of words.

    Without such a list they are all heads of the upper half, as in openai-whisper; also where a
    listed head does not exist, as the list was then copied from a larger model.
    """
    named = generation.get("alignment_heads") or ()
    try:
        pairs = tuple((int(layer), int(head)) for layer, head in named)
    except (TypeError, ValueError) as error:
        raise CheckpointError(
            f"{path}: alignment_heads is no list of (layer, head). Save it again."
        ) from error
    absent = [pair for pair in pairs if not (0 <= pair[0] < layers and 0 <= pair[1] < heads)]
    if pairs and not absent:
        return pairs
    if absent:
        _warn(
            f"{path}: alignment_heads names layer {absent[0][0]}, head {absent[0][1]}, and the "
            f"decoder has {layers} layers of {heads} heads; word times come from all heads of its "
            "upper half instead"
        )
    return tuple((layer, head) for layer in range(layers // 2, layers) for head in range(heads))


def _warn(message: str) -> None:
    _log.warning("%s", message)
