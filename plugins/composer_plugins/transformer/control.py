"""Names of tokens that content must not be read as."""

import re
from collections.abc import Iterable
from typing import Any


def control_tokens(tokenizer: Any) -> dict[str, tuple[int, Any]]:
    """The tokens that content must not spell, by name: special ones, and added ones that the chat template writes.

    Other added tokens (runs of spaces, tags of HTML) are how the model reads ordinary text.
    """
    template = str(tokenizer.chat_template or "")
    return {
        token.content: (i, token)
        for i, token in tokenizer.added_tokens_decoder.items()
        if token.special or (token.content in template and token.content.strip())
    }


def names_pattern(names: Iterable[str]) -> re.Pattern[str]:
    """Finds these names, the longest first."""
    return re.compile("|".join(re.escape(name) for name in sorted(names, key=len, reverse=True)) or r"(?!)")


def break_name(name: re.Match[str]) -> str:
    """The name with a space after its first letter, so that it is no name."""
    return f"{name[0][0]} {name[0][1:]}"
