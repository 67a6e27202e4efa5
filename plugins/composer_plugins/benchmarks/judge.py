"""Language models as judges: asked until a reply is usable; all replies are kept. Options: `JudgeConfig`."""

import random
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeVar

from composer.benchmark import Reply

T = TypeVar("T")


class JudgeMessage(NamedTuple):
    """A message to a judge. role: `system` or `user`."""

    role: str
    text: str


class NoReply(Exception):  # noqa: N818  a row's problem, not an error of the program
    """The judge gave no usable reply. again: whether to retry. wait: requested delay in seconds."""

    def __init__(self, problem: str, *, again: bool = True, wait: float = 0.0) -> None:
        super().__init__(problem)
        self.again, self.wait = again, wait


class Judge(ABC):
    """Base class of judges. Retries up to `attempts` times, with exponential backoff from `first_wait` seconds."""

    attempts: int = 6
    first_wait: float = 1.0
    longest_wait: float = 600.0

    @abstractmethod
    def reply(self, messages: Sequence[JudgeMessage], max_tokens: int) -> Reply:
        """Return one reply.

        Args:
            messages: The conversation.
            max_tokens: Maximum length of the reply in tokens.

        Raises:
            NoReply: If this request failed.
            JudgeError: If no request can succeed.
        """

    def ask(
        self,
        messages: Sequence[JudgeMessage],
        read: Callable[[str], T | None],
        replies: list[Reply],
        *,
        max_tokens: int,
    ) -> T:
        """Ask until a reply can be parsed.

        Args:
            messages: The conversation.
            read: Parser of a reply; returns None for an unusable one.
            replies: List to which every reply is appended.
            max_tokens: Maximum length of a reply in tokens.

        Returns:
            The parsed reply.

        Raises:
            NoReply: If no attempt gives a usable reply.
            JudgeError: If no request can succeed.
        """
        problem = ""
        for attempt in range(self.attempts):
            try:
                reply = self.reply(messages, max_tokens)
            except NoReply as error:
                problem, wait = str(error), error.wait
                if not error.again:
                    break
            else:
                replies.append(reply)
                result = read(reply.text)
                if result is not None:
                    return result
                problem, wait = f"cannot use the reply {reply.text[:200]!r}", 0.0
            if attempt + 1 < self.attempts:
                # Randomness spreads the retries of requests that failed at the same time.
                backoff = self.first_wait * 2**attempt * random.uniform(1.0, 1.5)
                time.sleep(min(max(wait, backoff), self.longest_wait))
        raise NoReply(problem)
