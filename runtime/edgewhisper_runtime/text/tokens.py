"""Whisper's vocabulary: token ids to text and the forced prompt, without a tokenizer library."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterable, Iterator
from functools import cached_property
from heapq import heappop, heappush
from pathlib import Path

import numpy as np

from edgewhisper_runtime.errors import BundleError, EdgeWhisperError

_LANGUAGE = re.compile(r"<\|([a-z]{2,3})\|>")
# GPT-2's pieces of a text, by the class of each character: letters, numbers, space, the rest.
_PIECE = re.compile(r"_?L+|_?N+|_?P+|[_S]+(?![LNP])|[_S]+")
_CONTRACTION = re.compile(r"'(?:s|t|re|ve|m|ll|d)")
_ENGLISH_ONLY_END_OF_TEXT = 50256  # multilingual vocabularies have one more text token


class Tokenizer:
    """Decodes byte-level BPE ids and knows Whisper's special tokens.

    Reads the Hugging Face `tokenizer.json`. Raises BundleError when it is not Whisper's.
    """

    def __init__(self, path: Path) -> None:
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            special = {t["content"]: int(t["id"]) for t in content["added_tokens"]}
            self.end_of_text = special["<|endoftext|>"]
            self.start_of_transcript = special["<|startoftranscript|>"]
            self.start_of_previous = special["<|startofprev|>"]
            self.no_timestamps = special["<|notimestamps|>"]
            self.tasks = {name: special[f"<|{name}|>"] for name in ("transcribe", "translate")}
            pieces = [""] * self.end_of_text
            for piece, token in content["model"]["vocab"].items():
                if 0 <= token < self.end_of_text:
                    pieces[token] = piece
            # One string instead of 50,000: a tenth of the memory.
            self._text = "".join(pieces).translate(_bytes_of_characters()).encode("latin-1")
        except (ValueError, KeyError, TypeError, AttributeError, OSError) as error:
            raise BundleError(
                f"{path} is not a Whisper tokenizer ({error!r}). Build again."
            ) from error
        # Not every tokenizer.json lists the 1501 timestamps, or calls silence by the same name.
        self.first_timestamp = self.no_timestamps + 1
        self.no_speech = self.no_timestamps - 1
        self.multilingual = self.end_of_text != _ENGLISH_ONLY_END_OF_TEXT
        first_task = min(self.tasks.values())
        self.languages = {
            match[1]: token
            for content, token in special.items()
            if (match := _LANGUAGE.fullmatch(content))
            and self.start_of_transcript < token < first_task
        }
        self._bounds = np.cumsum([0, *map(len, pieces)], dtype=np.uint32)

    def piece(self, token: int) -> bytes:
        """Return the bytes that an id stands for; none for a special token."""
        if token >= self.end_of_text:
            return b""
        return self._text[self._bounds[token] : self._bounds[token + 1]]

    def decode(self, tokens: Iterable[int]) -> str:
        """Return the text of the ids, special tokens left out, broken UTF-8 replaced by U+FFFD."""
        return b"".join(map(self.piece, tokens)).decode("utf-8", "replace")

    def encode(self, text: str) -> list[int]:
        """Return the ids of a text, as GPT-2's byte-pair encoding has it; no special tokens."""
        pieces = (piece.encode(errors="replace") for piece in _pieces(text))
        return [token for piece in pieces for token in self._join(piece)]

    def _join(self, piece: bytes) -> list[int]:
        """Return the ids that the bytes of a piece are joined to, in n log n time for n bytes.

        Of all neighbours that make a token, those join first whose token has the lowest id: ids
        are in the order in which pairs were joined in training.
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
        """Return the tokens that every transcript is forced to begin with.

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
                f"unknown language {language!r}. Use one of: {', '.join(sorted(self.languages))}."
            )
        if task not in self.tasks:
            raise EdgeWhisperError(f"unknown task {task!r}. Use one of: {', '.join(self.tasks)}.")
        return [self.start_of_transcript, self.languages[language], self.tasks[task], *last]


def _pieces(text: str) -> Iterator[str]:
    """Split a text where no token may reach across; spaces go with what follows them."""
    classes = "".join(map(_class, text))
    at = 0
    while at < len(text):
        found = _CONTRACTION.match(text, at) or _PIECE.match(classes, at)
        end = found.end() if found else at + 1
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

    Printable Latin-1 stands for itself; the 68 other bytes follow from U+0100 on, and are no byte
    as they are.
    """
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = [byte for byte in range(256) if byte not in printable]
    none = dict.fromkeys(others, 0x100)
    return none | {256 + n: byte for n, byte in enumerate(others)}
