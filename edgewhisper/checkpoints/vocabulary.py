"""A checkpoint with its vocabulary cut to some languages: fewer tokens, the same numbers for each.

What stays: special tokens, but of languages only these; tokens without a letter, so that digits,
punctuation and, byte by byte, any text can be written; tokens that spell one of the 60,000 most
frequent words of each language; and all tokens of the scripts that these words are in, Latin
excepted. Four fifths of Whisper's tokens are of the Latin script, and most of these in letters that
English has too, so letters alone would keep nearly all.

Words and their frequencies are those of `wordfreq` (Speer 2022). Choosing tokens by frequency in a
language's own text follows Abdaoui et al. 2020 ("Load what you need") and Ushio et al. 2023
("Efficient multilingual language model compression through vocabulary trimming").
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from importlib import metadata
from itertools import islice
from pathlib import Path
from typing import Any

from edgewhisper.checkpoints import files
from edgewhisper.checkpoints.architecture import CONFIG, GENERATION, read_json
from edgewhisper.checkpoints.store import Checkpoint, open_checkpoint
from edgewhisper.staging import alone, new_directory
from edgewhisper.workspace import Workspace
from edgewhisper_runtime.bundle import TOKENIZER
from edgewhisper_runtime.decode.rules import TIMESTAMPS
from edgewhisper_runtime.errors import CheckpointError, MissingLibraryError, RecipeError
from edgewhisper_runtime.text.languages import LANGUAGES
from edgewhisper_runtime.text.tokens import Tokenizer

_WORDS = "wordfreq"
_MOST_FREQUENT = 60_000  # some lists are shorter, with every word that is one in a million
# Its names of languages that Whisper calls otherwise. Its Serbian is in Latin letters only.
_LISTS = {"bs": "sh", "hr": "sh", "no": "nb", "tl": "fil"}
_LETTERS = ("L", "M")  # Unicode's categories: letters and the marks upon them
_LEAST_SHARE = 0.01  # of a language's words are in a script that it is written in
_SIDE_FILES = (TOKENIZER, CONFIG, GENERATION)
_OF_TOKENS = ("embed_tokens.weight", "proj_out.weight")  # a row for each
_ENDS = ("bos_token_id", "eos_token_id", "pad_token_id")
_IDS = re.compile(r"\w+_token_id|(begin_)?suppress_tokens|(lang|task)_to_id")


def cut(workspace: Workspace, checkpoint: Checkpoint, languages: Sequence[str]) -> Checkpoint:
    """Return a checkpoint with its vocabulary cut to `languages`, codes such as "en".

    It is written once, and is the checkpoint itself where no language is named. Its weights'
    SHA-256 are those of the whole one.

    Raises RecipeError for a language that the checkpoint or the word lists lack,
    MissingLibraryError where wordfreq is not installed, CheckpointError where the weights do not
    fit the vocabulary.
    """
    if not languages:
        return checkpoint
    check(languages)
    sides = workspace.hashes.digest([checkpoint.path / name for name in _SIDE_FILES])
    versions = [metadata.version(name) for name in ("edgewhisper", _WORDS)]
    identity = [checkpoint.weights, sides, sorted(languages), versions]
    digest = hashlib.sha256(json.dumps(identity).encode()).hexdigest()
    target = workspace.variants / f"{checkpoint.name}-vocabulary-{digest[:12]}"
    if not target.is_dir():
        with alone(target):
            if not target.is_dir():
                with new_directory(target) as staging:
                    _write(checkpoint, _kept(checkpoint, languages), staging)
    architecture = open_checkpoint(workspace, target).architecture
    record = {
        "languages": sorted(languages),
        "tokens": architecture.vocabulary,
        "of": checkpoint.architecture.vocabulary,
        _WORDS: versions[1],
    }
    provenance = checkpoint.provenance | {"vocabulary": record}
    return replace(checkpoint, path=target, provenance=provenance, architecture=architecture)


def check(languages: Sequence[str]) -> None:
    """Raise what `cut` raises whatever the checkpoint is: for want of a word list, or of all."""
    if not languages:
        return
    try:
        from wordfreq import available_languages
    except ImportError as error:
        raise MissingLibraryError(
            f"this recipe needs {_WORDS}, to cut the vocabulary to {', '.join(languages)}: pip "
            "install 'edgewhisper[vocabulary]'."
        ) from error
    present = set(available_languages("best"))
    listed = [code for code in LANGUAGES if _LISTS.get(code, code) in present]
    if missing := [code for code in languages if code not in listed]:
        raise RecipeError(
            f"a vocabulary cannot be cut to {missing[0]!r}, as {_WORDS} has no list of its "
            f"frequent words. Use some of {', '.join(sorted(listed))}."
        )


def _kept(checkpoint: Checkpoint, languages: Sequence[str]) -> list[int]:
    """Return the ids of the tokens that stay, in order."""
    path = checkpoint.path / TOKENIZER
    content, tokenizer = read_json(path), Tokenizer(path)
    known = tokenizer.languages.keys() or {"en"}
    if absent := [code for code in languages if code not in known]:
        raise RecipeError(
            f"a vocabulary cannot be cut to {absent[0]!r}: {checkpoint.name} does not have that "
            "language."
        )
    kept, scripts = set(), set()
    for code in languages:
        words = _frequent_words(code)
        kept |= {
            token for word in words for text in _spellings(word) for token in tokenizer.encode(text)
        }
        scripts |= _scripts_of(words)
    pieces = ((token, tokenizer.piece(token)) for token in range(tokenizer.end_of_text))
    kept |= {token for token, piece in pieces if len(piece) == 1 or _is_of(piece, scripts)}
    kept |= _parts(content["model"], kept)
    kept |= {entry["id"] for entry in content["added_tokens"]}
    kept |= {tokenizer.first_timestamp + step for step in range(TIMESTAMPS)}
    of_languages = range(tokenizer.start_of_transcript + 1, min(tokenizer.tasks.values()))
    # An English-only model has tokens of languages too, but they were never trained.
    spoken = {token for code, token in tokenizer.languages.items() if code in languages}
    return sorted(kept - (set(of_languages) - spoken))


def _frequent_words(code: str) -> list[str]:
    from wordfreq import iter_wordlist

    return list(islice(iter_wordlist(_LISTS.get(code, code), "best"), _MOST_FREQUENT))


def _spellings(word: str) -> Iterator[str]:
    """Yield a word as it stands after a space: in small letters, capitalized, in capitals."""
    yield from (f" {text}" for text in (word, word.capitalize(), word.upper()))


def _scripts_of(words: Sequence[str]) -> set[str]:
    """Return the scripts that a language's words are written in, Latin excepted."""
    counts = Counter(script for word in words for script in set(_scripts(word)))
    least = _LEAST_SHARE * len(words)
    return {script for script, count in counts.items() if count >= least} - {"LATIN"}


def _scripts(text: str) -> Iterator[str]:
    """Yield the script of each letter: the first word of its name in Unicode."""
    for character in text:
        if unicodedata.category(character)[0] in _LETTERS:
            yield unicodedata.name(character, "").partition(" ")[0]


def _is_of(piece: bytes, scripts: set[str]) -> bool:
    """Tell whether a token is whole characters, and all letters among them of some scripts."""
    try:
        return scripts.issuperset(_scripts(piece.decode()))
    except UnicodeDecodeError:
        return False


def _parts(model: dict[str, Any], tokens: Iterable[int]) -> set[int]:
    """Return the ids of all tokens that tokens are joined from, pair by pair."""
    ids = model["vocab"]
    pairs = {ids[left + right]: (ids[left], ids[right]) for left, right in _merges(model)}
    parts: set[int] = set()
    waiting = list(tokens)
    while waiting:
        new = set(pairs.get(waiting.pop(), ())) - parts
        parts |= new
        waiting += new
    return parts


def _merges(model: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the pairs of tokens that are joined, of a file in the older or the newer form."""
    for merge in model["merges"]:
        left, right = merge.split(" ") if isinstance(merge, str) else merge
        yield left, right


def _write(checkpoint: Checkpoint, kept: Sequence[int], target: Path) -> None:
    """Write a checkpoint of which the tokens `kept` are left, with ids from 0 in the same order."""
    for path in files.weights(checkpoint.path):
        _write_weights(path, checkpoint.architecture.vocabulary, kept, target / path.name)
    for index in checkpoint.path.glob("*.index.json"):
        shutil.copy(index, target)
    ids = {token: new for new, token in enumerate(kept)}
    tokenizer = Tokenizer(checkpoint.path / TOKENIZER)
    own = {
        "vocab_size": len(kept),
        "decoder_start_token_id": ids[tokenizer.start_of_transcript],
        # What a configuration leaves out would be an id of the whole vocabulary.
        **dict.fromkeys(_ENDS, ids[tokenizer.end_of_text]),
    }
    written = {
        TOKENIZER: _cut_tokenizer(read_json(checkpoint.path / TOKENIZER), ids),
        CONFIG: _renumbered(checkpoint.config(), ids) | own,
        GENERATION: _renumbered(read_json(checkpoint.path / GENERATION), ids),
    }
    for name, content in written.items():
        (target / name).write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")


def _write_weights(path: Path, vocabulary: int, kept: Sequence[int], target: Path) -> None:
    """Write a file of weights with the rows `kept` of the token embedding and the output layer."""
    from safetensors.torch import load_file, save_file

    tensors = load_file(path)
    for name in (name for name in tensors if name.endswith(_OF_TOKENS)):
        if len(tensors[name]) != vocabulary:
            raise CheckpointError(
                f"{path}: {name} has {len(tensors[name])} rows, and config.json has vocab_size = "
                f"{vocabulary}. Save the checkpoint again."
            )
        tensors[name] = tensors[name][list(kept)]
    save_file(tensors, target, metadata={"format": "pt"})


def _cut_tokenizer(content: dict[str, Any], ids: Mapping[int, int]) -> dict[str, Any]:
    """Return a tokenizer.json of the tokens that have a new id in `ids`.

    Without its template of special tokens, which transformers sets by language and task.
    """
    model = content["model"]
    vocab = {piece: ids[token] for piece, token in model["vocab"].items() if token in ids}
    merges = [pair for pair in _merges(model) if vocab.keys() >= {*pair, "".join(pair)}]
    added = [
        entry | {"id": ids[entry["id"]]} for entry in content["added_tokens"] if entry["id"] in ids
    ]
    return content | {
        "model": model | {"vocab": vocab, "merges": merges},
        "added_tokens": added,
        "post_processor": None,
    }


def _renumbered(content: dict[str, Any], ids: Mapping[int, int]) -> dict[str, Any]:
    """Return a configuration with new ids; lists and tables lose those of tokens that were cut.

    Without `forced_decoder_ids`, an older form of language and task.
    """
    return {
        key: _new_ids(value, ids) if _IDS.fullmatch(key) else value
        for key, value in content.items()
        if key != "forced_decoder_ids"
    }


def _new_ids(value: Any, ids: Mapping[int, int]) -> Any:
    if isinstance(value, dict):
        return {name: ids[token] for name, token in value.items() if token in ids}
    if isinstance(value, list):
        return [ids[token] for token in value if token in ids]
    return ids.get(value)
