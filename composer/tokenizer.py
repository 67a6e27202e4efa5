"""Text to ids and back. No torch here."""

import ast
import importlib.util
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

from composer.errors import ConfigError, PluginError
from composer.prompt import Piece

TokenizerSpec = Literal["bytes", "world"] | Sequence[str]
"""How a recipe names a tokenizer; a list of words is the byte tokenizer plus these words."""

WORLD_FILE = "rwkv_vocab_v20230424.txt"


class Tokenizer(Protocol):
    """What composer asks of a tokenizer.

    vocab_size: one more than the highest id. end_id: the id that ends a text.
    """

    @property
    def vocab_size(self) -> int: ...

    @property
    def end_id(self) -> int: ...

    def encode(self, text: str) -> list[int]:
        """Ids of the text alone: no begin or end mark is added, and no text is read as a special token's name."""

    def decode(self, ids: Sequence[int]) -> str:
        """Text of the ids; bytes that are not UTF-8 become U+FFFD."""


@runtime_checkable
class PieceTokenizer(Tokenizer, Protocol):
    """A tokenizer with special tokens, which it reads in the marks of a template and nowhere else."""

    def encode_pieces(self, pieces: Sequence[Piece]) -> list[list[int]]:
        """Ids of each piece of one prompt, none for media; together they are the ids of the prompt as one text."""


def encode_pieces(tokenizer: Tokenizer, pieces: Sequence[Piece]) -> list[list[int]]:
    """Ids of each piece of one prompt, none for media."""
    if isinstance(tokenizer, PieceTokenizer):
        return tokenizer.encode_pieces(pieces)
    return [tokenizer.encode(piece.content) if isinstance(piece.content, str) else [] for piece in pieces]


class GreedyTokenizer:
    """At every place the longest entry of the vocabulary that matches the text's bytes (RWKV World's rule).

    vocabulary: id -> bytes, ids from 1; it holds all 256 single bytes, so that every text has ids. Id 0 ends a text
    and decodes to nothing; an id without an entry decodes to U+FFFD.
    """

    end_id = 0

    def __init__(self, vocabulary: Mapping[int, bytes]) -> None:
        self._entries = dict(vocabulary)
        self._ids = {entry: i for i, entry in vocabulary.items()}
        missing = [byte for byte in range(256) if bytes([byte]) not in self._ids]
        if missing or min(self._entries) < 1:
            raise ConfigError(
                f"A vocabulary needs ids from 1 and all 256 single bytes: got ids from {min(self._entries, default=0)}"
                f", {len(missing)} bytes missing."
            )
        self.vocab_size = max(self._entries) + 1
        # Few lengths occur after a given pair of bytes, so trying those alone, longest first, needs no trie.
        lengths: dict[bytes, set[int]] = {}
        for entry in self._ids:
            if len(entry) > 1:
                lengths.setdefault(entry[:2], set()).add(len(entry))
        self._lengths = {pair: tuple(sorted(found, reverse=True)) for pair, found in lengths.items()}

    def encode(self, text: str) -> list[int]:
        source = text.encode()
        found, place = [], 0
        while place < len(source):
            for length in self._lengths.get(source[place : place + 2], ()):
                token = self._ids.get(source[place : place + length])
                if token is not None:
                    break
            else:
                token, length = self._ids[source[place : place + 1]], 1
            found.append(token)
            # The last slice may be shorter than `length`, and then ends the text.
            place += length
        return found

    def decode(self, ids: Sequence[int]) -> str:
        # 0xFF occurs nowhere in UTF-8, so it always decodes to U+FFFD.
        entries = (self._entries.get(i, b"\xff") for i in ids if i != self.end_id)
        return b"".join(entries).decode(errors="replace")


class WorldTokenizer(GreedyTokenizer):
    """RWKV World's tokenizer; the package pyrwkv_tokenizer encodes, some 25 times faster, where it is installed."""

    def __init__(self) -> None:
        super().__init__(_world_vocabulary())

    def encode(self, text: str) -> list[int]:
        fast = _fast_world()
        return super().encode(text) if fast is None else fast.encode(text)


class TextStream:
    """Ids in, one by one; text out as soon as it is whole characters. The pieces join to `decode` of all ids."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._decode = tokenizer.decode
        self._said: list[int] = []
        self._held: list[int] = []

    def push(self, token: int) -> str:
        """The text that this id completes, "" while its bytes are not yet a whole character."""
        self._held.append(token)
        text = self._text()
        return "" if text.endswith("\ufffd") else self._release(text)

    def flush(self) -> str:
        """What is held back at the end: an unfinished character as U+FFFD."""
        return self._release(self._text())

    def _text(self) -> str:
        # Some tokenizers drop a text's leading space, so the ids before it give the context.
        return self._decode(self._said + self._held)[len(self._decode(self._said)) :]

    def _release(self, text: str) -> str:
        self._said, self._held = self._held or self._said, []
        return text


def tokenizer_from(spec: TokenizerSpec) -> GreedyTokenizer:
    """The tokenizer that a recipe's `prompt.tokenizer` names.

    "bytes": ids 1 to 256 are the bytes. A list of words: ids from 257 are these words, each as given and, unless it
    starts with white space, once more with a space before it. "world": RWKV World's 65,529 entries.
    Raises ConfigError on another name or an empty word, PluginError where World's vocabulary file is not installed.
    """
    if spec == "world":
        return WorldTokenizer()
    if spec == "bytes":
        return GreedyTokenizer(_with_words(()))
    if isinstance(spec, str):
        raise ConfigError(f"prompt.tokenizer: got {spec!r}, expected 'bytes', 'world' or a list of words.")
    return GreedyTokenizer(_with_words(spec))


def _with_words(words: Sequence[str]) -> dict[int, bytes]:
    """The 256 bytes, then the words; an entry that is there already gets no second id."""
    entries = {bytes([byte]): byte + 1 for byte in range(256)}
    for word in words:
        if not word:
            raise ConfigError("prompt.tokenizer: got an empty word: remove it.")
        for variant in (word,) if word[0].isspace() else (word, " " + word):
            entries.setdefault(variant.encode(), len(entries) + 1)
    return {i: entry for entry, i in entries.items()}


@cache
def _fast_world() -> Any:
    """The encoder of pyrwkv_tokenizer (Rust, Apache-2.0), None where it is not installed.

    It decodes neither unfinished characters nor ids without an entry (it stops the process), so it only encodes.
    """
    try:
        from pyrwkv_tokenizer import RWKVTokenizer
    except ImportError:
        return None
    return RWKVTokenizer()


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
