"""The greedy tokenizer against the `rwkv` package's trie, and against a brute force for small vocabularies."""

import importlib.util
import pickle
import random
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from composer import tokenizer as module
from composer.errors import ConfigError, PluginError
from composer.tokenizer import GreedyTokenizer, TextStream, tokenizer_from

SCRIPTS = [
    (0x20, 0x7E), (0xA0, 0x24F), (0x370, 0x3FF), (0x400, 0x4FF), (0x590, 0x5FF), (0x600, 0x6FF), (0x900, 0x97F),
    (0xE00, 0xE7F), (0x1100, 0x11FF), (0x3040, 0x30FF), (0x4E00, 0x9FFF), (0xAC00, 0xD7A3), (0x1F300, 0x1FAFF),
    (0x0, 0x1F), (0x10000, 0x10FFFF), (0xFFF0, 0xFFFF),
]  # fmt: skip
PROSE = "Which way does the red circle move?  \n\n    def f(x):\n\treturn x**2 # 你好，世界 — Москва été 😀👍🏽 नमस्ते "


def random_text(rng: random.Random) -> str:
    if rng.random() < 0.5:
        low, high = rng.choice(SCRIPTS)
        return "".join(chr(rng.randint(low, high)) for _ in range(rng.randint(0, 40)))
    start = rng.randrange(len(PROSE))
    return " " * rng.randint(0, 3) + PROSE[start : start + rng.randint(1, 60)] * rng.randint(1, 3)


@pytest.fixture(scope="module")
def world() -> GreedyTokenizer:
    return tokenizer_from("world")


@pytest.fixture(scope="module")
def reference():
    """The author's tokenizer, loaded alone: the package's other modules compile extensions."""
    folder = Path(importlib.util.find_spec("rwkv").submodule_search_locations[0])
    spec = importlib.util.spec_from_file_location("rwkv_tokenizer", folder / "rwkv_tokenizer.py")
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded.TRIE_TOKENIZER(str(folder / "rwkv_vocab_v20230424.txt"))


def test_world_equals_the_authors_tokenizer_on_many_scripts(world: GreedyTokenizer, reference) -> None:
    """100,000 strings: our reader, the fast encoder and the author's trie."""
    rng = random.Random(0)
    fast = module._fast_world()
    assert fast is not None, "pip install pyrwkv-tokenizer"
    for _ in range(100_000):
        text = random_text(rng)
        ids = GreedyTokenizer.encode(world, text)
        assert ids == reference.encode(text)
        assert ids == fast.encode(text)
        assert world.decode(ids) == text


@pytest.mark.parametrize("installed", [False, True])
def test_world_encodes_with_and_without_the_fast_encoder(
    installed: bool, world: GreedyTokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    class Fast:
        def encode(self, text: str) -> list[int]:
            calls.append(text)
            return GreedyTokenizer.encode(world, text)

    monkeypatch.setattr(module, "_fast_world", lambda: Fast() if installed else None)
    assert world.encode("Hello, world") == GreedyTokenizer.encode(world, "Hello, world")
    assert calls == (["Hello, world"] if installed else [])
    assert pickle.loads(pickle.dumps(world)).encode("\n\n") == [261]


def test_worlds_stream_says_whole_characters_only(world: GreedyTokenizer) -> None:
    """World's entries end inside characters: whatever is said is a prefix of the text, at every id."""
    rng = random.Random(1)
    for _ in range(300):
        text = random_text(rng).replace("\ufffd", "")
        stream, said = TextStream(world), ""
        for token in world.encode(text):
            said += stream.push(token)
            assert text.startswith(said)
        assert said + stream.flush() == text


def test_world_has_the_published_numbers(world: GreedyTokenizer) -> None:
    assert world.vocab_size == 65530
    assert world.end_id == 0
    assert world.encode("\n\n") == [261]
    assert world.encode("") == []


def test_world_without_the_rwkv_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    module._world_vocabulary.cache_clear()
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(PluginError, match="pip install rwkv"):
        tokenizer_from("world")


def longest_match(text: bytes, ids: dict[bytes, int]) -> list[int]:
    """Greedy longest match, by trying every prefix."""
    found = []
    while text:
        longest = max((entry for entry in ids if text.startswith(entry)), key=len)
        found.append(ids[longest])
        text = text[len(longest) :]
    return found


@given(words=st.lists(st.text("abcé \n", min_size=1, max_size=5)), text=st.text("abcé \n", max_size=30))
def test_words_equal_a_brute_force(words: list[str], text: str) -> None:
    tokenizer = tokenizer_from(words)
    entries = {bytes([b]): b + 1 for b in range(256)}
    for word in words:
        for variant in [word] if word[0] in " \n" else [word, f" {word}"]:
            if variant.encode() not in entries:
                entries[variant.encode()] = len(entries) + 1
    assert tokenizer.encode(text) == longest_match(text.encode(), entries)
    assert tokenizer.decode(tokenizer.encode(text)) == text
    assert tokenizer.vocab_size == len(entries) + 1


def test_a_word_is_one_id_at_the_start_and_after_a_space() -> None:
    tokenizer = tokenizer_from(["red", "circle", "What color", "\n\n"])
    assert [tokenizer.decode([i]) for i in tokenizer.encode("What color red circle\n\n")] == [
        "What color", " red", " circle", "\n\n",
    ]  # fmt: skip
    assert tokenizer.vocab_size == 257 + 3 * 2 + 1


def test_bytes_are_their_values_plus_one() -> None:
    tokenizer = tokenizer_from("bytes")
    assert tokenizer.encode("aé") == [98, 0xC3 + 1, 0xA9 + 1]
    assert tokenizer.vocab_size == 257


def test_decode_replaces_what_is_not_utf8() -> None:
    tokenizer = tokenizer_from("bytes")
    assert tokenizer.decode([98, 0xC3 + 1, 98]) == "a\ufffda"
    assert tokenizer.decode([98, 0, 98]) == "aa"
    assert tokenizer.decode([98, 9999]) == "a\ufffd"


def test_a_tokenizer_pickles_to_data_workers() -> None:
    tokenizer = tokenizer_from(["red"])
    assert pickle.loads(pickle.dumps(tokenizer)).encode("a red") == tokenizer.encode("a red")


@given(text=st.text(max_size=20), junk=st.lists(st.integers(0, 256), max_size=6))
def test_stream_pieces_join_to_the_whole_and_are_whole_characters(text: str, junk: list[int]) -> None:
    tokenizer = tokenizer_from("bytes")
    for ids in (tokenizer.encode(text), tokenizer.encode(text) + junk):
        stream = TextStream(tokenizer)
        pieces = [stream.push(i) for i in ids]
        assert "".join(pieces) + stream.flush() == tokenizer.decode(ids)
        assert all(not piece.endswith("\ufffd") for piece in pieces)


def test_stream_says_a_character_as_soon_as_its_last_byte_is_there() -> None:
    stream = TextStream(tokenizer_from("bytes"))
    assert [stream.push(byte + 1) for byte in "a😀b".encode()] == ["a", "", "", "", "😀", "b"]


class DropsLeadingSpace:
    """SentencePiece's habit: the space before a text's first word is not said."""

    vocab_size, end_id = 4, 0
    words = ("", " the", " red", " circle")

    def encode(self, text: str) -> list[int]:
        raise NotImplementedError

    def decode(self, ids) -> str:
        return "".join(self.words[i] for i in ids).removeprefix(" ")


def test_stream_keeps_the_spaces_that_a_tokenizer_drops_at_the_start() -> None:
    stream = TextStream(DropsLeadingSpace())
    assert [stream.push(i) for i in (1, 2, 3)] == ["the", " red", " circle"]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: tokenizer_from("word"), "got 'word'"),
        (lambda: tokenizer_from(["red", ""]), "empty word"),
        (lambda: GreedyTokenizer({1: b"a"}), "255 bytes missing"),
        (lambda: GreedyTokenizer({byte: bytes([byte]) for byte in range(256)}), "ids from 0"),
    ],
)
def test_misuse_is_refused(make: Callable[[], GreedyTokenizer], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make()
