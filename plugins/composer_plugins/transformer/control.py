"""Control tokens, whose names must not be parsed in the content of prompts."""

import re
from collections.abc import Iterable
from typing import Any


def control_tokens(tokenizer: Any) -> dict[str, tuple[int, Any]]:
    """Return the control tokens: special tokens, and added tokens that the chat template contains.

    Other added tokens (runs of spaces, HTML tags) are part of ordinary text.

    Args:
        tokenizer: Tokenizer of transformers.

    Returns:
        Id and token by name.
    """
    template = str(tokenizer.chat_template or "")
    return {
        token.content: (i, token)
        for i, token in tokenizer.added_tokens_decoder.items()
        if token.special or (token.content in template and token.content.strip())
    }


def names_pattern(names: Iterable[str]) -> re.Pattern[str]:
    """Compile a pattern that matches any of the names, longer ones first."""
    return re.compile("|".join(re.escape(name) for name in sorted(names, key=len, reverse=True)) or r"(?!)")


def break_name(name: re.Match[str]) -> str:
    """Insert a space after the first letter of a name, so that it is not parsed as a token."""
    return f"{name[0][0]} {name[0][1:]}"
