"""From a conversation to ids and labels: chat templates and prompt layouts. No torch here."""

from dataclasses import dataclass
from typing import Literal

Layout = Literal["media-first", "sandwich", "inline"]


@dataclass(frozen=True)
class ChatTemplate:
    """The strings around each turn: prefix + text + suffix. An answer ends with `end`, which carries loss.

    `answer_lead` opens an answer and belongs to it (RWKV World: the space after "Assistant:"), so that turn-wise
    tokenisation equals joint tokenisation. `start` opens the whole text.
    """

    user_prefix: str
    user_suffix: str
    assistant_prefix: str
    end: str
    answer_lead: str = ""
    assistant_suffix: str = ""
    system_prefix: str = ""
    system_suffix: str = ""
    start: str = ""


WORLD = ChatTemplate(
    user_prefix="User: ",
    user_suffix="\n\n",
    assistant_prefix="Assistant:",
    answer_lead=" ",
    end="\n\n",
    system_prefix="System: ",
    system_suffix="\n\n",
)
"""RWKV World's template; stops at a blank line."""

CHATML = ChatTemplate(
    user_prefix="<|im_start|>user\n",
    user_suffix="<|im_end|>\n",
    assistant_prefix="<|im_start|>assistant\n",
    end="<|im_end|>",
    assistant_suffix="\n",
    system_prefix="<|im_start|>system\n",
    system_suffix="<|im_end|>\n",
)
"""ChatML, as Qwen and many others use it."""
