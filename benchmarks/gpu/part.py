"""Runs one part in this process: `python -m benchmarks.gpu.part MODULE ...`, started by `benchmarks.gpu.runner`."""

import argparse
import ctypes
import faulthandler
import importlib
import signal
import sys
from pathlib import Path

from benchmarks.gpu.context import Context
from benchmarks.gpu.record import Recorder
from benchmarks.gpu.tuning import try_few

LATE = 75
"""Exit status of a part that skipped figures for lack of time."""


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("module")
    parser.add_argument("--name", required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--device", required=True)
    parser.add_argument("--command", required=True)
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--tuning", type=int, required=True)
    args = parser.parse_args()
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: no part outlives the command
    # The log shows where a part hangs or crashes.
    faulthandler.enable()
    faulthandler.dump_traceback_later(max(args.seconds - 3, args.seconds / 2), exit=False)
    recorder = Recorder(args.output, args.name, args.device, args.command)
    context = Context(recorder, args.output, args.tiny, args.seconds)
    context.folder.mkdir(parents=True, exist_ok=True)
    if args.tuning and args.device == "cuda":
        try_few(args.tuning)
    importlib.import_module(args.module).run(context)
    faulthandler.cancel_dump_traceback_later()
    return 1 if context.failed else LATE if context.late else 0


if __name__ == "__main__":
    sys.exit(main())
