from pathlib import Path

import numpy as np
import pytest

from composer.data.media.packets import frame_times
from composer.sample import Media
from tests.composer.data.files import numbered, write_video
from tests.composer.data.media.test_timeline import EIGHTHS, read


@pytest.mark.parametrize(("ending", "codec"), [("ts", "libx264"), ("mpg", "mpeg2video"), ("vob", "mpeg1video")])
@pytest.mark.parametrize("later", [0, 36000])
def test_joined_files_whose_times_start_again_or_jump(tmp_path: Path, ending: str, codec: str, later: int) -> None:
    """As ffmpeg's command line continues the times."""
    frames = [numbered(n) for n in range(100)]
    ticks = list(range(later * 25, later * 25 + 50))
    first = write_video(tmp_path / f"a.{ending}", frames[:50], rate=25, codec=codec)
    second = write_video(tmp_path / f"b.{ending}", frames[50:], rate=25, codec=codec, ticks=ticks)
    first.write_bytes(first.read_bytes() + second.read_bytes())
    assert read(first, 8) == EIGHTHS
    counted = [0.04 * n for n in range(100)]
    times = frame_times(Media("video", str(first)), 0)
    assert np.subtract(times, times[0]) == pytest.approx(counted, abs=1e-3)


def test_a_pause_is_no_jump(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.ts", 20, ticks=[*range(10), *range(60, 70)])
    assert read(path, 7) == [5, 9, 9, 9, 9, 9, 15]
