"""Whisper's vocabulary: token ids to text and the forced prompt, without a tokenizer library."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from heapq import heappop, heappush
from pathlib import Path
from typing import Any

import numpy as np

from edgewhisper_runtime import bundle
from edgewhisper_runtime.errors import BundleError, EdgeWhisperError

_LARGEST_FILE = 32 * 2**20  # bytes
_LARGEST_ID = 2**20
_LONGEST_PIECE = 1024  # characters
_TIMESTAMP = re.compile(r"<\|\d+\.\d\d\|>")
_WORD = re.compile(r"\w")
_LANGUAGE = re.compile(r"<\|([a-z]{2,3})\|>")
# GPT-2's pieces of a text, by the class of each character: letters, numbers, space, the rest.
_PIECE = re.compile(r"_?L+|_?N+|_?P+|[_S]+(?![LNP])|[_S]+")
_CONTRACTION = re.compile(r"'(?:s|t|re|ve|m|ll|d)")
_GPT2_TOKENS = 50256  # of text, in an English-only vocabulary; a multilingual one has one more


@dataclass(frozen=True)
class _AddedToken:
    """An entry of `added_tokens`; the flags say where it matches, and which spaces it takes."""

    id: int
    content: str
    special: bool
    single_word: bool
    lstrip: bool
    rstrip: bool


class Tokenizer:
    """Decodes byte-level BPE ids and knows Whisper's special tokens.

    Reads the Hugging Face `tokenizer.json`. Special tokens are the timestamps and those that the
    file marks as special; other tokens that were added to the vocabulary are text.
    Raises BundleError for a file that is no Whisper tokenizer.
    """

    def __init__(self, path: Path) -> None:
        content = bundle.read_json(path, _LARGEST_FILE)
        try:
            added = [_added_token(entry) for entry in content["added_tokens"]]
            special = {token.content: token.id for token in added}
            self.end_of_text = special["<|endoftext|>"]
            self.start_of_transcript = special["<|startoftranscript|>"]
            self.start_of_previous = special["<|startofprev|>"]
            self.no_timestamps = special["<|notimestamps|>"]
            self.tasks = {name: special[f"<|{name}|>"] for name in ("transcribe", "translate")}
            pieces = _pieces_by_id(content["model"]["vocab"], self.end_of_text)
            # One string instead of 50,000: a tenth of the memory.
            self._text = "".join(pieces).translate(_bytes_of_characters()).encode("latin-1")
            if len({piece for piece in pieces if len(piece) == 1}) < 256:  # noqa: PLR2004 # bytes
                raise ValueError("some byte has no piece of its own")
            if self.end_of_text >= min(
                self.start_of_transcript, self.start_of_previous, *self.tasks.values()
            ) or self.no_timestamps < max(self.start_of_transcript, *self.tasks.values()):
                raise ValueError("its special tokens are not in Whisper's order")
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise BundleError(
                f"{path} is not a Whisper tokenizer ({error!r}). Build again."
            ) from error
        # Not every tokenizer.json lists the 1501 timestamps, or calls silence by the same name.
        self.first_timestamp = self.no_timestamps + 1
        self.no_speech = self.no_timestamps - 1
        first_task = min(self.tasks.values())
        self.languages = {
            match[1]: token
            for name, token in special.items()
            if (match := _LANGUAGE.fullmatch(name))
            and self.start_of_transcript < token < first_task
            and self.end_of_text != _GPT2_TOKENS  # whose languages were never trained
        }
        self._bounds = np.cumsum([0, *map(len, pieces)], dtype=np.uint32)
        ordinary = [
            token
            for token in added
            if not (token.special or _TIMESTAMP.fullmatch(token.content))
            and not self.end_of_text <= token.id <= self.no_timestamps
        ]
        self._added = {token.content: token for token in ordinary}
        self._added_pieces = {token.id: token.content.encode() for token in ordinary}

    @property
    def multilingual(self) -> bool:
        """Whether a transcript begins with its language; else the model only knows English."""
        return bool(self.languages)

    @property
    def only_language(self) -> str | None:
        """The language of every text, where there is no other; None where it can be detected."""
        if not self.multilingual:
            return "en"
        return next(iter(self.languages)) if len(self.languages) == 1 else None

    def piece(self, token: int) -> bytes:
        """Return the bytes that an id stands for; none for a special token."""
        if token >= self.end_of_text:
            return self._added_pieces.get(token, b"")
        return self._text[self._bounds[token] : self._bounds[token + 1]]

    def decode(self, tokens: Iterable[int]) -> str:
        """Return the text of the ids, special tokens left out, broken UTF-8 replaced by U+FFFD."""
        return b"".join(map(self.piece, tokens)).decode("utf-8", "replace")

    def encode(self, text: str) -> list[int]:
        """Return the same ids for a text as the tokenizers library, without special tokens.

        Added tokens are matched first, the longest at each place; the rest is GPT-2's byte-pair
        encoding.
        """
        ids: list[int] = []
        begin = 0
        for start, end, token in self._find_added(text):
            ids += self._encode_plain(text[begin:start])
            ids.append(token)
            begin = end
        return ids + self._encode_plain(text[begin:])

    def _find_added(self, text: str) -> Iterator[tuple[int, int, int]]:
        """Yield start, end and id of each added token in a text, with the spaces that it takes."""
        lengths = sorted({len(content) for content in self._added}, reverse=True)
        first_characters = {content[0] for content in self._added}
        at = done = 0
        while at < len(text):
            token = None
            if text[at] in first_characters:
                spellings = (text[at : at + length] for length in lengths)
                token = next((self._added[s] for s in spellings if s in self._added), None)
            if token is None:
                at += 1
                continue
            start, end = at, at + len(token.content)
            at = end
            around = text[max(start - 1, 0) : start] + text[end : end + 1]
            if token.single_word and _WORD.search(around):
                continue
            if token.lstrip:
                start = max(done, len(text[:start].rstrip()))
            if token.rstrip:
                end += len(text[end:]) - len(text[end:].lstrip())
            yield start, end, token.id
            done = end

    def _encode_plain(self, text: str) -> list[int]:
        pieces = (piece.encode(errors="replace") for piece in _pieces(text))
        return [token for piece in pieces for token in self._join(piece)]

    def _join(self, piece: bytes) -> list[int]:
        """Return the ids of the tokens of a piece, in n log n time for n bytes.

        Neighbouring parts that make a token are joined, the lowest id first: ids are in the order
        in which pairs were joined in training.
        """
        ranks, length = self._ranks, len(piece)
        ends = list(range(1, length + 1))  # of the part that begins at each byte; 0: none does
        starts = list(range(-1, length))  # of the part that ends before each byte; -1: none does
        joins: list[tuple[int, int, int, int]] = []

        def consider(left: int) -> None:
            if left >= 0 and (middle := ends[left]) < length:
                right = ends[middle]
                if (rank := ranks.get(piece[left:right])) is not None:
                    heappush(joins, (rank, left, middle, right))

        for left in range(length):
            consider(left)
        while joins:
            _, left, middle, right = heappop(joins)
            if ends[left] == middle and ends[middle] == right:
                ends[left], ends[middle], starts[right] = right, 0, left
                consider(starts[left])
                consider(left)
        return [ranks[piece[start:end]] for start, end in enumerate(ends) if end]

    @cached_property
    def _ranks(self) -> dict[bytes, int]:
        return {self.piece(token): token for token in range(self.end_of_text)}

    def prompt(
        self, language: str, task: str = "transcribe", timestamps: bool = False
    ) -> list[int]:
        """Return the forced tokens at the start of every transcript.

        `language` is a code such as "en". Raises EdgeWhisperError for a language or task that
        the model does not have.
        """
        last = [] if timestamps else [self.no_timestamps]
        if not self.multilingual:
            if language != "en" or task != "transcribe":
                raise EdgeWhisperError(
                    f"this model only transcribes English; {task} from {language!r} needs a "
                    "multilingual one, such as whisper-base."
                )
            return [self.start_of_transcript, *last]
        if language not in self.languages:
            raise EdgeWhisperError(
                f"this model does not have the language {language!r}. Use one of: "
                f"{', '.join(sorted(self.languages))}."
            )
        if task not in self.tasks:
            raise EdgeWhisperError(f"unknown task {task!r}. Use one of: {', '.join(self.tasks)}.")
        if task == "translate" and "en" not in self.languages:
            raise EdgeWhisperError(
                "a translation is in English, and this model's vocabulary was cut to "
                f"{', '.join(sorted(self.languages))}. Transcribe, or use a bundle with English."
            )
        return [self.start_of_transcript, self.languages[language], self.tasks[task], *last]


def _added_token(entry: dict[str, Any]) -> _AddedToken:
    """Return an entry of `added_tokens`; raise ValueError or KeyError if it is malformed."""
    token, content = entry["id"], entry["content"]
    if type(token) is not int or not 0 <= token <= _LARGEST_ID:
        raise ValueError(f"an added token has the id {str(token)[:20]}")
    if not isinstance(content, str) or not 0 < len(content) <= _LONGEST_PIECE:
        raise ValueError(f"the added token {token} has no usable content")
    content.encode()  # lone surrogates are a ValueError
    flags = (entry.get(name) is True for name in ("special", "single_word", "lstrip", "rstrip"))
    return _AddedToken(token, content, *flags)


def _pieces_by_id(vocabulary: dict[str, int], count: int) -> list[str]:
    """Return the pieces of the first ids; raise ValueError where one is missing or too long."""
    pieces: list[str | None] = [None] * count
    for piece, token in vocabulary.items():
        if type(token) is not int or not 0 <= token <= _LARGEST_ID:
            raise ValueError(f"a piece has the id {str(token)[:20]}")
        if len(piece) > _LONGEST_PIECE:
            raise ValueError(f"the piece {token} is {len(piece)} characters long")
        if token < count:
            pieces[token] = piece
    whole = [piece for piece in pieces if piece is not None]
    if len(whole) < count:
        raise ValueError(f"{count - len(whole)} of {count} pieces are missing")
    return whole


def _pieces(text: str) -> Iterator[str]:
    """Split a text where no token may reach across; spaces go with what follows them."""
    classes = "".join(map(_class, text))
    at = 0
    while at < len(text):
        match = _CONTRACTION.match(text, at) or _PIECE.match(classes, at)
        end = match.end() if match else at + 1
        yield text[at:end]
        at = end


def _class(character: str) -> str:
    """Return L, N, S or P by Unicode's category, and _ for the space itself."""
    if character == " ":
        return "_"
    if character.isspace():
        return "S"
    category = unicodedata.category(character)[0]
    return category if category in "LN" else "P"


def _bytes_of_characters() -> dict[int, int]:
    """Return the byte that byte-level BPE writes as each character (GPT-2's mapping).

    Printable Latin-1 characters stand for themselves. The 68 other bytes are written as U+0100 and
    the characters after it, so that their own characters stand for no byte.
    """
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = [byte for byte in range(256) if byte not in printable]
    none = dict.fromkeys(others, 0x100)
    return none | {256 + n: byte for n, byte in enumerate(others)}
