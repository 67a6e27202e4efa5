"""Made clips: what is seen is what is said, and nothing can be guessed without looking."""

from collections import Counter

import numpy as np
import pytest
from numpy.typing import NDArray

from composer.data.tools.shapes import (
    COLORS,
    COUNTS,
    DIRECTIONS,
    FLASHES,
    FRAMES,
    GROUND,
    QUESTIONS,
    SHAPES,
    SIDE,
    Scene,
    Split,
    combinations,
    conversation,
    draw_scene,
    generator,
    render,
)

SPLITS: tuple[Split, ...] = ("train", "stills", "heldout")


def clip(index: int) -> tuple[Scene, NDArray[np.float64]]:
    rng = generator(7, "train", index)
    scene = draw_scene(rng, "train")
    return scene, render(scene, rng).astype(float)


def colored(frames: NDArray[np.float64], color: tuple[int, int, int]) -> NDArray[np.bool_]:
    return np.abs(frames - np.array(color)).max(axis=-1) < 40


@pytest.mark.parametrize("index", range(100))
def test_an_independent_look_at_the_pixels_gives_every_answer(index: int) -> None:
    scene, frames = clip(index)

    areas = {name: colored(frames, color).sum() for name, color in COLORS.items()}
    assert max(areas, key=lambda name: areas[name]) == scene.answer("color")

    mask = colored(frames, COLORS[scene.color])
    rows, columns = (np.array([np.argwhere(m).mean(axis=0) for m in mask])[:, axis] for axis in (0, 1))
    across = abs(columns[-1] - columns[0]) > abs(rows[-1] - rows[0])
    path = columns if across else rows
    moved = ("left", "right") if across else ("up", "down")
    assert moved[int(path[-1] > path[0])] == scene.answer("direction")
    sides = ("left", "right") if across else ("top", "bottom")
    for frame in (0, FRAMES - 1):
        assert sides[int(path[frame] > SIDE / 2)] == scene.caption(frame).split()[3]

    # Three lanes along the movement: a lane is taken where its middle line is crossed by color.
    still = mask[FRAMES // 2]
    lanes = still.any(axis=0 if not across else 1)
    taken = [lanes[int(SIDE * (lane + 0.5) / 3) - 2 : int(SIDE * (lane + 0.5) / 3) + 3].any() for lane in range(3)]
    assert COUNTS[sum(taken) - 1] == scene.answer("count")

    # One shape's box, cut out around its lane: filled corners make a square, an empty middle a ring.
    lane = int(SIDE * (taken.index(True) + 0.5) / 3)
    window = np.zeros_like(still)
    window[(slice(None), slice(max(lane - 9, 0), lane + 10)) if not across else slice(max(lane - 9, 0), lane + 10)] = 1
    ys, xs = np.nonzero(still & window)
    y, x = round((ys.min() + ys.max()) / 2), round((xs.min() + xs.max()) / 2)
    middle = still[y - 1 : y + 2, x - 1 : x + 2].mean()
    corners = still[np.ix_([y - 5, y + 5], [x - 5, x + 5])].mean()
    assert ("ring" if middle < 0.5 else "square" if corners > 0.5 else "cross") == scene.answer("shape")

    shades = [np.median(frame[[0, 0, -1, -1], [0, -1, 0, -1]], axis=0) for frame in frames]
    seen = [next((n for n, f in FLASHES.items() if abs(s - f).max() < 30), GROUND) for s in shades]
    assert seen == [scene.caption(frame).split()[4] for frame in range(FRAMES)]
    assert scene.caption(0).split()[:3] == [scene.count, scene.color, scene.shape]
    assert [name for name in dict.fromkeys(seen) if name != GROUND] == list(scene.flashes)
    assert scene.answer("order") == scene.flashes[0]


def test_held_out_combinations_are_a_quarter_and_never_trained() -> None:
    train, held = set(combinations("train")), set(combinations("heldout"))
    assert combinations("stills") == combinations("train")
    assert not train & held
    assert len(held) * 3 == len(train)
    assert len(train | held) == len(COLORS) * len(SHAPES) * len(COUNTS) * len(DIRECTIONS)
    for place, values in enumerate((COLORS, SHAPES, COUNTS, DIRECTIONS)):
        assert set(Counter(c[place] for c in held).values()) == {len(held) // len(values)}
    for split in SPLITS:
        drawn = [draw_scene(generator(0, split, i), split) for i in range(200)]
        assert {(s.color, s.shape, s.count, s.direction) for s in drawn} <= set(combinations(split))


def test_the_most_frequent_answer_of_each_type_scores_about_chance() -> None:
    scenes = [draw_scene(generator(0, "heldout", i), "heldout") for i in range(2000)]
    shares = [Counter(s.answer(t) for s in scenes).most_common(1)[0][1] / len(scenes) for t in QUESTIONS]
    assert np.mean(shares) < 0.35
    assert max(shares) < 0.38


def test_two_attributes_tell_next_to_nothing_of_a_third() -> None:
    """A pair that training never shows with some value would teach a model never to answer that value."""
    train = combinations("train")
    values = (COLORS, SHAPES, COUNTS, DIRECTIONS)
    for place, rest in ((p, [i for i in range(4) if i != p]) for p in range(4)):
        for first, second in ((0, 1), (0, 2), (1, 2)):
            pairs = {(c[rest[first]], c[rest[second]]) for c in train}
            for pair in pairs:
                seen = Counter(c[place] for c in train if (c[rest[first]], c[rest[second]]) == pair)
                assert set(seen) == set(values[place])
                assert min(seen.values()) / seen.total() > 0.5 / len(values[place])


def test_the_first_flash_cannot_be_told_from_when_it_is_seen() -> None:
    lengths = Counter((s.first_flash, s.second_flash) for s in (clip(i)[0] for i in range(300)))
    assert all(0 <= first <= 3 and first + 2 <= second <= FRAMES - 2 for first, second in lengths)
    assert len(lengths) > 10


def test_a_conversation_asks_each_thing_once_in_any_order() -> None:
    first = Counter[str]()
    for index in range(300):
        rng = generator(1, "train", index)
        scene = draw_scene(rng, "train")
        turns = conversation(scene, rng)
        assert sorted(t.type for t in turns) == sorted(QUESTIONS)
        assert all(t.answer == scene.answer(t.type) for t in turns)
        first[turns[0].type] += 1
    assert all(first[t] > 35 for t in QUESTIONS)
