"""Sizes against their definition, cropping and padding against NumPy."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from open_clip.transform import ResizeKeepRatio
from PIL import Image
from torchvision.transforms import CenterCrop
from torchvision.transforms.functional import _compute_resized_output_size
from transformers import BitImageProcessor
from transformers.models.siglip2.image_processing_siglip2 import get_image_size_for_max_num_patches

from composer.errors import ConfigError
from composer.transform import PAD_VALUE, FrameTransform

SIDES = st.integers(1, 3000)


@given(SIDES, SIDES, st.integers(1, 6), st.sampled_from([4, 8, 14, 16]))
def test_keep_aspect_keeps_the_short_side_and_rounds_the_long_one(h: int, w: int, patches: int, patch: int) -> None:
    transform = FrameTransform(patches * patch, patch)
    height, width = transform.size_of(h, w)
    assert height % patch == 0
    assert width % patch == 0
    assert min(height, width) == transform.size
    assert (height <= width) == (h <= w) or height == width
    exact = Fraction(max(h, w) * transform.size, min(h, w))
    assert abs(max(height, width) - exact) <= Fraction(patch, 2)


@pytest.mark.parametrize(
    ("frame", "resize", "scaled", "size"),
    [
        ((720, 1280), "keep-aspect", (384, 688), (384, 688)),  # 682.7 is nearer to 43 patches than to 42
        ((1280, 720), "keep-aspect", (688, 384), (688, 384)),
        ((480, 640), "keep-aspect", (384, 512), (384, 512)),
        ((64, 64), "keep-aspect", (384, 384), (384, 384)),
        ((720, 1280), "squash", (384, 384), (384, 384)),
        ((720, 1280), "center-crop", (384, 682), (384, 384)),
        ((1280, 720), "center-crop", (682, 384), (384, 384)),
        ((720, 1280), "pad", (216, 384), (384, 384)),
        ((1280, 720), "pad", (384, 216), (384, 384)),
        ((1, 3000), "pad", (1, 384), (384, 384)),
    ],
)
def test_sizes(frame: tuple[int, int], resize: str, scaled: tuple[int, int], size: tuple[int, int]) -> None:
    transform = FrameTransform(384, 16, resize)  # type: ignore[arg-type]
    assert transform.scaled_size(*frame) == scaled
    assert transform.size_of(*frame) == size


@given(SIDES, SIDES, st.sampled_from([14, 16]), st.integers(1, 32))
def test_at_most_so_many_patches_as_siglip2_has(h: int, w: int, patch: int, side: int) -> None:
    expected = get_image_size_for_max_num_patches(h, w, patch, side**2)
    assert FrameTransform(side * patch, patch, "max-patches").size_of(h, w) == expected


@given(SIDES, SIDES, st.sampled_from(["keep-aspect", "max-patches", "squash", "center-crop", "pad"]))
def test_finish_gives_what_size_of_says(h: int, w: int, resize: str) -> None:
    h, w = max(h, w // 32), max(w, h // 32)
    transform = FrameTransform(16, 8, resize)  # type: ignore[arg-type]
    frame = np.zeros((*transform.scaled_size(h, w), 3), np.uint8)
    assert transform.finish(frame).shape == (*transform.size_of(h, w), 3)


@pytest.mark.parametrize("shape", [(8, 13), (8, 8), (13, 8), (8, 40)])
def test_crop_keeps_the_middle(shape: tuple[int, int]) -> None:
    frame = np.random.default_rng(0).integers(0, 255, (*shape, 3), dtype=np.uint8)
    cropped = FrameTransform(8, 4, "center-crop").finish(frame)
    rows, columns = (range((side - 8) // 2, (side - 8) // 2 + 8) for side in shape)
    assert np.array_equal(cropped, frame[np.ix_(rows, columns)])


@pytest.mark.parametrize("width", range(8, 20))
def test_half_a_pixel_of_the_crop_is_rounded_as_the_library_does(width: int) -> None:
    """transformers' processor and torchvision's transform, which open_clip uses."""
    frame = np.random.default_rng(0).integers(0, 255, (8, width, 3), dtype=np.uint8)
    processor = BitImageProcessor(do_resize=False, crop_size=8, do_rescale=False, do_normalize=False)
    theirs = processor(frame, return_tensors="np", input_data_format="channels_last")["pixel_values"][0]
    ours = FrameTransform(8, 4, "center-crop", like="transformers").finish(frame)
    assert np.array_equal(ours, theirs.transpose(1, 2, 0))
    ours = FrameTransform(8, 4, "center-crop", like="open_clip").finish(frame)
    assert np.array_equal(ours, np.asarray(CenterCrop(8)(Image.fromarray(frame))))


@given(SIDES, SIDES, st.integers(16, 600))
def test_sides_are_those_of_torchvision_and_open_clip(h: int, w: int, size: int) -> None:
    expected = _compute_resized_output_size((h, w), [size])
    assert FrameTransform(16, 8, "center-crop", short_side=size).scaled_size(h, w) == tuple(expected)
    image = Image.new("1", (w, h))
    padded = ResizeKeepRatio.get_params(image, (size, size), 1.0)
    assert FrameTransform(size, 8, "pad").scaled_size(h, w) == tuple(max(side, 1) for side in padded)


def test_pad_puts_the_frame_in_the_middle_of_gray() -> None:
    frame = np.full((3, 8, 3), 7, np.uint8)
    padded = FrameTransform(8, 4, "pad").finish(frame)
    assert np.array_equal(padded[2:5], frame)
    assert (np.delete(padded, [2, 3, 4], axis=0) == PAD_VALUE).all()


@pytest.mark.parametrize(
    ("size", "patch", "message"),
    [
        (100, 16, "^image_size: got 100, expected a positive multiple of the patch size 16; the nearest is 96"),
        (0, 16, "image_size: got 0"),
        (-32, 16, "image_size: got -32"),
        (32, 0, "patch_size: got 0"),
    ],
)
def test_sizes_that_hold_no_whole_patches(size: int, patch: int, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        FrameTransform(size, patch)


def test_squares_may_end_inside_a_patch() -> None:
    assert FrameTransform(384, 14, "squash").size_of(720, 1280) == (384, 384)
    with pytest.raises(ConfigError, match="image_size: got 13, expected at least one patch of 14 pixels"):
        FrameTransform(13, 14, "pad")
    with pytest.raises(ConfigError, match="short_side: got 200, expected at least the size of the crop, 224"):
        FrameTransform(224, 14, "center-crop", short_side=200)


def test_unknown_mode() -> None:
    with pytest.raises(ConfigError, match="resize: got 'stretch', expected one of keep-aspect, max-patches, squash"):
        FrameTransform(32, 16, "stretch")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="resample: got 'box', expected one of bilinear, bicubic, lanczos"):
        FrameTransform(32, 16, resample="box")  # type: ignore[arg-type]
