"""Tiny tokenizers of every kind that pretrained language models come with."""

import copy
import json
from functools import cache
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizer, PreTrainedTokenizerFast

TEXT = [
    "User asks what is this ? A cat . [I] hi [/I] the answer is red. <user>\nhi</t>\n<assistant>\n USER: ASSISTANT: x"
]
QWEN = r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
KINDS = ("gpt-2", "qwen", "first", "always", "never", "legacy")
"""Byte-level ones, and SentencePiece's: where a space is put before a text; "legacy" does it in the normalizer."""


def fast(kind: str, bos: str, eos: str, special: tuple[str, ...] = (), added: tuple[str, ...] = ()) -> Any:
    """A fast tokenizer; `added` tokens are not special."""
    made = PreTrainedTokenizerFast(tokenizer_object=copy.deepcopy(_trained(kind)))
    made.add_special_tokens({"bos_token": bos, "eos_token": eos, "extra_special_tokens": list(special)})
    made.add_tokens([AddedToken(name, normalized=False, special=False) for name in added])
    return made


@cache
def _trained(kind: str) -> Tokenizer:
    if kind in ("gpt-2", "qwen"):
        inner = Tokenizer(models.BPE())
        split = pre_tokenizers.Split(Regex(QWEN), "isolated")
        byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=kind == "gpt-2")
        inner.pre_tokenizer = byte_level if kind == "gpt-2" else pre_tokenizers.Sequence([split, byte_level])
        inner.decoder = decoders.ByteLevel()
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        inner.train_from_iterator(TEXT * 9, trainers.BpeTrainer(vocab_size=320, initial_alphabet=alphabet))
        return inner
    words = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    words.train_from_iterator(TEXT * 9, trainers.BpeTrainer(vocab_size=120, special_tokens=["<unk>"]))
    state = json.loads(words.to_str())
    vocabulary = state["model"]["vocab"]
    for byte in range(256):
        vocabulary.setdefault(f"<0x{byte:02X}>", len(vocabulary))
    inner = Tokenizer.from_str(json.dumps(state))
    if kind == "legacy":
        inner.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
        inner.pre_tokenizer = None
    else:
        inner.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=kind, split=False)
    space = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    inner.decoder = decoders.Sequence([*space, *([] if kind == "never" else [decoders.Strip(" ", 1, 0)])])
    return inner


class Slow(PreTrainedTokenizer):
    """A tokenizer in Python: one token per character, and with `prefix` a space before each text, as Llama-2's."""

    def __init__(self, prefix: bool = False, **options: Any) -> None:
        self.prefix = prefix
        self.characters = {chr(i): i for i in range(128)} | {"▁": 128, "<unk>": 129}
        super().__init__(unk_token="<unk>", **options)

    @property
    def vocab_size(self) -> int:
        return len(self.characters)

    def get_vocab(self) -> dict[str, int]:
        return self.characters | self.added_tokens_encoder

    def _tokenize(self, text: str, **kwargs: Any) -> list[str]:
        return list("▁" * self.prefix + text)

    def _convert_token_to_id(self, token: str) -> int:
        return self.characters.get(token, 129)

    def _convert_id_to_token(self, index: int) -> str:
        return {i: name for name, i in self.characters.items()}[index]

    def convert_tokens_to_string(self, tokens: list[str]) -> str:
        return "".join(tokens).replace("▁", "")
