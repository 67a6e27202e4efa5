"""`composer visualize-merge`: which patches of a frame became one token."""

import argparse
import mimetypes
import sys
from pathlib import Path

from composer.atomic import check_writable
from composer.cli.arguments import positive
from composer.errors import MediaError
from composer.sample import Media

SUMMARY = "Draw which patches of an image or a video a model merges."


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "checkpoint", type=Path, metavar="CHECKPOINT", help="a checkpoint file, or a run folder: its newest checkpoint"
    )
    parser.add_argument("media", metavar="FILE", help="an image or a video")
    parser.add_argument(
        "-o", "--output", type=Path, metavar="FILE", help="image (default: merges.png next to CHECKPOINT)"
    )
    parser.add_argument(
        "--frames", type=positive, default=5, metavar="N", help="frames taken of a video (default: %(default)s)"
    )
    parser.add_argument(
        "--layers",
        type=_layers,
        metavar="N,N,...",
        help="layers of the encoder after which tokens are drawn, such as 6,12,18,24 (default: quarters of its depth)",
    )


def run(args: argparse.Namespace) -> int:
    media = _media(args.media)
    folder = args.checkpoint if args.checkpoint.is_dir() else args.checkpoint.parent
    output = args.output or folder / "merges.png"
    check_writable(output)

    from composer.data.media.clip import load_clip
    from composer.figures.merges import draw_merges
    from composer.model.checkpoint import load_model

    model = load_model(args.checkpoint)
    output.parent.mkdir(parents=True, exist_ok=True)
    clip = load_clip(media, model.processor.transform, args.frames)
    draw_merges(model, clip, output, title=f"{args.checkpoint}: {args.media}", layers=args.layers)
    sys.stdout.write(f"{output}\n")
    return 0


def _layers(text: str) -> list[int]:
    try:
        return [int(number) for number in text.split(",")]
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"got {text!r}, expected numbers such as 6,12,18,24") from error


def _media(path: str) -> Media:
    kind = (mimetypes.guess_type(path)[0] or "").partition("/")[0]
    if kind == "image":
        return Media("image", path)
    if kind == "video":
        return Media("video", path)
    raise MediaError(f"{path}: got no known suffix, expected an image or a video, such as .png or .mp4")
