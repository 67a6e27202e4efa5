"""A command of composer in a child process that never outlives this one. No torch here."""

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from types import FrameType

_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def start_process(words: Sequence[str]) -> int:
    """Run `composer WORDS` and return its exit status: 128 + n if signal n ended it, as in a shell.

    SIGTERM is forwarded to the command, which saves and ends; Ctrl-C reaches it directly. After either, the status is
    never 0. On Linux the kernel kills the command as soon as this process ends, for whatever reason.
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
    """Function that a child calls first, so that the kernel kills it with its parent; None if the system cannot."""
    if not sys.platform.startswith("linux"):
        return None
    prctl, parent = ctypes.CDLL(None).prctl, os.getpid()

    def bind() -> None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)

    return bind
