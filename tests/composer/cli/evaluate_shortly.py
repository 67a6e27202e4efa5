"""`composer evaluate` in a process of its own, with short answers: an untrained model never ends by itself."""

import sys
from typing import Any

import composer.inference.answering
from composer.cli import main


def run() -> None:
    """The command of this process's arguments."""
    generate = composer.inference.answering.generate

    def shortened(*args: Any, max_new_tokens: int) -> list[str]:
        return generate(*args, max_new_tokens=8)

    composer.inference.answering.generate = shortened
    sys.exit(main(sys.argv[1:]))
