"""Language models that grade: asked until a reply can be used, every reply kept. See `JudgeConfig` for the options."""

import random
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeVar

from composer.benchmark import Reply

T = TypeVar("T")


class JudgeMessage(NamedTuple):
    """One message to a judge. role: `system` or `user`."""

    role: str
    text: str


class NoReply(Exception):  # noqa: N818  a row's problem, not an error of the program
    """No reply. again: whether asking again may help. wait: seconds that the judge asks for."""

    def __init__(self, problem: str, *, again: bool = True, wait: float = 0.0) -> None:
        super().__init__(problem)
        self.again, self.wait = again, wait


class Judge(ABC):
    """Asked up to `attempts` times; between two, it waits `first_wait` seconds, then twice as long each time."""

    attempts: int = 6
    first_wait: float = 1.0
    longest_wait: float = 600.0

    @abstractmethod
    def reply(self, messages: Sequence[JudgeMessage], max_tokens: int) -> Reply:
        """One reply, of at most so many tokens. Raises NoReply; JudgeError where no question can be answered."""

    def ask(
        self,
        messages: Sequence[JudgeMessage],
        read: Callable[[str], T | None],
        replies: list[Reply],
        *,
        max_tokens: int,
    ) -> T:
        """What `read` makes of a reply, None for one that cannot be used. Every reply is added to `replies`.

        Raises NoReply where no attempt gives a usable reply, JudgeError where no question can be answered.
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
                found = read(reply.text)
                if found is not None:
                    return found
                problem, wait = f"cannot use the reply {reply.text[:200]!r}", 0.0
            if attempt + 1 < self.attempts:
                # The random part keeps requests apart that failed together.
                backoff = self.first_wait * 2**attempt * random.uniform(1.0, 1.5)
                time.sleep(min(max(wait, backoff), self.longest_wait))
        raise NoReply(problem)
