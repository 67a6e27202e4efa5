"""A part that does what its name says."""

import os
import signal
import subprocess
import time

from benchmarks.gpu.context import Context


def run(context: Context) -> None:
    name = context.folder.name
    runs = context.folder / "runs"
    runs.write_text(f"{runs.read_text() if runs.exists() else ''}x")
    context.add("before", 1.5, "s", limit=3.0, higher_is_better=True)
    if name == "raises" or (name == "raises once" and runs.read_text() == "x"):
        raise RuntimeError("planted")
    if name == "crashes":
        os.kill(os.getpid(), signal.SIGSEGV)
    if name == "hangs":
        child = subprocess.Popen(["sleep", "600"])
        (context.folder / "child").write_text(str(child.pid))
        time.sleep(600)
    if name == "attempts":
        context.attempt("in between", lambda: 1 / 0)
    if name == "late" and not context.wants("too long", 10_000):
        return
    context.add("after", 2)
