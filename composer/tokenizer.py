"""Text to ids and back. No torch here."""

from collections.abc import Sequence
from typing import Protocol


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
