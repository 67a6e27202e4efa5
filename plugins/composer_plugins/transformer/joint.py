"""Encoding of prompts with a fast tokenizer of transformers."""

import copy
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from typing import Any

from tokenizers import AddedToken

from composer.prompt import Piece
from composer_plugins.transformer.control import break_name, control_tokens, names_pattern

OPEN, CLOSE = "\U0010fffe", "\U0010ffff"
MEDIA_NAME = f"{OPEN}media{CLOSE}"
"""Name with Unicode noncharacters, which are replaced by U+FFFD in texts, so that no text contains it."""


class Joint:
    """Encoder of prompts with a fast tokenizer: ids of the joint text, split between the pieces.

    It uses a copy of the tokenizer that does not parse the names of control tokens. Each of them has an alias, which
    replaces its name in marks only.
    """

    def __init__(self, tokenizer: Any) -> None:
        control = control_tokens(tokenizer)
        self._backend = copy.deepcopy(tokenizer.backend_tokenizer)
        self._backend.no_padding()
        self._backend.no_truncation()
        self._backend.encode_special_tokens = True
        self._backend.add_special_tokens([_copy_token(token.content, token, True) for _, token in control.values()])
        self._aliases = {name: f"{OPEN}{i}{CLOSE}" for name, (i, _) in control.items()}
        aliases = [_copy_token(self._aliases[name], token, False) for name, (_, token) in control.items()]
        self._backend.add_tokens([*aliases, AddedToken(MEDIA_NAME, normalized=False, special=False)])
        self._ids = {self._backend.token_to_id(self._aliases[name]): i for name, (i, _) in control.items()}
        self._media = self._backend.token_to_id(MEDIA_NAME)
        self._names = names_pattern(control)
        # In some models (Unigram) the names are ordinary vocabulary entries too; there a space is inserted.
        self._words = names_pattern(name for name, (i, _) in control.items() if self._is_word(name, i))

    def encode(self, pieces: Sequence[Piece]) -> list[list[int]]:
        """Return the ids of each piece."""
        texts = [self._text(piece) for piece in pieces]
        starts = list(accumulate(map(len, texts), initial=0))
        encoding = self._backend.encode("".join(texts), add_special_tokens=False)
        result: list[list[int]] = [[] for _ in pieces]
        for token, (start, _) in zip(encoding.ids, encoding.offsets, strict=True):
            place = (
                bisect_right(starts, start, hi=len(pieces)) - 1
            )  # a token that spans two pieces belongs to the first
            if token != self._media:
                result[place].append(self._ids.get(token, token))
        return result

    def _text(self, piece: Piece) -> str:
        if not isinstance(piece.content, str):
            return MEDIA_NAME
        text = piece.content.replace(OPEN, "\ufffd").replace(CLOSE, "\ufffd")
        if piece.mark:
            return self._names.sub(lambda match: self._aliases[match[0]], text)
        return self._words.sub(break_name, text)

    def _is_word(self, name: str, i: int) -> bool:
        ids = self._backend.encode(name, add_special_tokens=False).ids
        return len(ids) < 3 and ids[-1:] == [i]


def _copy_token(content: str, token: AddedToken, special: bool) -> AddedToken:
    return AddedToken(content, lstrip=token.lstrip, rstrip=token.rstrip, normalized=token.normalized, special=special)
