"""A pretrained model's own tokenizer and chat template in composer's terms."""

from collections.abc import Sequence
from typing import Any

from composer.prompt import CHATML, WORLD, ChatTemplate

SYSTEM, USER, ANSWER, AGAIN = "<<system text>>", "<<user text>>", "<<answer text>>", "<<second user text>>"


class PretrainedTokenizer:
    """A tokenizer of transformers. The marks of its chat template are special tokens, so they are read as such."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        self.vocab_size = len(tokenizer)
        self.end_id = tokenizer.eos_token_id

    def encode(self, text: str) -> list[int]:
        return self.tokenizer.encode(text, add_special_tokens=False)

    def decode(self, ids: Sequence[int]) -> str:
        return self.tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)


def template_of(tokenizer: Any) -> ChatTemplate:
    """The strings around each turn, read off a rendered conversation.

    A system text that the template adds on its own is left out: composer says a system text only where one is given.
    """
    if not tokenizer.chat_template:
        return CHATML if "<|im_start|>" in tokenizer.get_vocab() else WORLD
    user, answer, again = _turn("user", USER), _turn("assistant", ANSWER), _turn("user", AGAIN)
    whole = _render(tokenizer, [user, answer, again])
    opening, _, rest = whole.partition(USER)
    middle, _, rest = rest.partition(ANSWER)
    between, _, user_suffix = rest.partition(AGAIN)
    assistant_prefix = middle.removeprefix(user_suffix)
    closing = _render(tokenizer, [user, answer]).partition(ANSWER)[2]
    user_prefix = between.removeprefix(closing)
    end = closing.rstrip() or tokenizer.eos_token
    start = opening.removesuffix(user_prefix)
    system_prefix = system_suffix = ""
    try:
        before, _, after = _render(tokenizer, [_turn("system", SYSTEM), user]).partition(SYSTEM)
    except Exception:  # the template itself raises, in words of its own, where it takes no system turn
        after = ""
    if after:
        start = tokenizer.bos_token if tokenizer.bos_token and before.startswith(tokenizer.bos_token) else ""
        system_prefix = before.removeprefix(start)
        system_suffix = after.partition(USER)[0].removesuffix(user_prefix)
    return ChatTemplate(
        user_prefix=user_prefix,
        user_suffix=user_suffix,
        assistant_prefix=assistant_prefix,
        end=end,
        assistant_suffix=closing[len(end) :] if closing.startswith(end) else "",
        system_prefix=system_prefix,
        system_suffix=system_suffix,
        start=start,
    )


def _turn(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


def _render(tokenizer: Any, conversation: list[dict[str, str]]) -> str:
    return tokenizer.apply_chat_template(conversation, tokenize=False)
