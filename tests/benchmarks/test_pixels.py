"""Pixels of every first-party encoder and resize mode are those of the libraries' own processors."""

from typing import get_args

from benchmarks.pixels import compare, photos
from composer.transform import Resize

ON_PURPOSE = "LlavaImageProcessor"
"""Pads before it scales, in another color."""


def test_pixels_differ_by_at_most_a_level() -> None:
    paths = photos()
    assert len(paths) > 20
    rows = list(compare(paths[::6]))
    assert {row.resize for row in rows} == set(get_args(Resize))
    assert len({row.encoder for row in rows}) == 6
    assert {row.encoder: row.resize for row in rows if row.default}.keys() == {row.encoder for row in rows}
    for row in rows:
        assert row.worst <= 1 or row.reference == ON_PURPOSE, row
