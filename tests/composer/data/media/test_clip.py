"""Clips of images and videos."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from composer.data.media.clip import load_clip
from composer.sample import Media
from composer.transform import FrameTransform
from tests.composer.data.files import number_of, write_video


def test_video(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", 20)
    clip = load_clip(Media("video", str(path), 1.0, 2.0), FrameTransform(32, 8), 2)
    assert clip.pixels.shape == (2, 3, 32, 32)
    assert clip.pixels.dtype == torch.uint8
    assert clip.pixels.is_contiguous()
    assert torch.allclose(clip.time, torch.tensor([0.25, 0.75]))
    assert [number_of(p.permute(1, 2, 0).numpy()) for p in clip.pixels] == [12, 17]


def test_image(tmp_path: Path) -> None:
    picture = np.random.default_rng(0).integers(0, 255, (8, 16, 3), dtype=np.uint8)
    Image.fromarray(picture).save(tmp_path / "a.png")
    clip = load_clip(Media("image", str(tmp_path / "a.png")), FrameTransform(8, 8), 5)
    assert torch.equal(clip.pixels, torch.from_numpy(picture).permute(2, 0, 1)[None])
    assert clip.time.tolist() == [0.0]
