"""A command of composer in a process of its own that lives no longer than this one. No torch here."""

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from types import FrameType

_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def start_process(words: Sequence[str]) -> int:
    """Carry out `composer WORDS`; returns its exit status, as a shell has it: 128 + n where signal n ended it.

    SIGTERM is passed on to the command, which saves and ends; Ctrl-C reaches it by itself. After either the status is
    never 0. On Linux the command is killed as soon as this process is gone, however it went.
    """
    stopped = 0
    process = subprocess.Popen([sys.executable, "-m", "composer", *words], preexec_fn=_bound())

    def terminate(number: int, frame: FrameType | None) -> None:
        nonlocal stopped
        stopped = 128 + number
        process.terminate()

    before = signal.signal(signal.SIGTERM, terminate)
    try:
        while True:
            try:
                # Never for ever: a signal that the kernel gives to another thread does not end a wait, and Python runs
                # its handler only once the main thread is back.
                status = process.wait(timeout=1)
                break
            except subprocess.TimeoutExpired:
                continue
            except KeyboardInterrupt:
                stopped = 130
    finally:
        signal.signal(signal.SIGTERM, before)
    return (status if status >= 0 else 128 - status) or stopped


def _bound() -> Callable[[], None] | None:
    """What a child does before anything else, so that the kernel kills it with its parent; None where none can."""
    if not sys.platform.startswith("linux"):
        return None
    prctl, parent = ctypes.CDLL(None).prctl, os.getpid()

    def bind() -> None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)

    return bind
