"""`composer ask`: one question about images and videos."""

import argparse
import os
import sys
from functools import partial
from pathlib import Path

from composer.cli.arguments import not_negative, positive
from composer.errors import ConfigError
from composer.sample import Media

SUMMARY = "Ask a trained model about an image or a video."


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "checkpoint", type=Path, metavar="CHECKPOINT", help="a checkpoint file, or a run folder: its newest checkpoint"
    )
    parser.add_argument("question", metavar="QUESTION", help="the question, in quotation marks")
    for kind in ("video", "image"):
        parser.add_argument(
            f"--{kind}",
            dest="media",
            action="append",
            default=[],
            type=partial(Media, kind),
            metavar="FILE",
            help=f"{'a' if kind == 'video' else 'an'} {kind} that the question is about; may be given again",
        )
    parser.add_argument(
        "--frames", type=positive, metavar="N", help="frames taken of a video (default: as many as in training)"
    )
    parser.add_argument(
        "--max-new-tokens", type=positive, default=256, metavar="N", help="longest answer (default: %(default)s)"
    )
    parser.add_argument(
        "--temperature",
        type=not_negative,
        default=0.0,
        metavar="T",
        help="0 gives the likeliest answer; more gives variety (default: 0)",
    )
    parser.add_argument(
        "--device", default="auto", metavar="NAME", help="auto (a GPU if there is one), cpu, cuda, cuda:1 ..."
    )


def run(args: argparse.Namespace) -> int:
    _check_text(args.question)
    from composer.inference.ask import ask
    from composer.inference.model import load

    model = load(args.checkpoint, device=args.device)
    pieces = ask(
        model.network,
        args.question,
        args.media,
        frames=args.frames or model.frames,
        max_new_tokens=args.max_new_tokens,
        temperature=args.temperature,
    )
    for piece in pieces:
        sys.stdout.write(piece)
        sys.stdout.flush()
    sys.stdout.write("\n")
    return 0


def _check_text(question: str) -> None:
    """Raises ConfigError for bytes that are not UTF-8: Python hands them over as halves of characters."""
    try:
        question.encode()
    except UnicodeEncodeError:
        got = os.fsencode(question)
        raise ConfigError(
            f"question: got {got!r}, expected text in UTF-8: check the encoding of the terminal or of the script"
        ) from None
