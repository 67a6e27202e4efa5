"""Encoding of prompts with a tokenizer of transformers in Python, which returns no offsets."""

from collections.abc import Iterator, Sequence
from itertools import groupby, pairwise
from typing import Any, NamedTuple

from composer.prompt import Piece
from composer_plugins.transformer.control import break_name, control_tokens, names_pattern


class Unit(NamedTuple):
    """Part of a prompt.

    Attributes:
        place: Index of its piece.
        text: Its text.
        token: Id of an added token, -1 for media, None for text.
        loss: Whether its piece is trained on.
    """

    place: int
    text: str
    token: int | None
    loss: bool


class Sections:
    """Encoder of prompts: encodes the text between two added tokens jointly, split where loss starts and ends."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        control = control_tokens(tokenizer)
        self._added = {token.content: (i, token) for i, token in tokenizer.added_tokens_decoder.items()}
        self._names = names_pattern(self._added)
        self._plain_names = names_pattern(name for name in self._added if name not in control)
        # Some tokenizers parse a name even with split_special_tokens; there a space is inserted.
        self._words = names_pattern(name for name, (i, _) in control.items() if self._ids(name)[-1:] == [i])

    def encode(self, pieces: Sequence[Piece]) -> list[list[int]]:
        """Return the ids of each piece."""
        result: list[list[int]] = [[] for _ in pieces]
        for is_text, group in groupby(self._units(pieces), key=lambda unit: unit.token is None):
            units = list(group)
            if is_text:
                zones = [list(zone) for _, zone in groupby(units, key=lambda unit: unit.loss)]
                texts = ["".join(unit.text for unit in zone) for zone in zones]
                for zone, ids in zip(zones, self._split(texts), strict=True):
                    result[zone[0].place] += ids
            else:
                for unit in units:
                    result[unit.place] += [unit.token] if unit.token is not None and unit.token >= 0 else []
        return result

    def _units(self, pieces: Sequence[Piece]) -> Iterator[Unit]:
        """Split pieces at added tokens."""
        for place, piece in enumerate(pieces):
            if not isinstance(piece.content, str):
                yield Unit(place, "", -1, False)
                continue
            text = piece.content if piece.mark else self._words.sub(break_name, piece.content)
            names = self._names if piece.mark else self._plain_names
            start = 0
            for match in names.finditer(text):
                before, (i, token) = text[start : match.start()], self._added[match[0]]
                yield Unit(place, before.rstrip() if token.lstrip else before, None, piece.loss)
                yield Unit(place, match[0], i, piece.loss)
                start = match.end() + (len(text[match.end() :]) - len(text[match.end() :].lstrip())) * token.rstrip
            yield Unit(place, text[start:], None, piece.loss)

    def _split(self, texts: list[str]) -> list[list[int]]:
        """Return the ids of the joint text, split between the texts; of each text alone if a token spans two texts."""
        joint, heads = self._ids("".join(texts)), [list[int]()]
        for end in range(1, len(texts)):
            heads.append(self._ids("".join(texts[:end])))
            if joint[: len(heads[-1])] != heads[-1]:
                return [self._ids(text) for text in texts]
        return [ids[len(before) :] for before, ids in pairwise([*heads, joint])]

    def _ids(self, text: str) -> list[int]:
        return self._tokenizer.encode(text, add_special_tokens=False, split_special_tokens=True) if text else []
