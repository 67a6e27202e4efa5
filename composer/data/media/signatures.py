"""Recognition of files that are not images, by their first bytes."""

import re

LENGTH = 512
"""Number of bytes that are examined."""

KINDS = (
    (rb"....ftyp.{0,60}avi[fs]", "AVIF that this Pillow cannot read: update Pillow, or convert it to JPEG or PNG"),
    (rb"....ftyp(hei|hev|mif|msf)", "HEIC: convert it to JPEG or PNG"),
    (rb"....ftyp|....moov|\x1a\x45\xdf\xa3|RIFF....AVI ", "a video"),
    (rb"\xff\x0a|....JXL ", "JPEG XL: convert it to JPEG or PNG"),
    (rb"%!PS|\xc5\xd0\xd3\xc6", "PostScript: convert it to PNG"),
    (rb"%PDF", "PDF: convert its pages to PNG"),
    (rb"\xd7\xcd\xc6\x9a|\x01\x00{3}.{36} EMF", "a Windows metafile: convert it to PNG"),
    (rb"8BPS", "a Photoshop file: convert it to PNG"),
    (rb"version https://git-lfs", "a Git LFS pointer: run `git lfs pull`"),
    (rb"\s*(<!doctype html|<html)", "a web page: download the image again"),
    (rb"\s*(<\?xml.*)?<svg", "SVG: convert it to PNG"),
)


def name_kind(start: bytes) -> str | None:
    """Name the kind of a file, and what to do with it.

    Args:
        start: The first `LENGTH` bytes of the file.

    Returns:
        The kind and the remedy, or None if the kind is unknown.
    """
    for pattern, kind in KINDS:
        if re.match(pattern, start, re.DOTALL | re.IGNORECASE):
            return kind
    return None
