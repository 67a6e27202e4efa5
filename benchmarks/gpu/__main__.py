"""Run all GPU benchmarks, most important first.

    python -m benchmarks.gpu                            # every part that fits in 8 minutes
    python -m benchmarks.gpu --minutes 7 --output DIR   # the same --output resumes with the missing parts
    python -m benchmarks.gpu --only train inference     # some parts
    python -m benchmarks.gpu --device cpu --tiny        # dry run: every part at toy sizes, on a CPU

Each part is a process with its own time limit, so a crash or a hang of one part costs only that part. Writes
results.json (one record per figure), report.md (tables with the share of the limit) and logs/ to --output, after every
part.
"""

import argparse
import signal
import sys
from pathlib import Path
from types import FrameType

from benchmarks.gpu.parts import PARTS
from benchmarks.gpu.runner import TUNING, Run
from composer.errors import ComposerError


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = [part.name for part in PARTS]
    parser.add_argument("--minutes", type=float, default=8, help="total time limit (default: 8)")
    parser.add_argument("--only", nargs="+", choices=names, default=[], metavar="PART", help=", ".join(names))
    parser.add_argument("--output", type=Path, default=Path("runs/gpu"), help="default: runs/gpu")
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"), help="default: cuda")
    parser.add_argument("--tiny", action="store_true", help="use toy sizes")
    parser.add_argument(
        "--tuning",
        type=int,
        default=TUNING,
        metavar="N",
        help="configurations tried per Triton kernel; 0: all (default: %(default)s)",
    )
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, _stop)
    try:
        run = Run(PARTS, args.output, device=args.device, tiny=args.tiny, tuning=args.tuning)
        # Times of a dry run are meaningless, so two parts may share the cores.
        outcomes = run.execute(args.minutes, args.only, at_once=2 if args.tiny and args.device == "cpu" else 1)
    except ComposerError as error:
        sys.stderr.write(f"benchmarks.gpu: {error}\n")
        return error.exit_status
    print(f"{args.output / 'report.md'}", flush=True)
    return int(any(outcome.state in ("failed", "killed at its limit") for outcome in outcomes))


def _stop(number: int, frame: FrameType | None) -> None:
    """Exit on SIGTERM: the current part is killed, its figures are kept."""
    sys.exit(128 + number)


if __name__ == "__main__":
    sys.exit(main())
