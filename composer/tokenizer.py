"""Tokenizers: text to ids and back. Does not import torch."""

import ast
import importlib.util
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Literal, Protocol, runtime_checkable

from composer.errors import ConfigError, PluginError
from composer.prompt import Piece

TokenizerSpec = Literal["bytes", "world"] | Sequence[str]
"""A tokenizer in a recipe; a list of words is the byte tokenizer plus these words."""

WORLD_FILE = "rwkv_vocab_v20230424.txt"


class Tokenizer(Protocol):
    """Interface of tokenizers."""

    @property
    def vocab_size(self) -> int:
        """The highest id plus one."""

    @property
    def end_id(self) -> int:
        """The id that ends a text."""

    def encode(self, text: str) -> list[int]:
        """Encode text without adding begin or end tokens and without parsing names of special tokens."""

    def decode(self, ids: Sequence[int]) -> str:
        """Decode ids; bytes that are not UTF-8 become U+FFFD."""


@runtime_checkable
class PieceTokenizer(Tokenizer, Protocol):
    """A tokenizer with special tokens, which it parses only in the marks of a template."""

    def encode_pieces(self, pieces: Sequence[Piece]) -> list[list[int]]:
        """Encode the pieces of a prompt, media as []. Joined, the ids are those of the prompt as one text."""


def encode_pieces(tokenizer: Tokenizer, pieces: Sequence[Piece]) -> list[list[int]]:
    """Encode the pieces of a prompt, media as []."""
    if isinstance(tokenizer, PieceTokenizer):
        return tokenizer.encode_pieces(pieces)
    return [tokenizer.encode(piece.content) if isinstance(piece.content, str) else [] for piece in pieces]


class GreedyTokenizer:
    """Tokenizer that takes the longest vocabulary entry at each position of the text's bytes (as RWKV World).

    Id 0 ends a text and decodes to nothing; an id without an entry decodes to U+FFFD.

    Args:
        vocabulary: Bytes by id, ids from 1, with all 256 single bytes, so that every text can be encoded.

    Raises:
        ConfigError: If an id is below 1 or a byte is missing.
    """

    end_id = 0

    def __init__(self, vocabulary: Mapping[int, bytes]) -> None:
        self._entries = dict(vocabulary)
        self._ids = {entry: i for i, entry in vocabulary.items()}
        missing = [byte for byte in range(256) if bytes([byte]) not in self._ids]
        if missing or min(self._entries) < 1:
            raise ConfigError(
                f"tokenizer: got a vocabulary with ids from {min(self._entries, default=0)} and {len(missing)} bytes "
                "missing, expected ids from 1 and all 256 single bytes"
            )
        self.vocab_size = max(self._entries) + 1
        # Only few lengths occur after a given pair of bytes, so they are tried in turn, longest first, without a trie.
        lengths: dict[bytes, set[int]] = {}
        for entry in self._ids:
            if len(entry) > 1:
                lengths.setdefault(entry[:2], set()).add(len(entry))
        self._lengths = {pair: tuple(sorted(options, reverse=True)) for pair, options in lengths.items()}

    def encode(self, text: str) -> list[int]:
        source = text.encode()
        ids, start = [], 0
        while start < len(source):
            for length in self._lengths.get(source[start : start + 2], ()):
                token = self._ids.get(source[start : start + length])
                if token is not None:
                    break
            else:
                token, length = self._ids[source[start : start + 1]], 1
            ids.append(token)
            # The last slice may be shorter than `length`; it ends the text.
            start += length
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        # 0xFF never occurs in UTF-8, so it always decodes to U+FFFD.
        entries = (self._entries.get(i, b"\xff") for i in ids if i != self.end_id)
        return b"".join(entries).decode(errors="replace")


class WorldTokenizer(GreedyTokenizer):
    """RWKV World's tokenizer. If the package pyrwkv_tokenizer is installed, it encodes, about 25 times faster."""

    def __init__(self) -> None:
        super().__init__(_world_vocabulary())

    def encode(self, text: str) -> list[int]:
        fast = _fast_world()
        return super().encode(text) if fast is None else fast.encode(text)


class TextStream:
    """Decodes ids one by one to complete characters. The joined pieces are equal to `decode` of all ids."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._decode = tokenizer.decode
        self._context: list[int] = []
        self._pending: list[int] = []

    def push(self, token: int) -> str:
        """Add an id. Returns the text that it completes, "" if its bytes are not yet a complete character."""
        self._pending.append(token)
        text = self._text()
        return "" if text.endswith("\ufffd") else self._release(text)

    def flush(self) -> str:
        """Return the pending text at the end; an incomplete character is U+FFFD."""
        return self._release(self._text())

    def _text(self) -> str:
        # Some tokenizers drop a text's leading space, so the previous ids are the context.
        return self._decode(self._context + self._pending)[len(self._decode(self._context)) :]

    def _release(self, text: str) -> str:
        self._context, self._pending = self._pending or self._context, []
        return text


def tokenizer_from(spec: TokenizerSpec) -> GreedyTokenizer:
    """Make the tokenizer of a recipe's `prompt.tokenizer`.

    Args:
        spec: "bytes": ids 1 to 256 are the bytes. A list of words: ids from 257 are these words, each as given and,
            unless it starts with white space, also with a space before it. "world": RWKV World's 65,529 entries.

    Raises:
        ConfigError: If the name is unknown or a word is empty.
        PluginError: If World's vocabulary file is not installed.
    """
    if spec == "world":
        return WorldTokenizer()
    if spec == "bytes":
        return GreedyTokenizer(_with_words(()))
    if isinstance(spec, str):
        raise ConfigError(f"prompt.tokenizer: got {spec!r}, expected 'bytes', 'world' or a list of words")
    return GreedyTokenizer(_with_words(spec))


def _with_words(words: Sequence[str]) -> dict[int, bytes]:
    """The 256 bytes, then the words; a duplicate gets no second id."""
    entries = {bytes([byte]): byte + 1 for byte in range(256)}
    for word in words:
        if not word:
            raise ConfigError("prompt.tokenizer: got an empty word, expected text: remove it")
        for variant in (word,) if word[0].isspace() else (word, " " + word):
            entries.setdefault(variant.encode(), len(entries) + 1)
    return {i: entry for entry, i in entries.items()}


class _Encoder(Protocol):
    def encode(self, text: str) -> list[int]: ...


@cache
def _fast_world() -> _Encoder | None:
    """The encoder of pyrwkv_tokenizer (Rust, Apache-2.0); None if it is not installed.

    It is not used to decode: incomplete characters and ids without an entry make it stop the process.
    """
    try:
        from pyrwkv_tokenizer import RWKVTokenizer
    except ImportError:
        return None
    encoder: _Encoder = RWKVTokenizer()
    return encoder


@cache
def _world_vocabulary() -> Mapping[int, bytes]:
    """The vocabulary file of the `rwkv` package (Apache-2.0): lines of id, Python literal, length in bytes."""
    # find_spec runs none of the package's code, which compiles extensions and evaluates the file as Python.
    package = importlib.util.find_spec("rwkv")
    folders = (package.submodule_search_locations or ()) if package else ()
    path = next((file for folder in folders if (file := Path(folder, WORLD_FILE)).is_file()), None)
    if path is None:
        raise PluginError(
            f"the RWKV World tokenizer needs {WORLD_FILE} of the package 'rwkv', which is not installed: "
            "run `pip install rwkv`, or set prompt.tokenizer to 'bytes' or a list of words"
        )
    entries = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        number, _, rest = line.partition(" ")
        entry = ast.literal_eval(rest[: rest.rindex(" ")])
        entries[int(number)] = entry.encode() if isinstance(entry, str) else entry
    return entries
